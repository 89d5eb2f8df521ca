"""Films with a mark in one corner, made as cameras and phones make them."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal, cast

import av
import numpy as np
from av.video.stream import VideoStream

WIDTH, HEIGHT, FPS = 192, 108, 25
Corner = Literal["upper left", "upper right", "lower left", "lower right"]


def picture(number: int, size: tuple[int, int] = (WIDTH, HEIGHT), *, interlaced: bool = False) -> av.VideoFrame:
    """Grey, with the upper left quarter white, and a bar that moves."""
    width, height = size
    image = np.full((height, width, 3), 90, np.uint8)
    image[: height // 4, : width // 4] = 255
    for field in range(2 if interlaced else 1):
        at = 10 + 16 * number + 8 * field
        image[height // 2 + field :: 2 if interlaced else 1, at : at + 20] = 20
    return av.VideoFrame.from_ndarray(image, format="rgb24")


def film(
    path: Path,
    *,
    codec: str = "libx264",
    count: int = 3,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    interlaced: bool = False,
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a film; ``times`` are those of its pictures in frames, one after the other without it."""
    flags = {"flags": "+ilme+ildct"} if interlaced else {}
    with av.open(path, "w") as container:
        stream = cast("VideoStream", container.add_stream(codec, rate=FPS, options={**flags, **(options or {})}))
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for number in range(count):
            frame = picture(number, size, interlaced=interlaced)
            frame.pts, frame.time_base = times[number] if times else number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def corner(frame: av.VideoFrame) -> Corner:
    """Say in which corner the white is."""
    luma = frame.to_ndarray(format="gray").astype(int)
    height, width = luma.shape
    quarters: dict[Corner, float] = {
        "upper left": luma[: height // 5, : width // 5].mean(),
        "upper right": luma[: height // 5, -width // 5 :].mean(),
        "lower left": luma[-height // 5 :, : width // 5].mean(),
        "lower right": luma[-height // 5 :, -width // 5 :].mean(),
    }
    return max(quarters, key=lambda each: quarters[each])
