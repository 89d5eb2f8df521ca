"""Faces that tell the number of their frame, by where they are: whatever is paired wrongly shows."""

import asyncio
import random
from types import TracebackType
from typing import ClassVar, Self

import av
import numpy as np
import numpy.typing as npt

from benchmarks.reel import SIZE
from synopticon_rtc import Face, FaceLandmarker, Portrait, TestPattern


class NumberedFaces:
    """A detector that reads the number of the test card, and gives a face whose centre is at one pixel for each number.

    It takes as long as MediaPipe does on a machine that has other things to do, so that frames wait for faces, and
    faces for frames. The face is a real one, so that a message has its usual size.
    """

    LEFT_TOP: ClassVar = (240, 210)
    """Pixels: where the centre is for number 0."""
    COLUMNS, ROWS = 800, 300
    """Pixels on which it can be, so many numbers are told apart."""
    SECONDS: ClassVar = (0.005, 0.025)
    """How long it takes, at random."""
    HEIGHT: ClassVar = 300
    """Of the face, pixels."""

    def __init__(self) -> None:
        self._random = random.Random(1)  # noqa: S311 - the same each time

    async def __aenter__(self) -> Self:
        async with FaceLandmarker() as landmarker:
            face, *_ = await landmarker.detect(Portrait(SIZE).draw(0))
        pixels = face.to_pixels(*SIZE)
        pixels -= pixels.mean(axis=0)
        self._pixels = pixels * (self.HEIGHT / np.ptp(pixels[:, 1]))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def detect(self, frame: av.VideoFrame) -> tuple[Face, ...]:
        """Return the face that tells the number of the frame."""
        number = TestPattern.read_number(frame.to_ndarray()[: frame.height])
        await asyncio.sleep(self._random.uniform(*self.SECONDS))
        if number is None:
            return ()
        row, column = divmod(number, self.COLUMNS)
        centre = column + self.LEFT_TOP[0], row % self.ROWS + self.LEFT_TOP[1], 0
        width, height = SIZE
        return (Face(((self._pixels + centre) / [width, height, width]).astype(np.float32), {}),)

    @classmethod
    def read_number(cls, landmarks: npt.NDArray[np.float32]) -> int:
        """Read the number that a face tells."""
        x, y = landmarks[:, :2].mean(axis=0, dtype=float) * SIZE
        return cls.number_at(x, y)

    @classmethod
    def number_at(cls, x: float, y: float) -> int:
        """Read the number that a face with its centre there tells, in pixels."""
        return round(y - cls.LEFT_TOP[1]) * cls.COLUMNS + round(x - cls.LEFT_TOP[0])
