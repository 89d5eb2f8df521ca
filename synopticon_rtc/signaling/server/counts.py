"""What the server counts while it works: plain numbers, read when somebody asks for metrics."""

from bisect import bisect_left
from collections import Counter

RELAY_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
JOIN_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Histogram:
    """How many values there were up to each bound, as Prometheus has it.

    Attributes:
        bounds: Upper bounds, each of a bucket; a last bucket without one follows.
        counts: Values in each bucket.
        total: The sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


class Counts:
    """What there was so far.

    Attributes:
        messages: Messages from clients, by type; those that were not taken as ``invalid``.
        relayed: How many of them were passed on.
        sessions: Sessions.
        refused: What was refused, by the code that says why.
        latency: Seconds from a message's arrival until it was written (of its turn of the loop).
        joins: Seconds from a session's first seek to its answer.
    """

    __slots__ = ("joins", "latency", "messages", "observed", "refused", "relayed", "sessions")

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.relayed = 0
        self.sessions = 0
        self.refused: Counter[str] = Counter()
        self.latency = Histogram(RELAY_SECONDS)
        self.joins = Histogram(JOIN_SECONDS)
        self.observed = 0

    def turned(self, seconds: float) -> None:
        """Note how long a turn took, for the messages that were relayed in it."""
        if times := self.relayed - self.observed:
            self.latency.observe(seconds, times)
            self.observed = self.relayed
