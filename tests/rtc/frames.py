"""Encoded frames without an encoder."""

import itertools

from synopticon_rtc.rtc.stream import CLOCK_RATE, EncodedFrame

TICKS = CLOCK_RATE // 30
_payloads = itertools.count()


def encoded(number: int, *, keyframe: bool = False, bursts: int = 1, packets: int = 1, size: int = 100) -> EncodedFrame:
    """Make a frame of bursts of packets by its number in the source; no two payloads are alike."""
    cut = [[next(_payloads).to_bytes(size, "big") for _ in range(packets)] for _ in range(bursts)]
    payloads = [payload for burst in cut for payload in burst]
    octets = size * len(payloads)
    sent = number << 32
    timestamp = number * TICKS % 2**32
    return EncodedFrame(payloads, cut, octets, timestamp, keyframe, ntp_time=sent, captured=sent, stamped=keyframe)
