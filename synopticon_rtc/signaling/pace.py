"""How often something may be done that is to be done seldom."""


class Pace:
    """Allows something some times at once, and one more in each interval.

    Args:
        interval: Seconds.
        most: How often it may be done at once.
    """

    def __init__(self, interval: float, most: int) -> None:
        self._interval = interval
        self._most = most
        self._settled = float("-inf")

    def take(self, now: float) -> float:
        """Return ``now`` where it may be done, and so is, else when it may be."""
        settled = max(self._settled, now) + self._interval
        if settled > now + self._most * self._interval:
            return settled - self._most * self._interval
        self._settled = settled
        return now
