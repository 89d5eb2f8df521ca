"""One encoded video stream, sent to any number of peers."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import av
from av.stream import Stream

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.rtc.capture_time import NTP_EPOCH
from synopticon_rtc.rtc.nal import START_CODE
from synopticon_rtc.rtc.pacer import BURST, Pacer
from synopticon_rtc.rtc.packets import cut_h264, cut_vp8
from synopticon_rtc.rtc.sealer import Sealer

Codec = Literal["vp8", "h264"]

GROUP_AGE = 1.0
"""Seconds since the last keyframe within which a joining peer is sent it at once, with all frames since."""
GROUP_FRAMES = 48
"""Most frames that it is sent so, fewer than may wait for a peer."""
GROUP_OCTETS = 1_000_000
"""Most octets of them; a joining peer takes them in as many sixths of a second."""
CLOCK_RATE = 90_000
"""Ticks of a video RTP timestamp in a second (RFC 3551)."""
STAMP_INTERVAL = 2**31
"""Half a second, in 32.32 bits, after which packets tell again when they were captured."""
PICTURE_TICKS = 1500
"""A VP8 picture id for every 1/60 s, so that those of streams of one source grow alike."""


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One frame, packetised: what all peers share."""

    payloads: list[bytes]
    """Its pieces, each of which becomes an RTP packet."""
    bursts: list[list[bytes]]
    """The same, by what is sent at once."""
    octets: int
    """In all of its pieces."""
    timestamp: int
    """Of RTP, the same for all peers."""
    keyframe: bool
    """Whether it can be decoded without those before it."""
    ntp_time: int
    """When it was sent, as :func:`ntp_time` tells."""
    captured: int
    """When it was captured, likewise, but by the clock of who captured it."""
    stamped: bool
    """Whether its first packets say so to peers that read that; those in between follow from the timestamps."""
    ahead: int = 0
    """What that clock is ahead of ours, s in 32.32 bits."""

    def after(self, units: list[bytes]) -> "EncodedFrame":
        """Return the same frame of H.264 with NAL units before it, for one peer alone."""
        more = cut_h264(b"".join(START_CODE + unit for unit in units))
        bursts = [more[at : at + BURST] for at in range(0, len(more), BURST)]
        octets = self.octets + sum(map(len, more))
        return replace(self, payloads=more + self.payloads, bursts=bursts + self.bursts, octets=octets)


def ntp_time() -> int:
    """Return the time in seconds since 1900, in 32.32 bits (RFC 5905 section 6).

    Peers measure with it and do not read the clock from it, so it goes on evenly where the system's clock is set.
    """
    return int((clock.now() + NTP_EPOCH) * 2**32)


class Viewer(Protocol):
    """A peer that is sent a stream."""

    def send_frame(self, frame: EncodedFrame, now: float) -> None:
        """Send one frame, or have the stream's pacer do it.

        Args:
            frame: What all are sent.
            now: The time, s, of :func:`.clock.monotonic`.
        """


