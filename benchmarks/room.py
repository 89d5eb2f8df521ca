"""A room: four people, whose faces are looked for at the receiving end, by processes of ours and by pages of Chromium.

Each sends a face at 640x480, 15 fps, with a clock of its own. One ``Room`` decodes all, looks for faces in all, and
puts their moments in order. How well clocks and order are known is told against the one clock that all processes of a
machine share. ``python -m benchmarks.room [--quick]``.
"""

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from playwright.async_api import async_playwright

from benchmarks.audience import ARGUMENTS, CHROMIUM
from benchmarks.children import ANYWHERE, child, pin, serve
from benchmarks.reel import Reel
from benchmarks.report import Bar, Result, Table, alone
from synopticon_rtc import Broadcaster, FaceLandmarker, ParticipantMoment, Portrait, Room, SignalingServer
from synopticon_rtc.basics import clock

PEOPLE = 4
SIZE = WIDTH, HEIGHT = 640, 480
FPS = 15
SETTLE = 5.0
"""Seconds in which everybody joins, models load, and clocks are compared some times."""
LEAST_FPS, MOST_MS = 12.0, 5.0
PAGE = f"""async (name) => {{
  const {{ Broadcaster }} = await import("/broadcaster.js");
  const url = location.origin.replace("http", "ws") + "/ws";
  const broadcaster = new Broadcaster(url, {{ name }}, {{ changed() {{}}, faces() {{}}, log() {{}} }});
  const video = {{ width: {WIDTH}, height: {HEIGHT}, frameRate: {FPS} }};
  const media = await navigator.mediaDevices.getUserMedia({{ video }});
  broadcaster.publish("camera", media.getVideoTracks()[0]);
}}"""
NOW = "() => (performance.timeOrigin + performance.now()) / 1000"

Clocks = dict[str, float]
"""By name, what the clock of each is ahead of the one that all share, s."""


@dataclass(frozen=True, slots=True)
class Person:
    """What came of one of them.

    Attributes:
        name: Of whom.
        fps: Moments a second.
        with_faces: The share of them that has a face.
        late: The share of them that was given out late.
        delay_ms: From capture until it was given out, median.
        clock_ms: By how much its clock was taken wrongly.
        bound_ms: By how much at most, as the receiver says.
    """

    name: str
    fps: float
    with_faces: float
    late: float
    delay_ms: float
    clock_ms: float
    bound_ms: float


@dataclass(frozen=True, slots=True)
class Seen:
    """A moment as it was given out.

    Attributes:
        name: Of whom.
        captured: When its frame was, by the clock that all share, s.
        out: When it was given out, by the same.
        faces: How many it has.
        late: Whether it was marked so.
    """

    name: str
    captured: float
    out: float
    faces: int
    late: bool


# The people


async def broadcast(url: str, name: str) -> None:
    """Be one of them."""

    async def ahead() -> float:
        return clock.now() - time.monotonic()

    async with Broadcaster(url, Reel(Portrait(SIZE, FPS), FPS), name=name, bitrate=600_000, fps=FPS):
        await serve(ahead=ahead)


@contextlib.asynccontextmanager
async def processes(server: SignalingServer) -> AsyncIterator[Clocks]:
    """People who broadcast by this package."""
    async with contextlib.AsyncExitStack() as stack:
        names = [f"person {number}" for number in range(1, PEOPLE + 1)]
        people = [
            await stack.enter_async_context(child("benchmarks.room", "broadcast", server.url, name, core=ANYWHERE))
            for name in names
        ]
        yield {name: await person.ask("ahead") for name, person in zip(names, people, strict=True)}


@contextlib.asynccontextmanager
async def pages(server: SignalingServer) -> AsyncIterator[Clocks]:
    """People who broadcast by a page in Chromium, each in a context of its own."""
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "face.y4m"
        await asyncio.to_thread(write, film)
        camera = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=CHROMIUM, args=[*ARGUMENTS, *camera, f"--use-file-for-fake-video-capture={film}"]
            )
            clocks = {}
            for number in range(1, PEOPLE + 1):
                page = await (await browser.new_context()).new_page()
                await page.goto(f"{server.viewer}nothing-here")  # an address of the server that runs no script
                await page.evaluate(PAGE, f"page {number}")
                clocks[f"page {number}"] = await ahead_of_ours(page)
            yield clocks
            await browser.close()


async def ahead_of_ours(page: Any) -> float:  # noqa: ANN401 - playwright's
    """Return what the clock of a page is ahead, from the quickest of some questions."""
    asked = []
    for _ in range(20):
        before = time.monotonic()
        theirs = await page.evaluate(NOW)
        after = time.monotonic()
        asked.append((after - before, theirs - (before + after) / 2))
    return float(min(asked)[1])


