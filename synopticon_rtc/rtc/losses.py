"""Packets that are missing: when to ask for each of them, and again."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

SHORTEST_WAIT = 0.02
"""Seconds until a packet is asked for again, at the least; 1.5 round trips where that is more. It doubles each time."""
MOST_REQUESTS = 6
"""Requests for one packet."""


@dataclass(slots=True)
class _Loss:
    since: float
    due: float
    wait: float
    requests: int


class Losses:
    """Schedules negative acknowledgements (RFC 4585 section 6.2.1).

    Requests and what they bring are lost as well, so each packet is asked for again until it comes, ever more seldom.
    """

    def __init__(self) -> None:
        self._losses: dict[int, _Loss] = {}

    def add(self, numbers: Iterable[int], now: float, rtt: float) -> float:
        """Take note of packets that are found missing, and are asked for at once.

        Returns:
            When ``update`` is wanted for their sake.
        """
        wait = max(SHORTEST_WAIT, 1.5 * rtt)
        for number in numbers:
            self._losses[number] = _Loss(now, now + wait, 2 * wait, 1)
        return now + wait

    def update(self, is_missing: Callable[[int], bool], now: float) -> list[int]:
        """Forget what is missing no more.

        Returns:
            Those to ask for again now.
        """
        self._losses = {number: loss for number, loss in self._losses.items() if is_missing(number)}
        due = [number for number, loss in self._losses.items() if now >= loss.due]
        for number in due:
            loss = self._losses[number]
            loss.requests += 1
            loss.due = now + loss.wait if loss.requests < MOST_REQUESTS else float("inf")
            loss.wait *= 2
        return due

    def next_due(self) -> float:
        """When ``update`` is wanted next, ``inf`` for never."""
        return min((loss.due for loss in self._losses.values()), default=float("inf"))

    def since(self, number: int) -> float:
        """Since when a packet is missing, the oldest from ``number`` on; ``inf`` where none is."""
        return min((loss.since for missing, loss in self._losses.items() if missing >= number), default=float("inf"))
