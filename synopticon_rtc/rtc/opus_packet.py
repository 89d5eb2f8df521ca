"""What the first bytes of an Opus packet tell (RFC 6716 section 3)."""

RATE = 48_000
"""Ticks of its RTP timestamps in a second, and samples of what we decode (RFC 7587 section 4.1)."""
GRAIN = 120
"""Samples of the shortest frame, 2.5 ms; all others last a multiple of it."""
LONGEST = 5760
"""Samples of the longest packet, 120 ms."""
_SILK = (480, 960, 1920, 2880)
_CODE = 0b11
_STEREO = 0b100
_COUNTED = 3
_MOST_FRAMES = 63


def duration(payload: bytes) -> int:
    """Return how many samples of 1/48000 s a packet holds.

    Raises:
        ValueError: It is no Opus packet.
    """
    if not payload:
        raise ValueError("an Opus packet is empty")
    config, code = payload[0] >> 3, payload[0] & _CODE
    frames = 1 if code == 0 else 2
    if code == _COUNTED:
        frames = payload[1] & _MOST_FRAMES if len(payload) > 1 else 0
    samples = frames * _frame(config)
    if not 0 < samples <= LONGEST:
        raise ValueError(f"an Opus packet holds {samples} samples, not 1 to {LONGEST}")
    return samples


def channels(payload: bytes) -> int:
    """Return whether a packet is mono, 1, or stereo, 2."""
    return 2 if payload[0] & _STEREO else 1


def repeats_last(payload: bytes) -> bool:
    """Whether a packet holds the sound of the one before once more (in-band FEC, RFC 6716 section 4.2.4).

    Those with several frames of different sizes are not looked into: nobody sends them in calls.
    """
    config = payload[0] >> 3
    if config >= 16 or payload[0] & _CODE > 1 or len(payload) < 2:  # noqa: PLR2004 - those from 16 on have none; the flags
        return False
    parts = max(1, _frame(config) // 960)
    flags = payload[1] >> (7 - parts) & 1
    if payload[0] & _STEREO:
        flags |= payload[1] >> (6 - 2 * parts) & 1
    return bool(flags)


def _frame(config: int) -> int:
    """Return the samples of each frame."""
    if config < 12:  # noqa: PLR2004 - SILK, then hybrid, then CELT (table 2)
        return _SILK[config & 3]
    if config < 16:  # noqa: PLR2004
        return _SILK[config & 1]
    return GRAIN << (config & 3)
