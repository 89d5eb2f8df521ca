"""From RTP packets, in whatever order they come, to encoded frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from aiortc.codecs.h264 import NAL_TYPE_FU_A, NAL_TYPE_STAP_A, H264PayloadDescriptor
from aiortc.codecs.vpx import VpxPayloadDescriptor
from av.stream import Stream

from synopticon_rtc.rtc.stream import CLOCK_RATE, Codec

CAPACITY = 512
"""Packets that are held while one before them is missing."""
MOST_MISSING = 64
"""Packets missing at once beyond which a keyframe, which is fewer, serves better than sending them again."""
MAX_REORDER = 64
"""How far before the first packet one may still come and count."""

_IDR, _SPS = 5, 7


@dataclass(frozen=True, slots=True)
class Piece:
    """What one RTP packet holds of a frame."""

    sequence_number: int
    timestamp: int
    marker: bool
    data: bytes
    keyframe: bool
    """Whether it shows that its frame is a keyframe."""
    start: bool
    """Whether a keyframe starts with it."""


@dataclass(frozen=True, slots=True)
class EncodedVideoFrame:
    """One encoded frame, complete."""

    codec: Codec
    """``"vp8"`` or ``"h264"``."""
    data: bytes
    """What the encoder made: a VP8 frame (RFC 6386), or H.264 in Annex B form."""
    rtp_timestamp: int
    """As it was on the wire, 0 to 2**32 - 1, in 1/90000 s."""
    keyframe: bool
    """Whether it can be decoded without those before it."""
    arrived: float
    """When its last packet came, in seconds of :func:`time.monotonic`."""

    def packet(self, start: int = 0) -> "av.Packet[Stream]":
        """Return it as PyAV takes it, to be muxed or decoded.

        Args:
            start: The RTP timestamp that becomes presentation time 0.
        """
        packet = av.Packet(self.data)
        packet.pts = packet.dts = (self.rtp_timestamp - start) % 2**32
        packet.time_base = Fraction(1, CLOCK_RATE)
        packet.is_keyframe = self.keyframe
        return packet


def depayload(codec: str, sequence_number: int, timestamp: int, *, marker: bool, payload: bytes) -> Piece:
    """Take the payload of an RTP packet apart (RFC 7741 for VP8, RFC 6184 for H.264).

    Raises:
        ValueError: The payload breaks its format, or the codec is neither.
    """
    if not payload:  # padding, which probes the bandwidth
        return Piece(sequence_number, timestamp, marker, b"", keyframe=False, start=False)
    if codec == "vp8":
        descriptor, data = VpxPayloadDescriptor.parse(payload)
        begins = bool(descriptor.partition_start) and descriptor.partition_id == 0
        start = begins and len(data) > 0 and not data[0] & 1
        return Piece(sequence_number, timestamp, marker, data, keyframe=start, start=start)
    if codec == "h264":
        _, data = H264PayloadDescriptor.parse(payload)
        kind = payload[0] & 0x1F
        if kind == NAL_TYPE_FU_A:
            kind = payload[1] & 0x1F
        elif kind == NAL_TYPE_STAP_A and len(payload) > 3:  # noqa: PLR2004 - NAL header and length
            kind = payload[3] & 0x1F
        return Piece(sequence_number, timestamp, marker, data, keyframe=kind in {_IDR, _SPS}, start=kind == _SPS)
    raise ValueError(f"{codec} is not a codec that can be received")


class FrameBuffer:
    """Puts packets in order and gives frames out the moment they are complete.

    A frame is complete at its marker bit, not when the next one begins, so none waits for its successor. While a packet
    is missing the frames after it wait, but for a complete keyframe, which makes what came before it worthless.
    """

    def __init__(self) -> None:
        # Packets by their sequence number, which is counted on past 65535.
        self._pieces: dict[int, Piece] = {}
        self._next = 0
        self._newest = -1
        self._keyframe = -1
        self._started = False
        self._torn = False  # whether the frame that comes next lacks its beginning

    def add(self, piece: Piece) -> tuple[list[list[Piece]], bool]:
        """Take one packet.

        Returns:
            The frames that are complete now, in order, and whether packets before them were given up as lost.
        """
        number = self._unwrap(piece.sequence_number)
        if self._newest < 0:
            self._next = number
        elif number < self._next:
            if self._started or self._next - number > MAX_REORDER:
                return [], False
            self._next = number
        self._newest = max(self._newest, number)
        self._pieces[number] = piece
        if piece.start:
            self._keyframe = max(self._keyframe, number)
        lost = number - self._next >= CAPACITY or self._count_missing() > MOST_MISSING
        if lost:
            self._give_up()
        return list(self._take()), lost

    @property
    def incomplete(self) -> bool:
        """Whether a packet is missing between those that have come."""
        return self._count_missing() > 0

    @property
    def missing(self) -> Iterator[int]:
        """The numbers of the packets that are missing, modulo 65536 those of RTP."""
        return (number for number in range(self._next, self._newest) if number not in self._pieces)

    @property
    def keyframe(self) -> int | None:
        """Where the newest keyframe begins that has begun to come and is not complete."""
        return self._keyframe if self._keyframe >= self._next else None

    def _count_missing(self) -> int:
        return self._newest + 1 - self._next - len(self._pieces)

    def _unwrap(self, sequence_number: int) -> int:
        if self._newest < 0:
            return sequence_number + 0x10000
        return self._newest + ((sequence_number - self._newest + 0x8000) & 0xFFFF) - 0x8000

    def _take(self) -> Iterator[list[Piece]]:
        while True:
            start = self._next
            pieces = self._frame(start)
            if not pieces and self._keyframe > self._next:
                start = self._keyframe
                pieces = self._frame(start)
            if not pieces:
                return
            torn, self._torn = self._torn and start == self._next, False
            self._advance(start + len(pieces))
            self._started = True
            if any(piece.data for piece in pieces) and not torn:
                yield pieces

    def _frame(self, number: int) -> list[Piece]:
        """Return the frame that begins with a packet, nothing while it is not complete."""
        pieces: list[Piece] = []
        while (piece := self._pieces.get(number)) is not None:
            if pieces and piece.timestamp != pieces[0].timestamp:
                return pieces
            pieces.append(piece)
            if piece.marker:
                return pieces
            number += 1
        return []

    def _give_up(self) -> None:
        """Let go of what is missing, and of all that waits for it, up to a keyframe."""
        self._torn = self._keyframe <= self._next
        self._advance(self._newest if self._torn else self._keyframe)

    def _advance(self, number: int) -> None:
        for old in range(self._next, number):
            self._pieces.pop(old, None)
        self._next = number
