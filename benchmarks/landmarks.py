"""Bytes, error and time of the wire formats of landmarks, on real detections.

    python -m benchmarks.landmarks [--frames 1000] [--clip talking.mp4] [--height 450]

Frames come from the portrait source, or from a clip. ``--height`` scales the faces to that height in a frame of
1280x720 before they are measured: larger faces take more bytes.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

import av
import click
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from rich.table import Table

from synopticon_rtc.faces.face import Face
from synopticon_rtc.faces.landmarker import FaceLandmarker
from synopticon_rtc.faces.wire import FacesMessage, decode, decode_json, encode, encode_json
from synopticon_rtc.media.portrait import Portrait

Landmarks = npt.NDArray[np.float32]
SIZE = 1280, 720


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


def _clip_frames(path: str) -> Iterable[av.VideoFrame]:
    with av.open(path) as container:
        yield from container.decode(video=0)


async def _detections(frames: Iterable[av.VideoFrame], count: int) -> list[tuple[Landmarks, int, int]]:
    found = []
    async with FaceLandmarker() as landmarker:
        for frame in track(islice(frames, count), "Detecting", total=count, transient=True):
            found += [(face.landmarks, frame.width, frame.height) for face in await landmarker.detect(frame)]
    return found


def _scaled(found: tuple[Landmarks, int, int], height: float) -> tuple[Landmarks, int, int]:
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


def _row(form: _Format, found: list[tuple[Landmarks, int, int]]) -> list[str]:
    sizes, xy, z, bounds, writing, reading = [], [], [], [], [], []
    for landmarks, width, height in found:
        message = FacesMessage((Face(landmarks, {}),), width, height, 90_000, 1_700_000_000.0)
        data = form.encode(message)
        error = (form.decode(data).astype(float) - landmarks) * [width, height, width]
        sizes.append(len(data))
        xy.append(np.hypot(error[:, 0], error[:, 1]))
        z.append(np.abs(error[:, 2]).max())
        bounds.append(max(0.25, float(np.ptp(landmarks[:, 1])) * height / 1500))
        writing.append(_milliseconds(lambda message=message: form.encode(message)))  # type: ignore[misc]  # bound now
        reading.append(_milliseconds(lambda data=data: form.decode(data)))  # type: ignore[misc]  # bound now
    return [
        form.name,
        f"{np.mean(sizes):.0f}",
        f"{np.percentile(sizes, 95):.0f}",
        f"{max(sizes)}",
        f"{np.mean(xy):.3f}",
        f"{np.max(xy):.3f}",
        f"{max(worst.max() / bound for worst, bound in zip(xy, bounds, strict=True)):.2f}",
        f"{max(z):.3f}",
        f"{np.median(writing):.3f}",
        f"{np.median(reading):.3f}",
    ]


@click.command(help=__doc__)
@click.option("--frames", default=1000, show_default=True, help="How many frames to measure.")
@click.option("--clip", help="A video of a face, instead of the portrait.")
@click.option("--height", type=float, help="Scale the faces to this height in pixels.")
def main(frames: int, clip: str | None, height: float | None) -> None:
    """Detect, measure, print."""
    if clip is None:
        portrait = Portrait(SIZE)
        source: Iterable[av.VideoFrame] = (portrait.draw(number) for number in range(frames))
    else:
        source = _clip_frames(clip)
    found = asyncio.run(_detections(source, frames))
    if height is not None:
        found = [_scaled(face, height) for face in found]
    if not found:
        raise click.ClickException("no face was found in these frames")
    heights = [np.ptp(landmarks[:, 1]) * height for landmarks, _, height in found]
    console = Console(width=120)
    console.print(f"{len(found)} faces, {min(heights):.0f} to {max(heights):.0f} pixels high")
    table = Table("format")
    for head in ("bytes", "p95", "max", "mean xy px", "max xy px", "of bound", "max z px", "encode ms", "decode ms"):
        table.add_column(head, justify="right")
    for form in FORMATS:
        table.add_row(*_row(form, found))
    console.print(table)


if __name__ == "__main__":
    main()
