"""The relay: who gets which message of whom."""

import msgspec
from websockets.frames import CloseCode

from synopticon_rtc.errors import InvalidMessage
from synopticon_rtc.signaling.messages import RELAYED
from synopticon_rtc.signaling.server import envelope
from synopticon_rtc.signaling.server.access import Participant
from synopticon_rtc.signaling.server.cluster import Cluster
from synopticon_rtc.signaling.server.counts import Counts
from synopticon_rtc.signaling.server.desk import Desk
from synopticon_rtc.signaling.server.envelope import Target
from synopticon_rtc.signaling.server.limits import Limits
from synopticon_rtc.signaling.server.permissions import Permissions
from synopticon_rtc.signaling.server.rooms import Elsewhere, Rooms
from synopticon_rtc.signaling.server.session import Peer, Session
from synopticon_rtc.signaling.server.turn import Turn

DISCOVERIES = frozenset({"webrtc_seek_broadcaster", "request_offer"})
WIDEST = 100  # messages that one for everybody counts as at most, so that it may be sent at all
DENIED = 1000  # pairs of a session that are remembered as not allowed; when there are more, all are asked about again
_UNSET = msgspec.UNSET
_BRACE = ord("}")


class Relay:
    """Passes messages between the sessions of a room.

    A message from one session to another with which it is linked is on its way after one look at its envelope: nearly
    all are such. What is left finds out whether two may be linked, whom a discovery reaches, and what is wrong.

    Args:
        rooms: Who is where.
        cluster: The way to other servers.
        permissions: Who may connect to whom.
        desk: Who answers what is not for another session.
        limits: What a session may do.
        counts: Where it is counted.
        turn: The turn of the loop.
    """

    def __init__(
        self,
        rooms: Rooms,
        cluster: Cluster,
        permissions: Permissions,
        desk: Desk,
        limits: Limits,
        counts: Counts,
        turn: Turn,
    ) -> None:
        self._rooms = rooms
        self._cluster = cluster
        self._permissions = permissions
        self._desk = desk
        self._limits = limits
        self._counts = counts
        self._turn = turn
        self._queues: dict[tuple[str, str], _Queue] = {}

    def take(self, session: Session, data: bytes) -> None:
        """Take a message from a client."""
        turn = self._turn
        session.heard = now = turn.now or turn.begin()
        session.messages += 1
        if not session.budget.take(now, len(data)):
            self._desk.limit(session)
            return
        # A browser closes the connection on which it gets what is no UTF-8, and the decoder skips most of it unseen.
        if not (data.isascii() or _is_utf8(data)):
            session.end(CloseCode.INVALID_DATA, "Not UTF-8")
            return
        try:
            read = envelope.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            self._take_exactly(session, data)
            return
        if read.type in RELAYED and read.source_session is _UNSET and data[-1] == _BRACE:
            self._pass(session, read.type, read.target_session, data[:-1] + session.signature)
        else:
            self._take_exactly(session, data)

    def take_binary(self, session: Session, data: bytes) -> None:
        """Take a message from a client in a binary frame; if it is no text, that is an error and no reason to close."""
        if _is_utf8(data):
            self.take(session, data)
        else:
            session.messages += 1
            self._desk.refuse(session, "Not a message: not UTF-8")

    def take_ping(self, session: Session, data: bytes) -> None:
        """Answer a ping, which costs what a message does, and is no sign that there is somebody behind the socket."""
        if session.budget.take(self._turn.now or self._turn.begin(), len(data)):
            session.pong(data)
        else:
            self._desk.limit(session)

    def take_frame(self, session: Session) -> bool:
        """Count a frame that is no message: a part of one, or a pong. It costs what a message does."""
        if session.budget.take(self._turn.now or self._turn.begin(), 0):
            return True
        self._desk.limit(session)
        return False

    def deliver(self, session: str, frame: bytes, source: Participant) -> None:
        """Pass on what came from another server, where its sender's right to send it was looked into."""
        room = self._rooms[source.room]
        if target := room.sessions.get(session):
            if source.session not in target.links and (peer := room.elsewhere.get(source.session)):
                self._link(peer, target)
            target.deliver(frame)

    def discovered(self, frame: bytes, source: Participant) -> None:
        """Pass on a message from another server that is for everybody in its room."""
        kind = envelope.decode(frame).type
        if there := self._audience(source.room, kind):
            peer = self._rooms[source.room].elsewhere.get(source.session) or Elsewhere(source, self._cluster)
            for session in there:
                self._reach(session, frame, peer)

    def forget(self, session: str) -> None:
        """Drop what waits for a session, or comes from one, that is gone."""
        for pair in [pair for pair in self._queues if session in pair]:
            queue = self._queues.pop(pair)
            queue.release()
            source = queue.source
            if queue.targeted and isinstance(source, Session) and source.id != session:
                self._desk.tell_error(source, "target_not_found", "No such session", session)

    def _take_exactly(self, session: Session, data: bytes) -> None:
        """Take a message whose envelope is not all that there is to it."""
        try:
            kind, fields = envelope.open_fields(data)
        except InvalidMessage as error:
            self._desk.refuse(session, str(error))
            return
        if kind in RELAYED:
            self._pass(session, kind, envelope.target_of(fields), envelope.seal(fields, session.id))
        else:
            self._desk.answer(session, kind, fields)

    def _pass(self, session: Session, kind: str, target: Target, message: bytes) -> None:
        counts = self._counts
        counts.messages[kind] += 1
        peer = session.links.get(target)  # type: ignore[arg-type]  # what is no string is no key either
        if peer is not None:
            peer.deliver(message, session.id)
            counts.relayed += 1
        elif target:
            self._introduce(session, target, message)
        else:
            self._spread(session, kind, message)
        if kind in DISCOVERIES:
            session.sought = session.sought or session.heard
        elif kind == "webrtc_answer" and session.sought:
            counts.joins.observe(session.heard - session.sought)
            session.sought = 0.0

    def _audience(self, room: str, kind: str) -> list[Session]:
        """Tell whom a message is for that names no target."""
        there = self._rooms.get(room)  # a discovery from elsewhere may come when all have left
        return list((there.seekable if kind in DISCOVERIES else there.sessions).values()) if there else []

    def _spread(self, session: Session, kind: str, message: bytes) -> None:
        """Send a message to everybody in the room whom it is for."""
        others = [other for other in self._audience(session.who.room, kind) if other is not session]
        if len(others) > 1 and not session.budget.take_more(session.heard, min(len(others), WIDEST) - 1):
            self._desk.limit(session)
            return
        for other in others:
            self._reach(other, message, session)
        self._cluster.discover(session.who, message)
        self._counts.relayed += bool(others) or session.who.room in self._cluster.rooms

    def _reach(self, session: Session, message: bytes, source: Peer) -> None:
        """Send a message that names no target to one session."""
        if source.who.session in session.links:
            session.deliver(message)
        elif queue := self._queues.get((source.who.session, session.id)):
            queue.add(message, targeted=False)  # or drop it: discoveries are repeated
        else:
            self._consider(source, session, message, targeted=False)

    def _introduce(self, session: Session, target: Target, message: bytes) -> None:
        """Send a message to a session to which its sender is not linked, if there is one and it may be."""
        peer = self._rooms[session.who.room].find(target) if isinstance(target, str) else None
        if peer is None:
            self._desk.tell_error(session, "target_not_found", "No such session", target)
        elif peer is session:
            session.deliver(message)
            self._counts.relayed += 1
        elif queue := self._queues.get((session.id, peer.who.session)):
            if not queue.add(message, targeted=True):
                self._desk.tell_error(session, "rate_limited", "Too many messages before it is allowed", target)
        elif peer.who.session in session.denied:
            self._desk.tell_error(session, "not_allowed", "Not allowed to connect", target)
        else:
            self._consider(session, peer, message, targeted=True)

    def _consider(self, source: Peer, target: Peer, message: bytes, *, targeted: bool) -> None:
        """Ask whether a message may pass; it and all of its pair that follow wait for the answer, in order."""
        queue = _Queue(source, target, self._limits.pending)
        self._queues[queue.pair] = queue
        queue.add(message, targeted=targeted)
        self._permissions.ask(source, target, "relay", lambda allowed: self._settle(queue, allowed))
        if self._queues.get(queue.pair) is queue:
            queue.wait()

    def _settle(self, queue: "_Queue", allowed: bool) -> None:  # noqa: FBT001  # the answer of a hook
        if self._queues.get(queue.pair) is not queue:
            return  # one of the two is gone, or they were linked by a message the other way
        del self._queues[queue.pair]
        queue.release()
        source, target = queue.source, queue.target
        if allowed:
            if queue.targeted:
                self._link(source, target)
                self._counts.relayed += queue.targeted
            for message in queue.messages:
                target.deliver(message, source.who.session)
        elif queue.targeted and isinstance(source, Session):
            if len(source.denied) >= DENIED:
                source.denied.clear()
            source.denied.add(target.who.session)
            for _ in range(queue.targeted):
                self._desk.tell_error(source, "not_allowed", "Not allowed to connect", target.who.session)

    def _link(self, one: Peer, other: Peer) -> None:
        one.links[other.who.session] = other
        other.links[one.who.session] = one
        # What waits the other way is allowed by that, and must not be overtaken by what follows it.
        if queue := self._queues.get((other.who.session, one.who.session)):
            self._settle(queue, allowed=True)


class _Queue:
    """Messages of a pair that wait for an answer."""

    def __init__(self, source: Peer, target: Peer, limit: int) -> None:
        self.source = source
        self.target = target
        self.pair = source.who.session, target.who.session
        self.messages: list[bytes] = []
        self.targeted = 0
        self._limit = limit
        self._size = 0
        self._waits = False

    def add(self, message: bytes, *, targeted: bool) -> bool:
        """Append a message, if there is room."""
        if len(self.messages) >= self._limit:
            return False
        self.messages.append(message)
        self.targeted += targeted
        self._size += len(message)
        if self._waits:
            self._hold(len(message))
        return True

    def wait(self) -> None:
        """Take note that they wait, as there was no answer at once."""
        self._waits = True
        self._hold(self._size)

    def release(self) -> None:
        """Take note that they wait no more."""
        if self._waits:
            self._hold(-self._size)

    def _hold(self, size: int) -> None:
        for end in (self.source, self.target):
            if isinstance(end, Session):
                end.hold_waiting(size)
                break


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
