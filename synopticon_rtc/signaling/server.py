"""The embedded signaling server: sessions that pass each other messages, and the viewer over HTTP on the same port."""

import asyncio
import contextlib
import errno
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast
from weakref import WeakSet

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from synopticon_rtc.errors import PortInUse, SignalingError
from synopticon_rtc.signaling.messages import RELAYED
from synopticon_rtc.signaling.site import WEB, Site

PATH = "/ws"
SERVER_VERSION = "2.0.0"
CAPABILITIES = ["webrtc"]
WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # told from, not bound to

log = logging.getLogger(__name__)
# websockets tells every handshake and frame; our own line a session says what matters.
_library_log = logging.getLogger(f"{__name__}.websockets")
_library_log.setLevel(logging.WARNING)

# Values stay as they came, byte for byte. Keys are decoded and the last of several wins: one spelling of each remains.
_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_type_decoder = msgspec.json.Decoder(str)
_target_decoder = msgspec.json.Decoder(str | float | bool | None)
_NULL = msgspec.Raw(b"null")


@dataclass(frozen=True)
class Limits:
    """What a session may do, and how long the server waits.

    Attributes:
        sessions: Sessions at once; one more is closed with 1013.
        message_bytes: Size of a message; a larger one closes its session with 1009.
        errors: The error of a session that closes it with 1011.
        idle: Seconds without a message until a session is closed with 1000, at most a quarter more.
        buffered_bytes: What a slow reader may owe; it is closed with 1008 by the next message for it.
        close: Seconds that a client has to answer a close, before its connection is cut.
    """

    sessions: int = 100
    message_bytes: int = 16 * 2**20
    errors: int = 10
    idle: float = 30.0
    buffered_bytes: int = 4 * 2**20
    close: float = 1.0


class Session:
    """One client, from its welcome to its end.

    Attributes:
        id: What other clients know it by.
        address: Its end of the connection, ``host:port``.
        opened: When it came, on the monotonic clock (s).
        heard: When its last message came, on the same clock.
        messages: Messages that came from it.
        errors: How many of them the server did not take.
        reason: Close code and reason; empty while it is open.
    """

    def __init__(self, connection: ServerConnection, limits: Limits) -> None:
        self.id = f"ws_{_now()}_{secrets.token_hex(8)}"
        self.address = _remote_address(connection)
        self.opened = self.heard = time.monotonic()
        self.messages = 0
        self.errors = 0
        self.reason = ""
        self._connection = connection
        self._limits = limits
        self._raw_id = msgspec.Raw(msgspec.json.encode(self.id))
        self._deadline: asyncio.Timeout | None = None
        self._ending: tuple[int, str] | None = None

    @property
    def age(self) -> float:
        """Seconds since it came."""
        return time.monotonic() - self.opened

    def sign(self, message: dict[str, msgspec.Raw]) -> bytes:
        """Write a relayed message with this session as its source, whatever the client wrote there."""
        message["sourceSession"] = self._raw_id
        return _frame(message)

    def send(self, frame: bytes) -> None:
        """Write without waiting, so that no reader holds up another; whoever reads too slowly is let go."""
        transport = self._connection.transport
        if self._connection.state is not State.OPEN or transport.is_closing():
            return
        if transport.get_write_buffer_size() > self._limits.buffered_bytes:
            self.end(CloseCode.POLICY_VIOLATION, "Too slow")
        else:
            transport.write(frame)

    def end(self, code: int, reason: str) -> None:
        """Close the session, from wherever it is noticed that it must end."""
        if self._ending is None:
            self._ending = code, reason
            if self._deadline:
                self._deadline.reschedule(0)

    async def run(self, handle: Callable[[str | bytes], None]) -> None:
        """Hand over each message in turn until either side ends the session, and close it."""
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(0 if self._ending else None) as self._deadline:
                while not self._ending:
                    data = await self._connection.recv()
                    self.heard = time.monotonic()
                    self.messages += 1
                    handle(data)
                    # Messages of one segment are all there at once, and recv yields to nobody then.
                    if self.messages % 16 == 0:
                        await asyncio.sleep(0)
        if self._ending:
            try:
                async with asyncio.timeout(self._limits.close):
                    await self._connection.close(*self._ending)
            except TimeoutError:
                self._connection.transport.abort()
                await self._connection.wait_closed()


