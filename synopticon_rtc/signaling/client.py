"""A session with a signaling server that outlives its connections."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Generator
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.client import process_exception
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from synopticon_rtc.errors import InvalidMessage, InvalidURL, SignalingError
from synopticon_rtc.signaling.messages import (
    AnyMessage,
    Configured,
    Connected,
    Error,
    Ice,
    Message,
    Ping,
    Pong,
    Relayed,
    decode,
    encode,
)

logger = logging.getLogger(__name__)

KEEPALIVE = 5.0  # seconds between signs of life, for both idle clocks of the published servers
SILENCE = 12.0  # seconds without the echo of one after which the session is deaf or the server gone
WELCOME_WITHIN = 10.0  # seconds
SLOWEST_RETRY = 4.0  # seconds


class Listener(Protocol):
    """Someone who takes part in signaling on a :class:`SignalingClient`."""

    def opened(self, session: str) -> None:
        """Signaling is (again) there and gave us this session."""

    def received(self, message: AnyMessage) -> bool:
        """Take a message; False leaves it to the next listener."""
        ...

    def unclaimed(self, message: AnyMessage) -> bool:
        """No listener took this message; True if it is dealt with now."""
        ...

    def failed(self, error: SignalingError) -> None:
        """Signaling is gone for good."""


def _retry_delays() -> Generator[float]:
    """Exponential backoff with jitter, in seconds."""
    delay = 0.2
    while True:
        yield delay * random.uniform(0.5, 1)  # noqa: S311 - spreads clients, keeps no secret
        delay = min(2 * delay, SLOWEST_RETRY)


class _Connection(ClientConnection):
    async def close(self, code: CloseCode | int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        # websockets 17 aborts a lost transport here, on which asyncio fails where the server had left data unread.
        if not self.connection_lost_waiter.done():
            await super().close(code, reason)


class SignalingClient:
    """Keeps a session with a Synopticon signaling server, reconnecting whenever it is lost.

    Several :class:`~synopticon_rtc.Broadcaster` and :class:`~synopticon_rtc.Receiver` objects may share one client;
    each enters it as an async context manager, and the last to leave closes it. Messages sent while there is no session
    are dropped: the handshake repeats what matters.

    Args:
        url: Address of the server, for example ``ws://localhost:8081/ws``.

    Raises:
        InvalidURL: ``url`` is no ``ws://`` or ``wss://`` address.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise InvalidURL(
                f"{url!r} is no address of a signaling server: give one like ws://localhost:8081/ws or wss://host/ws"
            )
        self.url = url
        self.session: str | None = None
        self.ice_servers: Any = None  # what the server's welcome said of them, unchecked
        self.claimed: set[str] = set()  # the broadcasters that receivers on this client are linked with
        self.reason = "not connected yet"
        self._listeners: list[Listener] = []
        self._outgoing: asyncio.Queue[str] = asyncio.Queue()
        self._users = 0
        self._task: asyncio.Task[None] | None = None
        self._failure: SignalingError | None = None
        self._missed = False
        self._settled = asyncio.Event()
        self._complained: set[str] = set()

    async def __aenter__(self) -> Self:
        self._users += 1
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"signaling {self.url}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        task = self._task
        if self._users == 0 and task is not None:
            self._task = None
            task.cancel()
            await asyncio.wait([task])

    def listen(self, listener: Listener) -> None:
        """Add a listener; it is told at once of a session that is already there."""
        self._listeners.append(listener)
        if self._failure is not None:
            listener.failed(self._failure)
        elif self.session is not None:
            listener.opened(self.session)

    def leave(self, listener: Listener) -> None:
        """Remove a listener."""
        self._listeners.remove(listener)

    def send(self, message: Message) -> None:
        """Send a message, or drop it while there is no session."""
        if self.session is not None:
            self._outgoing.put_nowait(encode(message))

    async def wait_open(self) -> str:
        """Wait for a session and return its id.

        Raises:
            SignalingError: The server refuses for good.
        """
        await self._settled.wait()
        if self._failure is not None:
            raise self._failure
        return self.session or ""

    async def flush(self) -> None:
        """Wait until what was sent is on its way, at most a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await self._outgoing.join()

    async def _run(self) -> None:
        try:
            await self._stay_connected()
        except Exception as error:  # noqa: BLE001 - told to every listener
            self._failure = SignalingError(f"{self.url} is no signaling server: {error}")
            self.reason = str(self._failure)
            self._settled.set()
            for listener in list(self._listeners):
                listener.failed(self._failure)

    async def _stay_connected(self) -> None:
        """Connect, and connect again, until the server refuses for good: then raise why."""
        async for connection in connect(
            self.url,
            compression=None,
            ping_interval=None,
            close_timeout=1,
            max_size=16 * 2**20,
            create_connection=_Connection,
            process_exception=self._explain,
            reconnect_delays=_retry_delays,
        ):
            try:
                await self._converse(connection)
            except (ConnectionClosed, TimeoutError) as error:
                self._interrupted(error)
            except asyncio.CancelledError:
                await connection.close()
                raise

    def _explain(self, error: Exception) -> Exception | None:
        """Log why a connection attempt failed, and tell whether to give up."""
        fatal = process_exception(error)
        if fatal is None:
            self.reason = str(error) or type(error).__name__
            level = logging.INFO if self._missed else logging.WARNING
            logger.log(level, "signaling server %s is not there (%s), trying again", self.url, self.reason)
            self._missed = True
        return fatal

    def _interrupted(self, error: Exception) -> None:
        self.session = None
        self._settled.clear()
        self.reason = str(error) or "no sign of life"
        while not self._outgoing.empty():
            self._outgoing.get_nowait()
            self._outgoing.task_done()
        logger.warning("signaling interrupted (%s), reconnecting to %s", self.reason, self.url)

    async def _converse(self, connection: ClientConnection) -> None:
        """Run one connection until it ends; always raises."""
        async with asyncio.timeout(WELCOME_WITHIN):
            while not isinstance(welcome := self._decode(await connection.recv()), Connected | Configured):
                pass
        session = welcome.session_id
        self.ice_servers = welcome.ice_servers if isinstance(welcome, Connected) else None
        self.session = session
        self._missed = False
        self._settled.set()
        logger.info("signaling: session %s at %s", session, self.url)
        for listener in list(self._listeners):
            listener.opened(session)
        heard = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(connection))
                tasks.create_task(self._keep_alive(session, heard))
                while True:
                    data = await connection.recv()
                    message = self._decode(data)
                    if isinstance(message, Relayed) and message.source_session == session:
                        heard.set()
                    elif message is not None and not isinstance(message, Pong):
                        self._dispatch(message)
        except* (ConnectionClosed, TimeoutError) as group:
            raise group.exceptions[0] from None

    async def _write(self, connection: ClientConnection) -> None:
        while True:
            text = await self._outgoing.get()
            try:
                await connection.send(text)
            finally:
                self._outgoing.task_done()

    async def _keep_alive(self, session: str, heard: asyncio.Event) -> None:
        """Feed both idle clocks, and notice a session that has gone deaf by the missing echo."""
        while True:
            heard.clear()
            self.send(Ping(timestamp=time.time_ns() // 1_000_000))
            self.send(Ice(target_session=session))
            async with asyncio.timeout(SILENCE - KEEPALIVE):
                await heard.wait()
            await asyncio.sleep(KEEPALIVE)

    def _dispatch(self, message: AnyMessage) -> None:
        if isinstance(message, Error):
            logger.info("signaling server: %s", message.error)
        listeners = list(self._listeners)
        try:
            if not any(listener.received(message) for listener in listeners):
                any(listener.unclaimed(message) for listener in listeners)
        except Exception:
            logger.exception("a %s could not be handled", type(message).__name__)

    def _decode(self, data: str | bytes) -> AnyMessage | None:
        try:
            return decode(data)
        except InvalidMessage as error:
            complaint = str(error.__cause__)
            level = logging.DEBUG if complaint in self._complained else logging.WARNING
            if len(self._complained) < 100:  # noqa: PLR2004 - enough to tell, bounded
                self._complained.add(complaint)
            logger.log(level, "%s", error)
            return None
