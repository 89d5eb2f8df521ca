"""Three servers that crash, over a network that loses, delays, cuts and freezes: in the end each knows all, exactly.

What is real are cluster, presence, rooms and permissions; the clock, the network and the sessions are played.
"""

import heapq
import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, cast

import msgspec
import pytest

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.signaling.server.access import Participant, Role, roles_meet
from synopticon_rtc.signaling.server.cluster import BEAT, ROOM, SERVER, SERVERS, Cluster
from synopticon_rtc.signaling.server.permissions import Permissions
from synopticon_rtc.signaling.server.presence import Presence
from synopticon_rtc.signaling.server.rooms import Rooms
from synopticon_rtc.signaling.server.session import Peer, Session

ROLES: list[frozenset[Role] | None] = [
    None,
    frozenset(),
    frozenset(["broadcast"]),
    frozenset(["receive"]),
    frozenset(["broadcast", "receive"]),
]
STEPS = 150
CALM = 12.0  # seconds after which all must have settled


class Bus:
    """A network and a clock."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = 0.0
        self.wild = True
        self.nodes: list[Node] = []
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()

    def at(self, time: float, what: Callable[[], object]) -> None:
        heapq.heappush(self._due, (time, next(self._numbers), what))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, what = heapq.heappop(self._due)
            what()
        self.now = end

    def publish(self, source: "Node", subject: str, payload: bytes) -> None:
        for node in self.nodes:
            mine = subject == SERVERS or subject.startswith((f"{SERVER}.{node.cluster.server}.", ROOM))
            if node is source or not node.connected or not mine or (self.wild and self.random.random() < 0.05):
                continue
            delay = self.random.choice([0.001, 0.01, 0.2]) if self.wild else 0.001
            way = source.cluster.server, subject
            node.latest[way] = max(self.now + delay, node.latest.get(way, 0))  # each way has its order
            self.at(node.latest[way], lambda node=node, age=node.age: node.hear(subject, payload, age))  # type: ignore[misc]  # as a default, of this round


class Watcher:
    """A session, as far as it is told of broadcasters."""

    def __init__(self, who: Participant) -> None:
        self.id = who.session
        self.who = who
        self.reason = ""
        self.tells = frozenset({"peers", "broadcasters"})
        self.links: dict[str, Peer] = {}
        self.announced: dict[str, str] = {}
        self.denied: set[str] = set()
        self.seen: dict[str, str] = {}

    def deliver(self, message: bytes, source: str = "") -> None:  # noqa: ARG002  # as a session has it
        news: dict[str, Any] = json.loads(message)
        match news["type"]:
            case "broadcasters":
                self.seen = {entry["session"]: entry["name"] for entry in news["broadcasters"]}
            case "broadcaster_available":
                self.seen[news["session"]] = news["name"]
            case "broadcaster_gone":
                del self.seen[news["session"]]  # nobody is told twice, nor of whom it does not know

    def lost(self, session: str, reason: str) -> None:  # noqa: ARG002  # as a session has it
        del self.links[session]


class Node:
    """A server, and its backplane."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.connected = False
        self.frozen = False
        self.dead = False
        self.age = 0
        self.latest: dict[tuple[str, str], float] = {}
        self.sessions: dict[str, Watcher] = {}
        self.rooms = Rooms()
        self.cluster = Cluster(self, self)
        self.presence = Presence(self.rooms, self.cluster, Permissions(roles_meet, Faults()))
        self._numbers = itertools.count()
        bus.nodes.append(self)
        self.connect(True)
        self.beat()

    async def open(self, subjects: Sequence[str], on_message: object, on_connected: object) -> None:
        """It is always open."""

    async def close(self) -> None:
        """Likewise."""

    def publish(self, subject: str, payload: bytes) -> None:
        if self.connected:
            self.bus.publish(self, subject, payload)

    def hear(self, subject: str, payload: bytes, age: int) -> None:
        if self.connected and age == self.age:
            self.cluster.receive(subject, payload)

    def connect(self, connected: bool) -> None:  # noqa: FBT001  # as a backplane tells it
        if not self.dead and connected != self.connected:
            self.connected = connected
            self.age += 1
            self.cluster.reached(connected)

    def beat(self) -> None:
        if not self.dead:
            if not self.frozen:
                self.cluster.tick()
            self.bus.at(self.bus.now + BEAT * self.bus.random.uniform(0.9, 1.1), self.beat)

    def deliver(self, session: str, frame: bytes, source: Participant) -> None:  # noqa: ARG002  # as a hub has it
        room = self.rooms[source.room]
        target, peer = room.sessions.get(session), room.elsewhere.get(source.session)
        if target and peer and source.session not in target.links:
            target.links[source.session] = peer
            peer.links[session] = target

    def discovered(self, frame: bytes, source: Participant) -> None:
        """It does not matter here."""

    def appeared(self, who: Participant) -> None:
        self.presence.appeared(who)

    def vanished(self, who: Participant, reason: str) -> None:
        self.presence.vanished(who, reason)

    # What happens to it

    def enter(self) -> None:
        random = self.bus.random
        name = f"ws_{self.cluster.server}_{next(self._numbers)}"
        who = Participant(name, "", random.choice(["a", "b", ""]), random.choice(ROLES), name, "192.0.2.1")
        session = self.sessions[name] = Watcher(who)
        self.presence.enter(cast("Session", session))
        self.presence.watch(cast("Session", session))

    def change(self) -> None:
        if session := self._any():
            name, roles = f"name {next(self._numbers)}", self.bus.random.choice(ROLES)
            self.presence.change(cast("Session", session), msgspec.structs.replace(session.who, name=name, roles=roles))

    def leave(self) -> None:
        if session := self._any():
            del self.sessions[session.id]
            session.reason = "1000"
            self.presence.leave(cast("Session", session))

    def speak(self) -> None:
        if (session := self._any()) and (there := self.rooms[session.who.room].elsewhere):
            peer = self.bus.random.choice(list(there.values()))
            session.links[peer.who.session] = peer
            peer.links[session.id] = cast("Peer", session)
            peer.deliver(b"{}", session.id)

    def cut(self) -> None:
        self.connect(False)
        self.bus.at(self.bus.now + self.bus.random.choice([0.1, 1, 4]), lambda: self.connect(True))

    def freeze(self) -> None:
        self.frozen = True
        self.bus.at(self.bus.now + self.bus.random.choice([1, 3, 5]), self.thaw)

    def thaw(self) -> None:
        self.frozen = False

    def crash(self) -> None:
        self.dead, self.connected = True, False
        self.age += 1
        self.bus.nodes.remove(self)
        Node(self.bus)

    def _any(self) -> Watcher | None:
        return self.bus.random.choice(list(self.sessions.values())) if self.sessions else None


