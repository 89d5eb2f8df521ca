"""A world for random walks: a signaling server, its clients and their peer connections, on a virtual clock.

Until the world is ``calm``, messages get lost, overtake each other and come twice, sessions are renewed, and
connections break.
"""

import functools
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import msgspec

from synopticon_rtc.signaling.actions import (
    Action,
    AddCandidate,
    ApplyAnswer,
    Check,
    Close,
    CreateAnswer,
    CreateOffer,
    Notify,
    Send,
)
from synopticon_rtc.signaling.broadcaster_handshake import BroadcasterHandshake
from synopticon_rtc.signaling.handshake import Handshake
from synopticon_rtc.signaling.messages import (
    Answer,
    AnyMessage,
    BroadcasterAvailable,
    BroadcasterGone,
    Broadcasters,
    Candidate,
    Error,
    Message,
    Offer,
    PeerLeft,
    Present,
    Relayed,
    Seek,
    SessionDescription,
)
from synopticon_rtc.signaling.receiver_handshake import ReceiverHandshake

OURS = {"control": ["control/1"], "ice": ["more"]}
HOST = Candidate("candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host", "0", 0)
LATENCY = 0.002  # seconds from one client to another in calm times
DELAYS = (0.002, 0.01, 0.05, 0.3, 1.2)  # seconds, in others


@dataclass(frozen=True)
class Chaos:
    """What goes wrong until the world is calm."""

    seconds: float = 60
    lost: float = 0.1
    doubled: float = 0.1
    reordered: bool = True


class World:
    """Time, chance and the signaling server."""

    def __init__(self, seed: int, *, tells: bool, chaos: Chaos) -> None:
        self.now = 0.0
        self.random = random.Random(seed)  # noqa: S311 - the same each time
        self.tells = tells
        self.chaos = chaos
        self.numbers = itertools.count(1)
        self.clients: list[Client] = []
        self.sessions: dict[str, Client] = {}
        self.connections: dict[int, Connection] = {}
        self._exchanged: dict[str, set[str]] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    # Time

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self.numbers), what))

    def run(self, until: float) -> None:
        while self._due and self._due[0][0] <= until:
            self.now, _, what = heapq.heappop(self._due)
            what()
        self.now = until

    @property
    def calm(self) -> bool:
        return self.now >= self.chaos.seconds

    def now_and_then(self, seconds: float, what: Callable[[], None]) -> None:
        """Do it at random moments, on average that far apart, until the world is calm."""

        def once() -> None:
            if not self.calm:
                what()
                self.now_and_then(seconds, what)

        self.after(self.random.expovariate(1 / seconds), once)

    def upset(self) -> None:
        """Let chaos have its way."""
        self.now_and_then(4, lambda: self.random.choice(self.clients).renew())
        self.now_and_then(6, self._break_one)

    def _break_one(self) -> None:
        if up := [connection for connection in self.connections.values() if connection.up]:
            self.random.choice(up).break_off()

    # The server

    def join(self, client: "Client") -> None:
        session = f"ws_{next(self.numbers)}"
        self.sessions[session] = client
        client.opened(session)
        if not self.tells:
            return
        present = [Present(other, one.name) for other, one in self.sessions.items() if one.broadcasts]
        if client.broadcasts:
            self._tell_receivers(BroadcasterAvailable(session=session, name=client.name))
        else:
            self.deliver(session, Broadcasters(broadcasters=present))

    def leave(self, session: str) -> None:
        client = self.sessions.pop(session)
        if not self.tells:
            return
        for other in self._exchanged.pop(session, ()):
            self.deliver(other, PeerLeft(session=session, reason="closed"))
        if client.broadcasts:
            self._tell_receivers(BroadcasterGone(session=session))

    def _tell_receivers(self, message: Message) -> None:
        for session, client in list(self.sessions.items()):
            if not client.broadcasts:
                self.deliver(session, message)

    def relay(self, source: str, message: Relayed) -> None:
        message = msgspec.structs.replace(message, source_session=source)
        target = message.target_session
        if target and target not in self.sessions:
            if self.tells:
                self.deliver(source, Error(error="gone", error_code="target_not_found", target_session=target))
            return
        if target:
            self._exchanged.setdefault(source, set()).add(target)
            self._exchanged.setdefault(target, set()).add(source)
        for session in [target] if target else [one for one in self.sessions if one != source]:
            if not self.calm and self.random.random() < self.chaos.lost:
                continue
            doubled = not self.calm and self.random.random() < self.chaos.doubled
            for _ in range(1 + doubled):
                self.deliver(session, message, overtaking=self.chaos.reordered and not self.calm)

    def deliver(self, session: str, message: Message, *, overtaking: bool = False) -> None:
        client = self.sessions.get(session)
        if client is None:
            return
        if overtaking:
            delay = self.random.choice(DELAYS)
        else:
            client.busy_until = max(client.busy_until, self.now + LATENCY)
            delay = client.busy_until - self.now

        def arrive() -> None:
            if client.session == session:
                client.received(cast("AnyMessage", message))

        self.after(delay, arrive)


