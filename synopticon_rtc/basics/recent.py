"""What was measured lately."""

from collections import deque
from statistics import fmean

WINDOW = 2.0
"""Seconds over which means and rates are taken."""
TELLING = 0.5
"""Seconds of samples that tell a rate. In less, two that lie close after a stall would be a rate that never was."""


class Recent:
    """Samples of the last two seconds. Time is any clock in seconds, and passed in."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()

    def add(self, now: float, value: float = 0.0) -> None:
        """Take a sample."""
        self._forget(now)
        self._samples.append((now, value))

    def mean(self, now: float) -> float | None:
        """Return the mean of the samples, None where there is none."""
        self._forget(now)
        return fmean(value for _, value in self._samples) if self._samples else None

    def rate(self, now: float) -> float:
        """Return how many samples come in a second, 0 where they span less than half a second."""
        self._forget(now)
        span = self._samples[-1][0] - self._samples[0][0] if self._samples else 0.0
        return (len(self._samples) - 1) / span if span >= TELLING else 0.0

    def _forget(self, now: float) -> None:
        while self._samples and self._samples[0][0] <= now - WINDOW:
            self._samples.popleft()
