"""Receivers that do not do their part: what joins and goes wrong on its way.

Each is a coroutine that takes the address of a signaling server and ends when it has done its worst.
"""

import asyncio
import contextlib
import json
import multiprocessing
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from multiprocessing.connection import Connection
from typing import Any

from aiortc import RTCPeerConnection
from websockets.asyncio.client import ClientConnection, connect

from benchmarks import plain
from synopticon_rtc import Broadcaster, Receiver, TestPattern

SIZE, FPS = (320, 180), 15
ACCEPT = {"faces": ["faces/1"], "control": ["control/1"], "ice": ["more"]}
"""What a receiver of this package says that it takes."""
HALF_OPEN, SILENT = 6.0, 16.0
"""Seconds for which these keep signaling: longer than a broadcaster waits for an answer, and for a connection."""


@contextlib.asynccontextmanager
async def session(url: str) -> AsyncIterator[ClientConnection]:
    """A session of a signaling server, after its welcome."""
    async with connect(url, max_size=None) as signaling:
        await signaling.recv()
        yield signaling


async def offered(signaling: ClientConnection) -> dict[str, Any]:
    """Ask for an offer as a receiver of this package does, and return it."""
    await signaling.send(json.dumps({"type": "request_offer", "accept": ACCEPT, "timestamp": time.time_ns() // 10**6}))
    while True:
        message: dict[str, Any] = json.loads(await signaling.recv())
        if message.get("type") == "webrtc_offer":
            return message


@contextlib.contextmanager
def hole() -> Iterator[tuple[str, int]]:
    """An address of this machine where everything is swallowed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as swallows:
        swallows.bind((socket.gethostbyname(socket.gethostname()), 0))
        host, port = swallows.getsockname()
        yield host, port


async def answer_of_nobody(offer: dict[str, Any], host: str, port: int) -> str:
    """Make a right answer to an offer, behind which there is no peer: nothing is sent from its only candidate."""
    connection = RTCPeerConnection(plain.configuration(None))
    try:
        await connection.setRemoteDescription(plain.described(offer))
        text = (await connection.createAnswer()).sdp
    finally:
        await connection.close()
    lines = [line for line in text.splitlines() if not line.startswith(("a=candidate", "a=end-of-candidates"))]
    first = next(number for number, line in enumerate(lines) if line.startswith("a=ice-ufrag"))
    lines.insert(first, f"a=candidate:1 1 udp 2130706431 {host} {port} typ host")
    return "\r\n".join(lines) + "\r\n"


async def clean(url: str) -> None:
    """Join, see a frame, and leave with a goodbye."""
    async with Receiver(url, timeout=30) as receiver:
        await anext(receiver)


async def half_open(url: str, stay: float = HALF_OPEN) -> None:
    """Take the offer and never answer."""
    async with session(url) as signaling:
        await offered(signaling)
        await asyncio.sleep(stay)


async def silent(url: str, stay: float = SILENT) -> None:
    """Answer, and never send a packet."""
    with hole() as (host, port):
        async with session(url) as signaling:
            offer = await offered(signaling)
            text = await answer_of_nobody(offer, host, port)
            await signaling.send(json.dumps(_answer(offer, text)))
            await asyncio.sleep(stay)


async def killed(url: str) -> None:
    """Be killed (SIGKILL) while watching."""
    with process(_watch, url) as victim:
        await heard(victim)


async def dropped(url: str) -> None:
    """Lose signaling, without a goodbye, between the offer and the answer."""
    async with session(url) as signaling:
        await offered(signaling)
        signaling.transport.abort()


async def dropped_late(url: str) -> None:
    """Lose signaling right after the answer, and never send a packet."""
    with hole() as (host, port):
        async with session(url) as signaling:
            offer = await offered(signaling)
            text = await answer_of_nobody(offer, host, port)
            await signaling.send(json.dumps(_answer(offer, text)))
            await asyncio.sleep(0)
            signaling.transport.abort()


def _answer(offer: dict[str, Any], text: str) -> dict[str, Any]:
    return {
        "type": "webrtc_answer",
        "targetSession": offer["sourceSession"],
        "sdp": {"type": "answer", "sdp": text},
        "timestamp": time.time_ns() // 10**6,
    }


KINDS: dict[str, Callable[[str], Awaitable[None]]] = {
    "clean": clean,
    "killed": killed,
    "half-open": half_open,
    "silent": silent,
    "dropped": dropped,
    "dropped late": dropped_late,
}


_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["benchmarks.strays"])


@contextlib.contextmanager
def process(work: Callable[[str, Connection], Coroutine[Any, Any, None]], url: str) -> Iterator[Connection]:
    """Run a coroutine in a process of its own, which is killed at the end of the block; the pipe to it."""
    ours, theirs = _context.Pipe()
    child = _context.Process(target=_run, args=(work, url, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        yield ours
    finally:
        child.kill()
        child.join()
        child.close()
        ours.close()


async def heard(pipe: Connection) -> None:
    """Wait for word from a process."""
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(pipe.fileno(), there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(pipe.fileno())
    pipe.recv()


def _run(work: Callable[[str, Connection], Coroutine[Any, Any, None]], url: str, pipe: Connection) -> None:
    asyncio.run(work(url, pipe))


async def _watch(url: str, pipe: Connection) -> None:
    async with Receiver(url) as receiver:
        await anext(receiver)
        pipe.send("seen")
        async for _ in receiver:
            pass


async def broadcast(url: str, pipe: Connection) -> None:
    """Broadcast the test card, and tell when it has begun; for :func:`process`."""
    async with Broadcaster(url, TestPattern(SIZE, FPS)) as broadcaster:
        await broadcaster.signaling.wait_open()
        pipe.send("there")
        await broadcaster.wait_closed()
