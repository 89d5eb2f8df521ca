"""Pairing: whether every frame comes with its own faces, in Python and in Chromium, on a good link and on a bad one.

The test card shows the number of each frame, and the faces that are sent with it tell the same number by where they are
(benchmarks/numbered.py). 1280x720 at 30 fps, VP8; the detector takes 5 to 25 ms. On the bad link a relay drops packets
at random, both ways (benchmarks/between.py). ``python -m benchmarks.pairing [--quick]``.
"""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

import av
import numpy as np
from aioice.ice import get_host_addresses
from playwright.async_api import Page, async_playwright

from benchmarks.audience import ARGUMENTS, CHROMIUM
from benchmarks.between import Between
from benchmarks.children import ANYWHERE, child
from benchmarks.fanout import SETTLE
from benchmarks.numbered import NumberedFaces
from benchmarks.reel import SIZE
from benchmarks.report import Bar, Result, Table, alone
from synopticon_rtc import Receiver, SignalingServer, TestPattern

LOSS = 0.05
CLEAN_PAIRED, LOSSY_PAIRED = 0.999, 0.95

# The page's own modules, watched: at each look for the faces of the frame on screen, for which frame, and which were
# found; and what the frame on screen shows right after that, in which moment it may have become the next one.
WATCH = """async ([width, height]) => {
  const { Pairing } = await import("/pairing.js");
  const { pick } = Pairing.prototype;
  const video = document.getElementById("video");
  const canvas = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  const looks = [];
  Pairing.prototype.pick = function (timestamp, time) {
    const { message, exact } = pick.call(this, timestamp, time);
    const frame = new VideoFrame(video);
    canvas.drawImage(frame, 0, 0, width, height);
    const { data } = canvas.getImageData(0, 0, width, height);
    const luma = Uint8Array.from({ length: width * height }, (_, i) => data[4 * i + 1]); // it is black and white
    const points = message?.faces[0]?.landmarks ?? [];
    const centre = [0, 0];
    points.forEach((value, i) => { if (i % 3 < 2) centre[i % 3] += value / (points.length / 3); });
    const shown = { timestamp: frame.metadata().rtpTimestamp, luma: btoa(String.fromCharCode(...luma)) };
    looks.push({ timestamp, exact, centre, shown });
    frame.close();
    return { message, exact };
  };
  window.looks = () => looks.splice(0);
}"""
READ_SIZE = 128, 72


@dataclass(frozen=True, slots=True)
class Paired:
    """What one receiver was given.

    Attributes:
        who: ``Python`` or ``Chromium``.
        loss: The share of packets that its link lost, each way.
        frames: How many it got.
        paired: How many of them with faces of their own.
        wrong: How many of those with the faces of another frame.
        unread: How many whose number could not be read.
        overtaken: How often the next frame came to the screen between the page's look and ours.
        fps: Frames a second.
    """

    who: str
    loss: float
    frames: int
    paired: int
    wrong: int
    unread: int
    overtaken: int
    fps: float

    @property
    def share(self) -> float:
        """The share of frames that were paired."""
        return self.paired / max(1, self.frames)


@contextlib.asynccontextmanager
async def link(loss: float) -> AsyncIterator[tuple[SignalingServer, str]]:
    """A broadcaster of numbered faces; the signaling server, and the address for the receiver behind the link."""
    async with (
        SignalingServer(port=0) as server,
        child("benchmarks.sender", "ours", server.url, "numbered", core=ANYWHERE),
    ):
        if not loss:
            yield server, server.url
            return
        host, *_ = get_host_addresses(use_ipv4=True, use_ipv6=False)
        async with Between().open(server.url, host) as between:
            between.up.loss = between.down.loss = loss
            yield server, between.url


async def python(loss: float, seconds: float) -> Paired:
    """Watch with this package."""
    async with link(loss) as (_, url), Receiver(url) as receiver:
        return await counted(receiver, loss, seconds)


