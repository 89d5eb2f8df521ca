"""What the server answers itself: pings, what a client configures, its status, its mistakes."""

import logging
import time
from typing import Any

import msgspec
from websockets.frames import CloseCode

from synopticon_rtc.basics.seldom import Seldom
from synopticon_rtc.signaling.messages import NAME_LENGTH
from synopticon_rtc.signaling.server import answers
from synopticon_rtc.signaling.server.access import RECEIVERS, ROLES, Role
from synopticon_rtc.signaling.server.counts import Counts
from synopticon_rtc.signaling.server.envelope import Fields, Target
from synopticon_rtc.signaling.server.ice import TurnServers
from synopticon_rtc.signaling.server.limits import LINE_EVERY, Limits
from synopticon_rtc.signaling.server.presence import Presence
from synopticon_rtc.signaling.server.session import Session

SERVER_VERSION = "2.0.0"
CAPABILITIES = ["webrtc"]
TELLS = ("peers", "errors", "broadcasters", "ice")

log = logging.getLogger("synopticon_rtc.signaling.server")


class Requirements(msgspec.Struct):
    """What is read of a client's requirements; pages put there what they like."""

    tell: Any = None
    role: Any = None
    name: Any = None


_requirements_decoder = msgspec.json.Decoder(Requirements)


class Desk:
    """Answers a session.

    Args:
        sessions: All sessions of this server.
        presence: Who is told of broadcasters.
        ice_servers: The STUN and TURN servers to name, if any.
        limits: What a session may do.
        counts: Where it is counted.
    """

    def __init__(
        self,
        sessions: dict[str, Session],
        presence: Presence,
        ice_servers: TurnServers | None,
        limits: Limits,
        counts: Counts,
    ) -> None:
        self.started = time.monotonic()
        self._sessions = sessions
        self._presence = presence
        self._ice_servers = ice_servers
        self._limits = limits
        self._counts = counts
        self._lines = Seldom(LINE_EVERY)

    def welcome(self, session: Session) -> None:
        """Tell a session its id."""
        session.deliver(
            answers.message(
                "connected",
                sessionId=session.id,
                capabilities=CAPABILITIES,
                serverVersion=SERVER_VERSION,
                **self._ice(session),
                timestamp=answers.now(),
            )
        )

    def answer(self, session: Session, kind: str, fields: Fields) -> None:
        """Answer a message that is for the server."""
        match kind:
            case "ping":
                clock = {"clientTimestamp": fields["timestamp"]} if "timestamp" in fields else {}
                session.deliver(answers.message("pong", sessionId=session.id, **clock, serverTimestamp=answers.now()))
            case "configure":
                self._configure(session, fields.get("requirements"))
            case "status":
                session.deliver(self._status(session))
            case _:
                self.refuse(session, f"Unknown message type: {kind[:100]}")
                return
        self._counts.messages[kind] += 1

    def refuse(self, session: Session, error: str) -> None:
        """Answer a message that is none; a session that sends too many is closed."""
        self._counts.messages["invalid"] += 1
        if session.errors == 0 and (more := self._lines.take()) is not None:
            log.warning("message of session %s dropped: %r (told once; %d more since)", session.id, error, more)
        if self._count_error(session, CloseCode.INTERNAL_ERROR, "Too many errors"):
            session.deliver(answers.error(session.id, error, "MESSAGE_HANDLING_ERROR"))

    def limit(self, session: Session) -> None:
        """Drop a message that is one too many."""
        self._counts.refused["rate_limited"] += 1
        if self._count_error(session, CloseCode.POLICY_VIOLATION, "Too many messages") and "errors" in session.tells:
            session.deliver(answers.error(session.id, "Too many messages", "rate_limited"))

    def tell_error(
        self, session: Session, code: str, error: str, target: Target = None, role: Role | None = None
    ) -> None:
        """Tell a session that wants to know what came of its message; to others it is silence."""
        self._counts.refused[code] += 1
        if "errors" in session.tells:
            session.deliver(answers.error(session.id, error, code, target if isinstance(target, str) else None, role))

    def _count_error(self, session: Session, code: int, reason: str) -> bool:
        session.errors += 1
        if session.errors < self._limits.errors:
            return True
        session.end(code, reason)
        return False

    def _configure(self, session: Session, raw: msgspec.Raw | None) -> None:
        try:
            wanted = _requirements_decoder.decode(raw) if raw is not None else Requirements()
        except (msgspec.DecodeError, RecursionError):
            wanted = Requirements()
        answer: dict[str, object] = {} if raw is None else {"requirements": raw}
        if isinstance(wanted.tell, list):
            tells = [what for what in TELLS if what in wanted.tell and (what != "ice" or self._ice_servers)]
            session.tells = frozenset(tells)
            answer["tells"] = tells
            if "ice" in tells:
                answer |= self._ice(session)
        session.deliver(answers.message("configured", sessionId=session.id, **answer, timestamp=answers.now()))
        if isinstance(wanted.tell, list):
            self._presence.ignore(session)  # until it has a list that fits what it is now
        self._identify(session, wanted)
        if isinstance(wanted.tell, list) and "broadcasters" in session.tells:
            self._presence.watch(session)

    def _identify(self, session: Session, wanted: Requirements) -> None:
        granted, who = session.granted, session.who
        roles = _roles(wanted.role)
        if roles and granted.roles is not None:
            allowed = granted.roles | (RECEIVERS if "record" in granted.roles else frozenset())
            for role in sorted(roles - allowed):
                self.tell_error(
                    session,
                    "not_allowed",
                    f"This link, or its token, does not give the role {role}",
                    role=role,
                )
            roles = roles & allowed or None
        if roles is not None:
            who = msgspec.structs.replace(who, roles=roles)
        if isinstance(wanted.name, str) and not granted.name:
            who = msgspec.structs.replace(who, name=wanted.name[:NAME_LENGTH])
        news = who != session.who
        self._presence.change(session, who)
        if news and "errors" in session.tells and (other := self._presence.namesake(session)):
            error = f"Another broadcaster is called {who.name} too: receivers that ask for that name get either"
            session.deliver(answers.error(session.id, error, "name_taken", other))

    def _ice(self, session: Session) -> dict[str, object]:
        return self._ice_servers.offer(session.who.subject or session.id) if self._ice_servers else {}

    def _status(self, session: Session) -> bytes:
        return answers.message(
            "status",
            sessionId=session.id,
            server={
                "uptime": round(time.monotonic() - self.started, 3),
                "activeConnections": len(self._sessions),
                "totalSessions": self._counts.sessions,
                "pipelines": [],
            },
            session={
                "id": session.id,
                "frameCount": 0,
                "messageCount": session.messages,
                "errors": session.errors,
                "age": round(session.age, 3),
            },
            timestamp=answers.now(),
        )


def _roles(role: Any) -> frozenset[Role] | None:  # noqa: ANN401  # whatever a client says
    if role == []:
        return frozenset()  # it has given back what it had
    said = role if isinstance(role, list) else [role]
    return frozenset[Role](known for known in ROLES if known in said) or None