def write(film: Path, size: tuple[int, int] = SIZE, fps: int = FPS) -> None:
    """Write a face as Chromium plays it in the place of a camera."""
    reel = Reel(Portrait(size, fps), fps)
    with av.open(str(film), "w", format="yuv4mpegpipe") as file:
        stream = file.add_stream("rawvideo", rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(2 * reel.LENGTH - 2):
            frame = reel.draw(number)
            frame.pts, frame.time_base = number, Fraction(1, fps)
            file.mux(stream.encode(frame))


KINDS = {"processes": processes, "pages": pages}


# What is measured


async def watch(
    people: AbstractAsyncContextManager[Clocks], room: Room, seconds: float
) -> tuple[list[Person], list[Seen], float]:
    """Take the moments of all for a while; returns what came of each, all of them, and the share of a core it took."""
    async with people as clocks:
        await until_all_are_there(room)
        await asyncio.sleep(SETTLE)
        begun, used = time.monotonic(), time.process_time()
        seen: list[Seen] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for moment in room.moments():
                    note(seen, moment, clocks)
        took = time.monotonic() - begun
        core = (time.process_time() - used) / took
        ours = clock.now() - time.monotonic()
        errors = {
            each.name: (
                abs((each.receiver.clock_offset or 0.0) - (clocks[each.name] - ours)),
                each.receiver.clock_error,
            )
            for each in room.participants
        }
    of_each = defaultdict(list)
    for one in seen:
        of_each[one.name].append(one)
    found = [
        Person(
            name,
            len(moments) / took,
            statistics.mean(one.faces > 0 for one in moments),
            statistics.mean(one.late for one in moments),
            1e3 * statistics.median(one.out - one.captured for one in moments),
            1e3 * errors[name][0],
            1e3 * (errors[name][1] or 0.0),
        )
        for name, moments in sorted(of_each.items())
    ]
    return found, seen, core


async def until_all_are_there(room: Room) -> None:
    """Wait until everybody has joined."""
    async with asyncio.timeout(60):
        while len(room.participants) < PEOPLE:  # noqa: ASYNC110 - some seconds; nothing is measured yet
            await asyncio.sleep(0.1)


def note(seen: list[Seen], moment: ParticipantMoment, clocks: Clocks) -> None:
    """Note a moment, by the clock that all share."""
    name, captured = moment.participant.name, moment.moment.captured
    if captured is not None:
        out = time.monotonic()
        seen.append(Seen(name, captured - clocks[name], out, len(moment.moment.faces), moment.late))


def disorder(seen: Sequence[Seen]) -> float:
    """Return by how many seconds a moment that was not marked as late was captured before one that came before it."""
    worst, newest = 0.0, float("-inf")
    for one in seen:
        if not one.late:
            worst, newest = max(worst, newest - one.captured), max(newest, one.captured)
    return worst


async def run(*, quick: bool) -> Result:
    """Measure processes of this package, and pages."""
    tables, bars, data = [], [], {}
    for what, people in KINDS.items():
        async with SignalingServer(port=0) as server, Room(server.url, detector=FaceLandmarker) as room:
            found, seen, core = await watch(people(server), room, 10 if quick else 60)
        order = 1e3 * disorder(seen)
        least = min((one.fps for one in found), default=0.0) if len(found) == PEOPLE else 0.0
        wrong = max((one.clock_ms for one in found), default=float("inf"))
        tables.append(
            Table(
                f"{PEOPLE} {what} in a room, {WIDTH}x{HEIGHT} at {FPS} fps",
                ("", "fps", "with faces", "late", "delay, ms", "clock wrong by, ms", "at most, ms"),
                [_row(one) for one in found],
                (f"the room took {core:.0%} of a core", "delay: median, from capture until the moment is given out"),
            )
        )
        bars += [
            Bar(f"{what}: at least {least:.1f} fps each; {LEAST_FPS:g}", least >= LEAST_FPS),
            Bar(f"{what}: clocks are wrong by {wrong:.1f} ms; at most {MOST_MS:g}", wrong <= MOST_MS),
            Bar(f"{what}: order is wrong by {order:.1f} ms; at most {MOST_MS:g}", order <= MOST_MS),
        ]
        data[what] = {"people": [asdict(one) for one in found], "core": core, "order_ms": order}
    return Result(tables, bars, data=data)


def _row(one: Person) -> tuple[str, ...]:
    return (
        one.name,
        f"{one.fps:.1f}",
        f"{one.with_faces:.1%}",
        f"{one.late:.1%}",
        f"{one.delay_ms:.0f}",
        f"{one.clock_ms:.2f}",
        f"{one.bound_ms:.2f}",
    )


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[2] == "broadcast":  # noqa: PLR2004 - a core, and what to be
        pin(int(sys.argv[1]))
        asyncio.run(broadcast(*sys.argv[3:]))
    else:
        alone(run)
