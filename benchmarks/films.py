"""Films: of a phone, a camera and a screen, and live sources that stop: upright, in proportion, and in real time.

A phone's film is turned by its display matrix; a camera's is interlaced MPEG-2 with 1440x1080 pixels of 4:3; a screen's
has 3840x2160 at 60 fps. MJPEG comes over HTTP at 30 fps, and MPEG-TS from a camera that stops twice: once it resets
connections, once it falls silent. Each picture tells its number, and so the time at which it is due, or was made; faces
are compared with those of the same pictures as they were drawn. ``python -m benchmarks.films [--quick]``.
"""

import asyncio
import contextlib
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import av
import numpy as np

from benchmarks.filming import CAMERA, MJPEG, NETWORK, PHONE, SCREEN, Kind, Live, chunks, corner, film, jpegs, served
from benchmarks.report import Bar, Result, Table, alone, percentile
from synopticon_rtc import Face, FaceLandmarker, TestPattern
from synopticon_rtc.media import as_source
from synopticon_rtc.media.planes import planes

SECONDS, QUICK = 120.0, 15.0
LATE = 0.2
"""Seconds that a picture may be late."""
EARLY = 1.0
"""Seconds that a picture may seem early; numbers come again with each reel, so what is later than its rest does too."""
OPENING = 0.5
"""Seconds after a live source was opened that do not count: FFmpeg looks at some pictures to know what they are."""
STRETCHED = 0.03
"""Part by which a face may be too long or too wide, in the median."""
TURNED = 5.0
"""Degrees by which any face may be turned."""
FOUND = 0.95
"""Part of the pictures that were looked at in which the face is found."""
BACK = 15.0
"""Seconds from a stop to the next picture; the source is away for 4, or silent, which FFmpeg bears for 10."""
AWAY = 4.0
STOPS = 40.0
"""Seconds that are needed to stop twice, and to be back."""
PAUSE = 2.0
"""Seconds without a picture that are a stop."""
STILL = 0.6
"""Seconds without a picture, but for stops."""
SAMPLE = 1.0
"""Seconds from one look for faces to the next."""
GRACE = 60.0
"""Seconds after which a source that says nothing is given up."""
FOREHEAD, CHIN, RIGHT_CHEEK, LEFT_CHEEK, RIGHT_EYE, LEFT_EYE = 10, 152, 234, 454, 33, 263
"""Numbers of landmarks."""
NOBODY = av.VideoFrame.from_ndarray(np.full((144, 256, 3), 128, np.uint8), format="rgb24")
"""A picture without faces."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a face is seen.

    Attributes:
        ratio: Its height by its width.
        turned: From the horizontal to the line through its eyes, degrees, clockwise.
    """

    ratio: float
    turned: float

    @classmethod
    def of(cls, face: Face, width: int, height: int) -> "Shape":
        """Measure a face in a frame of that size."""
        points = face.to_pixels(width, height)[:, :2].astype(float)
        across, down = points[LEFT_EYE] - points[RIGHT_EYE]
        ratio = math.dist(points[FOREHEAD], points[CHIN]) / math.dist(points[RIGHT_CHEEK], points[LEFT_CHEEK])
        return cls(ratio, math.degrees(math.atan2(down, across)))


@dataclass(slots=True)
class Showing:
    """What came of a film.

    Attributes:
        seconds: For how long it was watched.
        times: When each picture came, as time.monotonic() has it,
        numbers: and its number.
        unread: Pictures whose number could not be read.
        sizes: Widths and heights.
        shapes: Of the faces, by the numbers of their pictures; None where none was found.
        cores: That it took, looking for faces included.
    """

    seconds: float
    times: list[float] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    unread: int = 0
    sizes: list[tuple[int, int]] = field(default_factory=list)
    shapes: dict[int, Shape | None] = field(default_factory=dict)
    cores: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """What is to be said of it.

    Attributes:
        late: Seconds by which each picture was late.
        gaps: When nothing came for long, and when something came again, in seconds after the start.
        still: Most seconds without a picture, but for these.
        stretched: Median of the faces' height by width, by that of the pictures as they were drawn, less 1.
        turned: Most degrees by which a face is turned that was not drawn so.
        found: Part of the pictures looked at in which there was a face, of those in which there is one as drawn.
    """

    showing: Showing
    late: list[float]
    gaps: list[tuple[float, float]]
    still: float
    stretched: float
    turned: float
    found: float


