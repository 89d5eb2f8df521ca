"""From RTP packets, in whatever order they come, to the pieces of one frame after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import av
from aiortc.codecs.vpx import VpxPayloadDescriptor
from av.stream import Stream

from synopticon_rtc.rtc import nal
from synopticon_rtc.rtc.stream import CLOCK_RATE, Codec

CAPACITY = 16_384
"""Packets from the first that waits to the newest: 20 MB, ten times the keyframe of a 4K screen full of text; twice as
many, and old numbers could not be told from new ones."""
CAPACITY_BYTES = 32 * 1024 * 1024
"""Bytes that are held, where packets are larger than any that are sent over the internet."""
MOST_MISSING = 64
"""Packets missing at once, and more than have come behind them, beyond which a keyframe, which is fewer, serves better
than sending them again."""
MAX_REORDER = 64
"""How far before the first packet one may still come and count."""
MAX_DROPOUT = 3000
"""How far numbers may go on, or back, before it must be another stream (RFC 3550 appendix A.1)."""
SURE = 2
"""Packets in a row that show that numbers start anew (RFC 3550 appendix A.1)."""
SURE_OF_OLD = 64
"""Likewise, where they could be late copies of what came before."""
MOST_KEYFRAMES = 4
"""Keyframes that may be on their way at once behind a missing packet."""


@dataclass(slots=True)  # not frozen, which would take five times as long to make
class Piece:
    """What one RTP packet holds of a frame."""

    sequence_number: int
    """Of the packet, 0 to 65,535."""
    timestamp: int
    """Of its frame, in 1/90000 s."""
    marker: bool
    """Whether the packet says that its frame ends with it."""
    data: bytes
    """Its part of the encoded frame."""
    keyframe: bool = False
    """Whether a keyframe begins with it, or with one shortly before it."""
    start: bool = False
    """Whether a frame certainly begins with it."""
    continues: bool = False
    """Whether no frame can begin with it."""
    broken: bool = False
    """Whether its payload breaks its format."""
    units: tuple[bytes, ...] = ()
    """The NAL units of H.264 that begin in it, as :func:`~synopticon_rtc.rtc.nal.split` gives them."""


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
    """When its last packet came, in seconds of the event loop's clock."""
    epoch: int = 0
    """What makes ``rtp_timestamp`` a time that never starts anew; 0 until those on the wire did, as after 13 h."""
    captured: float | None = None
    """When it was captured, seconds since the epoch on the sender's clock; None where its RTP did not tell (yet)."""

    @property
    def pts(self) -> int:
        """When it is to be shown, in 1/90000 s: ``rtp_timestamp``, but running on, over new starts of the stream."""
        return self.rtp_timestamp + self.epoch

    def packet(self, start: int = 0) -> "av.Packet[Stream]":
        """Return it as PyAV takes it, to be muxed or decoded.

        Args:
            start: The ``pts`` of the frame that becomes presentation time 0; what is older has a negative one.
        """
        packet = av.Packet(self.data)
        packet.pts = packet.dts = self.pts - start
        packet.time_base = Fraction(1, CLOCK_RATE)
        packet.is_keyframe = self.keyframe
        return packet


def depayload(codec: str, sequence_number: int, timestamp: int, *, marker: bool, payload: bytes) -> Piece:
    """Take the payload of an RTP packet apart (RFC 7741 for VP8, RFC 6184 for H.264).

    What breaks its format is an empty piece, so that it leaves no hole.

    Raises:
        ValueError: The codec is neither.
    """
    if codec not in {"vp8", "h264"}:
        raise ValueError(f"{codec} is not a codec that can be received")
    piece = Piece(sequence_number, timestamp, marker, b"")
    if not payload:  # padding, which probes the bandwidth
        return piece
    try:
        (_read_vp8 if codec == "vp8" else _read_h264)(piece, payload)
    except ValueError:
        piece.broken = True
    return piece


def _read_vp8(piece: Piece, payload: bytes) -> None:
    descriptor, piece.data = VpxPayloadDescriptor.parse(payload)
    piece.start = bool(descriptor.partition_start) and descriptor.partition_id == 0
    piece.continues = not piece.start
    piece.keyframe = piece.start and len(piece.data) > 0 and not piece.data[0] & 1


