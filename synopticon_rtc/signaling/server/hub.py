"""Where sessions meet: it takes them in, lets them go, and puts their parts together."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from operator import itemgetter
from typing import TypeVar

from websockets.frames import CloseCode

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.seldom import Seldom
from synopticon_rtc.basics.text import WORDS, visible
from synopticon_rtc.signaling.addresses import is_loopback, source_of, write_address
from synopticon_rtc.signaling.server import answers
from synopticon_rtc.signaling.server.access import CanConnect, Participant
from synopticon_rtc.signaling.server.backplane import Backplane
from synopticon_rtc.signaling.server.cluster import Cluster
from synopticon_rtc.signaling.server.connection import Listener, Refusal
from synopticon_rtc.signaling.server.counts import Counts
from synopticon_rtc.signaling.server.desk import Desk
from synopticon_rtc.signaling.server.guest import Guest
from synopticon_rtc.signaling.server.http import Refused
from synopticon_rtc.signaling.server.ice import TurnServers
from synopticon_rtc.signaling.server.invitations import Invitations
from synopticon_rtc.signaling.server.limits import LINE_EVERY, Limits
from synopticon_rtc.signaling.server.memory import Memory
from synopticon_rtc.signaling.server.permissions import Permissions
from synopticon_rtc.signaling.server.presence import Presence
from synopticon_rtc.signaling.server.relay import Relay
from synopticon_rtc.signaling.server.rooms import Rooms
from synopticon_rtc.signaling.server.session import Session
from synopticon_rtc.signaling.server.tokens import Claims
from synopticon_rtc.signaling.server.turn import Turn

S = TypeVar("S", bound=Session)
TOKEN_EXPIRED = 4401  # close code; 4000 to 4999 are the application's (RFC 6455, 7.4.2)

log = logging.getLogger("synopticon_rtc.signaling.server")


class Hub:
    """The sessions of one server, and what they have to do with each other.

    Args:
        limits: What they may do.
        can_connect: Who may connect to whom.
        ice_servers: STUN and TURN servers to name to them.
        backplane: The way to other servers.
        on_session: Called with each session when it is open, and again when it is closed.

    Attributes:
        sessions: The open sessions, by id.
        rooms: Who is where, on all servers.
        invitations: Who has which invitation.
        counts: What there was so far.
        faults: What counts errors that nobody foresaw, of this package or of what it was given to call.
        cluster: This server among others.
        memory: What is held for the sessions.
        draining: Whether it is about to stop, and takes nobody in any more.
    """

    def __init__(
        self,
        limits: Limits,
        can_connect: CanConnect,
        ice_servers: TurnServers | None,
        backplane: Backplane | None,
        on_session: Callable[[Session], object],
    ) -> None:
        self.limits = limits
        self.sessions: dict[str, Session] = {}
        self.rooms = Rooms()
        self.invitations = Invitations(self.rooms)
        self.counts = Counts()
        self.faults = Faults()
        self.cluster = Cluster(self, backplane, self.faults)
        self.draining = False
        self.memory = Memory(limits.held_bytes)
        self._vacant = asyncio.Event()
        self._on_session = on_session
        self._sources: Counter[str] = Counter()
        self._refused_lines = Seldom(LINE_EVERY)
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._turn = Turn(self.counts.turned)
        self._permissions = Permissions(can_connect, self.faults)
        self._presence = Presence(self.rooms, self.cluster, self._permissions)
        self._desk = Desk(self.sessions, self._presence, ice_servers, limits, self.counts)
        self._relay = Relay(self.rooms, self.cluster, self._permissions, self._desk, limits, self.counts, self._turn)

    @property
    def uptime(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._desk.started

    def admit(self, claims: Claims, host: str, port: int | None, holder: str = "") -> Listener:
        """Take a client in, or close it as soon as it is open, where there are too many already.

        Args:
            claims: What its token says.
            host: Where it comes from.
            port: Likewise, where that is known.
            holder: What it is to be known by when it comes again.
        """
        if reason := self._turn_down(claims.room or "", host):
            return Refusal(self.limits, self.memory, CloseCode.TRY_AGAIN_LATER, reason)
        return self._make(Session, claims, host, port, holder)

    def admit_guest(self, claims: Claims, host: str, holder: str = "") -> Guest:
        """Take in a client that speaks HTTP alone, and is spoken for.

        Raises:
            Refused: There are too many already.
        """
        if reason := "Service restart" if self.draining else self._turn_down(claims.room or "", host):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", reason, {"Retry-After": "5"})
        guest = self._make(Guest, claims, host, None, holder)
        guest.enter()
        return guest

    def _make(self, kind: type[S], claims: Claims, host: str, port: int | None, holder: str) -> S:
        session, room = f"ws_{answers.now()}_{secrets.token_hex(8)}", claims.room or ""
        who = Participant(session, claims.subject, room, claims.roles, claims.name, host, claims.invitation, holder)
        address = host if port is None else write_address(host, port)
        return kind(who, address, claims.expires, self, self._relay, self._turn, self.limits, self.memory)

    def _turn_down(self, room: str, host: str) -> str:
        """Say why a client is not taken in, where there are too many."""
        if reason := self._full(room, host):
            self.counts.refused["overloaded"] += 1
            if (more := self._refused_lines.take()) is not None:
                fields = {"address": host, "room": room, "reason": reason, "more": more}
                log.warning(
                    "session from %s refused: %s (%d more since)",
                    host,
                    reason,
                    more,
                    extra={"event": "session_refused", "fields": fields},
                )
        return reason

    def opened(self, session: Session) -> None:
        """Welcome a session."""
        self.sessions[session.id] = session
        self.counts.sessions += 1
        self._sources[source_of(session.who.address)] += 1
        room = session.who.room
        if session.expires is not None:
            left = max(0.0, session.expires - time.time())
            self._expiries[session.id] = asyncio.get_running_loop().call_later(
                left, session.end, TOKEN_EXPIRED, "Token expired"
            )
        who = {"session": session.id, "address": session.address, "room": room, "subject": session.who.subject}
        log.info(
            "session %s from %s opened", session.id, session.address, extra={"event": "session_opened", "fields": who}
        )
        self.invitations.enter(session)
        self._desk.welcome(session)
        self._presence.enter(session)
        self._tell(session)

    def closed(self, session: Session) -> None:
        """Part from a session."""
        del self.sessions[session.id]
        source = source_of(session.who.address)
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]
        if expiry := self._expiries.pop(session.id, None):
            expiry.cancel()
        end = {"session": session.id, "seconds": round(session.age, 3), "reason": session.reason}
        log.info(
            "session %s from %s closed after %.1f s: %s",
            session.id,
            session.address,
            session.age,
            visible(session.reason, WORDS),
            extra={"event": "session_closed", "fields": end | {"messages": session.messages}},
        )
        self.invitations.leave(session)
        self._presence.leave(session)
        self._forget(session.id)
        self._tell(session)
        if not self.sessions:
            self._vacant.set()

    def _tell(self, session: Session) -> None:
        try:
            self._on_session(session)
        except Exception:  # noqa: BLE001 - it is noted: the session and the server go on without the application's
            self.faults.note("on_session failed at session %s", session.id)

    def end_idle(self) -> None:
        """Close the sessions that have been silent for too long."""
        now, limits = time.monotonic(), self.limits
        for session in list(self.sessions.values()):
            if session.heard < now - limits.idle:
                session.end(CloseCode.NORMAL_CLOSURE, "Session timeout")
            elif not session.messages and session.opened < now - limits.first:
                session.end(CloseCode.NORMAL_CLOSURE, "No message came")

    async def drain(self, seconds: float) -> None:
        """Let nobody in any more, and close those that are still there after some seconds."""
        self.draining = True
        for session in self.sessions.values():
            if "peers" in session.tells:
                session.deliver(answers.message("draining", seconds=seconds))
        if self.sessions:
            self._vacant.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._vacant.wait()
        self.end_all(CloseCode.SERVICE_RESTART, "Service restart")

    def end_all(self, code: int, reason: str) -> None:
        """Close all sessions."""
        for session in list(self.sessions.values()):
            session.end(code, reason)

    async def close(self) -> None:
        """Wait for nothing any more."""
        self.invitations.close()
        await self._permissions.close()

    # What comes from other servers

    def deliver(self, session: str, frame: bytes, source: Participant) -> None:
        """Pass a message on to a session of this server."""
        self._relay.deliver(session, frame, source)

    def discovered(self, frame: bytes, source: Participant) -> None:
        """Pass a message on to its source's room."""
        self._relay.discovered(frame, source)

    def appeared(self, who: Participant) -> None:
        """Note a session of another server."""
        self._presence.appeared(who)

    def vanished(self, who: Participant, reason: str) -> None:
        """Note the end of a session of another server."""
        self._presence.vanished(who, reason)
        self._forget(who.session)

    def _forget(self, session: str) -> None:
        self._relay.forget(session)
        self._permissions.forget(session)

    def _full(self, room: str, host: str) -> str:
        limits, source = self.limits, source_of(host)
        theirs = self._sources[source] + self.cluster.addresses[source]
        local = limits.address_sessions is None and is_loopback(host)
        if theirs >= limits.share and not local:
            return "Too many sessions from this address"
        if room in self.rooms and len(self.rooms[room]) >= limits.room_sessions:
            return "Room full"
        if len(self.sessions) >= limits.sessions and not (theirs < limits.share and self._make_room(source)):
            return "Server overloaded"
        return ""

    def _make_room(self, source: str) -> bool:
        """End the newest session of a source that has more than its share, as only this machine may have."""
        other, theirs = max(self._sources.items(), key=itemgetter(1), default=("", 0))
        if theirs <= self.limits.share or other == source:
            return False
        for session in reversed(self.sessions.values()):
            if source_of(session.who.address) == other and not session.ending:
                session.end(CloseCode.TRY_AGAIN_LATER, "Server overloaded")
                return True
        return False
