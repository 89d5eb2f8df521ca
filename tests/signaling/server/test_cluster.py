import itertools
from collections import Counter, defaultdict, deque

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from synopticon_rtc.signaling.server import cluster as cluster_module
from synopticon_rtc.signaling.server.access import Participant
from synopticon_rtc.signaling.server.cluster import HELD_BYTES, ROOM, SERVER, SERVERS, SILENT_BEATS, Cluster

ROOMS = ["", "lab", "a room.with *all* > of it", "ü" * 200]


class Wire:
    """A network in memory: each way has its order, and what travels is delivered, or lost, when a test says so."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.ways: dict[tuple[str, str, str], deque[tuple[str, bytes]]] = defaultdict(deque)
        self.published: list[str] = []

    def start(self) -> "Node":
        node = Node(self)
        self.nodes[node.cluster.server] = node
        node.cluster.reached(True)
        return node

    def publish(self, source: str, subject: str, payload: bytes) -> None:
        assert " " not in subject
        self.published.append(subject)
        for target, node in self.nodes.items():
            if target != source and node.connected:
                if subject.startswith(f"{SERVER}.{target}."):
                    self.ways[source, target, SERVER].append((subject, payload))
                elif subject == SERVERS:
                    self.ways[source, target, SERVERS].append((subject, payload))
                elif subject.startswith(ROOM):
                    self.ways[source, target, ROOM].append((subject, payload))

    def deliver(self, way: tuple[str, str, str]) -> None:
        subject, payload = self.ways[way].popleft()
        if not self.ways[way]:
            del self.ways[way]
        self.nodes[way[1]].cluster.receive(subject, payload)

    def settle(self) -> None:
        while self.ways:
            self.deliver(next(iter(self.ways)))

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            for node in self.nodes.values():
                node.cluster.tick()
            self.settle()

    def cut(self, node: "Node") -> None:
        node.connected = False
        self.lose_all(node)
        node.cluster.reached(False)

    def lose_all(self, node: "Node") -> None:
        for way in [way for way in self.ways if node.cluster.server in way[:2]]:
            del self.ways[way]

    def kill(self, node: "Node") -> None:
        del self.nodes[node.cluster.server]
        for way in [way for way in self.ways if way[1] == node.cluster.server]:
            del self.ways[way]


class Node:
    """A server: a cluster, its backplane, and the listener of both."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.connected = True
        self.cluster = Cluster(self, self)
        self.local: dict[str, Participant] = {}
        self.known: dict[str, Participant] = {}
        self.ends: list[tuple[str, str]] = []
        self.frames: list[tuple[str, bytes, str]] = []
        self.discoveries: list[tuple[bytes, Participant]] = []

    # As the backplane

    async def open(self, subjects: object, on_message: object, on_connected: object) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    def publish(self, subject: str, payload: bytes) -> None:
        if self.connected:
            self.wire.publish(self.cluster.server, subject, payload)

    # As the listener

    def deliver(self, session: str, frame: bytes, source: Participant) -> None:
        assert self.known[source.session] == source
        self.frames.append((session, frame, source.session))

    def discovered(self, frame: bytes, source: Participant) -> None:
        self.discoveries.append((frame, source))

    def appeared(self, who: Participant) -> None:
        assert self.known.get(who.session) != who
        self.known[who.session] = who

    def vanished(self, who: Participant, reason: str) -> None:
        assert self.known.pop(who.session) == who
        self.ends.append((who.session, reason))

    # As the server

    def opens(self, session: str, room: str = "", name: str = "", address: str = "192.0.2.1") -> Participant:
        who = self.local[session] = Participant(session, room=room, name=name, address=address)
        self.cluster.opened(who)
        return who

    def closes(self, session: str, reason: str = "1000") -> None:
        del self.local[session]
        self.cluster.closed(session, reason)


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_servers_know_each_others_sessions(wire: Wire) -> None:
    a, b, c = wire.start(), wire.start(), wire.start()
    first = a.opens("first", "lab")
    wire.settle()
    second = b.opens("second", "lab")
    wire.settle()
    assert a.cluster.remote == a.known == {"second": second}
    assert b.cluster.remote == b.known == {"first": first}
    assert c.cluster.remote == c.known == {"first": first, "second": second}
    assert (c.cluster.rooms, c.cluster.addresses) == ({"lab": 2}, {"192.0.2.1": 2})


