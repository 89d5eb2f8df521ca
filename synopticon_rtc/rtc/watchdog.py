"""Notices that somebody who is due something gets nothing."""

PATIENCE = 1.0
"""Seconds without anything after which something is wrong."""
MISSED = 3
"""How much must have been due by then, so that a slow source is not taken for a fault."""


class Watchdog:
    """Watches that what is due is delivered, and barks once a second while it is not.

    Time is any clock in seconds, and passed in.

    Attributes:
        missed: How much was due since the last delivery.
    """

    def __init__(self) -> None:
        self.missed = 0
        self._since = 0.0

    def due(self, now: float) -> bool:
        """Note that something is due; True where it is time to do something about it."""
        if not self.missed:
            self._since = now
        elif self.missed >= MISSED and now - self._since >= PATIENCE:
            self._since = now
            self.missed += 1
            return True
        self.missed += 1
        return False

    def delivered(self) -> None:
        """Note that something was delivered."""
        self.missed = 0
