"""Lines of a log that others can cause, so that nobody fills it with them."""

import time
from collections.abc import Callable


class Seldom:
    """Lets one of many alike through, or a few, and counts the rest.

    Args:
        seconds: For which that holds, from the first one on that is let through.
        clock: Tells the time (s).
        most: How many are let through in this time.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic, *, most: int = 1) -> None:
        self._seconds = seconds
        self._clock = clock
        self._most = most
        self._left = 0
        self._next = float("-inf")
        self._held_back = 0

    def take(self) -> int | None:
        """Tell how many were held back since the last one that was let through, or None where this one is."""
        now = self._clock()
        if now >= self._next:
            self._next, self._left = now + self._seconds, self._most
        if not self._left:
            self._held_back += 1
            return None
        self._left -= 1
        held_back, self._held_back = self._held_back, 0
        return held_back
