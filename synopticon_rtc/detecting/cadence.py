"""In which frames faces are looked for."""

import math
from numbers import Real

from synopticon_rtc.basics.recent import Recent

MOST_WAITING = 2
"""Frames that wait for a detector at most."""


def check_faces_fps(most: float | None) -> None:
    """Refuse a number of frames a second that cannot be looked at. Raises :class:`ValueError`."""
    if most is not None and not (isinstance(most, Real) and 0 < most < math.inf):
        raise ValueError(f"faces_fps must be above 0, or None for no limit, not {most}")


class Cadence:
    """Picks frames for a detector: as many as it manages, and no more than it may.

    While the detector is busy with one frame, the next may wait for it, but not for long, as late faces are of little
    use. A detector that keeps up is behind only where frames come unevenly, and makes up for it: two frames may wait
    for it, as long as it is from one frame to the next. One that does not keep up would be late for ever: a frame after
    whose successor it would be free is left out, and its receivers can be told at once.
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

    def pick(self, now: float, waiting: int) -> int:
        """Say of the frame that has just come how many may wait for the detector with it; 0 where it is not to get it.

        Args:
            now: The time.
            waiting: How many wait already, and have not given way.
        """
        self._frames.add(now)
        gap = 1 / (self._frames.rate(now) or self._fps)
        if now < self._due - gap / 2:  # the nearest frame counts: sources do not keep time exactly
            return 0
        busy = 0.0 if self._busy is None else now - self._busy
        duration = max(self._durations.mean(now) or 0.0, busy)
        free = now if self._busy is None else self._busy + duration
        keeps_up = duration < max(gap, self._interval)
        if keeps_up and (waiting >= MOST_WAITING or free + waiting * duration > now + gap):
            return 0
        if not keeps_up and free > now + gap / 2:
            return 0
        self._due = max(self._due, now - gap / 2) + self._interval
        return MOST_WAITING if keeps_up else 1

    def begin(self, now: float) -> None:
        """The detector has begun with a frame."""
        self._busy = now

    def end(self, now: float) -> None:
        """The detector has found what there is in it."""
        if self._busy is not None:
            self._durations.add(now, now - self._busy)
        self._busy = None
