"""How much of what can wait may be on its way at once, so that nothing that cannot wait gets in line behind it."""

from collections import deque

PACKET = 1150
"""Bytes of a piece at most, so that it goes into one packet."""
SMALL = 576
"""The same where little may be on its way: at 400 kbit/s it holds up what follows for 13 ms."""
LEAST = PACKET / 8
"""The least window: less than a packet stands for one packet in several round trips."""
MOST = 65_536
"""Bytes that may be on their way at most."""
TARGET = 0.015
"""Seconds of queueing that are caused on purpose; RFC 6817 allows up to 0.1, which is too long beside live video."""
GAIN = 0.25
"""Of a packet, by how much the window grows in a round trip without any queue; it shrinks by up to a whole one."""
SAMPLES = 4
"""Round trips of which the shortest tells the queue; the others met with a burst of somebody else's, or with jitter."""
HISTORY = 10.0
"""Seconds over which the shortest round trip is taken, once or twice: that of a path without a queue."""


class Ledbat:
    """The window of LEDBAT (RFC 6817) with a slow start, for what yields to all else on a link. Time is passed in.

    It grows while round trips stay as short as ever, and shrinks as soon as something queues on the way, whoever sent
    it. Round trips stand for the delay one way that the RFC has, as SCTP tells no other.

    Attributes:
        size: Bytes that may be on their way. Less than a packet is one packet, and then a :attr:`pause`.
    """

    def __init__(self) -> None:
        self.size: float = PACKET
        self._starting = True  # doubling, until the first queue
        self._recent: deque[float] = deque(maxlen=SAMPLES)
        self._shortest = [float("inf"), float("inf")]  # of this period, and of the one before
        self._until = float("-inf")
        self._lost = float("-inf")

    def measured(self, now: float, rtt: float) -> None:
        """Take a round trip (s)."""
        if now >= self._until:
            self._until = now + HISTORY
            self._shortest = [rtt, self._shortest[0]]
        self._shortest[0] = min(self._shortest[0], rtt)
        self._recent.append(rtt)

    @property
    def queueing(self) -> float:
        """Seconds that packets wait on the way, 0 before any is known."""
        return min(self._recent) - min(self._shortest) if self._recent else 0.0

    @property
    def piece(self) -> int:
        """Bytes that are best sent at once."""
        return round(min(max(self.size / 4, SMALL), PACKET))

    @property
    def pause(self) -> float:
        """Seconds from the arrival of a packet to the next, where that is less than a packet in a round trip."""
        return max(0.0, PACKET / self.size - 1) * min(self._recent, default=0.0)

    def acknowledged(self, octets: int) -> None:
        """Take note of bytes that have arrived."""
        off = max(1 - self.queueing / TARGET, -1.0)
        if self._starting and off > 0.5:  # noqa: PLR2004 - half of the target
            grown = float(octets)
        else:
            self._starting = False
            grown = off * (GAIN if off > 0 else 1) * octets * PACKET / self.size
        grown = min(max(grown, -self.size / 2), self.size)
        self.size = min(max(self.size + grown, LEAST), MOST)

    def lost(self, now: float) -> None:
        """Take note of a loss: half of it is given up, once in a round trip."""
        self._starting = False
        if now - self._lost > (min(self._recent) if self._recent else 1.0):
            self._lost = now
            self.size = max(self.size / 2, LEAST)
