"""Encoding: what a frame takes and how good it looks, with our set-up, aiortc's own, and others that were passed over.

1280x720 at 1.5 Mbit/s, one thread, in one process. The clips: the portrait, which moves as a whole; the same with noise
as a camera has it in a room; the test card.
``python -m benchmarks.encoding [--quick]``.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from aiortc.codecs import h264, vpx
from aiortc.mediastreams import VIDEO_CLOCK_RATE
from av.video.codeccontext import VideoCodecContext

from benchmarks.children import RECEIVERS, pin
from benchmarks.reel import FPS, SIZE
from benchmarks.report import Bar, Result, Table, alone
from synopticon_rtc import Portrait, TestPattern
from synopticon_rtc.media import Codec
from synopticon_rtc.media.codecs import opened

BITRATE = 1_500_000
FIRST = FPS
"""Frames that are not counted: the first keyframe, and what makes up for it."""

Encode = Callable[[av.VideoFrame], bytes]


@dataclass(frozen=True, slots=True)
class Encoded:
    """What came of one clip with one set-up.

    Attributes:
        ms: CPU time for a frame, the median, ms.
        slowest: The same of the slowest twentieth.
        psnr: Of the luma against the source, dB, of the squared error of all frames.
        bitrate: Bit/s.
    """

    ms: float
    slowest: float
    psnr: float
    bitrate: float


def ours(codec: Codec, **changed: str) -> Encode:
    """Encode as this package does, but for some options."""
    context = opened(codec, *SIZE, changed, bitrate=BITRATE, fps=Fraction(FPS), threads=1)
    return lambda frame: b"".join(bytes(packet) for packet in context.encode(frame))


def aiortc(codec: Codec) -> Encode:
    """Encode as aiortc does; it packetises as well, which takes little beside the encoding."""
    encoder = vpx.Vp8Encoder() if codec == "vp8" else h264.H264Encoder()
    encoder.target_bitrate = BITRATE
    depayload = vpx.vp8_depayload if codec == "vp8" else h264.h264_depayload
    return lambda frame: b"".join(map(depayload, encoder.encode(frame)[0]))


PRESET = {"subq": "1", "aq-mode": "variance", "partitions": "i4x4"}
"""What we turn off of the preset superfast."""
SETUPS: dict[str, tuple[Codec, Callable[[], Encode]]] = {
    "VP8, ours": ("vp8", lambda: ours("vp8")),
    "VP8, aiortc": ("vp8", lambda: aiortc("vp8")),
    "VP8, profile 2": ("vp8", lambda: ours("vp8", profile="2")),
    "VP8, cpu-used -6": ("vp8", lambda: ours("vp8", **{"cpu-used": "-6"})),
    "VP8, cpu-used -10": ("vp8", lambda: ours("vp8", **{"cpu-used": "-10"})),
    "VP8, cpu-used -16": ("vp8", lambda: ours("vp8", **{"cpu-used": "-16"})),
    "H.264, ours": ("h264", lambda: ours("h264")),
    "H.264, aiortc": ("h264", lambda: aiortc("h264")),
    "H.264, superfast": ("h264", lambda: ours("h264", **PRESET)),
    "H.264, ultrafast": ("h264", lambda: ours("h264", preset="ultrafast")),
}
NOISE = 3.0
"""Of the noisy clip: the standard deviation of the luma, of 255."""


def luma(frame: av.VideoFrame) -> npt.NDArray[np.int16]:
    """Return the luma of a frame."""
    return frame.to_ndarray(format="yuv420p")[: frame.height].astype(np.int16)


def decoded(codec: Codec, frames: Sequence[bytes]) -> Iterator[av.VideoFrame]:
    """Decode frames."""
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, VideoCodecContext)  # noqa: S101 - they are codecs of video
    for frame in frames:
        packet: av.Packet[Any] = av.Packet(frame)
        yield from context.decode(packet)


def measure(codec: Codec, encode: Encode, frames: Sequence[av.VideoFrame]) -> Encoded:
    """Encode a clip, and hold what is decoded of it against the source."""
    seconds, data = [], []
    for frame in frames:
        began = time.process_time()
        data.append(encode(frame))
        seconds.append(time.process_time() - began)
    errors = [
        float(np.square(luma(shown) - luma(source)).mean())
        for source, shown in zip(frames, decoded(codec, data), strict=True)
    ]
    counted = seconds[FIRST:]
    return Encoded(
        1e3 * statistics.median(counted),
        1e3 * sorted(counted)[-max(1, len(counted) // 20)],
        10 * math.log10(255**2 / statistics.mean(errors[FIRST:])),
        sum(map(len, data[FIRST:])) * 8 * FPS / len(counted),
    )


def clip(source: Portrait | TestPattern, count: int, noise: float = 0.0) -> list[av.VideoFrame]:
    """Draw the frames of a clip."""
    random = np.random.default_rng(1)
    frames = []
    for number in range(count):
        planes = source.draw(number).to_ndarray(format="yuv420p").astype(np.float32)
        planes[: SIZE[1]] += noise * random.standard_normal((SIZE[1], SIZE[0]), np.float32)
        frame = av.VideoFrame.from_ndarray(planes.round().clip(0, 255).astype(np.uint8), format="yuv420p")
        frame.pts, frame.time_base = number * VIDEO_CLOCK_RATE // FPS, Fraction(1, VIDEO_CLOCK_RATE)
        frames.append(frame)
    return frames


async def run(*, quick: bool) -> Result:
    """Encode each clip with each set-up, by turns."""
    pin(RECEIVERS)
    tables, bars, data = [], [], {}
    count = 3 * FPS if quick else 6 * FPS
    clips: dict[str, Callable[[], list[av.VideoFrame]]] = {
        "portrait": lambda: clip(Portrait(SIZE, FPS), count),
        "noisy portrait": lambda: clip(Portrait(SIZE, FPS), count, NOISE),
        "test card": lambda: clip(TestPattern(SIZE, FPS), count),
    }
    for name, draw in clips.items():
        frames = draw()
        rounds: dict[str, list[Encoded]] = {setup: [] for setup in SETUPS}
        for _ in range(1 if quick else 3):
            for setup, (codec, make) in SETUPS.items():
                rounds[setup].append(measure(codec, make(), frames))
        found = {setup: sorted(results, key=lambda one: one.ms)[len(results) // 2] for setup, results in rounds.items()}
        rows = [
            (setup, f"{one.ms:.1f}", f"{one.slowest:.1f}", f"{one.psnr:.1f}", f"{one.bitrate / 1e3:.0f}")
            for setup, one in found.items()
        ]
        tables.append(Table(f"Encoding the {name}", ("", "ms a frame", "p95", "PSNR-Y, dB", "kbit/s"), rows))
        data[name] = {setup: [asdict(one) for one in results] for setup, results in rounds.items()}
        for label in ("VP8", "H.264"):
            mine, theirs = found[f"{label}, ours"], found[f"{label}, aiortc"]
            text = f"{label}, {name}: {mine.ms:.1f} ms a frame, aiortc's own set-up {theirs.ms:.1f}; not more"
            bars.append(Bar(text, mine.ms <= theirs.ms))
    return Result(tables, bars, data=data)


if __name__ == "__main__":
    alone(run)
