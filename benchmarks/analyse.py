"""Analysing a film: how fast, beside the detector alone, and whether it finds the same.

A film of 1280x720 at 30 fps, in H.264, of a portrait that turns, speaks and blinks. By turns `Analysis` makes a table
of it, and the detector alone looks at the same frames, which were decoded before. Then the film is played in real time,
as a broadcaster plays it, to the same detector in the mode of live frames. ``python -m benchmarks.analyse [--quick]``.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt
from pyarrow import parquet
from rich.progress import track

from benchmarks.expressions import Expressions
from benchmarks.reel import FPS, SIZE
from benchmarks.report import Bar, Result, Table, alone
from synopticon_rtc import FaceLandmarker, VideoFile
from synopticon_rtc.recording.analysis import Analysis
from synopticon_rtc.recording.parts import Progress

DRAWN = 300
"""Pictures that are drawn; the film shows them to and fro."""
FRAMES, QUICK = 3600, 600
ROUNDS = 3
AT_ONCE = 200
"""Pictures that are in memory at once."""
SHARE = 0.9
"""Of the speed of the detector alone, at least."""

Landmarks = npt.NDArray[np.float32]


class Found(NamedTuple):
    """What was found in the frames of a film.

    Attributes:
        landmarks: Of the face, by the number of the frame.
        seconds: That it took, without the time to begin.
    """

    landmarks: dict[int, Landmarks]
    seconds: float


async def _film(path: Path, frames: int) -> Path:
    expressions = await Expressions.of_portrait()
    drawn = [expressions.draw(number).reformat(format="yuv420p") for number in track(range(DRAWN), "Drawing")]
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            frame = drawn[min(number % (2 * DRAWN), 2 * DRAWN - 1 - number % (2 * DRAWN))]
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _landmarker(*, live: bool) -> FaceLandmarker:
    return FaceLandmarker(blendshapes=True, matrix=True, live=live)


async def _detector_alone(film: Path) -> Found:
    landmarks: dict[int, Landmarks] = {}
    seconds, pictures = 0.0, VideoFile(film).pictures()
    async with _landmarker(live=False) as detector:
        while decoded := list(islice(pictures, AT_ONCE)):
            begun = time.perf_counter()
            for picture in decoded:
                faces = await detector.detect(picture)
                landmarks |= {_number(picture): face.landmarks for face in faces}
            seconds += time.perf_counter() - begun
    return Found(landmarks, seconds)


async def _analysed(film: Path, table: Path) -> Found:
    begun: list[float] = []

    def tell(_: Progress) -> None:
        if not begun:
            begun.append(time.perf_counter())

    await Analysis(VideoFile(film), _landmarker(live=False), table).run(tell)
    seconds = time.perf_counter() - begun[0]
    return Found(dict(_read(table)), seconds)


def _read(table: Path) -> Iterator[tuple[int, Landmarks]]:
    with parquet.ParquetFile(table) as file:
        for group in file.iter_batches(columns=["frame", "landmarks"]):
            flat = group.column("landmarks").flatten().to_numpy().reshape(-1, 478, 3)
            frames = [row for row, points in zip(*group.to_pydict().values(), strict=True) if points is not None]
            yield from zip(frames, flat, strict=True)


async def _live(film: Path) -> Found:
    landmarks: dict[int, Landmarks] = {}
    begun = time.perf_counter()
    async with _landmarker(live=True) as detector:
        async for frame in VideoFile(film, loop=False):
            landmarks |= {_number(frame): face.landmarks for face in await detector.detect(frame)}
    return Found(landmarks, time.perf_counter() - begun)


def _number(frame: av.VideoFrame) -> int:
    return round((frame.time or 0.0) * FPS)


def _apart(one: Found, other: Found) -> list[float]:
    """How far the landmarks of a frame are apart in the mean, in pixels, for each that both know."""
    return [
        float(np.linalg.norm((landmarks - other.landmarks[frame])[:, :2] * SIZE, axis=1).mean())
        for frame, landmarks in one.landmarks.items()
        if frame in other.landmarks
    ]


async def run(*, quick: bool) -> Result:
    """Measure both by turns."""
    frames = QUICK if quick else FRAMES
    alone_, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        film = await _film(Path(folder) / "film.mp4", frames)
        for _ in track(range(ROUNDS), "Analysing"):
            alone_.append(await _detector_alone(film))
            ours.append(await _analysed(film, Path(folder) / "faces.parquet"))
        live = await _live(film)
    fastest, analysed = alone_[-1], ours[-1]
    same = sum(np.array_equal(analysed.landmarks.get(frame, ()), each) for frame, each in fastest.landmarks.items())
    rates = [statistics.median(frames / found.seconds for found in rounds) for rounds in (alone_, ours)]
    share = statistics.median(one.seconds / other.seconds for one, other in zip(alone_, ours, strict=True))
    apart, none = _apart(analysed, live), _apart(analysed, fastest)
    rows = [
        ("the detector alone", f"{rates[0]:.1f}", f"{len(fastest.landmarks)}", f"{statistics.median(none):.3f}"),
        ("analyse", f"{rates[1]:.1f}", f"{len(analysed.landmarks)}", ""),
        ("live, in real time", f"{FPS}", f"{len(live.landmarks)}", f"{statistics.median(apart):.3f}"),
    ]
    notes = (
        "apart: from what analyse found in the same frame, landmarks in the mean, median of the frames;",
        "live frames come a few milliseconds early or late, and MediaPipe smooths over time;",
        "the detector alone is asked for one frame after the other, as an application asks it,",
        "while analyse gives it the next one before it is done: it can be the faster of the two.",
    )
    columns = ("", "frames a second", "frames with a face", "apart, px")
    bars = [
        Bar(f"{share:.2f} of the speed of the detector alone; at least {SHARE}", share >= SHARE),
        Bar(
            f"{same} of {len(fastest.landmarks)} frames with exactly what the detector alone finds; all of them",
            same == len(fastest.landmarks) == len(analysed.landmarks),
        ),
    ]
    data = {"alone": [each.seconds for each in alone_], "ours": [each.seconds for each in ours], "apart": apart}
    return Result([Table(f"A film of {frames} frames, {ROUNDS} rounds", columns, rows, notes)], bars, data=data)


if __name__ == "__main__":
    alone(run)
