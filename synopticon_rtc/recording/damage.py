"""Where a recording is damaged, by the checksums that its clusters carry."""

import zlib
from pathlib import Path
from typing import BinaryIO

from synopticon_rtc.recording.matroska import (
    ATTACHMENTS,
    CLUSTER,
    CRC,
    CUES,
    EBML,
    INFO,
    SEEK_HEAD,
    SEGMENT,
    TAGS,
    TRACKS,
    VOID,
)

_CHAPTERS = 0x1043A770
_IN_A_FILE = {ATTACHMENTS, _CHAPTERS, CLUSTER, CUES, EBML, INFO, SEEK_HEAD, SEGMENT, TAGS, TRACKS, VOID}
_HEADER = 12  # octets at most, of a name and a size
_PIECE = 2**20  # octets that are searched at once


class Damage:
    """Follows whoever reads a file, and checks each cluster. Its methods block.

    A cluster without a checksum, as other programs write it, is taken to be right, and so is the last one where the
    file was cut off.

    Args:
        path: Of the file.

    Attributes:
        places: Where what is damaged begins, bytes.
    """

    def __init__(self, path: Path) -> None:
        self.places: list[int] = []
        self._path = path
        self._file: BinaryIO | None = None  # until something is asked: many only want to know what is in a recording
        self._size = 0
        self._next = 0  # where the next element begins
        self._first: int | None = None  # what ends before that is not checked
        self._intact = True

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def seek(self) -> None:
        """Begin anew, with what is asked for next."""
        self._next, self._first = 0, None

    def intact(self, at: int) -> bool:
        """Whether what stands at a byte is as it was written. What comes after what was asked before is checked too."""
        if self._first is None:
            self._first = at
            self._size = self._path.stat().st_size
        while self._next <= at and self._step():
            pass
        return self._intact

    def rest(self) -> None:
        """Check what is left of the file."""
        while self._first is not None and self._step():
            pass

    def _step(self) -> bool:
        """Go past an element; whether there was one."""
        begin, self._intact = self._next, True
        name, length, size = _header(self._read(begin, _HEADER))
        if name == SEGMENT:
            self._next += length
            return True
        if name in _IN_A_FILE and size is not None and begin + length + size <= self._size:
            self._next += length + size
            if name == CLUSTER and self._next > (self._first or 0):
                self._intact = _is_intact(self._read(begin + length, size))
        elif size is None or (following := self._find(begin + 1)) is None:
            self._next = self._size  # it grows, or was cut off
            return False
        else:
            self._next, self._intact = following, False
        if not self._intact:
            self.places.append(begin)
        return True

    def _find(self, at: int) -> int | None:
        """Return where the next cluster begins."""
        name = CLUSTER.to_bytes(4)
        while piece := self._read(at, _PIECE):
            if (found := piece.find(name)) >= 0:
                return at + found
            at += max(len(piece) - len(name) + 1, len(name))
        return None

    def _read(self, at: int, octets: int) -> bytes:
        if self._file is None:
            self._file = self._path.open("rb")
        self._file.seek(at)
        return self._file.read(octets)


def _header(data: bytes) -> tuple[int, int, int | None]:
    """Return the name of an element, the octets of its header, and its size: None where it is not known (RFC 8794)."""
    named = _octets(data)
    sized = _octets(data[named:])
    digits = 7 * sized
    size = int.from_bytes(data[named : named + sized]) & (1 << digits) - 1
    return int.from_bytes(data[:named]), named + sized, None if size == (1 << digits) - 1 else size


def _octets(data: bytes) -> int:
    """Return how many octets a number has, by its first one."""
    return 9 - data[0].bit_length() if data else 1


def _is_intact(cluster: bytes) -> bool:
    head = CRC.to_bytes() + b"\x84"  # four octets long
    return not cluster.startswith(head) or cluster[2:6] == zlib.crc32(cluster[6:]).to_bytes(4, "little")
