"""When media were captured, as RTP tells it, on its way from one end to the other."""

import asyncio
import struct
from typing import Any

import pytest
from aiortc.codecs import HEADER_EXTENSIONS
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpHeaderExtensionParameters, RTCRtpSendParameters
from aiortc.rtp import HeaderExtensions, HeaderExtensionsMap, RtcpSenderInfo, RtpPacket
from audio_helpers import send_tone
from hypothesis import given
from hypothesis import strategies as st
from rtc_helpers import Clip, Peer, join
from turned import turned
from wires import own_host

from synopticon_rtc.basics import clock
from synopticon_rtc.media.sound import BLOCK, RATE
from synopticon_rtc.rtc import AudioTrack, PeerConnection, ReceivedSound, capture_time
from synopticon_rtc.rtc.audio_sender import AudioSender
from synopticon_rtc.rtc.audio_stream import AudioStream
from synopticon_rtc.rtc.capture_time import NTP_EPOCH, NUMBER, CaptureTimes, ExtensionsMap, StampedExtensions
from synopticon_rtc.rtc.header import Header
from synopticon_rtc.rtc.sender import FanoutSender

SECOND = 2**32
KNOWN = {
    "urn:ietf:params:rtp-hdrext:sdes:mid": 1,
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time": 3,
    capture_time.URI: NUMBER,
}
PLAIN = KNOWN | {capture_time.URI: 0}


def parameters(numbers: dict[str, int], mid: str = "0") -> RTCRtpSendParameters:
    known = [RTCRtpHeaderExtensionParameters(id=number, uri=uri) for uri, number in numbers.items() if number]
    codec = RTCRtpCodecParameters(mimeType="video/VP8", clockRate=90_000, payloadType=97)
    return RTCRtpSendParameters(codecs=[codec], headerExtensions=known, muxId=mid)


def extensions_map(number: int = NUMBER) -> ExtensionsMap:
    made = ExtensionsMap()
    made.configure(parameters(KNOWN | {capture_time.URI: number}))
    return made


def read(extension: bytes) -> HeaderExtensions:
    profile, words = struct.unpack("!HH", extension[:4])
    assert len(extension) == 4 + 4 * words
    return extensions_map().get(profile, extension[4:])


# In headers


@pytest.mark.parametrize("mid", ["0", "12", "7777"])
@pytest.mark.parametrize("timed", [True, False])
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_header_tells_the_time_of_capture_beside_what_it_tells_anyway(
    mid: str,
    timed: bool,  # noqa: FBT001 - a parameter
    sent: int,
    captured: int,
) -> None:
    numbers = KNOWN if timed else {uri: number for uri, number in KNOWN.items() if number != 3}
    header = Header(parameters(numbers, mid))
    stamped = read(header.stamped(sent, captured))
    assert isinstance(stamped, StampedExtensions)
    plain = read(header.extension(sent))
    assert (stamped.captured, stamped.mid, stamped.abs_send_time) == (captured, mid, plain.abs_send_time)
    assert stamped.abs_send_time == (sent >> 14 & 0xFFFFFF if timed else None)


@pytest.mark.parametrize("numbers", [PLAIN, KNOWN | {capture_time.URI: 15}, {capture_time.URI: NUMBER}])
def test_where_it_was_not_agreed_upon_or_has_no_place_a_header_is_as_always(numbers: dict[str, int]) -> None:
    header = Header(parameters(numbers))
    assert header.stamped(12345 << 14, 7) == header.extension(12345 << 14)


def test_the_number_is_none_of_aiortcs() -> None:
    assert NUMBER not in {known.id for kind in HEADER_EXTENSIONS.values() for known in kind}
    assert capture_time.URI not in {known.uri for kind in HEADER_EXTENSIONS.values() for known in kind}


def test_a_time_by_another_clock_is_told_by_the_senders() -> None:
    value = bytes([NUMBER << 4 | 15]) + struct.pack("!Qq", 9 * SECOND, -2 * SECOND) + bytes(3)
    extensions = extensions_map().get(0xBEDE, value)
    assert isinstance(extensions, StampedExtensions)
    assert extensions.captured == 11 * SECOND


