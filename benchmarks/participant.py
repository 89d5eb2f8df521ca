"""A participant: a browser as the camera, faces found in Python and drawn back in the page, by the page ``/camera``.

Chromium plays a face at 1280x720, 30 fps, in the place of a camera. ``python -m benchmarks.participant [--quick]``.
"""

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

from benchmarks.audience import ARGUMENTS, CHROMIUM
from benchmarks.reel import SIZE
from benchmarks.report import Bar, Result, Table, alone
from benchmarks.room import write
from synopticon_rtc import FaceLandmarker, Receiver, SignalingServer

FPS = 30
SETTLE = 5.0
"""Seconds in which the model loads, and the browser finds out what the link bears."""
FIRST_MS, LEAST_FPS, LEAST_FACES, DRAWN_MS = 400.0, 29.0, 0.95, 60.0
DRAWN = "() => [synopticon.paired, synopticon.age]"


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of the page.

    Attributes:
        fps: Frames a second, in Python.
        width: Of the last of them, pixels.
        height: As ``width``.
        with_faces: The share of them that has a face.
        drawn_fps: Frames a second that the page shows together with their own faces.
        drawn_ms: From their capture until then, median of what the page tells ten times a second.
    """

    fps: float
    width: int
    height: int
    with_faces: float
    drawn_fps: float
    drawn_ms: float


@contextlib.asynccontextmanager
async def opened(browser: Browser, server: SignalingServer) -> AsyncIterator[Page]:
    """The page, before anything is clicked."""
    async with await browser.new_context(permissions=["camera", "microphone"]) as context:
        page = await context.new_page()
        await page.goto(f"{server.viewer}camera?name=anna")
        await page.wait_for_function("() => window.synopticon")
        yield page


async def first_frame(browser: Browser, server: SignalingServer) -> float:
    """Return the ms from the click to the first frame in Python, which waits for it."""
    async with opened(browser, server) as page, Receiver(server.url) as receiver:
        await asyncio.sleep(1)  # it is looking for somebody
        clicked = time.monotonic()
        click = asyncio.create_task(page.click("#start"))
        await anext(receiver)
        taken = 1e3 * (time.monotonic() - clicked)
        await click
        return taken


async def drawn_back(browser: Browser, server: SignalingServer, seconds: float) -> Seen:
    """Look for faces, send them back, and see what comes of both."""
    ages: list[float] = []

    async def read(page: Page) -> None:
        while True:
            _, age = await page.evaluate(DRAWN)
            ages.append(age)
            await asyncio.sleep(0.1)

    async with (
        opened(browser, server) as page,
        Receiver(server.url, detector=FaceLandmarker(), return_faces=True) as receiver,
    ):
        await page.click("#start")
        frames = faces = paired = width = height = 0
        begun = time.monotonic() + SETTLE
        reading: asyncio.Task[None] | None = None
        async for moment in receiver:
            now = time.monotonic()
            if now < begun:
                continue
            if reading is None:
                paired, _ = await page.evaluate(DRAWN)
                reading = asyncio.create_task(read(page))
            frames += 1
            faces += bool(moment.faces)
            width, height = moment.frame.width, moment.frame.height
            if now > begun + seconds:
                break
        took = time.monotonic() - begun
        paired = (await page.evaluate(DRAWN))[0] - paired
        if reading is not None:
            reading.cancel()
    return Seen(frames / took, width, height, faces / frames, paired / took, statistics.median(ages))


async def run(*, quick: bool) -> Result:
    """Measure the first frame, then what comes afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "face.y4m"
        await asyncio.to_thread(write, film, SIZE, FPS)
        camera = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
        async with async_playwright() as playwright, SignalingServer(port=0) as server:
            browser = await playwright.chromium.launch(
                executable_path=CHROMIUM, args=[*ARGUMENTS, *camera, f"--use-file-for-fake-video-capture={film}"]
            )
            firsts = [await first_frame(browser, server) for _ in range(3 if quick else 9)]
            seen = await drawn_back(browser, server, 10 if quick else 60)
            await browser.close()
    first = statistics.median(firsts)
    tables = [
        Table(
            "A page with a camera, 1280x720 at 30 fps",
            ("first frame, ms, median", "most", "fps", "with faces", "drawn with their own, fps", "after capture, ms"),
            [
                (
                    f"{first:.0f}",
                    f"{max(firsts):.0f}",
                    f"{seen.fps:.1f} of {seen.width}x{seen.height}",
                    f"{seen.with_faces:.1%}",
                    f"{seen.drawn_fps:.1f}",
                    f"{seen.drawn_ms:.1f}",
                )
            ],
            ("first frame: from the click on; the camera, which is a file, opens in that time too",),
        )
    ]
    bars = [
        Bar(f"first frame after {first:.0f} ms; at most {FIRST_MS:g}", first <= FIRST_MS),
        Bar(f"{seen.fps:.1f} fps; {LEAST_FPS:g}", seen.fps >= LEAST_FPS),
        Bar(f"{seen.width}x{seen.height}; 1280x720", (seen.width, seen.height) == SIZE),
        Bar(f"faces in {seen.with_faces:.1%}; {LEAST_FACES:.0%}", seen.with_faces >= LEAST_FACES),
        Bar(f"drawn {seen.drawn_ms:.1f} ms after capture; at most {DRAWN_MS:g}", seen.drawn_ms <= DRAWN_MS),
    ]
    return Result(tables, bars, data={"first_ms": firsts, "seen": asdict(seen)})


if __name__ == "__main__":
    alone(run)