async def counted(receiver: Receiver[av.VideoFrame], loss: float, seconds: float) -> Paired:
    """Count what a receiver gets, once it has settled."""
    counts = dict.fromkeys(("frames", "paired", "wrong", "unread"), 0)
    since = float("inf")
    async for moment in receiver:
        now = time.monotonic()
        since = min(since, now + SETTLE)
        if now < since:
            continue
        if now > since + seconds:
            break
        number = TestPattern.read_number(moment.frame.to_ndarray()[: moment.frame.height])
        told = [NumberedFaces.read_number(face.landmarks) for face in moment.faces]
        counts["frames"] += 1
        counts["unread"] += number is None
        counts["paired"] += moment.detected
        counts["wrong"] += moment.detected and [number] != told
    return Paired("Python", loss, overtaken=0, fps=counts["frames"] / seconds, **counts)


async def chromium(loss: float, seconds: float) -> Paired:
    """Watch with the viewer page."""
    async with link(loss) as (server, url), async_playwright() as playwright:
        arguments = [*ARGUMENTS, "--disable-features=WebRtcHideLocalIpsWithMdns"]
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = await browser.new_page(bypass_csp=True)  # which allows no signaling but at the same address
        await page.goto(f"{server.viewer}?url={quote(url)}")
        seen = await looked_at(page, loss, seconds)
        await browser.close()
    return seen


async def looked_at(page: Page, loss: float, seconds: float) -> Paired:
    """Look at what a page shows, once it has settled."""
    await page.wait_for_function("() => synopticon.frames > 0")
    await asyncio.sleep(SETTLE)
    await page.evaluate(WATCH, READ_SIZE)
    await asyncio.sleep(seconds)
    return judged(loss, await page.evaluate("looks()"), seconds)


def judged(loss: float, looks: list[dict[str, Any]], seconds: float) -> Paired:
    """Sum up what the page saw."""
    numbers: dict[int, int | None] = {}
    for shown in (look["shown"] for look in looks):
        luma = np.frombuffer(base64.b64decode(shown["luma"]), np.uint8).reshape(READ_SIZE[::-1])
        numbers[shown["timestamp"]] = TestPattern.read_number(luma)
    own: dict[int, int] = {}
    for look in looks:
        if look["exact"]:
            x, y = look["centre"]
            own[look["timestamp"]] = NumberedFaces.number_at(x * SIZE[0], y * SIZE[1])
    return Paired(
        "Chromium",
        loss,
        frames=len(numbers),
        paired=len(own.keys() & numbers.keys()),
        wrong=sum(numbers[timestamp] != own[timestamp] for timestamp in own.keys() & numbers.keys()),
        unread=sum(number is None for number in numbers.values()),
        overtaken=sum(look["timestamp"] != look["shown"]["timestamp"] for look in looks),
        fps=len(numbers) / seconds,
    )


def bars_of(one: Paired, least: float) -> tuple[Bar, Bar]:
    """Say what share is to be paired at least, and that no frame is to have the faces of another."""
    what = f"{one.who}, {one.loss:.0%} loss"
    return (
        Bar(f"{what}: {one.share:.2%} of the frames paired; at least {least:.1%}", one.share >= least),
        Bar(f"{what}: {one.wrong} paired wrongly; none", not one.wrong),
    )


async def run(*, quick: bool) -> Result:
    """Measure one after the other."""
    seconds = 6.0 if quick else 60.0
    found = [await watch(loss, seconds) for watch in (python, chromium) for loss in (0.0, LOSS)]
    rows = [
        (
            f"{one.who}, {one.loss:.0%} loss",
            str(one.frames),
            f"{one.fps:.1f}",
            f"{one.share:.2%}",
            str(one.wrong),
            str(one.unread),
            str(one.overtaken),
        )
        for one in found
    ]
    notes = (
        "frames: those that came; paired: with faces of their own; unread: whose number could not be read;",
        "overtaken: how often the next frame came to Chromium's screen between the page's look at it and ours.",
    )
    columns = ("", "frames", "fps", "paired", "wrong", "unread", "overtaken")
    table = Table("Frames with their own faces", columns, rows, notes)
    bars = [bar for one in found for bar in bars_of(one, LOSSY_PAIRED if one.loss else CLEAN_PAIRED)]
    return Result([table], bars, data={"paired": [asdict(one) for one in found]})


if __name__ == "__main__":
    alone(run)