@given(st.sampled_from([0xBEDE, 0x1000, 0]), st.binary(max_size=64))
def test_others_are_read_as_aiortc_reads_them(profile: int, value: bytes) -> None:
    def outcome(known: HeaderExtensionsMap) -> dict[str, Any] | None:
        known.configure(parameters(KNOWN))
        try:
            return vars(known.get(profile, value))
        except (ValueError, struct.error):
            return None

    ours = outcome(ExtensionsMap())
    assert outcome(HeaderExtensionsMap()) == (ours and {key: ours[key] for key in ours if key != "captured"})


# By timestamps


@given(st.integers(0, 2**32 - 1), st.integers(-(2**30), 2**30))
def test_times_follow_from_the_timestamp_that_was_told_last(told: int, ticks: int) -> None:
    times = CaptureTimes(90_000)
    assert times.of(told) is None
    times.tell(RtcpSenderInfo((NTP_EPOCH + 50) * SECOND, told, 0, 0))
    assert times.of((told + ticks) % 2**32) == pytest.approx(50 + ticks / 90_000, abs=1e-5)
    packet = RtpPacket(timestamp=told)
    times.read(packet)
    packet.extensions = StampedExtensions(captured=(NTP_EPOCH + 60) * SECOND)
    times.read(packet)
    times.tell(RtcpSenderInfo(0, told, 0, 0))
    assert times.of((told + ticks) % 2**32) == pytest.approx(60 + ticks / 90_000, abs=1e-5)


# From end to end


def silence_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    for sender in FanoutSender, AudioSender:
        monkeypatch.setattr(sender, "_send_report", lambda *_, **__: None)


@pytest.mark.parametrize("way", ["reports", "headers", "neither"])
@turned
async def test_both_ends_agree_on_when_video_was_captured(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way != "reports":
        silence_reports(monkeypatch)
    clip = Clip()
    clip.stream._began = int((clock.now() - 3 + NTP_EPOCH) * SECOND)
    async with Peer() as sender, Peer() as receiver:
        sender.connection._offer_capture_time = way == "headers"
        sender.connection.add_video(lambda _: clip.stream, ["vp8"])
        await join(sender, receiver)
        await sender.until(lambda: clip.stream.viewers)
        began = clip.stream._began / SECOND - NTP_EPOCH
        await clip.play(40, interval=1 / 30)
        await receiver.until(lambda: len(receiver.frames) == 40)
    for frame in receiver.frames:
        if way == "neither":
            assert frame.captured is None
        elif way == "headers" or frame is not receiver.frames[0]:  # the first report follows the first frame
            assert frame.captured == pytest.approx(began + clip.numbers[frame.rtp_timestamp] / 30, abs=1e-4)


@pytest.mark.parametrize("way", ["reports", "headers", "neither"])
@turned
async def test_both_ends_agree_on_when_sound_was_captured(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way != "reports":
        silence_reports(monkeypatch)
    stream, tracks, heard = AudioStream(), list[AudioTrack](), list[ReceivedSound]()
    begin = clock.now() - 0.25
    async with Peer() as sender:
        sender.connection._offer_capture_time = way == "headers"
        sender.connection.add_audio(stream)
        receiver = PeerConnection(network=own_host(), on_audio=tracks.append)
        await sender.connection.set_answer(await receiver.answer(await sender.connection.offer(), ("0",)))
        await sender.until(lambda: receiver.state == "connected" and stream.viewers)
        send_tone(stream, range(5), begin)
        async with asyncio.timeout(5):
            while len(heard) < 5:
                heard.append(await anext(tracks[0]))
        await receiver.close()
    for number, sound in enumerate(heard):
        if way == "neither":
            assert sound.captured is None
        else:
            assert sound.captured == pytest.approx(begin + number * BLOCK / RATE - 312 / RATE, abs=1e-4)


# In descriptions


@pytest.mark.parametrize("offered", [True, False])
@turned
async def test_it_is_agreed_upon_where_it_is_offered_and_named_nowhere_else(offered: bool) -> None:  # noqa: FBT001 - a parameter
    async with Peer() as sender, Peer() as receiver:
        sender.connection._offer_capture_time = offered
        sender.connection.add_video(lambda _: Clip().stream)
        sender.connection.add_audio(None)
        sender.connection.add_channel("control")
        offer = await sender.connection.offer()
        answer = await receiver.connection.answer(offer)
    line = f"a=extmap:{NUMBER} {capture_time.URI}\r\n"
    for text in offer, answer:
        assert text.count(line) == text.count(capture_time.URI) == 2 * offered
        assert line not in text[text.index("m=application") :]
    assert offer.count(" rrtr\r\n") == offer.count(" nack pli\r\n") * offered
