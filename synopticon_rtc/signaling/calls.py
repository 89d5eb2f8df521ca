"""How often all in a room may be asked at once."""

from synopticon_rtc.signaling.pace import Pace

# Discoveries for all at once on one signaling connection, each of which counts as many messages as there are sessions,
# and seconds between them on average.
CALLS, CALL_INTERVAL = 8, 0.5


class Calls(Pace):
    """Counts the discoveries for all in a room, for all handshakes on one signaling connection.

    Attributes:
        told: Whether the server tells of broadcasters on this connection, so that it is known whom to ask.
    """

    def __init__(self) -> None:
        super().__init__(CALL_INTERVAL, CALLS)
        self.told = False