async def shape(landmarker: FaceLandmarker, frame: av.VideoFrame) -> Shape | None:
    """Look for a face in a frame, whatever was in the one before: that a landmarker follows faces would count here."""
    await landmarker.detect(NOBODY)
    faces = await landmarker.detect(frame)
    return Shape.of(faces[0], frame.width, frame.height) if faces else None


async def watch(source: object, seconds: float) -> Showing:
    """Watch a source, and look for faces now and then."""
    showing = Showing(seconds)
    looks = asyncio.Semaphore(1)

    async def look(frame: av.VideoFrame, number: int) -> None:
        async with looks:
            showing.shapes[number] = await shape(landmarker, frame)

    frames = cast("AsyncGenerator[av.VideoFrame, None]", aiter(as_source(cast("Any", source))))
    async with (
        FaceLandmarker() as landmarker,
        asyncio.timeout(seconds + GRACE),
        asyncio.TaskGroup() as group,
        contextlib.aclosing(frames),
    ):
        begun = time.monotonic(), time.process_time()
        next_look = 0.0
        async for frame in frames:
            now = time.monotonic()
            number = TestPattern.read_number(corner(planes(frame)[0]))
            if number is None:
                showing.unread += 1
            else:
                showing.times.append(now)
                showing.numbers.append(number)
            if (frame.width, frame.height) not in showing.sizes:
                showing.sizes.append((frame.width, frame.height))
            if number is not None and now >= next_look and not looks.locked():
                next_look = now + SAMPLE
                group.create_task(look(frame, number))
            if now - begun[0] > seconds:
                break
        showing.cores = (time.process_time() - begun[1]) / (time.monotonic() - begun[0])
    return showing


async def judge(kind: Kind, showing: Showing, start: float | None = None) -> Found:
    """Compare what was seen with what was drawn.

    Args:
        kind: Of the film.
        showing: Of it.
        start: When picture 0 was due; so that the first that came was in time, without it.
    """
    live = start is not None
    if start is None:
        start = showing.times[0] - showing.numbers[0] / kind.fps
    waits = [(one - start, other - start) for one, other in itertools.pairwise(showing.times)]
    gaps = [(one, other) for one, other in waits if other - one > PAUSE]
    openings = [showing.times[0] - start, *(other for _, other in gaps)] if live else []
    late = [
        (at - start - number / kind.fps + EARLY) % kind.length - EARLY
        for at, number in zip(showing.times, showing.numbers, strict=True)
        if all(not 0 <= at - start - opening < OPENING for opening in openings)
    ]
    seen, stretched, turned = 0, [], [0.0]
    async with FaceLandmarker() as landmarker:
        for number, one in showing.shapes.items():
            drawn = await shape(landmarker, kind.draw(number))
            seen += drawn is not None
            if one is not None and drawn is not None:
                stretched.append(one.ratio / drawn.ratio - 1)
                turned.append(abs((one.turned - drawn.turned + 180) % 360 - 180))
    return Found(
        showing,
        late,
        gaps,
        max(other - one for one, other in waits if other - one <= PAUSE),
        statistics.median(stretched) if stretched else math.inf,
        max(turned),
        len(stretched) / max(1, seen),
    )


async def shown(kind: Kind, seconds: float, folder: Path) -> Found:
    """Make a film, and watch it."""
    path = await asyncio.to_thread(film, kind, folder / f"film{kind.suffix}", seconds + 1)
    try:
        return await judge(kind, await watch(path, seconds))
    finally:
        path.unlink()


