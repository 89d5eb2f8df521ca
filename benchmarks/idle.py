"""What is not asked for: a broadcaster that nobody watches, receivers without video, and receivers that do not decode.

The portrait at 1280x720 and 30 fps, drawn ahead; MediaPipe looks for faces. Each process is on a core of its own.
``python -m benchmarks.idle [--quick]``.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.children import RECEIVERS, SENDER, Child, child, pin, serve
from benchmarks.fanout import SETTLE
from benchmarks.reel import FPS, SIZE
from benchmarks.report import Bar, Result, Table, alone
from synopticon_rtc import Broadcaster, FaceLandmarker, Portrait, Receiver, SignalingServer

IDLE = 0.03
"""The most of a core that a broadcaster takes while nobody watches."""
KINDS: dict[str, dict[str, Any]] = {
    "frames and faces": {},
    "encoded frames and faces": {"decode": False},
    "faces alone": {"video": False},
}
"""What receivers take, and the options for it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time a second, in cores.

    Attributes:
        sender: Of the broadcaster.
        receiver: Of the receiver, 0 where there is none.
        moments: That the receiver had, a second.
    """

    sender: float
    receiver: float
    moments: float


class Played:
    """The portrait, drawn ahead: the same frames to and fro, so that a source costs next to nothing."""

    def __init__(self) -> None:
        portrait = Portrait(SIZE, FPS)
        self._frames = [portrait.draw(number) for number in range(2 * FPS)]

    async def __aiter__(self) -> AsyncIterator[Any]:
        begun, number = asyncio.get_running_loop().time(), 0
        while True:
            forth = number % (2 * len(self._frames) - 2)
            frame = self._frames[min(forth, 2 * len(self._frames) - 2 - forth)]
            yield frame
            number += 1
            await asyncio.sleep(max(0.0, begun + number / FPS - asyncio.get_running_loop().time()))


@contextlib.asynccontextmanager
async def broadcasting() -> AsyncIterator[tuple[str, Child]]:
    """Run a broadcaster in a process of its own; the address of the signaling server with it."""
    async with SignalingServer(port=0) as server, child("benchmarks.idle", "broadcast", server.url, core=SENDER) as one:
        yield server.url, one


async def measure(url: str, sender: Child, kind: str | None, seconds: float) -> Usage:
    """Measure the broadcaster with one receiver, or without."""
    async with contextlib.AsyncExitStack() as stack:
        receiver = None
        if kind is not None:
            receiver = await stack.enter_async_context(child("benchmarks.idle", "receive", url, kind, core=RECEIVERS))
            await receiver.ask("first")
        await asyncio.sleep(SETTLE)
        before = [await one.ask("usage") for one in (sender, receiver) if one]
        await asyncio.sleep(seconds)
        after = [await one.ask("usage") for one in (sender, receiver) if one]
    cores = [
        (late["cpu"] - early["cpu"]) / (late["time"] - early["time"]) for early, late in zip(before, after, strict=True)
    ]
    moments = (after[1]["moments"] - before[1]["moments"]) / seconds if receiver else 0.0
    return Usage(cores[0], cores[1] if receiver else 0.0, moments)


async def broadcast(url: str) -> None:
    """Be the broadcaster."""

    async def usage() -> dict[str, float]:
        return {"time": time.monotonic(), "cpu": time.process_time()}

    async with Broadcaster(url, Played(), faces=FaceLandmarker(), fps=FPS) as broadcaster:
        await broadcaster.signaling.wait_open()
        await serve(usage=usage)


async def receive(url: str, kind: str) -> None:
    """Be the receiver."""
    moments = 0
    seen = asyncio.Event()

    async def usage() -> dict[str, float]:
        return {"time": time.monotonic(), "cpu": time.process_time(), "moments": moments}

    async def watch() -> None:
        nonlocal moments
        async with Receiver(url, **KINDS[kind]) as receiver:
            async for _ in receiver:
                moments += 1
                seen.set()

    async def first() -> None:
        await seen.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        await serve(usage=usage, first=first)


async def run(*, quick: bool) -> Result:
    """Measure one after the other, with the same broadcaster."""
    pin(RECEIVERS)
    seconds = 3.0 if quick else 10.0
    async with broadcasting() as (url, sender):
        found = {kind or "nobody": await measure(url, sender, kind, seconds) for kind in (None, *KINDS)}
    rows = [(who, f"{one.sender:.2f}", f"{one.receiver:.2f}", f"{one.moments:.1f}") for who, one in found.items()]
    table = Table("Cores, by what the one receiver takes", ("", "broadcaster", "receiver", "moments a second"), rows)
    nobody, everything, faces = (found[who] for who in ("nobody", "frames and faces", "faces alone"))
    bars = [
        Bar(f"nobody watches: {nobody.sender:.2f} of a core; at most {IDLE:g}", nobody.sender <= IDLE),
        Bar(
            f"faces alone: {faces.receiver:.2f} of a core at the receiver, {everything.receiver:.2f} with frames; less",
            faces.receiver < everything.receiver,
        ),
    ]
    return Result([table], bars, data={who: asdict(one) for who, one in found.items()})


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].isdigit():
        core, role, *arguments = sys.argv[1:]
        pin(int(core))
        asyncio.run(broadcast(*arguments) if role == "broadcast" else receive(*arguments))
    else:
        alone(run)
