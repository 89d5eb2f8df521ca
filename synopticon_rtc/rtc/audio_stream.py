"""One encoded sound, sent to any number of peers."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.rtc.capture_time import NTP_EPOCH
from synopticon_rtc.rtc.sealer import Sealer
from synopticon_rtc.rtc.stream import STAMP_INTERVAL, ntp_time

CLOCK_RATE = 48_000
"""Ticks of an Opus RTP timestamp in a second, whatever the sound is sampled with (RFC 7587 section 4.1)."""
PACKET_TICKS = 960
"""Ticks of a packet: 20 ms."""
LARGEST_ERROR = 2**32 // 1000
"""A millisecond, in 32.32 bits, by which timestamps may be off before a packet tells again when it was captured."""


@dataclass(frozen=True, slots=True)
class AudioPacket:
    """One packet of Opus: what all peers share."""

    payloads: list[bytes]
    """It alone."""
    timestamp: int
    """Of RTP, the same for all peers."""
    begins: bool
    """Whether there was nothing to be heard before it."""
    captured: int
    """When its first sample was captured, by the clock of who captured it, seconds since 1900 in 32.32 bits."""
    stamped: bool
    """Whether it says so to peers that read that; of those in between it follows from the timestamps."""
    sent: int
    """When it is sent, by our clock."""
    ahead: int = 0
    """What that clock is ahead of ours, s in 32.32 bits."""
    lost: int = 0
    """Packets that are missing right before it, so that peers make up for them."""
    level: int | None = None
    """How loud it is, -dBov: 0 is the loudest, 127 silence (RFC 6464); None where that is not known."""


class Listener(Protocol):
    """A peer that is sent a sound."""

    @property
    def loss(self) -> float | None:
        """Share of packets lost on the way, 0 to 1, as the peer last reported."""

    def send_packet(self, packet: AudioPacket) -> None:
        """Send one packet."""


class AudioStream:
    """One encoded sound that any number of peers are sent, each packet encoded once.

    Args:
        timestamp_origin: The RTP timestamp of tick 0; random by default (RFC 3550 section 5.1).
        on_viewers: Called with the number of peers whenever it changes, so that what nobody hears is not encoded.
        faults: What counts errors that nobody foresaw.

    Attributes:
        sealer: Encrypts for one peer after another.
        ahead: What the clock by which sound is captured is ahead of ours, s in 32.32 bits; 0 where it is ours.
    """

    def __init__(
        self,
        timestamp_origin: int | None = None,
        *,
        on_viewers: Callable[[int], None] | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.on_viewers = on_viewers
        self.sealer = Sealer()
        self.ahead = 0
        self._origin = secrets.randbits(32) if timestamp_origin is None else timestamp_origin
        self._viewers: list[Listener] = []
        self._due: int | None = None  # ticks of the next packet, where nothing is missing before it
        self._stamped: tuple[int, int] | None = None  # the time of capture that was told last, and its ticks
        self._faults = faults or Faults()

    @property
    def viewers(self) -> int:
        """How many peers are sent this stream."""
        return len(self._viewers)

    @property
    def losses(self) -> list[float]:
        """What share of packets each peer lost on the way, 0 to 1, of those that have reported."""
        return [loss for viewer in self._viewers if (loss := viewer.loss) is not None]

    def rtp_timestamp(self, ticks: int) -> int:
        """Return the RTP timestamp of a time in 1/48000 s."""
        return (self._origin + ticks) & 0xFFFFFFFF

    def send(self, data: bytes, ticks: int, captured: float, level: int | None = None, *, lost: int = 0) -> int:
        """Send 20 ms of Opus to every peer, now.

        Args:
            data: The packet.
            ticks: When its first sample is due, 1/48000 s; more than those of the packet before.
            captured: When that sample was captured, seconds since the epoch.
            level: How loud it is, -dBov, 0 to 127; None where that is not known.
            lost: How many packets before it are not to be had, and no silence.

        Returns:
            The packet's RTP timestamp.
        """
        timestamp = self.rtp_timestamp(ticks)
        time = int((captured + NTP_EPOCH) * 2**32)
        begins = ticks != self._due
        ahead = self.ahead
        packet = AudioPacket([data], timestamp, begins, time, self._stamp(time, ticks), ntp_time(), ahead, lost, level)
        self._due = ticks + PACKET_TICKS
        for viewer in self._viewers.copy():
            try:
                viewer.send_packet(packet)
            except Exception:  # noqa: BLE001 - it is noted; the next packet may go better
                self._faults.note("a packet of sound is not sent to a peer")
        return timestamp

    def _stamp(self, captured: int, ticks: int) -> bool:
        """Whether a packet is to tell when it was captured."""
        if self._stamped is not None:
            told, since = self._stamped
            elapsed = (ticks - since << 32) // CLOCK_RATE
            if elapsed < STAMP_INTERVAL and abs(captured - told - elapsed) < LARGEST_ERROR:
                return False
        self._stamped = captured, ticks
        return True

    def add(self, viewer: Listener) -> None:
        """Send the stream to one more peer, from the next packet on."""
        self._viewers.append(viewer)
        self._count()

    def has(self, viewer: Listener) -> bool:
        """Whether a peer is sent the stream."""
        return viewer in self._viewers

    def remove(self, viewer: Listener) -> None:
        """Send the stream to a peer no longer."""
        if viewer in self._viewers:
            self._viewers.remove(viewer)
            self._count()

    def _count(self) -> None:
        self._faults.call(self.on_viewers, len(self._viewers))