async def mjpeg(kind: Kind, seconds: float) -> Found:
    """Watch a camera that sends pictures in JPEG."""
    parts = [
        b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(one), one)
        for one in await asyncio.to_thread(jpegs, kind)
    ]
    live = Live(kind, parts, "multipart/x-mixed-replace; boundary=frame")
    with served(live) as url:
        showing = await watch(url, seconds)
    return await judge(kind, showing, live.start)


async def stopping(kind: Kind, seconds: float) -> tuple[Found, list[float | None]]:
    """Watch a camera that stops twice; tell also after how many seconds it was back."""
    stops = reset, silent = seconds / 4, seconds / 2
    parts = await asyncio.to_thread(chunks, kind, seconds + GRACE)
    live = Live(kind, parts, "video/mp2t", (reset, reset + AWAY), silent)
    with served(live) as url:
        showing = await watch(url, seconds)
    found = await judge(kind, showing, live.start)
    return found, [min((end - stop for begin, end in found.gaps if end > stop), default=None) for stop in stops]


def row(name: str, found: Found) -> tuple[str, ...]:
    """What a table says of a film."""
    showing, late = found.showing, found.late
    return (
        name,
        " ".join(f"{width}x{height}" for width, height in showing.sizes),
        f"{len(showing.times) / showing.seconds:.1f}",
        str(round(statistics.median(late) * 1000)),
        str(round(percentile(late, 99) * 1000)),
        str(round(max(late) * 1000)),
        str(round(late[-1] * 1000)),
        f"{found.stretched:+.1%}",
        f"{found.turned:.1f}",
        f"{found.found:.0%}",
        str(round(found.still * 1000)),
        f"{showing.cores:.2f}",
    )


def promises(name: str, kind: Kind, found: Found, stops: int) -> list[Bar]:
    """What is promised of each film, which stops so often."""
    sizes, late = found.showing.sizes, max(found.late)
    return [
        Bar(f"{name}: at most {late:.3f} s late; at most {LATE:g}", late <= LATE),
        Bar(
            f"{name}: {len(found.gaps)} stops, else at most {found.still:.2f} s without a picture; at most {STILL:g}",
            len(found.gaps) == stops and found.still <= STILL,
        ),
        Bar(
            f"{name}: {sizes}, face {found.stretched:+.1%} and at most {found.turned:.1f} degrees off; "
            f"at most {STRETCHED:.0%} and {TURNED:g}",
            sizes == [kind.size] and abs(found.stretched) <= STRETCHED and found.turned <= TURNED,
        ),
        Bar(
            f"{name}: a face in {found.found:.0%} of the pictures looked at; at least {FOUND:.0%}", found.found >= FOUND
        ),
    ]


async def run(*, quick: bool) -> Result:
    """Show each film, one after the other."""
    seconds = QUICK if quick else SECONDS
    rows, bars, data = [], [], {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in (PHONE, CAMERA, SCREEN, MJPEG, NETWORK):
            back: list[float | None] = []
            if kind is NETWORK:
                found, back = await stopping(kind, max(seconds, STOPS))
            elif kind is MJPEG:
                found = await mjpeg(kind, seconds)
            else:
                found = await shown(kind, seconds, Path(folder))
            rows.append(row(kind.name, found))
            bars += promises(kind.name, kind, found, len(back))
            for number, after in enumerate(back, 1):
                told = "never" if after is None else f"{after:.1f} s"
                met = after is not None and after <= BACK
                bars.append(Bar(f"{kind.name}: back after stop {number}: {told}; at most {BACK:g} s", met))
            data[kind.name] = asdict(found)
    columns = ("", "seen", "fps", "late, ms", "p99", "most", "last", "face", "turned", "found", "still, ms", "cores")
    notes = (
        "late: median, 99 %, most, and at the end; of a film after its first picture, of a live source after a picture",
        f"was made, but for {OPENING:g} s after it was opened. face: its height by its width, against that as drawn.",
        "turned: most degrees. still: the longest time without a picture, but for stops. cores: with looks for faces.",
    )
    return Result([Table(f"Films, {seconds:g} s each", columns, rows, notes)], bars, data=data)


if __name__ == "__main__":
    alone(run)
