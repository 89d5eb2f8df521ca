"""Packets that are missing: when to ask for each of them, and again."""

from collections.abc import Iterable
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
    requests: int = 0


class Losses:
    """Schedules negative acknowledgements (RFC 4585 section 6.2.1).

    Requests and what they bring are lost as well, so each packet is asked for again until it comes, ever more seldom.
    """

    def __init__(self) -> None:
        self._losses: dict[int, _Loss] = {}

    def update(self, missing: Iterable[int], now: float, rtt: float) -> list[int]:
        """Take note of which packets are missing, in order.

        Returns:
            Those to ask for now.
        """
        known = self._losses
        self._losses = {
            number: known.get(number) or _Loss(now, now, max(SHORTEST_WAIT, 1.5 * rtt)) for number in missing
        }
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
