"""A single face is smoothed as MediaPipe's filter would, number by number."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.faces.litert.one_euro import MediaPipeSmoothing


class Scalar:
    """The filter of one coordinate, as MediaPipe's one_euro_filter.cc describes it."""

    def __init__(self) -> None:
        self.raw = self.value = self.speed = 0.0
        self.time: int | None = None

    def apply(self, value: float, milliseconds: int, size: float) -> float:
        if self.time is None:
            self.value = value
        else:
            frequency = 1000 / (milliseconds - self.time)

            def alpha(cutoff: float) -> float:
                return 1 / (1 + frequency / (2 * math.pi * cutoff))

            self.speed += alpha(1.0) * ((value - self.raw) / size * frequency - self.speed)
            self.value += alpha(0.05 + 80 * abs(self.speed)) * (value - self.value)
        self.raw, self.time = value, milliseconds
        return self.value


@given(st.lists(st.tuples(st.floats(-50, 50), st.integers(1, 200)), min_size=1, max_size=20))
def test_each_coordinate_goes_through_the_filter(moves: list[tuple[float, int]]) -> None:
    face = np.array([[100, 100, 0], [300, 400, 20], [180, 250, -30]], np.float32)
    smoothing, scalars = MediaPipeSmoothing(), [Scalar() for _ in range(face.size)]
    now = 0
    for shift, elapsed in moves:
        now += elapsed
        landmarks = face + np.float32(shift)
        expected = [
            scalar.apply(value, now, 250) for scalar, value in zip(scalars, landmarks.ravel().tolist(), strict=True)
        ]
        assert smoothing.smooth(landmarks, now).ravel() == pytest.approx(expected, abs=1e-2)


def test_a_face_of_no_size_is_left_as_it_is() -> None:
    smoothing = MediaPipeSmoothing()
    for now in (1, 2):
        point = np.full((478, 3), now, np.float32)
        assert smoothing.smooth(point, now) is point