def test_a_server_that_joins_gets_the_tables_of_all_and_gives_its_own(wire: Wire) -> None:
    a, b = wire.start(), wire.start()
    wire.settle()
    a.opens("first")
    b.opens("second")
    wire.settle()
    c = Node(wire)
    c.opens("third")
    wire.nodes[c.cluster.server] = c
    c.cluster.reached(True)
    wire.settle()
    assert set(a.known) == {"second", "third"}
    assert set(c.known) == {"first", "second"}


def test_a_table_of_any_size_comes_in_parts_that_nats_takes(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "PART_SESSIONS", 10)
    a = wire.start()
    for number in range(101):
        a.opens(f"session_{number}")
    b = wire.start()
    wire.settle()
    assert b.known == a.local
    assert wire.published.count(f"{SERVER}.{b.cluster.server}.sessions") == 1 + 11  # an ask and the table


def test_a_table_with_a_lost_part_is_asked_for_again(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "PART_SESSIONS", 1)
    a = wire.start()
    for session in "first", "second", "third":
        a.opens(session)
    b = wire.start()
    way = a.cluster.server, b.cluster.server, SERVER
    while len(wire.ways.get(way, ())) < 3:
        wire.deliver(next(iter(wire.ways)))
    assert b"second" in wire.ways[way][-2][1]
    del wire.ways[way][-2]
    wire.settle()
    assert set(b.known) == {"first"}
    wire.tick()
    assert b.known == a.local


def test_a_change_that_was_lost_is_noticed_by_the_next_one(wire: Wire) -> None:
    a, b = wire.start(), wire.start()
    wire.settle()
    a.opens("first")
    wire.lose_all(a)
    a.opens("second")
    wire.settle()
    assert b.known == a.local
    a.closes("first")
    wire.lose_all(a)
    a.closes("second")
    wire.settle()
    assert b.ends == [("first", "Session ended"), ("second", "Session ended")]


def test_the_last_change_that_was_lost_is_noticed_by_the_second_beat(wire: Wire) -> None:
    a, b = wire.start(), wire.start()
    wire.settle()
    a.opens("first")
    wire.lose_all(a)
    a.cluster.tick()
    wire.settle()
    assert b.known == {}
    a.cluster.tick()
    wire.settle()
    assert b.known == a.local


def test_a_beat_may_overtake_a_change(wire: Wire) -> None:
    a, b = wire.start(), wire.start()
    wire.settle()
    a.opens("first")
    a.cluster.tick()
    wire.published.clear()
    wire.deliver((a.cluster.server, b.cluster.server, SERVERS))
    wire.settle()
    a.cluster.tick()
    wire.settle()
    assert b.known == a.local
    assert set(wire.published) == {SERVERS}  # nobody asked for a table


def test_an_end_is_told_with_its_reason(wire: Wire) -> None:
    a, b = wire.start(), wire.start()
    a.opens("first", "lab")
    wire.settle()
    a.closes("first", "1001 going away")
    wire.settle()
    assert b.ends == [("first", "1001 going away")]
    assert (b.cluster.remote, b.cluster.rooms, b.cluster.addresses) == ({}, {}, {})


def test_a_role_or_name_that_is_known_later_is_told(wire: Wire) -> None:
    a, b = wire.start(), wire.start()
    a.opens("first")
    wire.settle()
    named = a.opens("first", name="Camera 1")
    published = len(wire.published)
    a.opens("first", name="Camera 1")  # nothing new
    assert len(wire.published) == published
    wire.settle()
    assert b.known == {"first": named}
    assert b.cluster.rooms == {"": 1}


