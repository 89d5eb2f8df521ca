"""What the headers of packets tell beside their number and their time."""

from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpHeaderExtensionParameters, RTCRtpSendParameters
from aiortc.rtp import HeaderExtensions
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.rtc import capture_time
from synopticon_rtc.rtc.capture_time import ExtensionsMap, StampedExtensions
from synopticon_rtc.rtc.header import AUDIO_LEVEL, VOICE_FROM, Header

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
LEVELS = st.none() | st.integers(0, 127)


def parameters(mid: str, numbers: dict[str, int]) -> RTCRtpSendParameters:
    known = [RTCRtpHeaderExtensionParameters(id=number, uri=uri) for uri, number in numbers.items()]
    codec = RTCRtpCodecParameters(mimeType="audio/opus", clockRate=48_000, payloadType=96)
    return RTCRtpSendParameters(codecs=[codec], headerExtensions=known, muxId=mid)


def read(extension: bytes, agreed: RTCRtpSendParameters) -> HeaderExtensions:
    assert len(extension) == 4 + 4 * int.from_bytes(extension[2:4], "big")
    known = ExtensionsMap()
    known.configure(agreed)
    return known.get(int.from_bytes(extension[:2], "big"), extension[4:])


@given(st.text("0123456789", min_size=1, max_size=12), LEVELS, st.integers(0, 2**64 - 1))
def test_sound_tells_how_loud_it_is_beside_what_it_tells_anyway(mid: str, level: int | None, captured: int) -> None:
    agreed = parameters(mid, {MID: 1, AUDIO_LEVEL: 2, capture_time.URI: 4})
    header = Header(agreed)
    told = None if level is None else (level <= VOICE_FROM, level)
    plain, stamped = read(header.extension(0, level), agreed), read(header.stamped(0, captured, level), agreed)
    assert (plain.mid, plain.audio_level) == (stamped.mid, stamped.audio_level) == (mid, told)
    assert isinstance(stamped, StampedExtensions)
    assert stamped.captured == captured


@given(LEVELS)
def test_where_a_peer_does_not_read_it_it_is_not_told(level: int | None) -> None:
    for numbers in {MID: 1}, {MID: 1, AUDIO_LEVEL: 15}, {AUDIO_LEVEL: 2}:
        header = Header(parameters("0", numbers))
        assert header.extension(0, level) == header.extension(0)
