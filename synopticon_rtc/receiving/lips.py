"""Keeps the sound and the picture of one broadcaster in step."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from synopticon_rtc.basics.recent import Recent

LONGEST_HOLD = 0.2
"""Seconds that either waits for the other at most."""
APART = 1.0
"""Seconds from which on one is not later than the other, but told wrongly when it was captured."""
PACE = 0.1
"""Seconds by which the common delay changes in a second, so that whoever plays the sound can keep up unheard."""


class Lips:
    """Says how long the faster of sound and picture has to wait, so that both come out as old as each other.

    Each is told of as it is ready, and both come out with the same delay since their capture: the mean, over the last
    two seconds, of that which takes longer. Where only one of them is taken, nothing waits.

    Times of capture are on one clock, and those of now on another, in seconds; how far apart the clocks are does not
    matter.
    """

    def __init__(self) -> None:
        self._video, self._sound = Recent(), Recent()
        self._delay: float | None = None  # that both are given
        self._changed = 0.0  # when that was

    def video(self, captured: float | None, now: float) -> float:
        """Return when to give out a frame that is ready; at once where nobody knows when it was captured."""
        return self._due(self._video, self._sound, captured, now)

    def sound(self, captured: float | None, now: float) -> float:
        """Return the same for a piece of sound, by the capture of its first sample."""
        return self._due(self._sound, self._video, captured, now)

    def _due(self, mine: Recent, other: Recent, captured: float | None, now: float) -> float:
        if captured is None:
            return now
        mine.add(now, now - captured)
        own, others = mine.mean(now), other.mean(now)
        if own is None or others is None or abs(own - others) > APART:
            self._delay = None
            return now
        wanted = max(own, others)
        if self._delay is None:
            self._delay = wanted
        most = PACE * (now - self._changed)
        self._delay += min(max(wanted - self._delay, -most), most)
        self._changed = now
        return min(max(captured + self._delay, now), now + LONGEST_HOLD)


class Timed(Protocol):
    """Anything that was captured."""

    @property
    def captured(self) -> float | None:
        """When, seconds since the epoch on the broadcaster's clock; None where nobody knows."""


T = TypeVar("T", bound=Timed)


class Held(Generic[T]):
    """Gives out each moment when it is due, in order; most often at once.

    Args:
        due: Says when, of a time of capture and the time now (:meth:`Lips.video` or :meth:`Lips.sound`).
        give: Is given each moment.
    """

    def __init__(self, due: Callable[[float | None, float], float], give: Callable[[T], None]) -> None:
        self._due = due
        self._give = give
        self._waiting: deque[tuple[float, T]] = deque()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def put(self, moment: T) -> None:
        """Take a moment that is ready."""
        now = self._loop.time()
        due = self._due(moment.captured, now)
        if due <= now and not self._waiting:
            self._give(moment)
            return
        self._waiting.append((due, moment))
        if self._timer is None:
            self._wake()

    def close(self) -> None:
        """Give out what waits, now."""
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting:
            self._give(self._waiting.popleft()[1])
        self._give = lambda _: None  # whom it gave to holds this

    def _wake(self) -> None:
        self._timer = self._loop.call_at(self._waiting[0][0], self._tick) if self._waiting else None

    def _tick(self) -> None:
        now = self._loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            self._give(self._waiting.popleft()[1])
        self._wake()
