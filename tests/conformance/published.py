"""Test servers that behave as the two published Synopticon servers do, habits and faults included."""

import asyncio
import contextlib
import json
import secrets
import time
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

FALSY = (None, "", 0, False)  # as JavaScript has it: an empty list or object is none of them


@dataclass(frozen=True)
class Profile:
    """What tells one version from the other, and the numbers that tests scale; seconds."""

    version: str
    relayed: frozenset[str]
    session_idle: float
    relay_idle: float = 60
    watch: float = 60
    sessions: int = 100
    errors: int = 10
    message_bytes: int = 16 * 2**20

    def faster(self, times: float) -> "Profile":
        return replace(
            self,
            session_idle=self.session_idle / times,
            relay_idle=self.relay_idle / times,
            watch=self.watch / times,
        )


V062 = Profile("0.6.2", frozenset({"request_offer", "webrtc_offer", "webrtc_answer", "webrtc_ice"}), session_idle=300)
V063 = Profile("0.6.3", V062.relayed | {"webrtc_seek_broadcaster"}, session_idle=30)


class Session:
    """One client, with its two idle clocks."""

    def __init__(self, connection: ServerConnection) -> None:
        self.id = f"ws_{now_ms()}_{secrets.token_hex(8)}"
        self.connection = connection
        self.opened = self.fed = self.relayed = time.monotonic()
        self.deaf = False
        self.messages = 0
        self.errors = 0

    def send(self, **message: Any) -> None:
        broadcast([self.connection], json.dumps(message))


class PublishedServer:
    """A signaling server of a published version, on a free port of the loopback."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.sessions: dict[str, Session] = {}
        self.total_sessions = 0
        self._opened = time.monotonic()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/ws"

    async def __aenter__(self) -> Self:
        self._server: Server = await serve(
            self._serve,
            "127.0.0.1",
            0,
            process_request=only_ws,
            compression=None,
            ping_interval=None,
            close_timeout=1,
            max_size=self.profile.message_bytes,
        )
        self._watch = asyncio.create_task(self._close_idle_sessions())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watch.cancel()
        await asyncio.wait([self._watch])
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, connection: ServerConnection) -> None:
        if len(self.sessions) >= self.profile.sessions:
            await connection.close(CloseCode.TRY_AGAIN_LATER, "Server overloaded")
            return
        session = Session(connection)
        self.sessions[session.id] = session
        self.total_sessions += 1
        session.send(
            type="connected",
            sessionId=session.id,
            capabilities=["webrtc"],
            serverVersion="2.0.0",
            timestamp=now_ms(),
        )
        try:
            async for data in connection:
                session.messages += 1
                try:
                    self._handle(session, data)
                except (ValueError, RecursionError) as error:
                    session.errors += 1
                    if session.errors >= self.profile.errors:
                        await connection.close(CloseCode.INTERNAL_ERROR, "Too many errors")
                        break
                    session.send(
                        type="error",
                        sessionId=session.id,
                        error=str(error),
                        errorCode="MESSAGE_HANDLING_ERROR",
                        timestamp=now_ms(),
                    )
        except ConnectionClosed:
            pass
        finally:
            del self.sessions[session.id]

    def _handle(self, session: Session, data: str | bytes) -> None:
        message = json.loads(data)
        if not isinstance(message, dict):
            raise ValueError(f"Not an object: {message!r}")  # noqa: TRY004 - one kind of error for all that is refused
        kind = message.get("type")
        if kind in ("ping", "configure"):
            session.fed = time.monotonic()
        match kind:
            case "ping":
                given = {"clientTimestamp": message["timestamp"]} if "timestamp" in message else {}
                session.send(type="pong", sessionId=session.id, **given, serverTimestamp=now_ms())
            case "configure":
                given = {"requirements": message["requirements"]} if "requirements" in message else {}
                session.send(type="configured", sessionId=session.id, **given, timestamp=now_ms())
            case "status":
                self._tell_status(session)
            case str() if kind in self.profile.relayed:
                self._relay(session, message)
            case _:
                raise ValueError(f"Unknown message type: {kind}")

    def _relay(self, session: Session, message: dict[str, Any]) -> None:
        if not self._hears(session):
            return
        session.relayed = time.monotonic()
        target = message.get("targetSession")
        if target in FALSY:
            receivers = [other for other in self.sessions.values() if other is not session]
        else:
            receivers = [other for other in self.sessions.values() if other.id == target]
        text = json.dumps(message | {"sourceSession": session.id})
        broadcast([other.connection for other in receivers if self._hears(other)], text)

    def _hears(self, session: Session) -> bool:
        """Whether the relay still has the session: once dropped it is deaf for good, and never told."""
        session.deaf |= time.monotonic() - session.relayed > self.profile.relay_idle
        return not session.deaf

    def _tell_status(self, session: Session) -> None:
        now = time.monotonic()
        session.send(
            type="status",
            sessionId=session.id,
            server={
                "uptime": now - self._opened,
                "activeConnections": len(self.sessions),
                "totalSessions": self.total_sessions,
                "pipelines": [],
            },
            session={
                "id": session.id,
                "frameCount": 0,
                "messageCount": session.messages,
                "errors": session.errors,
                "age": now - session.opened,
            },
            timestamp=now_ms(),
        )

    async def _close_idle_sessions(self) -> None:
        """Look at the session's clock, which relayed messages do not feed."""
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(self.profile.watch)
                oldest = time.monotonic() - self.profile.session_idle
                for session in [session for session in self.sessions.values() if session.fed < oldest]:
                    await session.connection.close(CloseCode.NORMAL_CLOSURE, "Session timeout")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def only_ws(connection: ServerConnection, request: Request) -> Response | None:
    return None if request.path == "/ws" else connection.respond(HTTPStatus.NOT_FOUND, "Not Found\n")
