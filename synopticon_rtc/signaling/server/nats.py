"""A backplane on NATS (https://nats.io), by nats-py."""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from synopticon_rtc.errors import InvalidURL, MissingExtra, without_login

try:
    import nats.errors
    from nats.aio.client import Client

    from synopticon_rtc.signaling.server.nats_transport import NatsTransport
except ImportError as error:
    raise MissingExtra("the NATS backplane", "nats") from error

SCHEMES = ("nats", "tls")
RETRY = 0.25  # seconds between attempts to connect
PING = 1.0  # seconds between pings; the connection is lost when three went unanswered
OWED_BYTES = 16 * 2**20  # to a NATS server that reads too slowly; what is more is lost
CLOSE = 1.0  # seconds for the goodbye

log = logging.getLogger(__name__)


class NatsBackplane:
    """Servers joined by NATS, which may be one server or a cluster of them.

    It connects in the background, to any of the NATS servers that it was given or was told of by one of them, and
    again whenever the connection is lost. What is published meanwhile is lost, as is what NATS cannot take.

    Args:
        servers: ``nats://[USER:PASSWORD@]HOST[:PORT]`` or ``tls://...``, each of one NATS server.
        options: More for ``nats.connect``, such as ``tls`` (an `ssl.SSLContext`) or ``user_credentials`` (a path).

    Raises:
        InvalidURL: An address is of another kind, or there is none.
        TypeError: ``nats.connect`` has no such option.
    """

    def __init__(self, servers: str | Iterable[str], **options: Any) -> None:  # noqa: ANN401  # nats-py's own options
        self._servers = [servers] if isinstance(servers, str) else list(servers)
        if not self._servers:
            raise InvalidURL("no address of a NATS server: give nats://HOST:PORT")
        for server in self._servers:
            _check(server)
        inspect.signature(Client.connect).bind(None, **options)
        self._options = options
        self._client: Client | None = None
        self._transport: NatsTransport
        self._ready = False
        self._told: set[str] = set()
        self._outbox: list[bytes] = []
        self._task: asyncio.Task[None] | None = None
        self._on_message: Callable[[str, bytes], None]
        self._on_connected: Callable[[bool], None]

    @property
    def connected(self) -> bool:
        """Whether NATS is there, and sends what the others publish."""
        return self._ready

    async def open(
        self,
        subjects: Sequence[str],
        on_message: Callable[[str, bytes], None],
        on_connected: Callable[[bool], None],
    ) -> None:
        """Connect in the background, and stay connected."""
        self._on_message, self._on_connected = on_message, on_connected
        self._task = asyncio.create_task(self._stay_connected(subjects))

    def publish(self, subject: str, payload: bytes) -> None:
        """Send with all else that is published in this turn of the loop.

        Raises:
            ValueError: The subject is no single word: a line end in it would begin a command of its own.
        """
        if subject.split() != [subject]:
            raise ValueError(f"{subject[:100]!r} is no subject")
        if not self._ready or self._client is None:
            return
        if len(payload) > self._client.max_payload:
            self._tell_problem(nats.errors.MaxPayloadError())
            return
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.append(b"PUB %b %d\r\n%b\r\n" % (subject.encode(), len(payload), payload))

    async def close(self) -> None:
        """Send what is published already, and disconnect."""
        if self._task:
            self._task.cancel()
        if self.connected:
            self._flush()  # at once, whatever cancels the rest
        try:
            if self._task:
                await asyncio.wait([self._task])
            if self._client:
                await self._disconnect(self._client)
        finally:
            self._ready = False
            if self._client:
                self._transport.abort()

    async def _disconnect(self, client: Client) -> None:
        with contextlib.suppress(TimeoutError, nats.errors.Error, OSError):
            async with asyncio.timeout(CLOSE):
                if self.connected:
                    self._flush()
                    await client.flush()
        self._ready = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * CLOSE):
                await client.close()

    async def _stay_connected(self, subjects: Sequence[str]) -> None:
        # nats-py connects again by itself, unless NATS turns it away: for its password, or for too many connections.
        while True:
            await self._connect(subjects)
            await asyncio.sleep(RETRY)

    async def _connect(self, subjects: Sequence[str]) -> None:
        """Connect, and return when nats-py has given up."""
        closed = asyncio.Event()

        async def end() -> None:
            closed.set()

        async def fail(problem: Exception) -> None:
            self._tell_problem(problem)

        options = {
            "name": "synopticon-rtc",
            "no_echo": True,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RETRY,
            "ping_interval": PING,
            "pending_size": 0,  # nothing is kept for later
            **self._options,
            "reconnected_cb": self._gained,
            "closed_cb": end,
            "error_cb": fail,
        }
        client = self._client = Client()
        client._transport = self._transport = NatsTransport(self._hear, self._lost)  # noqa: SLF001  # the only way in
        try:
            await client.connect(self._servers, **options)
            for subject in subjects:
                await client.subscribe(subject)
            # The first ping overtakes subscriptions that nats-py has not written yet; the second one comes after them.
            await client.flush()
            await client.flush()
        except Exception as problem:  # noqa: BLE001  # whatever it is, the next attempt may do better
            self._tell_problem(problem)
            await client.close()
        else:
            await self._gained()
            await closed.wait()

    async def _gained(self) -> None:
        self._ready = True
        self._told.clear()
        if self._client and (url := self._client.connected_url):
            log.info("connected to NATS at %s:%s", url.hostname, url.port)
        self._on_connected(True)

    def _lost(self) -> None:
        if self._ready:
            self._ready = False
            log.warning("connection to NATS lost; connecting again")
            self._on_connected(False)

    def _hear(self, subject: str, payload: bytes) -> None:
        if self._ready:
            self._on_message(subject, payload)

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        if not self._ready:
            return
        if self._transport.owed > OWED_BYTES:
            self._tell_problem(nats.errors.OutboundBufferLimitError())
        else:
            self._transport.write(b"".join(outbox))

    def _tell_problem(self, problem: Exception) -> None:
        """Log a problem, once until the connection is made."""
        told = str(problem) or type(problem).__name__
        if told not in self._told:
            self._told.add(told)
            log.warning("NATS: %s", told)


def _check(server: str) -> None:
    try:
        url = urlsplit(server)
        good = url.scheme in SCHEMES and url.hostname and url.port != 0
    except ValueError:
        good = False
    if not good:
        raise InvalidURL(
            f"{without_login(server)!r} is not the address of a NATS server: give nats://HOST:PORT or tls://HOST:PORT"
        )
