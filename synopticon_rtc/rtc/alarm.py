"""A timer for what nearly always happens in time."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls back once it was set and a time is over, unless it was set again or cancelled before.

    That costs next to nothing, however often: what the event loop was told stands, and when that is due, it is told
    the rest. One of the loop's own timers for each time would leave hundreds behind that were all cancelled.

    Args:
        loop: The event loop.
        callback: Called when the time is over.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
        self._loop = loop
        self._callback = callback
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        """Whether it is about to call back."""
        return self._due is not None

    def set(self, delay: float) -> None:
        """Call back after this many seconds from now on."""
        self._due = due = self._loop.time() + delay
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)
        elif self._timer.when() > due:
            self._timer.cancel()
            self._timer = self._loop.call_at(due, self._look)

    def cancel(self) -> None:
        """Do not call back."""
        self._due = None

    def close(self) -> None:
        """Do not call back, and let go of everything."""
        self._due = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._due > self._loop.time():
            self._timer = self._loop.call_at(self._due, self._look)
        else:
            self._due = None
            self._callback()
