"""How bytes go to NATS and come from it, for nats-py and past it."""

import asyncio
import ssl
from collections.abc import Callable
from typing import cast
from urllib.parse import ParseResult

import aiofastnet
from nats.aio.transport import Transport

CLOSE = 1.0  # seconds for what is not written yet


class NatsTransport(Transport):
    """Carries nats-py's connection, and messages past nats-py.

    nats-py connects, gives credentials, turns on TLS, subscribes, pings, and moves to other NATS servers. But it passes
    a message through three tasks, two queues and half a dozen regular expressions, by which a message to another server
    cost four times one within a server. So messages are read and written here.

    Args:
        on_message: Called with the subject and the payload of each message.
        on_lost: Called as soon as a connection is lost or given up.
    """

    def __init__(self, on_message: Callable[[str, bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._connection = _Connection(on_message, on_lost)

    def __bool__(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]  # the base class does not say what it returns
        return True  # else nats-py takes a transport of its own

    @property
    def owed(self) -> int:
        """Bytes that are written, and that NATS did not read yet."""
        return self._connection.transport.get_write_buffer_size()

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: float) -> None:
        """Connect to a NATS server, whatever there was before."""
        self.abort()
        connection = self._connection = _Connection(self._on_message, self._on_lost, buffer_size)
        async with asyncio.timeout(connect_timeout):
            await aiofastnet.create_connection(asyncio.get_running_loop(), lambda: connection, uri.hostname, uri.port)

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,  # noqa: ARG002  # nats-py's signature
        connect_timeout: float,
    ) -> None:
        """Go on in TLS."""
        connection = self._connection
        async with asyncio.timeout(connect_timeout):
            connection.transport = await aiofastnet.start_tls(
                asyncio.get_running_loop(),
                connection.transport,
                connection,
                ssl_context,
                server_hostname=uri if isinstance(uri, str) else uri.hostname,
            )

    def write(self, payload: bytes) -> None:
        """Write without waiting."""
        self._connection.transport.write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        """Write without waiting."""
        self._connection.transport.write(b"".join(payload))

    async def drain(self) -> None:
        """Wait until NATS has read most of what was written."""
        await self._connection.writable.wait()
        if self._connection.closed.is_set():
            raise ConnectionResetError("connection lost")

    async def read(self, buffer_size: int) -> bytes:
        """Read what is no message."""
        return await self._connection.lines.read(buffer_size)

    async def readline(self) -> bytes:
        """Read a line that is no message."""
        return await self._connection.lines.readline()

    def at_eof(self) -> bool:
        """Whether nothing comes any more."""
        return self._connection.lines.at_eof()

    def close(self) -> None:
        """Disconnect when all is written."""
        self._on_lost()
        self._connection.transport.close()

    def abort(self) -> None:
        """Disconnect at once."""
        self._connection.transport.abort()

    async def wait_closed(self) -> None:
        """Wait for that, but not for ever: a NATS server that hangs reads nothing."""
        try:
            async with asyncio.timeout(CLOSE):
                await self._connection.closed.wait()
        except TimeoutError:
            self.abort()
            await self._connection.closed.wait()


class _Connection(asyncio.Protocol):
    """One connection: messages are handed on, and lines of the NATS protocol that are none are kept for nats-py."""

    def __init__(
        self, on_message: Callable[[str, bytes], None], on_lost: Callable[[], None], buffer_size: int = 2**16
    ) -> None:
        self.transport: asyncio.Transport = _Unconnected()
        self.lines = asyncio.StreamReader(buffer_size)
        self.writable = asyncio.Event()
        self.closed = asyncio.Event()
        self.closed.set()
        self._on_message = on_message
        self._on_lost = on_lost
        self._rest = bytearray()
        self._needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self.writable.set()
        self.closed.clear()

    def data_received(self, data: bytes) -> None:
        """Take it apart: ``MSG SUBJECT SID [REPLY] SIZE``, its payload, and all else."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest.clear()
        start = 0
        while (end := data.find(b"\r\n", start)) >= 0:
            line, after = data[start:end], end + 2
            if line.startswith((b"MSG ", b"HMSG ")):
                words = line.split()
                after += int(words[-1]) + 2
                if after > len(data):
                    self._needed = after - start
                    break
                if words[0] == b"MSG":  # nobody here sends headers
                    self._on_message(words[1].decode(), data[end + 2 : after - 2])
            else:
                self.lines.feed_data(data[start:after])
            start = after
        else:
            self._needed = 0
        self._rest += data[start:]

    def pause_writing(self) -> None:
        """Too much is written that NATS did not read."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """NATS has read most of it."""
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if exc:
            self.lines.set_exception(exc)
        else:
            self.lines.feed_eof()
        self.closed.set()
        self.writable.set()
        self._on_lost()


class _Unconnected(asyncio.Transport):
    """Before the first connection there is nothing to close."""

    def close(self) -> None:
        """Nothing."""

    def abort(self) -> None:
        """Nothing."""

    def get_write_buffer_size(self) -> int:
        """Nothing."""
        return 0
