"""What somebody may spend: so much a second, and some at once."""


class Budget:
    """A token bucket: it fills at a rate, up to a most, and whatever costs more than is in it is refused.

    Time is any clock in seconds, and passed in.

    Args:
        rate: What is earned in a second.
        most: What can be saved up, and is there at the beginning.
    """

    def __init__(self, rate: float, most: float) -> None:
        self._rate = rate
        self._most = most
        self._left = most
        self._filled = 0.0

    def take(self, now: float, cost: float = 1.0) -> bool:
        """Pay, if there is enough."""
        self._left = min(self._most, self._left + max(0.0, now - self._filled) * self._rate)
        self._filled = now
        if cost > self._left:
            return False
        self._left -= cost
        return True