class Client:
    """A session with the server that is renewed now and then, and those who share it."""

    def __init__(self, world: World, name: str, *, broadcasts: bool = False) -> None:
        self.world = world
        self.name = name
        self.broadcasts = broadcasts
        self.session: str | None = None
        self.busy_until = 0.0
        self.peers: list[Peer] = []
        self.claimed: set[str] = set()
        world.clients.append(self)
        world.after(world.random.uniform(0, 1), self.renew)

    def renew(self) -> None:
        """Lose the session, if there is one, and get another: the server may miss the old one long after."""
        world, old = self.world, self.session
        if old is None:
            world.after(0.01, self._join)
            return
        self.session = None
        world.after(world.random.choice((0, 0, 1, 8)), lambda: world.leave(old))
        world.after(world.random.choice((0.01, 0.3, 3)), self._join)

    def _join(self) -> None:
        if self.session is None:
            self.world.join(self)

    def opened(self, session: str) -> None:
        self.session = session
        for peer in self.peers:
            peer.perform(peer.handshake.opened(session, self.world.now))

    def received(self, message: AnyMessage) -> None:
        taken = False
        for peer in self.peers:
            actions = peer.handshake.received(message, self.world.now)
            peer.perform(actions)
            if actions and isinstance(message, Relayed):
                taken = True
                break
        if not taken and isinstance(message, Relayed):
            for peer in self.peers:
                peer.perform(peer.handshake.unclaimed(message))

    def send(self, message: Relayed) -> None:
        if self.session is not None:
            self.world.relay(self.session, message)


class Peer:
    """A handshake, and what carries it out."""

    def __init__(self, client: Client, handshake: Handshake) -> None:
        self.client = client
        self.handshake = handshake
        self.connections: dict[int, Connection] = {}
        self.told: list[Notify] = []
        self.times: list[float] = []  # of what was told
        self._timer: object = None
        client.peers.append(self)

    @property
    def served(self) -> bool:
        """Whether it is connected with somebody who is connected with it."""
        return any(connection.up and connection.told for connection in self.connections.values())

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            self._carry_out(action)
        due = self.handshake.next_tick()
        self._timer = timer = object()
        if due < float("inf"):
            self.client.world.after(max(0.0, due - self.client.world.now), lambda: self._tick(timer))

    def _tick(self, timer: object) -> None:
        if self._timer is timer:
            self.perform(self.handshake.tick(self.client.world.now))

    def _carry_out(self, action: Action) -> None:
        match action:
            case Send(message):
                self.client.send(message)
            case CreateOffer(link) | CreateAnswer(link):
                self.client.claimed.add(action.session)
                self.connections[link] = Connection(self, action)
            case ApplyAnswer(link, sdp):
                self.connections[link].apply(sdp)
            case AddCandidate(link):
                assert link in self.connections
            case Check(link, reason):
                self.connections[link].check(reason)
            case Close(link):
                connection = self.connections.pop(link)
                self.client.claimed.discard(connection.session)
                connection.close()
            case Notify():
                self.told.append(action)
                self.times.append(self.client.world.now)
            case _:
                raise AssertionError(action)


