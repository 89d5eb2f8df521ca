"""Lines of a log that others can cause, so that nobody fills it with them."""

import time
from collections.abc import Callable


class Seldom:
    """Lets one of many alike through, and counts the rest.

    Args:
        seconds: Between two that are let through.
        clock: Tells the time (s).
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next = float("-inf")
        self._held_back = 0

    def take(self) -> int | None:
        """Tell how many were held back since the last one that was let through, or None where this one is."""
        now = self._clock()
        if now < self._next:
            self._held_back += 1
            return None
        self._next = now + self._seconds
        held_back, self._held_back = self._held_back, 0
        return held_back
