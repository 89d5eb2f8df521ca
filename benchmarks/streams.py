"""Several streams on one connection: how soon one that is added comes, and what all cost a receiver.

Broadcaster and receivers in processes of their own. A screen is added to a call of 1280x720 at 30 fps, and taken away,
again and again, with the signaling server stopped in the second half. Then the CPU of a broadcaster is measured with
one receiver and with 16, of a camera alone, with each of faces, sound and screen, and of all together, by turns.
``python -m benchmarks.streams [--quick]``.
"""

import asyncio
import contextlib
import itertools
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from benchmarks.children import ANYWHERE, RECEIVERS, SENDER, Child, child, pin, serve
from benchmarks.report import Bar, Result, Table, alone, percentile
from synopticon_rtc import Broadcaster, Face, Moment, PublishedStream, Receiver, SignalingServer, TestPattern, Tone

CAMERA = (1280, 720)
PAUSE = 0.5
"""Seconds between two changes."""
ADDED_MS, GAP_MS = 150.0, 100.0
MANY = 16
PARTS = "faces", "sound", "screen"
CAMERA_ALONE, EVERYTHING = "camera", "+".join(("camera", *PARTS))
RATIO = 2.5
"""How much more than the camera alone all streams may cost for each receiver beyond the first."""


class Nowhere:
    """Finds one face, in no time, so that its messages are all that it costs."""

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - whatever it shows
        """Find it."""
        return [Face(np.full((478, 3), 0.5, np.float32), {})]


# The processes


async def broadcast(url: str, parts: Sequence[str]) -> None:
    """Send a camera and these parts, and publish and unpublish a screen when asked."""
    faces, audio = Nowhere() if "faces" in parts else None, Tone() if "sound" in parts else None
    screens: list[PublishedStream] = []
    async with Broadcaster(url, TestPattern(CAMERA, 30), faces=faces, audio=audio) as broadcaster:
        if "screen" in parts:
            await broadcaster.publish("screen", TestPattern(CAMERA, 10), bitrate=1_000_000)

        async def publish() -> float:
            source = TestPattern(CAMERA, 30)  # it takes a while to paint
            begun = time.monotonic()
            screens.append(await broadcaster.publish("screen", source))
            return begun

        async def unpublish() -> None:
            await screens.pop().unpublish()

        async def used() -> tuple[float, float, int]:
            return time.process_time(), time.monotonic(), len(broadcaster.peers)

        await serve(publish=publish, unpublish=unpublish, used=used)


async def receive(url: str) -> None:
    """Join as often as asked, and decode nothing."""
    async with contextlib.AsyncExitStack() as stack:

        async def join(count: int) -> None:
            for _ in range(count):
                receiver = await stack.enter_async_context(Receiver(url, decode=False))
                drained.append(asyncio.create_task(_drain(receiver)))

        drained: list[asyncio.Task[None]] = []
        await serve(join=join)


async def _drain(receiver: Receiver[Any]) -> None:
    async for _ in receiver:
        pass


# What is measured


@dataclass(frozen=True, slots=True)
class Additions:
    """What came of adding a screen many times, in ms."""

    took: list[float]
    """From the call to the first decoded frame."""
    gaps: list[float]
    """The longest time without a frame of the camera meanwhile, each time."""


async def add(runs: int, *, signaling: bool) -> Additions:
    """Add a screen, and take it away."""
    server = SignalingServer(port=0)
    took, gaps, camera = [], [], []
    async with contextlib.AsyncExitStack() as stack:
        await server.__aenter__()
        url = server.url
        sender = await stack.enter_async_context(child("benchmarks.streams", "broadcast", url, "camera", core=ANYWHERE))
        receiver = await stack.enter_async_context(Receiver(url))

        async def watch() -> None:
            async for _ in receiver:
                camera.append(time.monotonic())  # noqa: PERF401 - they are looked at meanwhile

        watching = asyncio.create_task(watch())
        while len(camera) < 30:  # noqa: ASYNC110, PLR2004 - a second of them; nobody tells
            await asyncio.sleep(0.05)
        if not signaling:
            await server.__aexit__(None, None, None)
        for _ in range(runs):
            await asyncio.sleep(PAUSE)
            screen = receiver.moments("screen")
            arrival = asyncio.create_task(_first(screen))
            await asyncio.sleep(0)
            begun = await sender.ask("publish")
            await arrival
            now = time.monotonic()
            took.append(1e3 * (now - begun))
            await asyncio.sleep(PAUSE)
            around = [at for at in camera if begun - 0.1 <= at <= now + PAUSE]
            gaps.append(1e3 * max((b - a for a, b in itertools.pairwise(around)), default=0.0))
            await sender.ask("unpublish")
        watching.cancel()
        await asyncio.wait([watching])
    if signaling:
        await server.__aexit__(None, None, None)
    return Additions(took, gaps)