class VideoStream:
    """One encoded stream that any number of peers are sent, each packet encoded and packetised once.

    The RTP timestamp of a frame is the same for every peer, so that a message that names it can be shared as well.

    Args:
        codec: What the packets are encoded with.
        on_keyframe_request: Called when a peer needs a keyframe: it joined, or it lost a picture.
        on_viewers: Called with the number of peers whenever it changes, so that an encoder nobody watches can sleep.
        timestamp_origin: The RTP timestamp of presentation time 0; random by default (RFC 3550 section 5.1).
        began: When presentation time 0 was, seconds since the epoch; None where frames count as captured when sent.
        burst: Packets that a peer is sent at once, no more than BURST.
        turn: Packets that it is sent in a turn, in one burst or several, where nothing is known against it.
        pacer: Gives the peers their turns; streams between which peers are moved share one.
        faults: What counts errors that nobody foresaw.

    Attributes:
        ahead: What the clock by which its frames are captured is ahead of ours, s in 32.32 bits; 0 where it is ours.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        on_keyframe_request: Callable[[], None],
        on_viewers: Callable[[int], None] | None = None,
        timestamp_origin: int | None = None,
        began: float | None = None,
        burst: int = BURST,
        turn: int = BURST,
        pacer: Pacer | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.codec: Codec = codec
        self.on_keyframe_request = on_keyframe_request
        self.on_viewers = on_viewers
        self._origin = secrets.randbits(32) if timestamp_origin is None else timestamp_origin
        self._began = None if began is None else int((began + NTP_EPOCH) * 2**32)
        self._burst = burst
        self.turn = turn
        self.ahead = 0
        self._picture_id = secrets.randbits(15)
        self.pacer = pacer or Pacer()
        self.sealer = Sealer()
        self._viewers: list[Viewer] = []
        self._group: list[EncodedFrame] = []  # the last keyframe and all since, empty where that is too much
        self._group_octets = 0
        self._stamped = 0  # the time of capture that was told last
        self._faults = faults or Faults()

    @property
    def viewers(self) -> int:
        """How many peers are sent this stream."""
        return len(self._viewers)

    def rtp_timestamp(self, pts: int) -> int:
        """Return the RTP timestamp of a presentation time in 1/90000 s."""
        return (self._origin + pts) & 0xFFFFFFFF

    def send(self, packet: "av.Packet[Stream]") -> int:
        """Send one encoded frame to every peer, now.

        Args:
            packet: The frame, its ``pts`` in 1/90000 s.

        Returns:
            The frame's RTP timestamp.
        """
        if packet.pts is None:
            raise ValueError("a packet to be sent needs a presentation time")
        captured = None if self._began is None else self._began + (packet.pts << 32) // CLOCK_RATE
        return self.send_encoded(bytes(packet), packet.pts, keyframe=packet.is_keyframe, captured=captured)

    def send_encoded(self, data: bytes, pts: int, *, keyframe: bool, captured: int | None) -> int:
        """Send one encoded frame to every peer, now.

        Args:
            data: The frame.
            pts: Its presentation time, in 1/90000 s.
            keyframe: Whether it can be decoded without those before it.
            captured: When it was captured, as :func:`ntp_time` tells; None for now.

        Returns:
            The frame's RTP timestamp.
        """
        payloads = self._cut(data, pts, keyframe=keyframe)
        octets = sum(map(len, payloads))
        timestamp = self.rtp_timestamp(pts)
        bursts = [payloads[at : at + self._burst] for at in range(0, len(payloads), self._burst)]
        now = ntp_time()
        captured = now + self.ahead if captured is None else captured
        stamped = keyframe or captured - self._stamped >= STAMP_INTERVAL
        self._stamped = captured if stamped else self._stamped
        self._publish(EncodedFrame(payloads, bursts, octets, timestamp, keyframe, now, captured, stamped, self.ahead))
        return timestamp

    def _cut(self, data: bytes, pts: int, *, keyframe: bool) -> list[bytes]:
        if self.codec == "h264":
            return cut_h264(data)
        if keyframe:
            # A peer that is moved here at this keyframe has seen the ids of another stream.
            self._picture_id = pts // PICTURE_TICKS
        payloads = cut_vp8(data, self._picture_id % 2**15)
        self._picture_id += 1
        return payloads

    def forget(self) -> None:
        """Send no peer that joins what was sent before: timestamps start anew."""
        self._group.clear()
        self._stamped = 0

    def _publish(self, frame: EncodedFrame) -> None:
        self._keep(frame)
        self._send([frame], self._viewers.copy())

    def _send(self, frames: list[EncodedFrame], viewers: list[Viewer]) -> None:
        now = clock.monotonic()
        for viewer in viewers:
            for frame in frames:
                try:
                    viewer.send_frame(frame, now)
                except Exception:  # noqa: BLE001 - it is noted; the next frame may go better
                    self._faults.note("a frame is not sent to a peer")
        self.pacer.run()

    def _keep(self, frame: EncodedFrame) -> None:
        """Keep what a joining peer needs."""
        if frame.keyframe:
            self._group = [frame]
            self._group_octets = frame.octets
            return
        self._group_octets += frame.octets
        if self._group_is_recent() and len(self._group) < GROUP_FRAMES and self._group_octets <= GROUP_OCTETS:
            self._group.append(frame)
        else:
            self._group.clear()

    def _group_is_recent(self) -> bool:
        """Whether there is a keyframe, not older than GROUP_AGE."""
        return bool(self._group) and ntp_time() - self._group[0].ntp_time < GROUP_AGE * 2**32

    def request_keyframe(self) -> None:
        """Ask the encoder for a keyframe."""
        self._faults.call(self.on_keyframe_request)

    def add(self, viewer: Viewer) -> None:
        """Send the stream to one more peer, from the last keyframe on if that is recent, else from the next."""
        self._viewers.append(viewer)
        if self._group_is_recent():
            self._send(self._group, [viewer])
        else:
            self.request_keyframe()
        self._count()

    def add_at_keyframe(self, viewer: Viewer) -> None:
        """Send the stream to one more peer from the next frame on, and have a keyframe come soon."""
        self._viewers.append(viewer)
        self.request_keyframe()
        self._count()

    def has(self, viewer: Viewer) -> bool:
        """Whether a peer is sent the stream."""
        return viewer in self._viewers

    def replace(self, viewer: Viewer, other: Viewer) -> None:
        """Send the stream to another peer in the place of one."""
        self._viewers[self._viewers.index(viewer)] = other

    def remove(self, viewer: Viewer) -> None:
        """Send the stream to a peer no longer."""
        if viewer in self._viewers:
            self._viewers.remove(viewer)
            self._count()

    def _count(self) -> None:
        self._faults.call(self.on_viewers, len(self._viewers))
