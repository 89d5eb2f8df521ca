"""When a picture of a screen is encoded, which mostly is the one before."""

import math
from collections.abc import Iterator

import av
import numpy as np

from synopticon_rtc.media.planes import Plane

AGAIN = 0.1, 0.4, 1.0, 2.5
"""Seconds after which a picture that stays is encoded once more, and so on; the last as long as it stays.

Once more makes up for what was rounded off, and by each a peer notices that the one before it was lost. Browsers take
three seconds without a frame for a fault, and ask for a keyframe."""


class Stillness:
    """Tells when to encode: what changes as soon as the link is free, what stays ever more seldom.

    So each picture can have the same quality, and a slow link lowers the rate of frames instead. Time is any clock in
    seconds, and passed in.

    Args:
        bitrate: What the link bears, bit/s.

    Attributes:
        bitrate: The same; it may be changed.
    """

    def __init__(self, bitrate: int) -> None:
        self.bitrate = bitrate
        self._encoded = -math.inf
        self._octets = 0
        self._repeats = 0

    @property
    def free(self) -> float:
        """When the last frame has been sent."""
        return self._encoded + self._octets * 8 / self.bitrate

    @property
    def again(self) -> float:
        """When a picture that stays is to be encoded once more."""
        return max(self.free, self._encoded + AGAIN[min(self._repeats, len(AGAIN) - 1)])

    @property
    def settled(self) -> bool:
        """Whether a picture that stays has been encoded often enough, but for signs of life."""
        return self._repeats >= len(AGAIN) - 1

    def encoded(self, now: float, octets: int, *, changed: bool) -> None:
        """Take note of a frame.

        Args:
            now: When it was encoded.
            octets: Its size.
            changed: Whether it showed something else than the one before.
        """
        self._encoded, self._octets = now, octets
        self._repeats = 0 if changed else self._repeats + 1


def same(frame: av.VideoFrame, other: av.VideoFrame) -> bool:
    """Whether two frames show the same, to the last bit: also where a cursor blinks or one letter is another."""
    if frame is other:
        return True
    if (frame.width, frame.height, frame.format.name) != (other.width, other.height, other.format.name):
        return False
    return all(map(_equal, _visible(frame), _visible(other)))


def _visible(frame: av.VideoFrame) -> Iterator[Plane]:
    """Give what is seen of each plane, without what fills its lines up."""
    for index, plane in enumerate(frame.planes):
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, abs(plane.line_size))
        yield lines[:, : _octets(frame, index)]


def _equal(plane: Plane, other: Plane) -> bool:
    """Whether two planes of one size are equal: by eight octets, where that can be, which is three times as fast."""
    if plane.shape[1] % 8 or plane.strides[0] % 8 or other.strides[0] % 8:
        return np.array_equal(plane, other)
    return np.array_equal(plane.view(np.uint64), other.view(np.uint64))


def _octets(frame: av.VideoFrame, index: int) -> int:
    """Return how many octets of a line of a plane are of its picture."""
    if len(frame.planes) == 1:  # some have bits that are of no component
        return -(-frame.width * frame.format.padded_bits_per_pixel // 8)
    depths = [component.bits for component in frame.format.components if component.plane == index]
    return frame.planes[index].width * sum(-(-bits // 8) for bits in depths)