def test_a_frame_costs_one_message_to_the_subject_of_its_session(wire: Wire) -> None:
    a, b, c = wire.start(), wire.start(), wire.start()
    a.opens("first")
    second = b.opens("second")
    wire.settle()
    wire.published.clear()
    a.cluster.send(second, b'{"type":"webrtc_ice"}', "first")
    assert wire.published == [f"{SERVER}.{b.cluster.server}.session.second"]
    wire.settle()
    assert b.frames == [("second", b'{"type":"webrtc_ice"}', "first")]
    assert c.frames == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_discovery_costs_one_message_to_its_room_and_none_where_nobody_is(wire: Wire, room: str) -> None:
    a, b = wire.start(), wire.start()
    first = a.opens("first", room)
    b.opens("second", room)
    third = a.opens("third", "elsewhere")
    wire.settle()
    wire.published.clear()
    a.cluster.discover(first, b"{\n}")
    a.cluster.discover(third, b"{}")
    [subject] = wire.published
    assert subject.startswith(f"{ROOM}.")
    assert subject.count(".") == 2
    assert not set(subject) & set(" *>")
    wire.settle()
    assert b.discoveries == [(b"{\n}", first)]


def test_a_discovery_may_overtake_the_news_of_its_source(wire: Wire) -> None:
    a, b = wire.start(), wire.start()
    b.opens("second")
    wire.settle()
    first = a.opens("first")
    a.cluster.discover(first, b"{}")
    wire.deliver((a.cluster.server, b.cluster.server, ROOM))
    assert b.discoveries == [(b"{}", first)]


def test_a_table_that_is_older_than_what_is_known_changes_nothing(wire: Wire) -> None:
    a, b = wire.start(), wire.start()
    wire.settle()
    ask = b'{"type":"ask","server":"%b","told":true}' % b.cluster.server.encode()
    a.cluster.receive(f"{SERVER}.{a.cluster.server}.sessions", ask)
    a.opens("first")
    [table, change] = wire.ways[a.cluster.server, b.cluster.server, SERVER]
    for subject, payload in change, table:
        b.cluster.receive(subject, payload)
    assert b.known == a.local


def test_a_server_that_stops_says_so(wire: Wire) -> None:
    a, b = wire.start(), wire.start()
    a.opens("first")
    wire.settle()
    b.cluster.receive(
        f"{SERVER}.{b.cluster.server}.sessions", b'{"type":"bye","server":"%b"}' % a.cluster.server.encode()
    )
    assert b.ends == [("first", "Server stopped")]


def test_a_server_that_misses_its_beats_is_lost_with_its_sessions(wire: Wire) -> None:
    a, b, c = wire.start(), wire.start(), wire.start()
    a.opens("first")
    second = b.opens("second")
    wire.settle()
    wire.kill(a)
    wire.tick(SILENT_BEATS)
    assert b.ends == []
    wire.tick()
    assert b.ends == c.ends == [("first", "Server lost")]
    assert c.known == {"second": second}


def test_a_server_that_is_cut_off_loses_the_others_and_comes_back(wire: Wire) -> None:
    a, b = wire.start(), wire.start()
    first, second = a.opens("first"), b.opens("second")
    wire.settle()
    wire.cut(a)
    wire.tick(SILENT_BEATS + 1)
    assert a.known == b.known == {}
    third = a.opens("third")
    b.closes("second")
    second = b.opens("fourth")
    a.connected = True
    a.cluster.reached(True)
    wire.settle()
    assert a.known == {"fourth": second}
    assert b.known == {"first": first, "third": third}


def test_a_short_cut_ends_no_session_and_loses_no_frame_that_was_sent_meanwhile(wire: Wire) -> None:
    a, b = wire.start(), wire.start()
    first, second = a.opens("first"), b.opens("second")
    wire.settle()
    wire.cut(a)
    wire.cut(b)
    a.cluster.send(second, b"1", "first")
    wire.tick()
    a.opens("third")
    a.cluster.send(second, b"2", "third")
    b.closes("second")
    second = b.opens("second_again")
    for node in a, b:
        node.connected = True
        node.cluster.reached(True)
    a.cluster.send(second, b"3", "first")  # not known there yet
    wire.settle()
    b.cluster.send(first, b"4", "second_again")
    wire.settle()
    assert b.frames == [("second", b"1", "first"), ("second", b"2", "third")]
    assert a.frames == [("first", b"4", "second_again")]
    assert a.ends == [("second", "Session ended")]
    assert b.ends == []


