"""What the server holds for all connections together: messages that are not whole, and those that nobody reads."""

import logging
from collections.abc import Hashable
from typing import Protocol

from synopticon_rtc.basics.seldom import Seldom
from synopticon_rtc.signaling.server.limits import LINE_EVERY

log = logging.getLogger("synopticon_rtc.signaling.server")


class Holder(Hashable, Protocol):
    """Whom something is held for."""

    def held(self) -> int:
        """Tell how many bytes there are, at most; what its buffers hold anyway does not count."""
        ...

    def let_go(self) -> None:
        """End it at once, so that its bytes are free: it holds the most of all while there are too many."""


class Memory:
    """Bytes by whom they are held for, with a bound on their sum.

    Whoever holds most goes when there are too many, so that a client of a few KiB never pays for others.

    Args:
        limit: Bytes in all.

    Attributes:
        total: Bytes that are held, at most.
    """

    def __init__(self, limit: int) -> None:
        self.total = 0
        self._limit = limit
        self._held: dict[Holder, int] = {}
        self._lines = Seldom(LINE_EVERY)

    def note(self, holder: Holder) -> None:
        """Take note that a holder has more than before, or less; nobody needs to tell of less."""
        self._set(holder, holder.held())
        if self.total > self._limit:
            self._relieve()

    def forget(self, holder: Holder) -> None:
        """Take note that a holder is gone."""
        self.total -= self._held.pop(holder, 0)

    def _set(self, holder: Holder, held: int) -> None:
        self.forget(holder)
        if held:
            self._held[holder] = held
            self.total += held

    def _relieve(self) -> None:
        for holder in list(self._held):
            self._set(holder, holder.held())
        while self.total > self._limit:
            largest = max(self._held, key=self._held.__getitem__)
            if (more := self._lines.take()) is not None:
                log.warning(
                    "%d bytes are held for %d sessions, over %d: the one that holds most, %d, ends (%d more since)",
                    self.total,
                    len(self._held),
                    self._limit,
                    self._held[largest],
                    more,
                )
            self.forget(largest)
            largest.let_go()
