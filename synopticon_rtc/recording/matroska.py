"""Matroska (RFC 9559), as far as recordings need it: a file that grows by whole clusters, and is complete up to there.

FFmpeg can write it too, but holds back what comes of all tracks as long as a VP8 track pauses, which is all that came
since somebody muted their camera, or since a screen has changed last.
"""

import contextlib
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

EBML, INFO, TRACKS, TRACK, TAGS, TAG, ATTACHMENTS = (
    0x1A45DFA3,
    0x1549A966,
    0x1654AE6B,
    0xAE,
    0x1254C367,
    0x7373,
    0x1941A469,
)
CLUSTER, CUES = 0x1F43B675, 0x1C53BB6B
SEGMENT, SEEK_HEAD, VOID, CRC = 0x18538067, 0x114D9B74, 0xEC, 0xBF
_UNKNOWN = b"\x01" + b"\xff" * 7  # size of a segment that grows
_BEGIN = SEGMENT.to_bytes(4) + _UNKNOWN
_SEEK_HEAD_SIZE = 128  # octets that are left for it
_DURATION_SIZE = 11
LENGTH = 200
"""Milliseconds of a cluster, which is written as a whole."""
_FURTHEST = 30_000  # ms from the time of a cluster to those of its blocks, which are 16 bits


def element(name: int, *content: bytes | str | float) -> bytes:
    """Return an element of EBML (RFC 8794): its name, its size, and what is in it."""
    data = b"".join(map(_encoded, content))
    octets = max(1, -(-(len(data) + 1).bit_length() // 7))
    size = (len(data) | 1 << 7 * octets).to_bytes(octets)
    return name.to_bytes(-(-name.bit_length() // 8)) + size + data


def checked(name: int, *content: bytes) -> bytes:
    """Return an element that tells whether it is damaged."""
    data = b"".join(content)
    return element(name, element(CRC, zlib.crc32(data).to_bytes(4, "little")), data)


def _encoded(value: bytes | str | float) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode(errors="replace")
    if isinstance(value, float):
        return struct.pack(">d", value)
    return value.to_bytes(max(1, -(-value.bit_length() // 8)))


class MatroskaFile:
    """A file that is written. Its methods block, and raise OSError where it cannot be written.

    Args:
        path: Of the file, which must not be there yet.
        kind: ``matroska`` or ``webm``.
        info: What :data:`INFO` says, but for the duration.
        head: What comes before all clusters: names of elements, and what is in them.
    """

    def __init__(self, path: Path, kind: str, info: bytes, head: Iterable[tuple[int, bytes]]) -> None:
        self._blocks: list[bytes] = []  # of the cluster that is not written yet
        self._time = 0  # its own, ms
        self._since: float | None = None  # when it had to wait first, s
        self._duration = 0
        self._cues: list[bytes] = []
        begin = element(
            EBML,
            *(element(name, 1) for name in (0x4286, 0x42F7)),
            element(0x42F2, 4),
            element(0x42F3, 8),
            element(0x4282, kind),
            element(0x4287, 4),
            element(0x4285, 2),
        )
        self._begin = len(begin) + len(_BEGIN)
        elements = [(INFO, element(INFO, info, _void(_DURATION_SIZE)))]
        elements += [(name, checked(name, content)) for name, content in head]
        self._places: dict[int, int] = {}  # of what is in the file, from the beginning of the segment
        at = _SEEK_HEAD_SIZE
        for name, data in elements:
            self._places[name] = at
            at += len(data)
        self._duration_at = self._begin + _SEEK_HEAD_SIZE + len(elements[0][1]) - _DURATION_SIZE
        self._file = path.open("xb")
        try:
            self._put(begin, _BEGIN, self._seek_head(), *(data for _, data in elements))
        except OSError:
            with contextlib.suppress(OSError):  # the same once more
                self._file.close()
            path.unlink()  # nobody can read half a head
            raise

    def block(self, track: int, at: int, data: bytes, *, keyframe: bool, indexed: bool) -> None:
        """Write a block of video or sound.

        Args:
            track: Its number.
            at: Its time, ms.
            data: It.
            keyframe: Whether it can be decoded without those before it.
            indexed: Whether players are to find it.
        """
        self._prepare(at, begins=indexed)
        if indexed:
            place = self._file.tell() - self._begin
            where = element(0xB7, element(0xF7, track), element(0xF1, place))
            self._cues.append(element(0xBB, element(0xB3, at), where))
        self._blocks.append(element(0xA3, self._head(track, at, 0x80 if keyframe else 0), data))

    def text(self, track: int, at: int, data: bytes) -> None:
        """Write a block of WebVTT, which may come late."""
        self._prepare(at, begins=False, late=True)
        block = element(0xA1, self._head(track, at, 0), b"\n\n", data)  # no identifier, and no settings
        self._blocks.append(element(0xA0, block, element(0x9B, 1)))

    def tick(self, now: float) -> None:
        """Write what has waited for long. ``now`` is in seconds, of any clock."""
        if self._since is None:
            self._since = now if self._blocks else None
        elif now - self._since >= LENGTH / 1000:
            self._flush()

    def close(self) -> None:
        """Write what waits, and the index."""
        with self._file:
            self._flush()
            if self._cues:
                self._places[CUES] = self._file.tell() - self._begin
                self._put(checked(CUES, *self._cues))
            size = self._file.tell() - self._begin
            for at, data in (
                (self._begin, self._seek_head()),
                (self._duration_at, element(0x4489, float(self._duration))),
                (self._begin - len(_UNKNOWN), b"\x01" + size.to_bytes(7)),
            ):
                self._file.seek(at)
                self._put(data)

    def _prepare(self, at: int, *, begins: bool, late: bool = False) -> None:
        after = at - self._time
        if self._blocks and (begins or not -_FURTHEST < after < (_FURTHEST if late else LENGTH)):
            self._flush()
        if not self._blocks:
            self._time = at
        self._duration = max(self._duration, at)

    def _head(self, track: int, at: int, flags: int) -> bytes:
        return (0x80 | track).to_bytes() + struct.pack(">hB", at - self._time, flags)

    def _flush(self) -> None:
        blocks, self._blocks, self._since = self._blocks, [], None
        if blocks:
            self._put(checked(CLUSTER, element(0xE7, self._time), *blocks))

    def _seek_head(self) -> bytes:
        seeks = (
            element(0x4DBB, element(0x53AB, name), element(0x53AC, place.to_bytes(8)))
            for name, place in self._places.items()
        )
        head = element(SEEK_HEAD, *seeks)
        return head + _void(_SEEK_HEAD_SIZE - len(head))

    def _put(self, *pieces: bytes) -> None:
        self._file.write(b"".join(pieces))
        self._file.flush()


def _void(octets: int) -> bytes:
    """Return an element that says nothing, as long as that."""
    return element(VOID, bytes(octets - 2))


def date(seconds: float) -> bytes:
    """Return a time in seconds since 1970 as a date, which begins with the millennium."""
    return (round(seconds * 1e9) - 978_307_200_000_000_000).to_bytes(8, signed=True)
