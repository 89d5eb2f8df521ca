"""The pixels of a frame, as far as a model wants to see them."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, VideoReformatter

from synopticon_rtc.faces.litert.region import Region

Pixels = npt.NDArray[np.uint8]

LARGEST = 32766
"""Pixels from edge to edge: OpenCV counts in 16 bits."""
PLANAR = {"yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p"}
"""Formats whose planes are read as they are: only what is cut out of them becomes RGB."""
LUMA = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 5: (0.299, 0.114), 6: (0.299, 0.114)}
"""The shares of red and blue in luma by FFmpeg's number of the colour space: BT.709, not told, and twice BT.601."""


class _Planes(NamedTuple):
    """Channels of a picture that have the same number of pixels, perhaps fewer than it has."""

    pixels: Sequence[Pixels]  # or one with three channels
    halvings: tuple[int, int]  # of the width and the height of the picture that are theirs
    black: int


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A frame to cut pieces out of.

    Attributes:
        width: In pixels.
        height: In pixels.
    """

    width: int
    height: int
    _planes: Sequence[_Planes]
    _to_rgb: npt.NDArray[np.float64] | None

    @classmethod
    def of(cls, frame: av.VideoFrame, reformatter: VideoReformatter) -> Self:
        """Look at a frame, which must stay as it is meanwhile.

        Args:
            frame: Of any format; of those but ``PLANAR`` the whole is converted to RGB.
            reformatter: One that no other thread uses.

        Raises:
            ValueError: It is too large.
        """
        if max(frame.width, frame.height) > LARGEST:
            raise ValueError(f"LiteRT's engine takes frames of up to {LARGEST} pixels each way")
        luma = LUMA.get(frame.colorspace)
        if frame.format.name not in PLANAR or luma is None or min(plane.line_size for plane in frame.planes) <= 0:
            frame = reformatter.reformat(frame, format="rgb24", threads=1)
            (plane,) = frame.planes
            rgb = _rows(plane)[:, : 3 * frame.width].reshape(frame.height, frame.width, 3)
            return cls(frame.width, frame.height, [_Planes([rgb], (0, 0), 0)], None)
        full = frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        y, u, v = frame.planes
        halvings = int(u.width < frame.width), int(u.height < frame.height)
        brightness = _Planes([_rows(y)[:, : y.width]], (0, 0), 0 if full else 16)
        colour = _Planes([_rows(plane)[:, : plane.width] for plane in (u, v)], halvings, 128)
        return cls(frame.width, frame.height, [brightness, colour], _to_rgb(*luma, full=full))

    def cut(self, region: Region, size: int, *, beyond: int) -> Pixels:
        """Return a region scaled to ``size`` pixels each way, RGB, shape (size, size, 3).

        Its top left corner is the middle of the top left pixel of what is returned, and 0, 0 the middle of that of the
        picture: so MediaPipe has it.

        Args:
            region: What to cut out.
            size: In pixels.
            beyond: What is outside the picture: ``cv2.BORDER_REPLICATE``, or ``cv2.BORDER_CONSTANT`` for black.
        """
        places = cv2.transform(_grid(size), region.to_picture)
        # With places in whole numbers OpenCV stays in this thread, where else it would wake one for each core.
        whole, fraction = map(np.asarray, cv2.convertMaps(places, np.empty(0), cv2.CV_16SC2))
        channels = []
        for planes in self._planes:
            first, second, method = whole, fraction, cv2.INTER_LINEAR
            if planes.halvings != (0, 0):  # several pixels of the picture share one of these, and none lies between
                halved = np.right_shift(whole.reshape(size, -1), _along(size, planes.halvings))
                first, second, method = halved.reshape(whole.shape), np.empty(0), cv2.INTER_NEAREST
            black = [planes.black] * 3
            channels += [cv2.remap(one, first, second, method, None, beyond, black) for one in planes.pixels]
        rgb = channels[0] if self._to_rgb is None else cv2.transform(cv2.merge(channels), self._to_rgb)
        return np.asarray(rgb, np.uint8)


def _rows(plane: VideoPlane) -> Pixels:
    """Return the bytes of each row of a plane, with those that pad it."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)


@functools.cache
def _grid(size: int) -> npt.NDArray[np.float32]:
    """Return where each pixel of a square is, in fractions of it, shape (size, size, 2)."""
    steps = np.arange(size, dtype=np.float32) / np.float32(size)
    return np.stack(np.meshgrid(steps, steps), axis=-1)


@functools.cache
def _along(size: int, pair: tuple[int, int]) -> npt.NDArray[np.int16]:
    """Return a pair over and over, for a row of places: numpy is slow to repeat it by itself."""
    return np.tile(np.array(pair, np.int16), size)


@functools.cache
def _to_rgb(red: float, blue: float, *, full: bool) -> npt.NDArray[np.float64]:
    """Return the transformation of Y, Cb, Cr to R, G, B, shape (3, 4) (ITU-R BT.601, section 2.5)."""
    luma, chroma = (1.0, 1.0) if full else (255 / 219, 255 / 224)
    green = 1 - red - blue
    matrix = np.array(
        [
            [luma, 0, 2 * (1 - red) * chroma],
            [luma, -2 * blue * (1 - blue) / green * chroma, -2 * red * (1 - red) / green * chroma],
            [luma, 2 * (1 - blue) * chroma, 0],
        ]
    )
    return np.column_stack([matrix, -matrix @ [0 if full else 16, 128, 128]])
