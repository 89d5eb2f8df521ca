"""Messages as Protocol Buffers write them, as far as the face model has any."""

import struct
from collections.abc import Iterator

VARINT, BYTES, FLOAT = 0, 2, 5
"""What a field may hold, by the number that stands for it: https://protobuf.dev/programming-guides/encoding"""
_MORE = 0x80  # in a byte of a number: another one follows


def fields(message: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Give the number and the value of each field: a whole number, a float32, or bytes, which may be a message.

    Raises:
        ValueError: It is no message, or has fields of another kind.
    """
    position = 0

    def taken(length: int) -> bytes:
        nonlocal position
        position += length
        if position > len(message):
            raise ValueError("it ends early")
        return message[position - length : position]

    def varint() -> int:
        value = shift = 0
        while (byte := taken(1)[0]) & _MORE:
            value |= (byte ^ _MORE) << shift
            shift += 7
        return value | byte << shift

    while position < len(message):
        number, kind = divmod(varint(), 8)
        if kind == VARINT:
            yield number, varint()
        elif kind == BYTES:
            yield number, taken(varint())
        elif kind == FLOAT:
            yield number, struct.unpack("<f", taken(4))[0]
        else:
            raise ValueError(f"a field of kind {kind}")
