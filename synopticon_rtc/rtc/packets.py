"""Encoded frames, cut into the payloads of RTP packets that pass every network."""

LARGEST_DATAGRAM = 1200
"""Bytes of a UDP datagram, as browsers send them: it passes where fragments do not, with the least MTU of IPv6 too."""
_AROUND = 12 + 20 + 16
"""Bytes around a payload: RTP's header, its extensions, and SRTP's tag. A packet that is sent again tells no time of
capture, which leaves room for its number."""
LARGEST_PAYLOAD = LARGEST_DATAGRAM - _AROUND
_STAP_A, _FU_A = 24, 28
_FIRST, _LAST = 0x80, 0x40
_TYPE, _FLAGS = 0x1F, 0xE0
_REFERENCE = 0x60


def cut_vp8(frame: bytes, picture_id: int) -> list[bytes]:
    """Cut a VP8 frame into payloads (RFC 7741 section 4), each of which names the picture, of 15 bits."""
    first, name = 0x90, (0x8000 | picture_id).to_bytes(2, "big")
    size = LARGEST_PAYLOAD - 4
    head = bytes([first, 0x80]) + name
    rest = bytes([first & ~0x10, 0x80]) + name
    return [(rest if at else head) + frame[at : at + size] for at in range(0, len(frame), size)]


def cut_h264(frame: bytes) -> list[bytes]:
    """Cut an H.264 frame in Annex B form into payloads (RFC 6184): small units together, large ones in parts."""
    payloads: list[bytes] = []
    together: list[bytes] = []
    octets = 1
    for part in frame.split(b"\0\0\1")[1:]:
        unit = part.rstrip(b"\0")  # no unit ends in zeros: they belong to the start code that follows
        if not unit:
            continue
        if octets + 2 + len(unit) > LARGEST_PAYLOAD:
            payloads += _joined(together)
            together, octets = [], 1
        if len(unit) > LARGEST_PAYLOAD:
            payloads += _parts(unit)
        else:
            together.append(unit)
            octets += 2 + len(unit)
    return payloads + _joined(together)


def _joined(units: list[bytes]) -> list[bytes]:
    """Return one aggregation packet (RFC 6184 section 5.7.1), or what needs none."""
    if len(units) < 2:  # noqa: PLR2004
        return units
    reference = max(unit[0] & _REFERENCE for unit in units)
    return [bytes([_STAP_A | reference]) + b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)]


def _parts(unit: bytes) -> list[bytes]:
    """Return fragmentation units (RFC 6184 section 5.8), of about the same size each."""
    content = len(unit) - 1
    count = -(-content // (LARGEST_PAYLOAD - 2))
    size, larger = divmod(content, count)
    edges = [1 + size * number + min(number, larger) for number in range(count + 1)]
    kind, indicator = unit[0] & _TYPE, unit[0] & _FLAGS | _FU_A
    marks = [_FIRST, *[0] * (count - 2), _LAST]
    return [
        bytes([indicator, mark | kind]) + unit[begin:end]
        for mark, begin, end in zip(marks, edges, edges[1:], strict=False)
    ]
