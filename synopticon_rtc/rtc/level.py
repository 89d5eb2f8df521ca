"""The levels of H.264 (ITU-T H.264 table A-1), by which a decoder knows how much it has to be able to do."""

LEAST = 31
"""The level that every WebRTC decoder takes (RFC 7742 section 6.2), as ``profile-level-id`` has it: ten times 3.1."""
RECEIVED = 52
"""The level up to which we say that we take it, of whoever asks: 5.2, which is 4K at 60 frames a second."""
_MACROBLOCK = 16
_LEVELS = (
    # macroblocks of a second, macroblocks of a picture, bit/s
    (31, 108_000, 3_600, 14_000_000),
    (32, 216_000, 5_120, 20_000_000),
    (40, 245_760, 8_192, 20_000_000),
    (41, 245_760, 8_192, 50_000_000),
    (42, 522_240, 8_704, 50_000_000),
    (50, 589_824, 22_080, 135_000_000),
    (51, 983_040, 36_864, 240_000_000),
    (52, 2_073_600, 36_864, 240_000_000),
    (60, 4_177_920, 139_264, 240_000_000),
    (61, 8_355_840, 139_264, 480_000_000),
)
_HIGHEST = 62


def level_for(width: int, height: int, fps: float, bitrate: int) -> int:
    """Return the least level for pictures of a size in pixels, so many a second, at so many bit/s; LEAST or more."""
    across, down = -(-width // _MACROBLOCK), -(-height // _MACROBLOCK)
    picture = across * down
    for level, second, whole, bits in _LEVELS:
        # no side may be longer than the square root of eight times the area (section A.3.1)
        if picture * fps <= second and max(picture, max(across, down) ** 2 / 8) <= whole and bitrate <= bits:
            return level
    return _HIGHEST