def test_what_waits_for_a_server_is_bounded(wire: Wire) -> None:
    a, b = wire.start(), wire.start()
    a.opens("first")
    second = b.opens("second")
    wire.settle()
    wire.cut(a)
    for _ in range(100):
        a.cluster.send(second, bytes(HELD_BYTES // 10), "first")
    a.connected = True
    a.cluster.reached(True)
    wire.settle()
    assert len(b.frames) == 9


def test_a_server_that_slept_is_taken_back_by_those_that_gave_it_up(wire: Wire) -> None:
    a, b = wire.start(), wire.start()
    first, second = a.opens("first"), b.opens("second")
    wire.settle()
    for _ in range(SILENT_BEATS + 1):  # a is stopped: what is sent to it waits
        b.cluster.tick()
    assert b.ends == [("first", "Server lost")]
    wire.settle()
    wire.tick()
    assert a.ends == []
    assert (a.known, b.known) == ({"second": second}, {"first": first})
    a.cluster.send(second, b"there", "first")
    b.cluster.send(first, b"back", "second")
    wire.settle()
    assert (a.frames, b.frames) == ([("first", b"back", "second")], [("second", b"there", "first")])


def test_a_message_that_is_not_understood_is_told_and_changes_nothing(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    a = wire.start()
    prefix = f"{SERVER}.{a.cluster.server}"
    for subject, payload in (
        (SERVERS, b"\xff"),
        (SERVERS, b'{"type":"later","server":"x"}'),
        (f"{prefix}.sessions", b'{"type":"opened","server":"x","version":"one"}'),
        (f"{prefix}.session.first", b"\xff {}"),
        (f"{ROOM}.-", b"{}\n{}"),
    ):
        a.cluster.receive(subject, payload)
        assert caplog.records.pop().getMessage().startswith(f"message on {subject} not understood")
    assert (a.frames, a.known) == ([], {})


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"beat","server":"x\\r\\nPUB synopticon.servers 0\\r\\n","version":1}',
        b'{"type":"beat","server":"0123456\\n","version":1}',
        b'{"type":"beat","server":"01234567.a","version":1}',
        b'{"type":"opened","server":"01234567","version":1,"who":{"session":"a\\r\\nb"}}',
        b'{"type":"table","server":"01234567","version":1,"part":0,"parts":1,"sessions":[{"session":"a b"}]}',
        b'{"type":"table","server":"01234567","version":1,"part":0,"parts":1,"sessions":[{"session":"a.>"}]}',
    ],
)
def test_ids_that_would_change_a_subject_are_not_understood(
    wire: Wire, caplog: pytest.LogCaptureFixture, payload: bytes
) -> None:
    a = wire.start()
    wire.published.clear()
    a.cluster.receive(SERVERS, payload)
    assert "not understood" in caplog.text
    a.cluster.tick()
    assert (a.known, wire.published) == ({}, [SERVERS])


async def test_a_server_that_is_alone_is_always_connected_and_hears_nothing(wire: Wire) -> None:
    listener = Node(wire)
    async with Cluster(listener) as cluster:
        who = Participant("first", room="lab")
        cluster.opened(who)
        cluster.discover(who, b"{}")
        cluster.send(Participant("second"), b"{}", "first")
        cluster.tick()
        cluster.closed("first", "1000")
        assert cluster.connected
        assert cluster.remote == {}
    assert (listener.known, listener.frames, listener.discoveries, wire.published) == ({}, [], [], [])