HAPPENS = {
    Node.enter: 35,
    Node.leave: 20,
    Node.change: 20,
    Node.speak: 15,
    Node.cut: 8,
    Node.freeze: 4,
    Node.crash: 3,
}


def walk(random: Random) -> Bus:
    bus = Bus(random)
    for _ in range(3):
        Node(bus)
    for _ in range(STEPS):
        bus.run(random.expovariate(8))
        (what,) = random.choices(list(HAPPENS), list(HAPPENS.values()))
        what(random.choice(bus.nodes))
    bus.wild = False
    for node in bus.nodes:
        node.connect(True)
        node.thaw()
    bus.run(CALM)
    return bus


@pytest.mark.parametrize("seed", range(12))
def test_in_the_end_each_server_knows_all_sessions_and_each_session_its_broadcasters(seed: int) -> None:
    bus = walk(Random(seed))  # noqa: S311  # to be repeated
    for node in bus.nodes:
        others = {name: s.who for other in bus.nodes if other is not node for name, s in other.sessions.items()}
        everybody = others | {name: session.who for name, session in node.sessions.items()}
        assert dict(node.cluster.remote) == others
        assert node.cluster.rooms == Counter(who.room for who in others.values())
        assert node.cluster.addresses == Counter(who.address for who in others.values())
        assert set(node.rooms) == {who.room for who in everybody.values()}
        assert [server.held for server in node.cluster._servers.values()] == [[], []]
        for session in node.sessions.values():
            assert session.links.keys() <= everybody.keys()
            assert session.seen == {
                name: who.name
                for name, who in everybody.items()
                if name != session.id and who.broadcasts and roles_meet(session.who, who)
            }