class Connection:
    """One end of a peer connection."""

    def __init__(self, peer: Peer, action: CreateOffer | CreateAnswer) -> None:
        self.peer = peer
        self.link = action.link
        self.session = action.session
        self.world = peer.client.world
        self.number = next(self.world.numbers)
        self.open = True
        self.up = False
        self.told = False  # that it is up
        self.other: Connection | None = None
        self._offer = action.asked.sdp.sdp if isinstance(action, CreateAnswer) else None
        self.world.connections[self.number] = self
        self.world.after(self.world.random.choice((0.005, 0.05, 0.4)), self._describe)

    def _describe(self) -> None:
        if not self.open:
            return
        if self._offer is None:
            sdp = f"v=0\no=- {self.number} 1 IN IP4 127.0.0.1\na=ice-ufrag:{self.number}\n"
        else:
            sdp = f"{self._offer.split()[2]} {self.number}"
        self.peer.perform(self.peer.handshake.described(self.link, sdp, self.world.now))
        for delay in (0.01, 0.05, 0.4):
            self.world.after(delay, self._gather)

    def _gather(self) -> None:
        if self.open:
            self.peer.perform(self.peer.handshake.gathered(self.link, HOST, self.world.now))

    def apply(self, sdp: str) -> None:
        """Take an answer; one to another offer leads nowhere."""
        offer, answer = map(int, sdp.split())
        other = self.world.connections.get(answer)
        if offer == self.number and other is not None:
            self.other, other.other = other, self
            self.world.after(self.world.random.uniform(0.05, 0.6), self._come_up)

    def _come_up(self) -> None:
        other = self.other
        if other is None or not (self.open and other.open):
            return
        self.up = other.up = True
        for end in (self, other):
            self.world.after(self.world.random.uniform(0, 0.3), end.tell)

    def tell(self) -> None:
        if self.open and self.up:
            self.told = True
            self.peer.perform(self.peer.handshake.connected(self.link))

    def check(self, reason: str) -> None:
        self.world.after(0.5, lambda: None if self.up else self.lose(reason))

    def lose(self, reason: str) -> None:
        if self.open:
            self.peer.perform(self.peer.handshake.lost(self.link, reason, self.world.now))

    def break_off(self) -> None:
        """The network between both ends is gone; each notices in its own time."""
        for end in (self, self.other):
            if end is not None:
                end.up = False
                self.world.after(self.world.random.uniform(0.1, 3), functools.partial(end.lose, "silence"))

    def close(self) -> None:
        was_up, self.open, self.up = self.up, False, False
        del self.world.connections[self.number]
        other = self.other
        if was_up and other is not None:
            other.up = False
            self.world.after(self.world.random.uniform(0.01, 5), lambda: other.lose("closed by the other side"))


class BusyPage(Client):
    """A page that broadcasts and comes to one thing each time that its main thread is free: ``busy`` seconds apart.

    It has one peer connection, of which it makes an offer for each discovery, and that takes one peer's answer alone.
    """

    def __init__(self, world: World, busy: float) -> None:
        super().__init__(world, "page", broadcasts=True)
        self.offers = 0
        self.thrown = 0
        self._busy = busy
        self._free_at = 0.0
        self._identity = ""

    def received(self, message: AnyMessage) -> None:
        if isinstance(message, Seek):
            self._later(2, lambda: self._offer(message.source_session))  # it makes the offer, and sets it
        elif isinstance(message, Answer):
            self._later(1, lambda: self._take(message.sdp.sdp))

    def _later(self, turns: int, what: Callable[[], None]) -> None:
        self._free_at = max(self._free_at, self.world.now) + turns * self._busy
        self.world.after(self._free_at - self.world.now, what)

    def _offer(self, session: str) -> None:
        self.offers += 1
        sdp = f"v=0\no=- 4711 {self.offers} IN IP4 127.0.0.1\na=ice-ufrag:abcd\n"
        self.send(Offer(target_session=session, sdp=SessionDescription("offer", sdp)))

    def _take(self, sdp: str) -> None:
        self._identity = self._identity or sdp
        if sdp != self._identity:
            self.thrown += 1
        elif (connection := self.world.connections.get(int(sdp.split()[1]))) is not None:
            connection.up = True
            connection.tell()


def add_broadcaster(world: World, name: str) -> Peer:
    client = Client(world, name, broadcasts=True)
    return Peer(client, BroadcasterHandshake(name=name, accept=OURS, timestamp=lambda: 0))


def add_receivers(world: World, *wants: str | None) -> list[Peer]:
    """Add receivers that share one client."""
    client = Client(world, "")
    return [
        Peer(
            client,
            ReceiverHandshake(want=want, taken=lambda: frozenset(client.claimed), accept=OURS, timestamp=lambda: 0),
        )
        for want in wants
    ]
