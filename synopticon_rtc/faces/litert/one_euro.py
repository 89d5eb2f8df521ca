"""Landmarks of one face that do not tremble, as MediaPipe smooths them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synopticon_rtc.faces.litert.network import Floats
from synopticon_rtc.faces.smoothing import share

MIN_CUTOFF = 0.05
"""Hz, at rest."""
BETA = 80.0
"""Hz for each size of the face a second."""
DERIVATIVE_CUTOFF = 1.0
"""Hz, of the speed."""
SMALLEST = 1e-6  # pixels: a smaller face is left as it is


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    landmarks: Floats  # as they were found
    smooth: Floats
    speed: npt.NDArray[np.floating]
    milliseconds: int


class MediaPipeSmoothing:
    """The 1 Euro filter with MediaPipe's parameters, and its measure of speed: means of a face's width and height.

    :class:`synopticon_rtc.faces.OneEuro` is another one, which is asked for. This one belongs to the landmarks that
    MediaPipe finds while it follows a single face. Unlike ours, it takes the speed from landmarks as they were found.
    """

    def __init__(self) -> None:
        self._state: _State | None = None

    def smooth(self, landmarks: Floats, milliseconds: int) -> Floats:
        """Return landmarks in pixels, smoothed.

        Args:
            landmarks: Of the face, shape (n, 3).
            milliseconds: When they were found, later than those before.
        """
        x, y = landmarks[:, 0], landmarks[:, 1]
        size = float(x.max() - x.min() + y.max() - y.min()) / 2
        if size < SMALLEST:
            return landmarks
        last = self._state
        if last is None:
            self._state = _State(landmarks, landmarks, np.zeros_like(landmarks), milliseconds)
            return landmarks
        elapsed = (milliseconds - last.milliseconds) / 1000
        speed = (landmarks - last.landmarks) / (size * elapsed)
        speed = last.speed + (speed - last.speed) * share(DERIVATIVE_CUTOFF, elapsed)
        part = share(MIN_CUTOFF + BETA * np.abs(speed), elapsed)
        smooth = np.asarray(last.smooth + (landmarks - last.smooth) * part, np.float32)
        self._state = _State(landmarks, smooth, speed, milliseconds)
        return smooth
