"""Real H.264, and the ways in which RTP may carry it (RFC 6184)."""

import fractions
import re

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

SPS, PPS, SEI, AUD, SLICE, IDR = 7, 8, 6, 9, 1, 5
SOME_SEI = b"\x06\x05\x10" + b"s" * 16 + b"\x80"
RECOVERY_POINT = b"\x06\x06\x01\xc4\x80"
END_OF_SEQUENCE = b"\x0a"


def kind(unit: bytes) -> int:
    """Return the type of a NAL unit."""
    return unit[0] & 0x1F


def encode(
    count: int, keyframes: set[int], size: tuple[int, int] = (320, 240), profile: str = "Baseline", **options: int
) -> list[list[bytes]]:
    """Encode frames, and return the NAL units of each; options are those of x264."""
    codec = av.CodecContext.create("libx264", "w")
    assert isinstance(codec, VideoCodecContext)
    codec.width, codec.height = size
    codec.pix_fmt = {"High 4:2:2": "yuv422p", "High 4:4:4 Predictive": "yuv444p"}.get(profile, "yuv420p")
    codec.time_base = fractions.Fraction(1, 30)
    parameters = {
        "keyint": 9999,
        "repeat-headers": 1,
        **{key.replace("_", "-"): value for key, value in options.items()},
    }
    text = ":".join(f"{key}={value}" for key, value in parameters.items())
    codec.options = {"tune": "zerolatency", "preset": "ultrafast", "x264-params": text}
    codec.profile = profile
    frames = []
    for number in range(count):
        image = np.full((size[1], size[0], 3), 40 + number % 60, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=codec.pix_fmt)
        frame.pts, frame.time_base = number, fractions.Fraction(1, 30)
        frame.pict_type = PictureType.I if number in keyframes else PictureType.NONE
        frames += [units_of(bytes(packet)) for packet in codec.encode(frame)]
    return frames


def units_of(data: bytes) -> list[bytes]:
    """Split Annex B into NAL units."""
    return [unit for unit in re.split(b"\0\0\0\1|\0\0\1", data) if unit]


def fragments(unit: bytes, size: int = 1200, *, numbered: bool = False) -> list[bytes]:
    """Return a NAL unit in FU-A packets, the first of which is FU-B where they are numbered."""
    body = unit[1:]
    packets = []
    for at in range(0, len(body), size):
        first, last = at == 0, at + size >= len(body)
        header = bytes([unit[0] & 0xE0 | (29 if numbered and first else 28), first << 7 | last << 6 | kind(unit)])
        packets.append(header + (b"\0\1" if numbered and first else b"") + body[at : at + size])
    return packets


def single(units: list[bytes]) -> list[bytes]:
    """Give each NAL unit a packet of its own."""
    return units


def fragmented(units: list[bytes]) -> list[bytes]:
    """Give each small NAL unit a packet of its own, and each slice several."""
    return [packet for unit in units for packet in (fragments(unit, 40) if kind(unit) in {SLICE, IDR} else [unit])]


def numbered_fragments(units: list[bytes]) -> list[bytes]:
    """Do likewise with FU-B."""
    return [
        packet
        for unit in units
        for packet in (fragments(unit, 40, numbered=True) if kind(unit) in {SLICE, IDR} else [unit])
    ]


def _aggregate(kind_of_packet: int, head: bytes, before: bytes, units: list[bytes]) -> list[bytes]:
    body = b"".join(len(unit).to_bytes(2, "big") + before + unit for unit in units)
    return [bytes([0x60 | kind_of_packet]) + head + body]


def stap_a(units: list[bytes]) -> list[bytes]:
    """Put all NAL units into one STAP-A."""
    return _aggregate(24, b"", b"", units)


def stap_b(units: list[bytes]) -> list[bytes]:
    """Put all NAL units into one STAP-B."""
    return _aggregate(25, b"\0\1", b"", units)


def mtap16(units: list[bytes]) -> list[bytes]:
    """Put all NAL units into one MTAP16."""
    return _aggregate(26, b"\0\1", b"\0\0\0", units)


def mtap24(units: list[bytes]) -> list[bytes]:
    """Put all NAL units into one MTAP24."""
    return _aggregate(27, b"\0\1", b"\0\0\0\0", units)


def aggregated_head(units: list[bytes]) -> list[bytes]:
    """Put what comes before the slices into one STAP-A, and fragment the slices."""
    head = [unit for unit in units if kind(unit) not in {SLICE, IDR}]
    slices = [unit for unit in units if kind(unit) in {SLICE, IDR}]
    return [*(stap_a(head) if head else []), *fragmented(slices)]