async def _first(moments: AsyncIterator[Moment]) -> None:
    await anext(moments)


@contextlib.asynccontextmanager
async def call(what: str) -> AsyncIterator[tuple[Child, Child]]:
    """A broadcaster of a camera, or of more, and where its receivers are."""
    async with SignalingServer(port=0) as server, contextlib.AsyncExitStack() as stack:
        sender = await stack.enter_async_context(
            child("benchmarks.streams", "broadcast", server.url, what, core=SENDER)
        )
        receivers = await stack.enter_async_context(child("benchmarks.streams", "receive", server.url, core=RECEIVERS))
        yield sender, receivers


async def cost(what: str, seconds: float) -> float:
    """Return the ms of CPU in a second that each receiver beyond the first takes of the broadcaster."""
    async with call(what) as (sender, receivers):
        shares: list[float] = []
        for count in (1, MANY - 1):
            await receivers.ask("join", count=count)
            while (await sender.ask("used"))[2] < (MANY if shares else 1):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.2)
            await asyncio.sleep(2)
            before = await sender.ask("used")
            await asyncio.sleep(seconds)
            after = await sender.ask("used")
            shares.append(1e3 * (after[0] - before[0]) / (after[1] - before[1]))
        return (shares[1] - shares[0]) / (MANY - 1)


async def run(*, quick: bool) -> Result:
    """Add streams, and count what they cost."""
    runs, seconds, turns = (4, 4.0, 1) if quick else (20, 15.0, 3)
    added = {"": await add(runs, signaling=True), ", signaling stopped": await add(runs, signaling=False)}
    rows = [
        (
            f"a screen added{how}",
            *(f"{value:.0f}" for value in (statistics.median(found.took), percentile(found.took, 95), max(found.took))),
            f"{max(found.gaps):.0f}",
        )
        for how, found in added.items()
    ]
    columns = ("", "median", "p95", "most", "camera's longest gap")
    tables = [Table(f"From publish to the first decoded frame, ms, {runs} times", columns, rows)]
    bars = []
    for how, found in added.items():
        median, gap = statistics.median(found.took), max(found.gaps)
        bars.append(Bar(f"publish to first frame{how} {median:.0f} ms; at most {ADDED_MS:g}", median <= ADDED_MS))
        bars.append(Bar(f"camera's longest gap meanwhile{how} {gap:.0f} ms; at most {GAP_MS:g}", gap <= GAP_MS))
    costs: dict[str, list[float]] = {CAMERA_ALONE: [], **{f"camera+{part}": [] for part in PARTS}, EVERYTHING: []}
    for _ in range(turns):
        for what, found_costs in costs.items():
            found_costs.append(await cost(what, seconds))
    medians = {what: statistics.median(found_costs) for what, found_costs in costs.items()}
    ratio = medians[EVERYTHING] / medians[CAMERA_ALONE]
    tables.append(
        Table(
            f"CPU of a broadcaster for each of {MANY} receivers beyond the first, ms in a second",
            ("", "median", "least", "most"),
            [(what, f"{medians[what]:.2f}", f"{min(each):.2f}", f"{max(each):.2f}") for what, each in costs.items()],
            ["a frame of faces for each of the camera's, 50 packets of sound and 10 frames of the screen a second"],
        )
    )
    bars.append(Bar(f"everything costs {ratio:.2f} times the camera alone; at most {RATIO:g}", ratio <= RATIO))
    return Result(tables, bars, data={"added": {how: found.took for how, found in added.items()}, "costs": costs})


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[2] == "broadcast":  # noqa: PLR2004 - a core, and what to be
        pin(int(sys.argv[1]))
        asyncio.run(broadcast(sys.argv[3], sys.argv[4].split("+")))
    elif len(sys.argv) > 2 and sys.argv[2] == "receive":  # noqa: PLR2004 - as above
        pin(int(sys.argv[1]))
        asyncio.run(receive(sys.argv[3]))
    else:
        alone(run)
