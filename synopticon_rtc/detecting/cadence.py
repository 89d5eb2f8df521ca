"""In which frames faces are looked for."""

import math
from numbers import Real

from synopticon_rtc.basics.recent import Recent


def check_faces_fps(most: float | None) -> None:
    """Refuse a number of frames a second that cannot be looked at. Raises :class:`ValueError`."""
    if most is not None and not (isinstance(most, Real) and 0 < most < math.inf):
        raise ValueError(f"faces_fps must be above 0, or None for no limit, not {most}")


class Cadence:
    """Picks frames for a detector: as many as it manages, and no more than it may.

    While the detector is busy with one frame, the next may wait for it, but not for long, as late faces are of little
    use: a frame after whose successor the detector would be free is left out, and its receivers can be told at once.
    Time is any clock in seconds, and passed in.

    Args:
        fps: The expected frame rate, until it is known.
        most: Frames a second to pick at most, None for all.

    Raises:
        ValueError: ``most`` is not positive.
    """

    def __init__(self, fps: float, most: float | None = None) -> None:
        check_faces_fps(most)
        self._fps = fps
        self._interval = 1 / most if most else 0.0
        self._due = -math.inf
        self._busy: float | None = None  # since when
        self._frames = Recent()
        self._durations = Recent()

    def rate(self, now: float) -> float:
        """Return in how many frames a second faces are looked for."""
        return self._durations.rate(now)

    def pick(self, now: float) -> bool:
        """Say of the frame that has just come whether the detector is to get it."""
        self._frames.add(now)
        gap = 1 / (self._frames.rate(now) or self._fps)
        if now < self._due - gap / 2:  # the nearest frame counts: sources do not keep time exactly
            return False
        if self._busy is not None and self._busy + (self._durations.mean(now) or 0) > now + gap / 2:
            return False
        self._due = max(self._due, now - gap / 2) + self._interval
        return True

    def begin(self, now: float) -> None:
        """The detector has begun with a frame."""
        self._busy = now

    def end(self, now: float) -> None:
        """The detector has found what there is in it."""
        if self._busy is not None:
            self._durations.add(now, now - self._busy)
        self._busy = None