def _read_h264(piece: Piece, payload: bytes) -> None:
    piece.data, units = nal.split(payload)
    piece.units = tuple(units)
    kinds = {unit[0] & 0x1F for unit in units}
    piece.start = nal.SPS in kinds or nal.AUD in kinds
    piece.continues = len(piece.data) > 0 and (not units or nal.is_later_slice(units[0]))
    piece.keyframe = not piece.continues and (
        nal.SPS in kinds or nal.IDR in kinds or any(map(nal.is_recovery_point, units))
    )


class Outcome(NamedTuple):
    """What comes of one packet."""

    frames: Sequence[list[Piece]] = ()
    """The frames that are complete now, in order."""
    gap: range = range(0)
    """The packets that are found missing, by numbers that modulo 65536 are those of RTP."""
    lost: bool = False
    """Whether what came before these frames and after those of earlier packets was given up."""


_NOTHING = Outcome()


class FrameBuffer:
    """Puts the packets of one stream in order and gives frames out the moment they are complete.

    A frame is complete at its marker bit, not when the next one begins, so none waits for its successor. While a packet
    is missing the frames after it wait, but for a complete keyframe, which makes what came before it worthless. Each
    packet is looked at once, however long its frame is.
    """

    def __init__(self) -> None:
        # Packets by their sequence number, which is counted on past 65535.
        self._pieces: dict[int, Piece] = {}
        self._bytes = 0
        self._next = 0
        self._newest = -1
        self._newest_timestamp = 0
        # Where frames begin that may come out next, the one at `_next` and keyframes behind what is missing, and up to
        # where each of them has been found to be there.
        self._begun: dict[int, int] = {}
        self._keyframe = -1
        self._started = False
        self._given: int | None = None  # the timestamp of the frame that came out right before what is next
        self._marked = True  # whether a frame ends with its marker
        self._stray: Piece | None = None
        self._strays = 0

    def add(self, piece: Piece, *, repair: bool = False) -> Outcome:
        """Take one packet.

        Args:
            piece: What it holds.
            repair: Whether it was sent again, which says nothing of where the stream is.
        """
        number = self._unwrap(piece.sequence_number)
        if self._newest < 0:
            if repair:
                return _NOTHING
            self._begin(number)
        elif (held := self._pieces.get(number)) is not None and held.timestamp == piece.timestamp:
            return _NOTHING
        elif (
            held is not None  # numbers have started anew, and fall among those that are waited for
            or number < self._next
            or number > self._newest + MAX_DROPOUT
            or (number < self._newest - MAX_REORDER and self._is_newer(piece))
        ):
            if not self._started and 0 < self._next - number <= MAX_REORDER:
                gap = range(number + 1, self._next)
                self._next = number
                self._note_begin(number)
                return self._take(piece, number, gap)
            return _NOTHING if repair else self._astray(piece, number)
        return self._take(piece, number, range(self._newest + 1, number))

    @property
    def keyframe(self) -> int | None:
        """Where the newest keyframe begins that has begun to come and is not complete."""
        return self._keyframe if self._keyframe >= self._next else None

    @property
    def missing(self) -> list[int]:
        """The packets that are missing."""
        return [number for number in range(self._next, self._newest) if number not in self._pieces]

    def is_missing(self, number: int) -> bool:
        """Whether a packet is still waited for."""
        return self._next <= number < self._newest and number not in self._pieces

    def give_up(self) -> Outcome:
        """Let go of what is missing and of all that waits for it, up to the newest keyframe that has begun."""
        keyframe = max(self._begun)
        self._let_go(keyframe if keyframe > self._next else self._newest)
        if self._is_full():  # it was all one frame
            self._let_go(self._newest)
        self._given = None
        return self._complete()._replace(lost=True)

    def _begin(self, number: int) -> None:
        """Start anew with the packet of a number."""
        self._pieces.clear()
        self._bytes = 0
        self._next = number
        self._newest = number - 1
        self._begun = {number: number}
        self._keyframe = -1
        self._started = False
        self._given = None

    def _take(self, piece: Piece, number: int, gap: range) -> Outcome:
        self._strays = 0
        self._pieces[number] = piece
        self._bytes += len(piece.data)
        if number > self._newest:
            self._newest = number
            self._newest_timestamp = piece.timestamp
        missing = self._newest + 1 - self._next - len(self._pieces)
        if piece.keyframe:
            self._note_keyframe(piece, number, missing)
        if missing > max(MOST_MISSING, len(self._pieces)) or self._is_full():
            return self.give_up()
        outcome = self._complete()
        return outcome._replace(gap=gap) if gap else outcome

    def _is_full(self) -> bool:
        return self._newest - self._next >= CAPACITY or self._bytes > CAPACITY_BYTES

    def _note_keyframe(self, piece: Piece, number: int, missing: int) -> None:
        if missing and not piece.start:  # its parameter sets may be among what is missing
            before = self._pieces.get(number - 1)
            if before is None or (before.timestamp == piece.timestamp and not (before.marker and self._marked)):
                return
        self._keyframe = max(self._keyframe, number)
        if missing and number > self._next:
            self._note_begin(number)

    def _note_begin(self, number: int) -> None:
        self._begun[number] = number
        if len(self._begun) > 1 + MOST_KEYFRAMES:
            del self._begun[sorted(self._begun)[1]]

    def _astray(self, piece: Piece, number: int) -> Outcome:
        """Take a packet that is far from the others, or older than what came out: a late copy, or another stream."""
        before = self._stray
        follows = before is not None and piece.sequence_number == (before.sequence_number + 1) & 0xFFFF
        self._strays = self._strays + 1 if follows and self._strays else 1
        self._stray = piece
        far = not self._next - MAX_DROPOUT <= number <= self._newest
        if before is None or self._strays < (SURE if far or self._is_newer(piece) else SURE_OF_OLD):
            return _NOTHING
        first = (self._newest & ~0xFFFF) + 0x20000 + before.sequence_number  # what was missing is not taken for these
        self._begin(first)
        outcome = self._take(before, first, range(0))
        frames = [*outcome.frames, *self._take(piece, first + 1, range(0)).frames]
        return Outcome(frames, lost=True)

    def _is_newer(self, piece: Piece) -> bool:
        """Whether a packet is of a later time than the one with the highest number."""
        return 0 < (piece.timestamp - self._newest_timestamp) & 0xFFFFFFFF < 0x80000000  # noqa: PLR2004 - half of all

    def _unwrap(self, sequence_number: int) -> int:
        if self._newest < 0:
            return sequence_number + 0x10000
        return self._newest + ((sequence_number - self._newest + 0x8000) & 0xFFFF) - 0x8000

    def _complete(self) -> Outcome:
        """Give out what is complete."""
        frames: list[list[Piece]] = []
        lost = False
        while (found := self._find()) is not None:
            start, end = found
            pieces = [self._pieces[number] for number in range(start, end)]
            if start > self._next:
                lost, self._given = True, None
            self._let_go(end)
            self._started = True
            first = next((piece for piece in pieces if piece.data or piece.broken), None)
            if first is not None:
                if first.continues and first.timestamp == self._given and self._marked:
                    self._marked, lost = False, True  # what came out before was not all of its frame
                frames.append(pieces)
            self._given = pieces[0].timestamp
        return Outcome(frames, lost=lost) if frames or lost else _NOTHING

    def _find(self) -> tuple[int, int] | None:
        """Return where a complete frame begins and ends."""
        if end := self._walk(self._next):
            return self._next, end
        if len(self._begun) > 1:
            for start in self._begun:
                if start > self._next and (end := self._walk(start)):
                    return start, end
        return None

    def _walk(self, start: int) -> int:
        """Walk on over the packets of a frame, and return where it ends, 0 if it has not been found to."""
        pieces = self._pieces
        at = self._begun[start]
        while (piece := pieces.get(at)) is not None:
            if at > start and piece.timestamp != pieces[start].timestamp:
                break
            at += 1
            if piece.marker and self._marked:
                break
        else:
            self._begun[start] = at
            return 0
        self._begun[start] = at
        return at

    def _let_go(self, number: int) -> None:
        for old in range(self._next, number):
            if (piece := self._pieces.pop(old, None)) is not None:
                self._bytes -= len(piece.data)
        self._next = number
        self._begun = {start: at for start, at in self._begun.items() if start >= number}
        self._begun.setdefault(number, number)
