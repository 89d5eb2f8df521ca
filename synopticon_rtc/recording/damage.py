"""Where a recording is damaged, by the checksums that its head and its clusters carry."""

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
    file was cut off, or is still written.

    Args:
        path: Of the file.

    Attributes:
        places: Where what is damaged begins, bytes.
    """

    def __init__(self, path: Path) -> None:
        self.places: list[int] = []
        self._path = path
        self._file: BinaryIO | None = None  # until something is asked: many only want to know what is in a recording
        self._size = 0  # when it was asked last: the file may grow
        self._ended = -1  # its size when no further cluster was found
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
        self._first = at if self._first is None else self._first
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
        head = self._read(begin, _HEADER)
        if len(head) < _HEADER:
            return False  # no cluster is as short as that: more may be on its way
        name, length, size = _header(head)
        if name == SEGMENT:
            self._next += length
            return True
        end = None if name not in _IN_A_FILE or size is None else begin + length + size
        if end is not None and self._has(end):
            self._next = end
        elif size is None or (following := self._following(begin)) is None:
            return False  # it grows, or was cut off
        elif end is not None and self._has(end):
            self._next = end  # written while it was looked for the next
        else:
            self._next, self._intact = following, False
        if self._intact and name == CLUSTER and self._next > (self._first or 0):
            self._intact = _is_intact(self._read(begin + length, self._next - begin - length))
        if not self._intact:
            self.places.append(begin)
        return True

    def _has(self, end: int) -> bool:
        """Whether all before a byte is there by now."""
        if end > self._size:
            self._size = self._path.stat().st_size
        return end <= self._size

    def _following(self, begin: int) -> int | None:
        """Return where the next cluster after a byte begins; it is looked for once while nothing more is written."""
        size = self._path.stat().st_size
        if size == self._ended or (found := self._find(begin + 1)) is None:
            self._ended = size
            return None
        return found

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


def damaged_head(path: Path) -> int | None:
    """Return behind which byte the head of a file is damaged, which says what there is in it; None where it is not.

    Raises:
        OSError: It cannot be read.
    """
    at, name = 0, 0
    with path.open("rb") as file:
        while name not in {TAGS, CLUSTER}:  # the tags are the last of it
            file.seek(at)
            name, length, size = _header(file.read(_HEADER))
            if name == SEGMENT:
                at += length
                continue
            if name not in _IN_A_FILE or size is None:
                return at
            file.seek(at + length)
            if name != CLUSTER and not (len(content := file.read(size)) == size and _is_intact(content)):
                return at
            at += length + size
    return None


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


def _is_intact(content: bytes) -> bool:
    head = CRC.to_bytes() + b"\x84"  # four octets long
    return not content.startswith(head) or content[2:6] == zlib.crc32(content[6:]).to_bytes(4, "little")
