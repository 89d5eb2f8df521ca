"""What encoded pictures say of themselves: whether decoding can begin with one, and how large it is.

It is read before anything is decoded, since a decoder takes the memory that a picture claims to need.
"""

import contextlib
from collections.abc import Sequence
from typing import Protocol

from synopticon_rtc.rtc import nal
from synopticon_rtc.rtc.assembly import CAPACITY, EncodedVideoFrame, Piece
from synopticon_rtc.rtc.sps import read_sps, set_id
from synopticon_rtc.rtc.stream import Codec

MAX_SIZE = (4096, 4096)
"""Width and height in pixels. A picture of that size takes 25 MB, and a decoder keeps several."""
MOST_SETS = 32
"""Parameter sets that are kept; encoders have two."""
LARGEST_SET = 1024
"""Bytes of a parameter set that is kept; those of encoders have some 30."""
LONGEST_PREFIX = 16_384
"""Bytes that may come before a picture and apart from it: parameter sets and the like."""
MOST_UNITS = CAPACITY
"""NAL units of a frame: as many as it may have packets, of which each may be a slice."""
MOST_TOLD = 64
"""Parameter sets and SEI of a frame, all of which are read."""
_VP8_HEADER = 10
_VP8_START = b"\x9d\x01\x2a"


class TooLargeError(ValueError):
    """A picture is larger than allowed."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(f"a picture of {width}x{height} is too large")
        self.width = width
        self.height = height


class Bitstream(Protocol):
    """The pictures of one stream, in order."""

    def read(self, pieces: Sequence[Piece]) -> tuple[bytes, bool] | None:
        """Take what came from one end of a frame to the next.

        Returns:
            What a decoder takes, and whether decoding can begin with it; None where it is no picture. What comes before
            a picture and apart from it is given with that.

        Raises:
            TooLargeError: The picture is larger than allowed.
            ValueError: It lacks its beginning, or is broken.
        """
        ...  # pragma: no cover


def bitstream(codec: Codec, max_size: tuple[int, int]) -> Bitstream:
    """Return what reads the pictures of a codec."""
    return _Vp8(max_size) if codec == "vp8" else _H264(max_size)


def picture_size(frame: EncodedVideoFrame) -> tuple[int, int] | None:
    """Return the width and height that a frame tells, as keyframes do; None where it tells none."""
    if not frame.keyframe:
        return None
    if frame.codec == "vp8":
        return _vp8_size(frame.data)
    for unit in frame.data.split(nal.START_CODE[1:]):
        if unit and unit[0] & 0x1F == nal.SPS:
            with contextlib.suppress(ValueError):  # a decoder will say
                return read_sps(unit)[1:]
    return None


class _Vp8:
    def __init__(self, max_size: tuple[int, int]) -> None:
        self._max_size = max_size

    def read(self, pieces: Sequence[Piece]) -> tuple[bytes, bool] | None:
        data = _join(pieces)
        if not data:
            return None
        if next(piece for piece in pieces if piece.start or piece.data).continues:
            raise ValueError("a frame lacks its beginning")
        keyframe = not data[0] & 1
        if keyframe and (size := _vp8_size(data)) is not None:
            _check(*size, self._max_size)
        return data, keyframe


def _vp8_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a keyframe (RFC 6386 section 9.1); what lacks them, libvpx refuses."""
    if data[3:6] != _VP8_START or len(data) < _VP8_HEADER:
        return None
    width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return width, height


class _H264:
    def __init__(self, max_size: tuple[int, int]) -> None:
        self._max_size = max_size
        self._sets: dict[tuple[int, int], bytes] = {}
        self._before: list[Piece] = []
        self._before_bytes = 0

    def read(self, pieces: Sequence[Piece]) -> tuple[bytes, bool] | None:
        data = _join(pieces)
        if not data:
            return None
        units = [unit for piece in pieces for unit in piece.units]
        told = [unit for unit in units if unit[0] & 0x1F in nal.TOLD_WHOLE]
        if len(units) > MOST_UNITS or len(told) > MOST_TOLD:
            raise ValueError("a frame has too many NAL units")
        for unit in told:
            self._keep(unit)
        first = next((unit for unit in units if unit[0] & 0x1F in nal.SLICES), None)
        if first is None and units:
            self._put_off(pieces, len(data))
            return None
        if first is None or not next(piece for piece in pieces if piece.data).units:
            raise ValueError("a frame lacks its beginning")
        if self._before:
            data = _join(self._before) + data
            units = [*(unit for piece in self._before for unit in piece.units), *units]
            self._before, self._before_bytes = [], 0
        return self._judge(data, units, first)

    def _judge(self, data: bytes, units: list[bytes], first: bytes) -> tuple[bytes, bool]:
        """Say whether decoding can begin with a picture, and give it the parameter sets that it lacks for that."""
        clean = first[0] & 0x1F == nal.IDR or any(map(nal.is_recovery_point, units))
        if any(unit[0] & 0x1F == nal.SPS for unit in units):
            return data, clean or not nal.is_predicted(first)
        if not clean:
            return data, False
        if nal.is_later_slice(first):
            raise ValueError("a keyframe lacks its beginning")
        if not {nal.SPS, nal.PPS} <= {kind for kind, _ in self._sets}:
            raise ValueError("a keyframe lacks its parameter sets")
        return b"".join([nal.START_CODE + unit for _, unit in sorted(self._sets.items())]) + data, True

    def _keep(self, unit: bytes) -> None:
        """Keep a parameter set: a later keyframe may build on it."""
        kind = unit[0] & 0x1F
        if kind == nal.SEI:
            return
        try:
            number, width, height = read_sps(unit) if kind == nal.SPS else (set_id(unit), 0, 0)
        except ValueError:  # cut off, or of a kind that is not known: a decoder will say
            return
        try:
            _check(width, height, self._max_size)
        except TooLargeError:
            self._sets.clear()
            self._before, self._before_bytes = [], 0
            raise
        if len(unit) > LARGEST_SET:
            return
        self._sets.pop((kind, number), None)
        self._sets[kind, number] = unit
        if len(self._sets) > MOST_SETS:
            del self._sets[next(iter(self._sets))]

    def _put_off(self, pieces: Sequence[Piece], size: int) -> None:
        if self._before_bytes + size > LONGEST_PREFIX:
            self._before, self._before_bytes = [], 0
        if size <= LONGEST_PREFIX:
            self._before.extend(piece for piece in pieces if piece.data)
            self._before_bytes += size


def _join(pieces: Sequence[Piece]) -> bytes:
    """Join the data of a frame."""
    data = b"".join([piece.data for piece in pieces])
    if data and any(piece.broken for piece in pieces):
        raise ValueError("a packet breaks its format")
    return data


def _check(width: int, height: int, most: tuple[int, int]) -> None:
    if width > most[0] or height > most[1]:
        raise TooLargeError(width, height)
