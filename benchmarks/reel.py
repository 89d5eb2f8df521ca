"""Sources for measurements: one that costs next to nothing, and one that knows when it drew what."""

import time
from collections.abc import AsyncIterator
from typing import ClassVar

import av

from synopticon_rtc import Portrait, TestPattern
from synopticon_rtc.media.pacing import drawn

SIZE = 1280, 720
FPS = 30


class Reel:
    """Frames drawn ahead, and played to and fro for ever: each costs a copy of 1.4 MB, 0.1 to 0.2 ms.

    Args:
        source: What draws them; the test card if it is not given.
        fps: How many are played in a second.
    """

    LENGTH: ClassVar = 60

    def __init__(self, source: TestPattern | Portrait | None = None, fps: float = FPS) -> None:
        source = source or TestPattern(SIZE, FPS)
        self._fps = fps
        self._frames = [source.draw(number).to_ndarray() for number in range(self.LENGTH)]

    def draw(self, number: int) -> av.VideoFrame:
        """Return frame ``number``."""
        forth = number % (2 * self.LENGTH - 2)
        return av.VideoFrame.from_ndarray(self._frames[min(forth, 2 * self.LENGTH - 2 - forth)], format="yuv420p")

    def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        return drawn(self.draw, self._fps)


class StampedCard:
    """The test card, which shows the number of each frame."""

    def __init__(self) -> None:
        self._pattern = TestPattern(SIZE, FPS)
        self.drawn: dict[int, float] = {}
        """When each frame was there, as time.monotonic() has it."""

    def draw(self, number: int) -> av.VideoFrame:
        """Draw frame ``number``, and note when it is done: drawing is not what is measured."""
        frame = self._pattern.draw(number)
        self.drawn[number] = time.monotonic()
        return frame

    def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        return drawn(self.draw, FPS)
