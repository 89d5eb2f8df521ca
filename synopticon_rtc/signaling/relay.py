"""The relay: who gets which message of whom."""

import msgspec
from websockets.frames import CloseCode

from synopticon_rtc.errors import InvalidMessage
from synopticon_rtc.signaling import envelope
from synopticon_rtc.signaling.access import Participant
from synopticon_rtc.signaling.cluster import Cluster
from synopticon_rtc.signaling.counts import Counts
from synopticon_rtc.signaling.desk import Desk
from synopticon_rtc.signaling.envelope import Target
from synopticon_rtc.signaling.limits import Limits
from synopticon_rtc.signaling.messages import RELAYED
from synopticon_rtc.signaling.permissions import Permissions
from synopticon_rtc.signaling.rooms import Rooms
from synopticon_rtc.signaling.session import Peer, Session
from synopticon_rtc.signaling.turn import Turn

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

    def deliver(self, session: str, frame: bytes, source: Participant) -> None:
        """Pass on what came from another server, where its sender's right to send it was looked into."""
        room = self._rooms[source.room]
        if target := room.sessions.get(session):
            if source.session not in target.links and (peer := room.elsewhere.get(source.session)):
                _link(target, peer)
            target.deliver(frame)

    def discovered(self, frame: bytes, source: Participant) -> None:
        """Pass on a message from another server that is for everybody in its room."""
        kind = envelope.decode(frame).type
        for session in self._audience(source.room, kind):
            self._reach(session, kind, frame, source)

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
            self._reach(other, kind, message, session.who, session.waiting.get(other.id))
        self._cluster.discover(session.who, message)
        self._counts.relayed += bool(others) or session.who.room in self._cluster.rooms

    def _reach(
        self, session: Session, kind: str, message: bytes, source: Participant, waiting: list[bytes] | None = None
    ) -> None:
        """Send a message that names no target to one session."""
        if waiting is not None and len(waiting) < self._limits.pending:
            waiting.append(message)
        elif source.session in session.links and kind not in DISCOVERIES:
            session.deliver(message)
        else:
            self._permissions.ask(source, session.who, lambda allowed: session.deliver(message) if allowed else None)

    def _introduce(self, session: Session, target: Target, message: bytes) -> None:
        """Send a message to a session to which its sender is not linked, if there is one and it may be."""
        peer = self._rooms[session.who.room].find(target) if isinstance(target, str) else None
        if peer is None:
            self._desk.tell_error(session, "target_not_found", "No such session", target)
        elif peer is session:
            session.deliver(message)
            self._counts.relayed += 1
        elif (waiting := session.waiting.get(peer.who.session)) is not None:
            if len(waiting) < self._limits.pending:
                waiting.append(message)
            else:
                self._desk.tell_error(session, "rate_limited", "Too many messages before it is allowed", target)
        elif peer.who.session in session.denied:
            self._desk.tell_error(session, "not_allowed", "Not allowed to connect", target)
        else:
            session.waiting[peer.who.session] = [message]
            self._permissions.ask(session.who, peer.who, lambda allowed: self._introduced(session, peer, allowed))

    def _introduced(self, session: Session, peer: Peer, allowed: bool) -> None:  # noqa: FBT001  # the answer of a hook
        target = peer.who.session
        waiting = session.waiting.pop(target)
        if session.reason:
            return  # it left meanwhile
        if self._rooms[session.who.room].find(target) is not peer:
            self._desk.tell_error(session, "target_not_found", "No such session", target)
        elif allowed or target in session.links:  # by a message the other way
            _link(session, peer)
            self._counts.relayed += len(waiting)
            for message in waiting:
                peer.deliver(message, session.id)
        else:
            if len(session.denied) >= DENIED:
                session.denied.clear()
            session.denied.add(target)
            for _ in waiting:
                self._desk.tell_error(session, "not_allowed", "Not allowed to connect", target)


def _link(session: Session, peer: Peer) -> None:
    session.links[peer.who.session] = peer
    peer.links[session.id] = session


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
