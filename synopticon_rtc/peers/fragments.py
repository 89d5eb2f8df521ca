"""Messages of applications in pieces, each of which fits into a packet, and the pieces put together again.

Nothing here does I/O. A frame of ``messages/1`` is one octet of flags and a piece of a message, in order. How much may
be sent the other end tells, as QUIC does it (RFC 9000 section 4.1): a limit of all that was ever sent on the channel. A
frame of ``messages-latest/1`` has the number of its message and its own number after the flags, as it may come in any
order, or not at all.
"""

import struct
from collections import deque

from synopticon_rtc.errors import InvalidMessage

FRAME = 1150
"""Bytes of a frame at most, so that it is one packet."""
OVERHEAD = 128
"""Bytes that a message counts for beside its own."""
MAX_MESSAGE = 2**20
"""Bytes of a message."""
MAX_LATEST = 16_384
"""Bytes of a message of which only the newest counts: the more pieces, the sooner one of them is lost."""
WINDOW = MAX_MESSAGE + OVERHEAD
"""Bytes that may come on a channel before they are read."""
UNREAD = 16_384
"""The same on one that nobody has asked for yet."""
QUEUE = 2**18
"""Bytes that wait to be sent on a channel, or else one message."""

_LAST, _TEXT = 1, 2
_LATEST = struct.Struct("!BLB")  # flags, number of the message, number of the frame
_NUMBERS = 2**32

Data = bytes | str


def _read(data: bytes, flags: int) -> Data:
    try:
        return data.decode() if flags & _TEXT else data
    except UnicodeDecodeError as error:
        raise InvalidMessage("a text is no UTF-8") from error


class Outgoing:
    """Messages that wait to be sent, in order.

    Attributes:
        size: Bytes that wait.
        limit: Bytes that may be sent on this channel in all.
    """

    def __init__(self) -> None:
        self.size = 0
        self.limit = UNREAD
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._at = 0  # in the first of them
        self._sent = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, data: bytes, *, text: bool) -> bool:
        """Take a message, if there is room for it; a large one has room where nothing waits."""
        if self._waiting and self.size + len(data) + OVERHEAD > QUEUE:
            return False
        self._waiting.append((data, _TEXT if text else 0))
        self.size += len(data) + OVERHEAD
        return True

    def next(self, most: int = FRAME) -> bytes | None:
        """Take the next frame, of so many bytes at most; None where there is none, or no more may be sent for now."""
        if not self._waiting:
            return None
        data, flags = self._waiting[0]
        piece = data[self._at : self._at + most - 1]
        end = self._at + len(piece)
        last = end == len(data)
        cost = len(piece) + (OVERHEAD if last else 0)
        if self._sent + cost > self.limit:
            return None
        self._sent += cost
        self.size -= cost
        self._at = end
        if last:
            self._waiting.popleft()
            self._at = 0
        return bytes([flags | (_LAST if last else 0)]) + piece


class Incoming:
    """The other end of :class:`Outgoing`.

    Attributes:
        limit: Bytes that the other end may send in all.
    """

    def __init__(self) -> None:
        self.limit = UNREAD
        self._came = 0
        self._begun = bytearray()

    def take(self, frame: bytes) -> Data | None:
        """Take a frame, and return the message that it completes.

        Raises:
            InvalidMessage: It breaks the format, or more came than may.
        """
        if not frame or frame[0] & ~(_LAST | _TEXT):
            raise InvalidMessage("a frame of a message breaks its format")
        last = frame[0] & _LAST
        self._came += len(frame) - 1 + (OVERHEAD if last else 0)
        self._begun += memoryview(frame)[1:]
        if self._came > self.limit or len(self._begun) > MAX_MESSAGE:
            raise InvalidMessage("more came than may")
        if not last:
            return None
        data, self._begun = bytes(self._begun), bytearray()
        return _read(data, frame[0])


class LatestOutgoing:
    """The newest message that waits to be sent, and the rest of the one that is on its way."""

    def __init__(self) -> None:
        self._number = 0
        self._frames: deque[bytes] = deque()
        self._newest: tuple[bytes, int] | None = None

    def __bool__(self) -> bool:
        return bool(self._frames) or self._newest is not None

    def put(self, data: bytes, *, text: bool) -> bool:
        """Take a message, and say whether it replaces one that has not begun to be sent."""
        replaced = self._newest is not None
        self._newest = data, _TEXT if text else 0
        return replaced

    def next(self, most: int = FRAME) -> bytes | None:
        """Take the next frame, if there is one; all of a message have the length that is best for its first."""
        if not self._frames and self._newest is not None:
            (data, flags), self._newest = self._newest, None
            self._number = (self._number + 1) % _NUMBERS
            step = most - _LATEST.size
            starts = range(0, max(len(data), 1), step)
            self._frames.extend(
                _LATEST.pack(flags | (_LAST if start == starts[-1] else 0), self._number, index)
                + data[start : start + step]
                for index, start in enumerate(starts)
            )
        return self._frames.popleft() if self._frames else None


class LatestIncoming:
    """The other end of :class:`LatestOutgoing`: messages come in the order of their numbers, or not at all."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._pieces: dict[int, bytes] = {}
        self._size = 0
        self._count: int | None = None  # of the frames of this message, once its last has come
        self._done = False

    def take(self, frame: bytes) -> Data | None:
        """Take a frame, and return the message that it completes, if that is newer than all before it.

        Raises:
            InvalidMessage: It breaks the format.
        """
        if len(frame) < _LATEST.size or frame[0] & ~(_LAST | _TEXT):
            raise InvalidMessage("a frame of a message breaks its format")
        flags, number, index = _LATEST.unpack_from(frame)
        if number != self._number:
            if self._number is not None and (number - self._number) % _NUMBERS >= _NUMBERS // 2:
                return None
            self._number, self._pieces, self._size, self._count, self._done = number, {}, 0, None, False
        if self._done or index in self._pieces:
            return None
        self._pieces[index] = frame[_LATEST.size :]
        self._size += len(frame) - _LATEST.size
        if self._size > MAX_LATEST:
            raise InvalidMessage("a message is too long")
        if flags & _LAST:
            self._count = index + 1
        if self._count is None or len(self._pieces) < self._count:
            return None
        pieces, self._pieces, self._done = self._pieces, {}, True
        return _read(b"".join(pieces[each] for each in sorted(pieces)), flags)
