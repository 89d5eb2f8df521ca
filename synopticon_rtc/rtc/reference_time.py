"""Receiver reference times (RFC 3611 section 4.4), by which a peer that sends nothing measures its round trip.

Chromium estimates from it how our clock and its own differ, and so when each frame was captured by its own.
"""

import struct
from collections.abc import Iterator

EXTENDED_REPORT = 207
_REFERENCE_TIME, _LAST_ONES = 4, 5
_HEAD = 8
"""Bytes of a report before its blocks."""
_REFERENCE = 12
"""Bytes of a block with a reference time."""


def answer(data: bytes, ssrc: int) -> bytes | None:
    """Answer the reference times in RTCP that has just come, so that nothing is to be told of how long they were held.

    Args:
        data: What came, decrypted.
        ssrc: Who we are.

    Returns:
        A report with what the peer wants to have back (section 4.5); None where it asks nothing.
    """
    blocks = b"".join(struct.pack("!4s4sI", source, middle, 0) for source, middle in _reference_times(data))
    if not blocks:
        return None
    words = len(blocks) // 4
    return struct.pack("!BBHIBBH", 0x80, EXTENDED_REPORT, 2 + words, ssrc, _LAST_ONES, 0, words) + blocks


def _reference_times(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give who tells a time, and the middle of its 64 bits."""
    at = 0
    while at + _HEAD <= len(data):
        end = at + 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
        block = at + _HEAD if data[at + 1] == EXTENDED_REPORT else end
        while block + _REFERENCE <= min(end, len(data)):
            size = 4 + 4 * int.from_bytes(data[block + 2 : block + 4], "big")
            if data[block] == _REFERENCE_TIME and size == _REFERENCE:
                yield data[at + 4 : at + _HEAD], data[block + 6 : block + 10]
            block += size
        at = end
