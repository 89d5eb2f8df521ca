"""The pixels of a frame, as far as a model wants to see them."""

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
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

_alone = threading.Lock()  # how many threads OpenCV has is one number for all


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
        channels: list[cv2.typing.MatLike] = []
        with _in_this_thread():
            for planes in self._planes:
                # Several pixels of the picture share one of a plane that is halved, and none lies between.
                method = cv2.INTER_LINEAR if planes.halvings == (0, 0) else cv2.INTER_NEAREST
                places, method = _places(region, size, planes.halvings), method | cv2.WARP_INVERSE_MAP
                black = [planes.black] * 3
                channels += [
                    cv2.warpAffine(one, places, (size, size), None, method, beyond, black) for one in planes.pixels
                ]
        rgb = channels[0] if self._to_rgb is None else cv2.transform(cv2.merge(channels), self._to_rgb)
        return np.asarray(rgb, np.uint8)


@contextlib.contextmanager
def _in_this_thread() -> Iterator[None]:
    """Have OpenCV do all of it in this thread.

    Else it wakes a thread for each core, and each waits for more to do, busily, for longer than a piece takes.
    """
    with _alone:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(0)  # its threads sleep on, while 1 would end them
        try:
            yield
        finally:
            cv2.setNumThreads(threads)


def _places(region: Region, size: int, halvings: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return the transformation of the pixels of a piece to those of planes."""
    rows = []
    for (a, b, start), halving in zip(region.to_picture.tolist(), halvings, strict=True):
        share = 0.5**halving
        # The middle of a pixel that is shared is halfway between those that share it.
        rows.append([a * share / size, b * share / size, start * share + (share - 1) / 2])
    return np.array(rows)  # plain numbers up to here, as numpy takes longer for few


def _rows(plane: VideoPlane) -> Pixels:
    """Return the bytes of each row of a plane, with those that pad it."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)


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
