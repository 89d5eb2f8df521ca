"""A backplane on NATS (https://nats.io), by nats-py."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from synopticon_rtc.errors import InvalidURL, MissingExtra

try:
    import nats.errors
    from nats.aio.client import Client
    from nats.aio.msg import Msg
except ImportError as error:
    raise MissingExtra("the NATS backplane", "nats") from error

SCHEMES = ("nats", "tls")
RETRY = 0.25  # seconds between attempts to connect
PING = 1.0  # seconds between pings; the connection is lost when three went unanswered
OWED_BYTES = 16 * 2**20  # to a NATS server that reads too slowly, and from it; what is more is lost
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
    """

    def __init__(self, servers: str | Iterable[str], **options: Any) -> None:  # noqa: ANN401  # nats-py's own options
        self._servers = [servers] if isinstance(servers, str) else list(servers)
        if not self._servers:
            raise InvalidURL("no address of a NATS server: give nats://HOST:PORT")
        for server in self._servers:
            _check(server)
        self._options = options
        self._client = Client()
        self._ready = False
        self._problem = ""
        self._outbox: list[tuple[str, bytes]] = []
        self._published = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def connected(self) -> bool:
        """Whether NATS is there, and sends what the others publish."""
        return self._ready and self._client.is_connected

    async def open(
        self,
        subjects: Sequence[str],
        on_message: Callable[[str, bytes], None],
        on_connected: Callable[[bool], None],
    ) -> None:
        """Connect in the background, and stay connected."""
        self._tasks = [
            asyncio.create_task(self._stay_connected(subjects, on_message, on_connected)),
            asyncio.create_task(self._write()),
        ]

    def publish(self, subject: str, payload: bytes) -> None:
        """Send with all else that is published in this turn of the loop."""
        if self._ready:
            self._outbox.append((subject, payload))
            self._published.set()

    async def close(self) -> None:
        """Send what is published already, and disconnect."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError, nats.errors.Error):
            async with asyncio.timeout(CLOSE):
                if self.connected:
                    await self._write_outbox()
                    await self._client.flush()
        self._ready = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE):
                await self._client.close()

    async def _stay_connected(
        self, subjects: Sequence[str], on_message: Callable[[str, bytes], None], on_connected: Callable[[bool], None]
    ) -> None:
        async def hear(message: Msg) -> None:
            on_message(message.subject, message.data)

        async def gained() -> None:
            self._ready, self._problem = True, ""
            log.info("connected to NATS at %s", _without_password(self._client))
            on_connected(True)

        async def lost() -> None:
            if self._ready:
                self._ready = False
                self._outbox.clear()
                log.warning("connection to NATS lost; connecting again")
                on_connected(False)

        # nats-py connects again by itself, unless NATS turns it away (other accounts, too many connections).
        while True:
            closed = asyncio.Event()

            async def end(closed: asyncio.Event = closed) -> None:
                closed.set()

            options = {
                "name": "synopticon-rtc",
                "no_echo": True,
                "max_reconnect_attempts": -1,
                "reconnect_time_wait": RETRY,
                "ping_interval": PING,
                "pending_size": 0,  # nothing is kept for later, and nothing waits
                "skip_subject_validation": True,
                **self._options,
                "reconnected_cb": gained,
                "disconnected_cb": lost,
                "closed_cb": end,
                "error_cb": self._tell_problem,
            }
            try:
                await self._client.connect(self._servers, **options)
                for subject in subjects:
                    await self._client.subscribe(subject, cb=hear, pending_bytes_limit=OWED_BYTES)
                await self._client.flush()
            except (nats.errors.Error, OSError) as problem:
                await self._tell_problem(problem)
                await self._client.close()
            else:
                await gained()
                await closed.wait()
            await asyncio.sleep(RETRY)
            self._client = Client()

    async def _write(self) -> None:
        while True:
            await self._published.wait()
            self._published.clear()
            await self._write_outbox()

    async def _write_outbox(self) -> None:
        # nats-py writes all that is published without a pause in between to the socket at once.
        outbox, self._outbox = self._outbox, []
        if self._client.pending_data_size > OWED_BYTES:
            await self._tell_problem(nats.errors.OutboundBufferLimitError())
            return
        for subject, payload in outbox:
            try:
                await self._client.publish(subject, payload)
            except nats.errors.Error as problem:
                await self._tell_problem(problem)

    async def _tell_problem(self, problem: Exception) -> None:
        """Log a problem of nats-py, once until it is another one or the connection is made."""
        told, self._problem = self._problem, str(problem) or type(problem).__name__
        if self._problem != told:
            log.warning("NATS: %s", self._problem)


def _check(server: str) -> None:
    try:
        url = urlsplit(server)
        good = url.scheme in SCHEMES and url.hostname and url.port != 0
    except ValueError:
        good = False
    if not good:
        raise InvalidURL(f"{server!r} is not the address of a NATS server: give nats://HOST:PORT or tls://HOST:PORT")


def _without_password(client: Client) -> str:
    url = client.connected_url
    return f"{url.hostname}:{url.port}" if url else "no address"
