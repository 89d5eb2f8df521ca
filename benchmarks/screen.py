"""A screen: what it takes while a page of text stays, and how soon the next one can be read.

1920x1080, looked at 10 times a second, VP8, over a relay that lets only so much through (benchmarks/between.py). A page
of some 1000 letters can be read when the PSNR of its luma is 35 dB, counted from the frame that shows it first.
``python -m benchmarks.screen [--quick]``.
"""

import asyncio
import contextlib
import math
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass

import av
import numpy as np
import numpy.typing as npt
from aioice.ice import get_host_addresses

from benchmarks.between import Between
from benchmarks.children import RECEIVERS, SENDER, Child, child, pin
from benchmarks.fanout import SETTLE
from benchmarks.pages import COUNT, HEIGHT, KINDS, Kind, draw
from benchmarks.report import Bar, Result, Table, alone
from synopticon_rtc import Moment, Receiver, SignalingServer

FAST, SLOW = 2_000_000, 300_000
"""Bit/s of the link."""
WITHIN = 200.0
STILL_BITRATE, STILL_CPU = 20_000.0, 0.02
PATIENCE = 20.0
"""Seconds in which a page must be readable."""
PAUSE = 2.5
"""Seconds from one page to the next, on a fast link."""


@dataclass(frozen=True, slots=True)
class Turned:
    """What came of the pages that were turned.

    Attributes:
        readable: Until each could be read, ms.
        settled: PSNR of each in the end, dB.
        height: The least of what was shown, pixels.
    """

    readable: list[float]
    settled: list[float]
    height: int


@dataclass(frozen=True, slots=True)
class Still:
    """What a page takes that stays.

    Attributes:
        bitrate: Bit/s that were sent.
        cpu: CPU time of the sender a second.
        encoded: Frames that were encoded a second.
    """

    bitrate: float
    cpu: float
    encoded: float


class Reader:
    """Holds what comes against the page that should be seen."""

    def __init__(self, kind: Kind) -> None:
        limited = 16 + 219 / 255 * np.stack([draw(number, kind) for number in range(COUNT)])
        self._pages = limited.round().astype(np.int16)
        self._readable = kind.readable
        self._came = asyncio.Event()
        self.number = 0
        self.psnr = 0.0
        self.heights: set[int] = set()
        self.at = math.inf
        """When the page could be read first, as time.monotonic() has it."""

    def expect(self, number: int) -> None:
        """Wait for a page; nothing of it has come yet, or it is looked at too late, and so counted."""
        self.number, self.at, self.psnr = number, math.inf, 0.0

    async def read(self) -> float:
        """Return when the page could be read."""
        async with asyncio.timeout(PATIENCE):
            while math.isinf(self.at):
                self._came.clear()
                await self._came.wait()
        return self.at

    async def watch(self, receiver: Receiver[av.VideoFrame]) -> None:
        """Look at every frame."""
        async for moment in receiver:
            now = time.monotonic()
            await asyncio.to_thread(self._look, moment, now)
            self._came.set()

    def _look(self, moment: Moment[av.VideoFrame], now: float) -> None:
        number, frame = self.number, moment.frame
        self.heights.add(frame.height)
        if frame.height != HEIGHT:
            return
        luma: npt.NDArray[np.int16] = frame.to_ndarray(format="yuv420p")[:HEIGHT].astype(np.int16)
        error = float(np.square(luma - self._pages[number], dtype=np.int32).mean())
        psnr = 10 * math.log10(255**2 / error) if error else math.inf
        if number == self.number:
            self.psnr = psnr
            if psnr >= self._readable:
                self.at = min(self.at, now)


@contextlib.asynccontextmanager
async def reading(kind: str, rate: int) -> AsyncIterator[tuple[Child, Reader]]:
    """A sender of pages, and one who reads them behind a slow link."""
    reader = await asyncio.to_thread(Reader, KINDS[kind])
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(SignalingServer(port=0))
        sender = await stack.enter_async_context(child("benchmarks.pages", server.url, kind, core=SENDER))
        host, *_ = get_host_addresses(use_ipv4=True, use_ipv6=False)
        link = await stack.enter_async_context(Between().open(server.url, host))
        receiver = await stack.enter_async_context(Receiver(link.url))
        watching = asyncio.create_task(reader.watch(receiver))
        stack.callback(watching.cancel)
        await reader.read()
        link.down.rate = rate
        await asyncio.sleep(SETTLE)
        yield sender, reader


async def still(sender: Child, seconds: float) -> Still:
    """Measure a page that stays."""
    begun = await sender.ask("usage")
    await asyncio.sleep(seconds)
    ended = await sender.ask("usage")
    cpu, octets, encoded = ((ended[name] - begun[name]) / seconds for name in ("cpu", "octets", "encoded"))
    return Still(octets * 8, cpu, encoded)


async def turned(sender: Child, reader: Reader, count: int) -> Turned:
    """Turn pages, each when the one before it has been read."""
    readable, settled = [], []
    for _ in range(count):
        reader.expect((reader.number + 1) % COUNT)
        shown = await sender.ask("turn")
        readable.append(1e3 * (await reader.read() - shown["at"]))
        await asyncio.sleep(PAUSE)
        settled.append(reader.psnr)
    return Turned(readable, settled, min(reader.heights))


async def run(*, quick: bool) -> Result:
    """Have a page stay, and turn pages over a fast and a slow link."""
    pin(RECEIVERS)
    count = 5 if quick else 20
    found: dict[str, Turned] = {}
    async with reading("page", FAST) as (sender, reader):
        stays = await still(sender, 5 if quick else 30)
        found["page, 2 Mbit/s"] = await turned(sender, reader, count)
    async with reading("small print", FAST) as (sender, reader):
        found["small print, 2 Mbit/s"] = await turned(sender, reader, count)
    async with reading("page", SLOW) as (sender, reader):
        found["page, 300 kbit/s"] = await turned(sender, reader, count)
    fast, _, slow = found.values()
    rows = [
        (
            name,
            f"{statistics.median(one.readable):.0f}",
            f"{max(one.readable):.0f}",
            f"{statistics.median(one.settled):.1f}",
            str(one.height),
        )
        for name, one in found.items()
    ]
    kept = f"{stays.bitrate / 1e3:.1f} kbit/s, {stays.cpu:.1%} of a core, {stays.encoded:.1f} frames a second"
    tables = [
        Table("The next page", ("", "readable, ms", "slowest", "then PSNR-Y, dB", "height"), rows),
        Table("A page that stays", ("", "sent", "CPU", "encoded"), [("1920x1080", *kept.split(", "))]),
    ]
    median = statistics.median(fast.readable)
    bars = [
        Bar(
            f"a page that stays: {stays.bitrate / 1e3:.1f} kbit/s; at most {STILL_BITRATE / 1e3:g}",
            stays.bitrate <= STILL_BITRATE,
        ),
        Bar(f"and {stays.cpu:.1%} of a core; at most {STILL_CPU:.0%}", stays.cpu <= STILL_CPU),
        Bar(f"a new page at 2 Mbit/s is read after {median:.0f} ms; at most {WITHIN:g}", median <= WITHIN),
        Bar(f"at 300 kbit/s it has {slow.height} lines; {HEIGHT}", slow.height == HEIGHT),
    ]
    return Result(tables, bars, data={"still": asdict(stays), "turned": {k: asdict(v) for k, v in found.items()}})


if __name__ == "__main__":
    alone(run)
