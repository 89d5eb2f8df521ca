"""What one peer is sent again."""

from collections.abc import Sequence
from typing import Protocol

from synopticon_rtc.rtc.budget import Budget
from synopticon_rtc.rtc.history import History
from synopticon_rtc.rtc.rate import RateControl
from synopticon_rtc.rtc.stream import EncodedFrame

PADDED_AT_ONCE = 64
"""Packets that are sent again at once to try a link, a millisecond's work."""
LONGEST_GAP = 0.1
"""Seconds since the last frame for which a link is tried at most."""
REPAIRS = 3000.0, 64
"""Packets that a peer may have sent again in a second, and at once, whatever its link bears: a millisecond's work."""
LOOKUPS = 10_000.0, 2000
"""Lost packets that a peer may name in a second, and at once, to be looked for; again a millisecond's work."""


class Writer(Protocol):
    """What sends packets again."""

    next_number: int

    @property
    def has_rtx(self) -> bool:
        """Whether a packet may be sent again that nobody misses."""
        ...

    def write_again(self, frame: EncodedFrame, index: int, number: int) -> int:
        """Send a packet of a frame again; return its octets."""
        ...


class Repair:
    """Sends packets again: those that the peer misses (RFC 4585), and others to try how much its link bears.

    Time is any clock in seconds, and passed in.

    Args:
        writer: Of the peer.
        rate: What the link is thought to bear.

    Attributes:
        history: What was sent, to be sent again.
        retransmits: Packets that the peer missed, and was sent again.
    """

    def __init__(self, writer: Writer, rate: RateControl) -> None:
        self.history = History()
        self.retransmits = 0
        self._writer = writer
        self._rate = rate
        self._repairs = Budget(*REPAIRS)
        self._lookups = Budget(*LOOKUPS)
        self._padded_at = 0.0
        self._padding_due = 0.0  # octets

    def repair(self, now: float, lost: Sequence[int]) -> None:
        """Send packets again that the peer misses, as long as it is not repairs that congest the link.

        Args:
            now: The time, s.
            lost: Their sequence numbers, as the peer names them: in any order, and any number of times.
        """
        for number in dict.fromkeys(lost):
            if not self._rate.may_repeat(now) or not self._lookups.take(now):
                return
            found = self.history.find(number, self._writer.next_number)
            if found is None:
                continue
            if not self._repairs.take(now):
                return
            if octets := self._writer.write_again(*found, number & 0xFFFF):
                self.retransmits += 1
                self._rate.repeated(now, octets)

    def pad(self, now: float) -> None:
        """Send packets once more behind a frame, where the rate control asks for it."""
        if self._rate.padding and self._writer.has_rtx:
            self._padding_due += self._rate.padding / 8 * min(now - self._padded_at, LONGEST_GAP)
            self._send_padding(now)
        self._padded_at = now

    def _send_padding(self, now: float) -> None:
        left = PADDED_AT_ONCE
        for first, frame in reversed(self.history):
            for index in range(len(frame.payloads)):
                if self._padding_due <= 0 or not left:
                    return
                octets = self._writer.write_again(frame, index, first + index & 0xFFFF)
                self._padding_due -= octets
                self._rate.padded(now, octets)
                left -= 1
        self._padding_due = 0.0  # there is no more to send again
