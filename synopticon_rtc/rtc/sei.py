"""Data of ours in an H.264 stream: SEI messages of user data that are not registered (ITU-T H.264 section D.2.7)."""

import re
import uuid
from collections.abc import Iterator

from synopticon_rtc.rtc.nal import SEI, SLICES, START_CODE

NAME = uuid.UUID("5e8f5a2c-9f0b-4d6e-8a37-c1b94d2e70f6").bytes
"""By which decoders and readers tell our data from that of others; no byte of it is one that has to be escaped."""
MOST = 2**14
"""Bytes of one message: what is longer would hold up the picture that it goes with."""
_USER_DATA = 5  # payloadType
_START_LIKE = re.compile(rb"\0\0(?=[\0-\3])")
_CODE = START_CODE[1:]  # with or without a zero before it
_END = b"\x80"  # rbsp_trailing_bits


def write(data: bytes) -> bytes:
    """Return a NAL unit that carries data."""
    size = len(NAME) + len(data)
    content = bytes([_USER_DATA]) + b"\xff" * (size // 255) + bytes([size % 255]) + NAME + data + _END
    return bytes([SEI]) + _escaped(content)


def read(frame: bytes) -> Iterator[bytes]:
    """Give the data of ours in a frame, in Annex B form; what is cut off is left out."""
    for begin, end in _units(frame):
        if (data := _data(frame[begin:end])) is not None:
            yield data


def without(frame: bytes) -> bytes:
    """Return a frame, in Annex B form, without the data of ours in it."""
    kept, at = [], 0
    for begin, end in _units(frame):
        kept.append(frame[at : begin - len(_CODE)])
        at = end
    return b"".join([*kept, frame[at:]]) if kept else frame


def _units(frame: bytes) -> Iterator[tuple[int, int]]:
    """Give where each NAL unit with our name begins, after its start code, and where the next start code does."""
    at = frame.find(NAME)
    while at >= 0:
        code, end = frame.rfind(_CODE, 0, at), frame.find(_CODE, at)
        begin, end = code + len(_CODE), len(frame) if end < 0 else end
        if code >= 0 and frame[begin] & 0x1F == SEI:
            yield begin, end
        elif code >= 0 and frame[begin] & 0x1F in SLICES:
            return
        at = frame.find(NAME, end)


def _data(unit: bytes) -> bytes | None:
    content = unit[1:].rstrip(b"\0").replace(b"\0\0\3", b"\0\0")  # those belong to the start code that follows
    size, at = 0, 1
    while content[at : at + 1] == b"\xff":
        size, at = size + 255, at + 1
    size, begin = size + content[at], at + 1
    data = content[begin : begin + size]
    if content[0] != _USER_DATA or len(content) <= begin + size or not data.startswith(NAME):
        return None
    return data[len(NAME) :]


def _escaped(content: bytes) -> bytes:
    """Put a byte wherever three would look like the beginning of the next unit (section 7.4.1.1)."""
    return _START_LIKE.sub(b"\0\0\3", content)
