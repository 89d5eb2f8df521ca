"""A detector that finds in a test card what only that card has: its number."""

import asyncio
import random
from collections.abc import Sequence

import av
import numpy as np

from synopticon_rtc import Face, TestPattern

MOST = 500
"""By which the number of a frame is divided, to be a landmark."""


class NumberFace:
    """Finds one face in each test card: all its landmarks are the number of the frame.

    Args:
        seconds: That this takes.
        more: Seconds that it takes beyond that at most; each time another.
        noise: How far the landmarks are from the number, at most: noise takes many bytes.
    """

    def __init__(self, seconds: float = 0.0, *, more: float = 0.0, noise: float = 0.0) -> None:
        self.calls = 0
        self._seconds, self._more = seconds, more
        self._chance = random.Random(1)  # noqa: S311 - no secret
        self._noise = np.random.default_rng(1).uniform(-noise, noise, (478, 3))

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:
        self.calls += 1
        number = TestPattern.read_number(frame.to_ndarray(format="gray"))
        await asyncio.sleep(self._seconds + self._chance.uniform(0, self._more))
        return [] if number is None else [Face((number / MOST + self._noise).astype(np.float32), {})]


def number_of(face: Face) -> int:
    """Return the number of the frame that a face was found in."""
    return round(float(np.median(face.landmarks)) * MOST)
