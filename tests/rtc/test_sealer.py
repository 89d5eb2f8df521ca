"""Bursts encrypted in place, held against pylibsrtp's packets."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pylibsrtp import Policy, Session

from synopticon_rtc.rtc import seams
from synopticon_rtc.rtc.bursts import runs
from synopticon_rtc.rtc.pacer import BURST
from synopticon_rtc.rtc.sealer import ROOM, Sealer

PROFILES = {
    Policy.SRTP_PROFILE_AES128_CM_SHA1_80: (30, 10),
    Policy.SRTP_PROFILE_AEAD_AES_128_GCM: (28, 16),
    Policy.SRTP_PROFILE_AEAD_AES_256_GCM: (44, 16),
}
EXTENSION = struct.pack("!HH4s", 0xBEDE, 1, b"\x10mid")


def sessions(profile: int) -> tuple[Session, Session]:
    """Make two that encrypt alike."""
    policy = Policy(key=bytes(range(PROFILES[profile][0])), ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile)
    return Session(policy), Session(policy)


@pytest.mark.parametrize("profile", PROFILES)
@given(
    payloads=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=BURST),
    first=st.one_of(st.integers(0, 0xFFFF), st.integers(0xFFF0, 0xFFFF)),
    marked=st.booleans(),
)
def test_packets_are_those_that_pylibsrtp_makes(
    profile: int, payloads: list[bytes], first: int, *, marked: bool
) -> None:
    sealer, tag = Sealer(), PROFILES[profile][1]
    for _ in range(2):  # one peer, and the next
        ours, plain = sessions(profile)
        tail = struct.pack("!II", 7, 8) + EXTENSION
        word = 0x90600000 | first
        data, cut = sealer.seal(seams.srtp_context(ours), tag, payloads, word, tail, marked=marked)
        sizes = [4 + len(tail) + len(payload) + tag for payload in payloads]
        assert list(cut) == list(runs(sizes))
        at = 0
        for index, (payload, size) in enumerate(zip(payloads, sizes, strict=True)):
            last = marked and index == len(payloads) - 1
            header = struct.pack("!BBH", 0x90, 0xE0 if last else 0x60, (first + index) & 0xFFFF)
            assert bytes(data[at : at + size]) == plain.protect(header + tail + payload)
            at += size
        assert at == len(data)


def test_what_does_not_fit_is_refused() -> None:
    ours, _ = sessions(Policy.SRTP_PROFILE_AEAD_AES_128_GCM)
    sealer, long, many = Sealer(), [b"x" * ROOM], [b"x"] * (BURST + 1)
    for payloads in long, long, many, many:
        with pytest.raises(ValueError, match="more than a burst, or a packet too long"):
            sealer.seal(seams.srtp_context(ours), 16, payloads, 0x80600000, bytes(8), marked=True)
