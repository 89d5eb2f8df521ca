"""One turn of the event loop: its time, and what it has to write."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Writer(Protocol):
    """Someone with something to write."""

    def flush(self) -> None:
        """Write it."""


class Turn:
    """Writes all that one turn of the event loop has for a session at once, and reads the clock once.

    A write costs more than all else that a message costs, and whoever is busy gets several messages a turn.

    Args:
        on_end: Called with the seconds that the turn took until all was written.
    """

    def __init__(self, on_end: Callable[[float], object]) -> None:
        self.now = 0.0  # on the monotonic clock (s); 0 between turns
        self._on_end = on_end
        self._writers: list[Writer] = []

    def begin(self) -> float:
        """Read the clock, for the first that asks in this turn."""
        self.now = time.monotonic()
        asyncio.get_running_loop().call_soon(self._end)
        return self.now

    def add(self, writer: Writer) -> None:
        """Flush it when the turn ends."""
        if not self.now:
            self.begin()
        self._writers.append(writer)

    def _end(self) -> None:
        begun, self.now = self.now, 0.0
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.flush()
        self._on_end(time.monotonic() - begun)
