"""A slot that holds the newest item."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from synopticon_rtc.basics import clock

T = TypeVar("T")


class Latest(Generic[T]):
    """Hands the newest item from one task to another: what was not taken in time gives way to the next.

    Args:
        linger: Seconds in which an item gives way to none, so that items which come in a burst are all taken by a task
            that waits for them.
    """

    def __init__(self, linger: float = 0.0) -> None:
        self._linger = linger
        self._items: deque[tuple[float, T]] = deque()
        self._filled = asyncio.Event()

    def put(self, item: T) -> list[T]:
        """Put an item and return those that give way to it."""
        now = clock.monotonic()
        replaced = []
        while self._items and now - self._items[0][0] >= self._linger:
            replaced.append(self._items.popleft()[1])
        self._items.append((now, item))
        self._filled.set()
        return replaced

    async def get(self) -> T:
        """Wait for an item and take it."""
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        return self._items.popleft()[1]


class Unbroken(Latest[T]):
    """The same for items that build on one another: all of them in order, or else from one on that stands alone.

    Args:
        linger: Seconds after which an item that was not taken gives way, with all that build on it.
        stands_alone: Tells whether an item builds on none before it.
    """

    def __init__(self, linger: float, stands_alone: Callable[[T], bool]) -> None:
        super().__init__(linger)
        self._stands_alone = stands_alone
        self._broken = False

    def put(self, item: T) -> list[T]:
        """Put an item and return those that give way, itself where it builds on one that did."""
        now = clock.monotonic()
        dropped = []
        if self._items and now - self._items[0][0] >= self._linger:
            dropped = [item for _, item in self._items]
            self._items.clear()
            self._broken = True
        if self._broken and not self._stands_alone(item):
            return [*dropped, item]
        self._broken = False
        self._items.append((now, item))
        self._filled.set()
        return dropped
