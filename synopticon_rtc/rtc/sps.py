"""The size of the pictures of an H.264 stream, from its sequence parameter set."""

from synopticon_rtc.rtc.bits import Bits

_WITH_CHROMA = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 144, 244}
"""Profiles whose parameter sets tell the format of the colours."""
_YUV420, _YUV422, _YUV444 = 1, 2, 3
_MACROBLOCK = 16


def set_id(unit: bytes) -> int:
    """Return the number of a picture parameter set (ITU-T H.264 section 7.3.2.2).

    Raises:
        ValueError: It is cut off.
    """
    return Bits(unit[1:9]).exp_golomb()


def read_sps(unit: bytes) -> tuple[int, int, int]:
    """Read a sequence parameter set (ITU-T H.264 section 7.3.2.1.1).

    Args:
        unit: The NAL unit, its header included.

    Returns:
        Its number, and the width and height of its pictures: as shown, or as decoded where much of that is cut off,
        since decoding takes that much.

    Raises:
        ValueError: It breaks its format.
    """
    bits = Bits(unit[1:].replace(b"\0\0\3", b"\0\0"))
    profile = bits.read(8)
    bits.read(16)  # constraints and level
    number = bits.exp_golomb()
    chroma = 1
    if profile in _WITH_CHROMA:
        chroma = bits.exp_golomb()
        if chroma == _YUV444:
            bits.read()
        bits.exp_golomb()  # bit depths
        bits.exp_golomb()
        bits.read()
        if bits.read():
            _skip_scaling_lists(bits, 12 if chroma == _YUV444 else 8)
    bits.exp_golomb()
    _skip_order(bits)
    bits.exp_golomb()
    bits.read()
    width = (bits.exp_golomb() + 1) * _MACROBLOCK
    rows = bits.exp_golomb() + 1
    fields = 2 - bits.read()
    height = rows * fields * _MACROBLOCK
    if fields == 2:  # noqa: PLR2004 - interlaced
        bits.read()
    bits.read()
    if bits.read():
        across, down = (2 if chroma in {_YUV420, _YUV422} else 1), (2 if chroma == _YUV420 else 1) * fields
        width = _crop(width, (bits.exp_golomb() + bits.exp_golomb()) * across, _MACROBLOCK)
        height = _crop(height, (bits.exp_golomb() + bits.exp_golomb()) * down, _MACROBLOCK * fields)
    return number, width, height


def _crop(size: int, off: int, step: int) -> int:
    """Take off what only fills up the last macroblock; more than that is decoded for nothing, and counts."""
    return size - off if off < step else size


def _skip_order(bits: Bits) -> None:
    kind = bits.exp_golomb()
    if kind == 0:
        bits.exp_golomb()
    elif kind == 1:
        bits.read()
        bits.signed()
        bits.signed()
        for _ in range(min(bits.exp_golomb(), 256)):
            bits.signed()


def _skip_scaling_lists(bits: Bits, count: int) -> None:
    for at in range(count):
        if not bits.read():
            continue
        last = following = 8
        for _ in range(16 if at < 6 else 64):  # noqa: PLR2004 - the first are of 4x4
            if following:
                following = (last + bits.signed()) % 256
            last = following or last