class AnyWeather(RuleBasedStateMachine):
    """Servers come, go, are killed and cut off, and messages overtake and get lost, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire()
        self.numbers = itertools.count()
        self.sent: list[tuple[str, bytes, str]] = []

    @property
    def nodes(self) -> list[Node]:
        return list(self.wire.nodes.values())

    @initialize(count=st.integers(1, 3))
    def begin(self, count: int) -> None:
        for _ in range(count):
            self.wire.start()

    @precondition(lambda self: len(self.nodes) < 4)
    @rule()
    def start(self) -> None:
        self.wire.start()

    @precondition(lambda self: len(self.nodes) > 1)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        self.wire.kill(data.draw(st.sampled_from(self.nodes)))

    @rule(data=st.data(), room=st.sampled_from(ROOMS))
    def open(self, data: st.DataObject, room: str) -> None:
        number = next(self.numbers)
        data.draw(st.sampled_from(self.nodes)).opens(f"session_{number}", room, address=f"192.0.2.{number % 2}")

    @precondition(lambda self: any(node.local for node in self.nodes))
    @rule(data=st.data(), name=st.sampled_from(["", "A", "B"]))
    def name(self, data: st.DataObject, name: str) -> None:
        node = data.draw(st.sampled_from([node for node in self.nodes if node.local]))
        who = data.draw(st.sampled_from(list(node.local.values())))
        node.opens(who.session, who.room, name, who.address)

    @precondition(lambda self: any(node.local for node in self.nodes))
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from([node for node in self.nodes if node.local]))
        node.closes(data.draw(st.sampled_from(list(node.local))))

    @precondition(lambda self: any(node.local and node.known for node in self.nodes))
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from([node for node in self.nodes if node.local and node.known]))
        target = data.draw(st.sampled_from(list(node.known.values())))
        source = data.draw(st.sampled_from(list(node.local)))
        frame = b"%d" % next(self.numbers)
        self.sent.append((target.session, frame, source))
        node.cluster.send(target, frame, source)

    @precondition(lambda self: self.wire.ways)
    @rule(data=st.data(), count=st.integers(1, 5))
    def deliver(self, data: st.DataObject, count: int) -> None:
        for _ in range(count):
            if self.wire.ways:
                self.wire.deliver(data.draw(st.sampled_from(list(self.wire.ways))))

    @precondition(lambda self: self.wire.ways)
    @rule()
    def settle(self) -> None:
        self.wire.settle()

    @precondition(lambda self: self.wire.ways)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        way = data.draw(st.sampled_from(list(self.wire.ways)))
        del self.wire.ways[way][data.draw(st.integers(0, len(self.wire.ways[way]) - 1))]
        if not self.wire.ways[way]:
            del self.wire.ways[way]

    @precondition(lambda self: self.wire.ways)
    @rule(data=st.data())
    def overtake(self, data: st.DataObject) -> None:
        self.wire.ways[data.draw(st.sampled_from(list(self.wire.ways)))].rotate(1)

    @rule(data=st.data())
    def tick(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.nodes)).cluster.tick()

    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from(self.nodes))
        if node.connected:
            self.wire.cut(node)
        else:
            node.connected = True
            node.cluster.reached(True)

    @invariant()
    def what_is_told_is_what_is_known(self) -> None:
        for node in self.nodes:
            assert node.cluster.remote == node.known
            assert node.cluster.rooms == Counter(who.room for who in node.known.values())
            assert node.cluster.addresses == Counter(who.address for who in node.known.values())
            assert len(set(node.frames)) == len(node.frames)
            assert set(node.frames) <= set(self.sent)

    def teardown(self) -> None:
        for node in self.nodes:
            if not node.connected:
                node.connected = True
                node.cluster.reached(True)
        self.wire.settle()
        self.wire.tick(SILENT_BEATS + 2)
        for node in self.nodes:
            others = [other.local for other in self.nodes if other is not node]
            assert node.known == {session: who for local in others for session, who in local.items()}
            node.frames.clear()
        # And it is quiet then: nothing but beats, and what is sent arrives, in order.
        self.wire.published.clear()
        self.wire.tick(2)
        assert set(self.wire.published) <= {SERVERS}
        for node, other in itertools.permutations(self.nodes, 2):
            for source, target in itertools.product(node.local, list(other.local)[:1]):
                for frame in b"1", b"2":
                    node.cluster.send(node.known[target], frame, source)
                self.wire.settle()
                assert other.frames[-2:] == [(target, b"1", source), (target, b"2", source)]


TestAnyWeather = AnyWeather.TestCase
TestAnyWeather.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