class _Connection(ServerConnection):
    async def close(self, code: CloseCode | int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        # websockets 17 aborts a lost transport here, on which asyncio fails where the client had left data unread.
        if not self.connection_lost_waiter.done():
            await super().close(code, reason)


class SignalingServer:
    """A signaling server for Synopticon's pages and peers, at ``/ws``, with the viewer at ``/``.

    Any message feeds a session's idle clock, and an open session is never left out of the relay.

        async with SignalingServer(port=0) as server:
            print(server.url, server.viewer)
            await server.serve_forever()

    Args:
        host: Address or name to listen on.
        port: TCP port; 0 takes a free one.
        limits: What sessions may do.
        on_session: Called with each session when it is open, and again when it is closed (it then has a ``reason``).

    Attributes:
        host: As asked for.
        port: The real port, once it listens.
        sessions: The open sessions, by id.
        total_sessions: All sessions so far.
        relayed: Messages passed on so far.

    Raises:
        PortInUse: On entering, something else listens there.
        SignalingError: On entering, the server cannot listen there for another reason.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8081,
        *,
        limits: Limits | None = None,
        on_session: Callable[[Session], object] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.limits = limits or Limits()
        self.sessions: dict[str, Session] = {}
        self.total_sessions = 0
        self.relayed = 0
        self._on_session = on_session or (lambda _: None)
        self._site = Site(WEB)
        self._started = time.monotonic()
        self._connections: WeakSet[ServerConnection] = WeakSet()
        self._server: Server
        self._watch: asyncio.Task[None]

    @property
    def url(self) -> str:
        """The address of the signaling, as clients on this machine reach it."""
        return f"ws://{_address(WILDCARDS.get(self.host, self.host), self.port)}{PATH}"

    @property
    def viewer(self) -> str:
        """The address of the viewer page, as browsers on this machine reach it."""
        return f"http://{_address(WILDCARDS.get(self.host, self.host), self.port)}/"

    @property
    def uptime(self) -> float:
        """Seconds since the server was made."""
        return time.monotonic() - self._started

    async def __aenter__(self) -> Self:
        try:
            self._server = await serve(
                self._serve_session,
                self.host,
                self.port,
                process_request=self._serve_page,
                compression=None,
                ping_interval=None,  # the idle clock also closes those that answer pings and say nothing
                max_size=self.limits.message_bytes,
                logger=_library_log,
                create_connection=cast("type[ServerConnection]", self._connect),
            )
        except (OSError, OverflowError, UnicodeError) as error:
            where = _address(self.host, self.port)
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                raise PortInUse(f"{where} is in use: stop what listens there, or choose another port") from error
            raise SignalingError(f"cannot listen on {where}: {error}; choose another host or port") from error
        self.port = self._server.sockets[0].getsockname()[1]
        self._watch = asyncio.create_task(self._end_idle_sessions())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._watch.cancel()
        self._server.close()
        try:
            async with asyncio.timeout(self.limits.close):
                await self._server.wait_closed()
        except TimeoutError:
            # Clients that do not answer the close, and browsers' spare connections that never asked for anything.
            for connection in self._connections:
                connection.transport.abort()
            await self._server.wait_closed()

    async def serve_forever(self) -> None:
        """Serve until cancelled."""
        await self._server.wait_closed()

    def _connect(self, protocol: ServerProtocol, server: Server, **options: Any) -> ServerConnection:  # noqa: ANN401  # websockets' own options
        connection = _Connection(protocol, server, **options)
        self._connections.add(connection)
        return connection

    def _serve_page(self, _connection: ServerConnection, request: Request) -> Response | None:
        return None if request.path.partition("?")[0] == PATH else self._site.respond(request)

    async def _serve_session(self, connection: ServerConnection) -> None:
        if len(self.sessions) >= self.limits.sessions:
            log.warning("session from %s refused: %d are open", _remote_address(connection), len(self.sessions))
            await connection.close(CloseCode.TRY_AGAIN_LATER, "Server overloaded")
            return
        session = Session(connection, self.limits)
        self.sessions[session.id] = session
        self.total_sessions += 1
        log.info("session %s from %s opened", session.id, session.address)
        try:
            session.send(
                _message(
                    "connected",
                    sessionId=session.id,
                    capabilities=CAPABILITIES,
                    serverVersion=SERVER_VERSION,
                    timestamp=_now(),
                )
            )
            self._on_session(session)
            await session.run(lambda data: self._handle(session, data))
        finally:
            del self.sessions[session.id]
            session.reason = str(
                Close(connection.close_code or CloseCode.INTERNAL_ERROR, connection.close_reason or "")
            )
            log.info(
                "session %s from %s closed after %.1f s: %s", session.id, session.address, session.age, session.reason
            )
            self._on_session(session)

    async def _end_idle_sessions(self) -> None:
        while True:
            await asyncio.sleep(self.limits.idle / 4)
            oldest = time.monotonic() - self.limits.idle
            for session in self.sessions.values():
                if session.heard < oldest:
                    session.end(CloseCode.NORMAL_CLOSURE, "Session timeout")

    def _handle(self, session: Session, data: str | bytes) -> None:
        try:
            # Values are not looked into, and only text frames were checked to be UTF-8.
            message = _decoder.decode(data if isinstance(data, str) else data.decode())
            kind = _type_decoder.decode(message.get("type", _NULL))
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            self._refuse(session, f"Not a message: {error}")
            return
        match kind:
            case _ if kind in RELAYED:
                self._relay(session, message)
            case "ping":
                clock = {"clientTimestamp": message["timestamp"]} if "timestamp" in message else {}
                session.send(_message("pong", sessionId=session.id, **clock, serverTimestamp=_now()))
            case "configure":
                requirements = {"requirements": message["requirements"]} if "requirements" in message else {}
                session.send(_message("configured", sessionId=session.id, **requirements, timestamp=_now()))
            case "status":
                session.send(self._status(session))
            case _:
                self._refuse(session, f"Unknown message type: {kind[:100]}")

    def _relay(self, session: Session, message: dict[str, msgspec.Raw]) -> None:
        receivers = self._receivers(session, message.get("targetSession", _NULL))
        if receivers:
            self.relayed += 1
            frame = session.sign(message)
            for receiver in receivers:
                receiver.send(frame)

    def _receivers(self, session: Session, raw_target: msgspec.Raw) -> list[Session]:
        try:
            target = _target_decoder.decode(raw_target)
        except msgspec.DecodeError:
            return []  # neither a session id nor falsy: nobody
        if not target:
            return [other for other in self.sessions.values() if other is not session]
        receiver = self.sessions.get(target) if isinstance(target, str) else None
        return [receiver] if receiver else []

    def _refuse(self, session: Session, error: str) -> None:
        session.errors += 1
        if session.errors == 1:
            log.warning("message of session %s dropped: %r (told once)", session.id, error)
        if session.errors >= self.limits.errors:
            session.end(CloseCode.INTERNAL_ERROR, "Too many errors")
        else:
            session.send(
                _message(
                    "error",
                    sessionId=session.id,
                    error=error,
                    errorCode="MESSAGE_HANDLING_ERROR",
                    timestamp=_now(),
                )
            )

    def _status(self, session: Session) -> bytes:
        return _message(
            "status",
            sessionId=session.id,
            server={
                "uptime": round(self.uptime, 3),
                "activeConnections": len(self.sessions),
                "totalSessions": self.total_sessions,
                "pipelines": [],
            },
            session={
                "id": session.id,
                "frameCount": 0,
                "messageCount": session.messages,
                "errors": session.errors,
                "age": round(session.age, 3),
            },
            timestamp=_now(),
        )


def _message(kind: str, /, **fields: object) -> bytes:
    return _frame({"type": kind, **fields})


def _frame(message: object) -> bytes:
    # Frames of a server are not masked, so that one serves all receivers (RFC 6455, 5.1).
    return Frame(Opcode.TEXT, msgspec.json.encode(message)).serialize(mask=False)


def _remote_address(connection: ServerConnection) -> str:
    # None when the client was gone before it was asked for.
    address: tuple[str, int] | None = connection.remote_address
    return _address(address[0], address[1]) if address else "unknown"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _now() -> int:
    return int(time.time() * 1000)
