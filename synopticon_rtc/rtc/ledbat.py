"""How much of what can wait may be on its way at once, so that nothing that cannot wait gets in line behind it."""

from collections import deque

PACKET = 1150
"""Bytes of a piece at most, so that it goes into one packet."""
SMALL = 576
"""The same where little may be on its way: at 400 kbit/s it holds up what follows for 13 ms."""
LEAST = PACKET / 8
"""The least window: less than a packet stands for one packet in several round trips."""
LEAST_RATE = 4000
"""Bytes a second that it is never less than, up to the two packets in a round trip that RFC 6817 always allows: on
paths with long round trips nothing would move, while on slow ones two packets are too much beside live video."""
MOST = 786_432
"""Bytes that may be on their way at most: a quarter of what a peer takes out of order is left to all others."""
TARGET = 0.015
"""Seconds of queueing that are caused on purpose; RFC 6817 allows up to 0.1, which is too long beside live video."""
SHORTEST_TARGET = 0.002
"""The same on a link so fast that two packets take no longer."""
GAIN = 0.25
"""Of a packet, by how much the window grows in a round trip without any queue; it shrinks by up to a whole one."""
STEP = 0.1
"""Of itself, by how much a large window grows instead, or shrinks: else a long and fast path took minutes to fill."""
SAMPLES = 4
"""Parts of a round trip, or else round trips, of which the shortest tells the queue; the others met with a burst of
somebody else's, or with jitter."""
HISTORY = 10.0
"""Seconds over which the shortest round trip is taken, once or twice: that of a path without a queue."""
SMOOTHED = 1 / 16
"""Of each newest difference of round trips, how much goes into the jitter."""
USUAL = 0.005
"""Seconds of jitter that short bursts of others make; what is beyond is none of a queue, which changes more slowly."""
NONE = 1e-5
"""Seconds below which a round trip is as good as none."""
IDLE = 1.0
"""Seconds after which nobody knows any more what the path bears."""


class Ledbat:
    """The window of LEDBAT (RFC 6817) with a slow start, for what yields to all else on a link. Time is passed in.

    It grows while round trips stay as short as ever, and shrinks as soon as something queues on the way, whoever sent
    it. Round trips stand for the delay one way that the RFC has, as SCTP tells no other.

    Where round trips differ by more than queues make them differ (Wi-Fi, mobile networks), even the shortest of a few
    is longer than the shortest of many. What they differ by is therefore taken off, or it was yielded to for ever.

    Attributes:
        size: Bytes that may be on their way. Less than a packet is one packet, and then a :attr:`pause`.
    """

    def __init__(self) -> None:
        self.size: float = PACKET
        self._starting = True  # doubling, until the first queue
        self._recent: deque[float] = deque(maxlen=SAMPLES)
        self._part_ends = float("-inf")  # of the newest of these
        self._shortest = [float("inf"), float("inf")]  # of this period, and of the one before
        self._until = float("-inf")
        self._jitter = 0.0
        self._lost = float("-inf")

    def measured(self, now: float, rtt: float) -> None:
        """Take a round trip (s)."""
        rtt = max(rtt, NONE)
        if now >= self._until:
            self._until = now + HISTORY
            self._shortest = [rtt, self._shortest[0]]
        self._shortest[0] = min(self._shortest[0], rtt)
        if self._recent and now < self._part_ends:
            self._recent[-1] = min(self._recent[-1], rtt)
        else:
            if len(self._recent) > 1:
                self._jitter += (abs(self._recent[-1] - self._recent[-2]) - self._jitter) * SMOOTHED
            self._recent.append(rtt)
            self._part_ends = now + min(self._shortest) / SAMPLES

    @property
    def queueing(self) -> float:
        """Seconds that packets wait on the way, 0 before any is known."""
        jitter = max(0.0, self._jitter - USUAL)
        return max(0.0, min(self._recent) - min(self._shortest) - jitter) if self._recent else 0.0

    @property
    def least(self) -> float:
        """Bytes that may be on their way however long anything waits."""
        return min(max(LEAST_RATE * min(self._recent, default=0.0), LEAST), 2 * PACKET)

    @property
    def piece(self) -> int:
        """Bytes that are best sent at once."""
        return round(min(max(self.size / 4, SMALL), PACKET))

    @property
    def pause(self) -> float:
        """Seconds from the arrival of a packet to the next, where that is less than a packet in a round trip."""
        return max(0.0, PACKET / self.size - 1) * min(self._recent, default=0.0)

    @property
    def target(self) -> float:
        """Seconds of queueing that are caused on purpose: what two packets take, as fast as they go now."""
        return min(max(2 * PACKET / self.size * min(self._recent, default=TARGET), SHORTEST_TARGET), TARGET)

    def acknowledged(self, octets: int) -> None:
        """Take note of bytes that have arrived, while as many were on their way as may be."""
        target = self.target
        off = max(1 - self.queueing / target, -1.0)
        if self._starting and off > 0.5:  # noqa: PLR2004 - half of the target
            grown = float(octets)
        else:
            self._starting = False
            gain, step = (GAIN, min(STEP, target / (2 * min(self._recent, default=target)))) if off > 0 else (1, STEP)
            grown = off * octets * max(gain * PACKET / self.size, step)
        grown = min(max(grown, -self.size / 2), self.size)
        self.size = min(max(self.size + grown, self.least), MOST)

    def lost(self, now: float) -> None:
        """Take note of a loss: half of it is given up, once in a round trip."""
        self._starting = False
        if now - self._lost > (min(self._recent) if self._recent else 1.0):
            self._lost = now
            self.size = max(self.size / 2, self.least)

    def begin_anew(self) -> None:
        """Feel the way again, after nothing was sent for long, or nothing arrived of what was."""
        self.size = min(self.size, float(PACKET))
        self._starting = True
