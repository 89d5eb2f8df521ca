"""Gives moments back the rhythm in which their frames were captured."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

CLOCK_RATE = 90_000  # of RTP video (RFC 7741, RFC 6184)
REMEMBERED = 90  # items by which it is told how long the way takes: follows clocks that drift
LEAP = 10.0  # seconds by which the way gets longer or shorter only where a sender starts its timestamps anew


class Playout(Generic[T]):
    """Holds each item back, so that it comes out as long after the one before it as their RTP timestamps say.

    Time is any clock in seconds. No item waits longer than ``delay``; one that was itself longer than that on its way,
    compared with the fastest of late, comes out at once.

    Args:
        delay: Seconds that the fastest items are held back: the unevenness that is made even.
    """

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._newest = 0
        self._transits: deque[float] = deque(maxlen=REMEMBERED)
        self._waiting: deque[tuple[float, T]] = deque()

    def next_tick(self) -> float:
        """When ``tick`` wants to be called, ``inf`` for never."""
        return self._waiting[0][0] if self._waiting else float("inf")

    def put(self, item: T, rtp_timestamp: int, now: float) -> None:
        """Take the next item."""
        self._newest += (rtp_timestamp - self._newest + 2**31) % 2**32 - 2**31  # counted on where it wraps
        captured = self._newest / CLOCK_RATE
        transit = now - captured
        if self._transits and abs(transit - self._transits[-1]) > LEAP:
            self._transits.clear()
        self._transits.append(transit)
        self._waiting.append((captured + min(self._transits) + self._delay, item))

    def tick(self, now: float) -> Iterator[T]:
        """Give out what is due, in the order in which it came."""
        while self._waiting and self._waiting[0][0] <= now:
            yield self._waiting.popleft()[1]
