"""Tables of faces: how fast they are written, how large they are, and whether they hold what was seen.

Faces of a portrait that turns, speaks and blinks, as messages of faces/1, one a frame. Each is decoded and written to a
table, for as many frames as an hour has at 30 fps, and a recording of them is exported; how long the event loop is held
up, and how much memory grows, is measured meanwhile. Then the table is read, and what it says compared, value by value.
``python -m benchmarks.tables [--quick]``.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pyarrow import parquet
from rich.progress import track

from benchmarks.expressions import Expressions
from benchmarks.process import holding
from benchmarks.reel import FPS, SIZE
from benchmarks.report import Bar, Result, Table, alone
from synopticon_rtc import FaceLandmarker, Moment
from synopticon_rtc.faces.wire import BLENDSHAPES, FacesMessage, decode, encode
from synopticon_rtc.recording.export import export
from synopticon_rtc.recording.table import FacesTable
from synopticon_rtc.recording.tape import FORMAT
from synopticon_rtc.recording.writer import Track, Writer

DETECTED = 300
"""Frames that are looked at; the messages of the hour are theirs, over and over."""
HOUR, QUICK = 3600 * FPS, 100 * FPS
FASTEST = 2000
"""Frames a second, at least, into Parquet."""
MOST_MEMORY = 100.0
"""MB by which memory may grow, however long the table is."""
EPOCH = 1.7e9


VP8 = bytes.fromhex("100200 9d012a 0005 d002")
"""How a keyframe of 1280x720 begins; the rest is not looked at."""


class _Picture:
    """A frame that nobody decoded."""

    width, height = SIZE


PICTURE = _Picture()


@dataclass(frozen=True, slots=True)
class Written:
    """How a table was written.

    Attributes:
        name: What it is.
        rate: Frames a second.
        cpu: Microseconds of CPU time a frame, of all threads.
        megabytes: Of an hour at 30 fps.
        hold: Milliseconds for which the loop was held up, at the most.
        grown: MB by which the process grew.
    """

    name: str
    rate: float
    cpu: float
    megabytes: float
    hold: float
    grown: float


async def _messages() -> list[bytes]:
    expressions = await Expressions.of_portrait()
    messages = []
    async with FaceLandmarker(blendshapes=True, matrix=True) as landmarker:
        for number in track(range(DETECTED), "Detecting"):
            faces = await landmarker.detect(expressions.draw(number))
            messages.append(encode(FacesMessage(faces, *SIZE, 0, EPOCH)))
    return messages


def _moment(message: FacesMessage, number: int) -> Moment[_Picture]:
    stamp = number * 90_000 // FPS % 2**32
    return Moment(PICTURE, message.faces, True, EPOCH + number / FPS, stamp, 0.0)


async def _hold(longest: list[float]) -> None:
    while True:
        begun = time.perf_counter()
        await asyncio.sleep(0.001)
        longest[0] = max(longest[0], time.perf_counter() - begun - 0.001)


def _record(path: Path, messages: list[bytes], frames: int) -> None:
    camera = Track("camera", "video", "camera", codec="vp8", first=VP8, detector="MediaPipe")
    writer = Writer(path, [camera], {"FORMAT": FORMAT}, began=0.0)
    for number in range(frames):
        at = number * 1000 // FPS
        writer.write(0, VP8 + bytes(6000), at)
        writer.write_faces(0, messages[number % DETECTED], at)
    writer.close()


async def _write(table: FacesTable, messages: list[bytes], frames: int) -> None:
    for number in range(frames):
        await table.write(_moment(decode(messages[number % DETECTED]), number))
        if not number % 10:
            await asyncio.sleep(0)


async def _measured(
    path: Path, name: str, frames: int, write: Callable[[FacesTable], Awaitable[None]], *, landmarks: bool = True
) -> Written:
    longest, before = [0.0], holding().anonymous
    watching = asyncio.create_task(_hold(longest))
    begun, worked = time.perf_counter(), time.process_time()
    async with FacesTable(path, landmarks=landmarks) as table:
        await write(table)
    seconds, worked = time.perf_counter() - begun, time.process_time() - worked
    watching.cancel()
    grown, size = holding().anonymous - before, (await asyncio.to_thread(path.stat)).st_size
    return Written(name, frames / seconds, worked / frames * 1e6, size / frames * HOUR / 1e6, longest[0] * 1000, grown)


def _wrong(path: Path, messages: list[bytes]) -> int:
    """Count the rows that say something else than was written."""
    known = [decode(message).faces for message in messages]
    wrong = number = 0
    with parquet.ParquetFile(path) as file:
        for group in file.iter_batches():
            for row in group.to_pylist():
                moment, number = _moment(FacesMessage(known[number % DETECTED], *SIZE), number), number + 1
                (face,) = moment.faces
                wrong += not (
                    row["frame"] == number - 1
                    and row["rtp_timestamp"] == moment.rtp_timestamp
                    and row["captured"] == moment.captured
                    and (row["yaw"], row["pitch"], row["roll"]) == face.pose
                    and np.array_equal(np.array(row["landmarks"], np.float32).reshape(-1, 3), face.landmarks)
                    and [row[name] for name in BLENDSHAPES] == list(face.blendshapes.values())
                )
    return wrong


async def run(*, quick: bool) -> Result:
    """Write one of each kind, and read the first."""
    frames = QUICK if quick else HOUR
    messages = [message for message in await _messages() if decode(message).faces]
    messages = (messages * DETECTED)[:DETECTED]
    kinds = [("Parquet", "parquet", True), ("Parquet without landmarks", "bare.parquet", False)]
    kinds += [("CSV", "csv", False), ("CSV with landmarks", "wide.csv", True), ("JSON lines", "jsonl", True)]
    written = []
    with tempfile.TemporaryDirectory() as folder:
        whole, film = Path(folder) / "faces.parquet", Path(folder) / "film.mkv"
        await asyncio.to_thread(_record, film, messages, frames)

        async def exported(table: FacesTable) -> None:
            await export(film, [table], tell=lambda _: None)

        await _measured(whole, "", DETECTED, partial(_write, messages=messages, frames=DETECTED))  # loads what it needs
        written.append(await _measured(whole, "Parquet, of a recording", frames, exported))
        for name, ending, landmarks in track(kinds, "Writing"):
            path = Path(folder) / f"faces.{ending}"
            count = frames if name.startswith("Parquet") else frames // 10  # text is long
            writing = partial(_write, messages=messages, frames=count)
            written.append(await _measured(path, name, count, writing, landmarks=landmarks))
            if path != whole:
                path.unlink()
        wrong = _wrong(whole, messages)
    of_recording, table, *_ = written
    rows = [
        (each.name, *(f"{value:.0f}" for value in (each.rate, each.cpu, each.megabytes, each.hold, each.grown)))
        for each in written
    ]
    columns = ("", "frames a second", "us CPU a frame", "MB an hour", "held, ms", "grown, MB")
    notes = ("held: the event loop, at the most; an hour: at 30 fps, with one face.",)
    bars = [
        Bar(
            f"of a recording: {of_recording.rate:.0f} frames a second; at least {FASTEST}", of_recording.rate >= FASTEST
        ),
        Bar(f"Parquet: {table.rate:.0f} frames a second; at least {FASTEST}", table.rate >= FASTEST),
        Bar(f"{wrong} of {frames} rows read back otherwise than written; none", not wrong),
        Bar(f"memory grew by {table.grown:.0f} MB; at most {MOST_MEMORY:.0f}", table.grown <= MOST_MEMORY),
    ]
    data = {"written": [asdict(each) for each in written]}
    return Result([Table(f"Tables of {frames} frames", columns, rows, notes)], bars, data=data)


if __name__ == "__main__":
    alone(run)
