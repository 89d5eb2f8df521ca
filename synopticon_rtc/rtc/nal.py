"""NAL units, which an H.264 stream is made of, and how RTP carries them (RFC 6184)."""

from synopticon_rtc.rtc.bits import Bits

SLICE, IDR, SEI, SPS, PPS, AUD = 1, 5, 6, 7, 8, 9
"""``nal_unit_type`` (ITU-T H.264 table 7-1)."""
SLICES = frozenset({SLICE, IDR})
"""What a picture is made of."""

START_CODE = b"\0\0\0\1"

TOLD_WHOLE = frozenset({SEI, SPS, PPS})
"""What is more than its first bytes to a receiver."""
MOST_AGGREGATED = 64
"""NAL units in one packet."""

_TOLD = 9  # bytes of other units: as much as the two numbers that a slice begins with may take
_PREDICTED = frozenset({0, 1, 5, 6})
_RECOVERY_POINT = 6
_MOST_MESSAGES = 16
# By ``nal_unit_type``: how long the header of the payload is, and that before each unit, without its length. Decoding
# order numbers are passed over: units come in that order but in interleaved streams, which are negotiated apart.
_AGGREGATES = {24: (1, 0), 25: (3, 0), 26: (3, 3), 27: (3, 4)}
_FRAGMENTS = {28: 2, 29: 4}
_UNITS = range(1, 24)


def split(payload: bytes) -> tuple[bytes, list[bytes]]:
    """Take the payload of an RTP packet apart.

    Returns:
        What it holds, in Annex B form, and the NAL units that begin in it: parameter sets and SEI as they are, of
        others the first bytes. What a receiver has to ignore (RFC 6184 section 5.2) is nothing.

    Raises:
        ValueError: It is cut off.
    """
    kind = payload[0] & 0x1F
    if kind in _UNITS:
        return START_CODE + payload, [_told(payload)]
    if kind in _AGGREGATES:
        units = _aggregated(payload, *_AGGREGATES[kind])
        return b"".join([START_CODE + unit for unit in units]), [_told(unit) for unit in units]
    if kind in _FRAGMENTS:
        at = _FRAGMENTS[kind]
        if len(payload) < at:
            raise ValueError("a fragmentation unit is cut off")
        if not payload[1] & 0x80:
            return payload[at:], []
        unit = bytes([payload[0] & 0xE0 | payload[1] & 0x1F]) + payload[at:]
        return START_CODE + unit, [_told(unit)]
    return b"", []


def is_later_slice(unit: bytes) -> bool:
    """Whether it is a slice that others of its picture precede: not of macroblock 0 (ITU-T H.264 section 7.3.3)."""
    return unit[0] & 0x1F in SLICES and not (len(unit) > 1 and unit[1] & 0x80)


def is_predicted(unit: bytes) -> bool:
    """Whether a slice builds on earlier pictures: it is of type P or B (ITU-T H.264 table 7-6)."""
    bits = Bits(unit[1:])
    try:
        bits.exp_golomb()
        return bits.exp_golomb() in _PREDICTED
    except ValueError:
        return True


def is_recovery_point(unit: bytes) -> bool:
    """Whether it is SEI that says that decoding can begin here without an IDR picture (ITU-T H.264 section D.2.8)."""
    if unit[0] & 0x1F != SEI:
        return False
    at = 1
    for _ in range(_MOST_MESSAGES):
        numbers = []
        for _ in range(2):
            number = 0
            while unit[at : at + 1] == b"\xff":
                number += 255
                at += 1
            if at >= len(unit):
                return False
            numbers.append(number + unit[at])
            at += 1
        kind, size = numbers
        if kind == _RECOVERY_POINT:
            return True
        at += size
    return False


def _told(unit: bytes) -> bytes:
    return unit if unit[0] & 0x1F in TOLD_WHOLE else unit[:_TOLD]


def _aggregated(payload: bytes, at: int, skipped: int) -> list[bytes]:
    units = []
    while at < len(payload):
        begin = at + 2 + skipped
        end = begin + int.from_bytes(payload[at : at + 2], "big")
        if end > len(payload):
            raise ValueError("an aggregation packet is cut off")
        if end > begin:
            units.append(payload[begin:end])
        if len(units) > MOST_AGGREGATED:
            raise ValueError("an aggregation packet holds too many NAL units")
        at = end
    return units
