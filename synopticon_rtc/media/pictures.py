"""Memory for pictures."""

import mmap
import sys
import weakref
from collections import deque

import av
import numpy as np

_KEPT = 8  # pieces of memory that wait to be used again
_BEYOND = 64  # bytes that FFmpeg may read after the last
_WIDTH, _HEIGHT = 64, 4  # what sides are multiples of, so that lines need no padding and PyAV takes the memory


class Pictures:
    """Makes pictures in memory that is used again, once nobody holds what it was taken for last.

    It is mapped apart from everything else that is allocated. Among that, each picture would leave a gap where
    something small that lives longer comes to lie, and a program that runs for hours would grow.
    """

    def __init__(self) -> None:
        self._free: deque[mmap.mmap] = deque(maxlen=_KEPT)

    def new(self, width: int, height: int) -> av.VideoFrame:
        """Return a picture in 4:2:0 for whoever may hold it how long ever; what it shows is not set."""
        if width % _WIDTH or height % _HEIGHT:
            return av.VideoFrame(width, height, "yuv420p")
        size = width * height * 3 // 2
        memory = self._used(size) or _mapped(size)
        pixels = np.frombuffer(memory, np.uint8, size).reshape(-1, width)
        weakref.finalize(pixels, self._free.append, memory)  # PyAV holds it as long as the buffer is referred to
        return av.VideoFrame.from_numpy_buffer(pixels, format="yuv420p")

    def _used(self, size: int) -> mmap.mmap | None:
        """Take memory for so many bytes, if there is some: of pictures of another size none is kept."""
        try:
            while len(memory := self._free.pop()) != size + _BEYOND:
                pass
        except IndexError:
            return None
        return memory


def _mapped(size: int) -> mmap.mmap:
    """Map memory for a picture of so many bytes, which no process that is forked off shares."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size + _BEYOND)
    return mmap.mmap(-1, size + _BEYOND, mmap.MAP_PRIVATE)
