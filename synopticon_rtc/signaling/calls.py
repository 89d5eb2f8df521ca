"""How often all in a room may be asked at once."""

# Discoveries for all at once on one signaling connection, each of which counts as many messages as there are sessions,
# and seconds between them on average.
CALLS, CALL_INTERVAL = 8, 0.5


class Calls:
    """Counts the discoveries for all in a room, for all handshakes on one signaling connection.

    Attributes:
        told: Whether the server tells of broadcasters on this connection, so that it is known whom to ask.
    """

    def __init__(self) -> None:
        self.told = False
        self._settled = float("-inf")

    def take(self, now: float) -> float:
        """Return ``now`` where all may be asked, else when that is."""
        settled = max(self._settled, now) + CALL_INTERVAL
        if settled > now + CALLS * CALL_INTERVAL:
            return settled - CALLS * CALL_INTERVAL
        self._settled = settled
        return now
