"""Puts what comes from several sources into the order of its times."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

S = TypeVar("S")
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Held(Generic[S, T]):
    """An item that waits for those before it."""

    source: S
    time: float
    item: T
    due: float
    is_out: bool = False


class Out(NamedTuple, Generic[S, T]):
    """An item whose turn it is.

    Attributes:
        at: When its turn came.
        source: Whose it is.
        item: It.
        late: Whether one of a later time had its turn before.
    """

    at: float
    source: S
    item: T
    late: bool


class Merge(Generic[S, T]):
    """Orders items of several sources, each of which gives its own in the order of their times.

    An item has its turn once every source has given one of the same time or a later one, so that none can come that
    goes before it; or when it has waited for ``within`` seconds, which then takes those before it along. What comes
    after its place was passed has its turn at once, and is late. All times are in seconds, and passed in.

    Args:
        within: Seconds that an item is held back at most.
        linger: Seconds after its turn has come in which an item gives way to none. If nobody takes it for longer, it
            gives way when the next of its source has its turn.
        stands_alone: Tells whether an item builds on none before it. Given, all up to such a one give way; None where
            no item builds on another.
        missed: Called with the source when items of it have given way.
    """

    def __init__(
        self,
        within: float,
        *,
        linger: float = 0.0,
        stands_alone: Callable[[T], bool] | None = None,
        missed: Callable[[S], object] = lambda _: None,
    ) -> None:
        self._within = within
        self._linger = linger
        self._stands_alone = stands_alone
        self._missed = missed
        self._newest: dict[S, float] = {}  # of each source that is waited for
        self._heap: list[tuple[float, int, _Held[S, T]]] = []
        self._arrived: deque[_Held[S, T]] = deque()  # the same, in the order in which they are due
        self._out: deque[Out[S, T]] = deque()
        self._number = itertools.count()
        self._passed = float("-inf")  # the latest time that had its turn
        self._broken: set[S] = set()  # sources of which something is missing that the next items build on

    def join(self, source: S) -> None:
        """Wait for a source from now on."""
        self._newest.setdefault(source, float("-inf"))

    def leave(self, source: S, now: float) -> None:
        """Wait for a source no more; what it has given keeps its place."""
        self._newest.pop(source, None)
        self.tick(now)

    def put(self, source: S, time: float, item: T, now: float) -> None:
        """Take an item of a source, also of one that is not waited for. A time that is yet to come counts as now."""
        newest = self._newest.get(source)
        time = min(time, now)
        if newest is not None:
            self._newest[source] = time = max(time, newest)
        if time < self._passed:
            self._give(source, item, now, late=True)
        else:
            held = _Held(source, time, item, now + self._within)
            heapq.heappush(self._heap, (time, next(self._number), held))
            self._arrived.append(held)
        self.tick(now)

    def tick(self, now: float) -> None:
        """Time has passed."""
        certain = min(self._newest.values(), default=float("inf"))
        while self._heap and (self._heap[0][0] <= certain or self.next_tick() <= now):
            time, _, held = heapq.heappop(self._heap)
            held.is_out = True
            self._passed = time
            self._give(held.source, held.item, now, late=False)

    def next_tick(self) -> float:
        """When :meth:`tick` wants to be called next, ``inf`` for never."""
        while self._arrived and self._arrived[0].is_out:
            self._arrived.popleft()
        return self._arrived[0].due if self._arrived else float("inf")

    @property
    def is_ready(self) -> bool:
        """Whether there is an item whose turn it is."""
        return bool(self._out)

    def take(self) -> Out[S, T]:
        """Take the next item whose turn it is. Raises :class:`IndexError` where there is none."""
        return self._out.popleft()

    def _give(self, source: S, item: T, now: float, *, late: bool) -> None:
        """Let an item have its turn, and those of the same source give way that nobody takes."""
        if self._out and now - self._out[0].at >= self._linger and self._give_way(source, now):
            self._missed(source)
        if self._stands_alone is not None and source in self._broken:
            if not self._stands_alone(item):
                self._missed(source)
                return
            self._broken.discard(source)
        self._out.append(Out(now, source, item, late))

    def _give_way(self, source: S, now: float) -> bool:
        """Whether items of a source have given way."""
        if not any(out.source is source and now - out.at >= self._linger for out in self._out):
            return False
        if self._stands_alone is None:
            kept = [out for out in self._out if out.source is not source or now - out.at < self._linger]
        else:
            kept = [out for out in self._out if out.source is not source]
            self._broken.add(source)
        self._out = deque(kept)
        return True
