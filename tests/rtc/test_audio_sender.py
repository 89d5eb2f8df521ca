"""What aiortc's own receiver makes of the sound that it is sent, and what is on the wire."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.codecs import PCMU_CODEC
from aiortc.rtp import (
    RtcpByePacket,
    RtcpPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSdesPacket,
    RtcpSrPacket,
    RtpPacket,
)
from aiortc.stats import RTCOutboundRtpStreamStats
from audio_helpers import send_tone
from rtc_helpers import Peer
from waiting import until

from synopticon_rtc.basics import clock
from synopticon_rtc.media.sound import BLOCK, RATE, Tone
from synopticon_rtc.rtc.audio_sender import AudioSender
from synopticon_rtc.rtc.audio_stream import AudioStream
from synopticon_rtc.rtc.capture_time import NTP_EPOCH

ORIGIN = 2**32 - 4000


class Recorder:
    """A plain aiortc peer that keeps what comes in, decrypted."""

    def __init__(self) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.connection.on("track", self._on_track)
        self.tracks: list[MediaStreamTrack] = []
        self.rtp: list[RtpPacket] = []
        self.rtcp: list[Any] = []

    def _on_track(self, track: MediaStreamTrack) -> None:
        self.tracks.append(track)

    async def answer(self, sdp: str) -> str:
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        await self.connection.setLocalDescription()
        dtls = self.connection.getTransceivers()[0].receiver.transport
        rtp, rtcp = dtls._handle_rtp_data, dtls._handle_rtcp_data

        async def handle_rtp(data: bytes, arrival_time_ms: int) -> None:
            self.rtp.append(RtpPacket.parse(data, dtls._rtp_header_extensions_map))
            await rtp(data, arrival_time_ms)

        async def handle_rtcp(data: bytes) -> None:
            self.rtcp += RtcpPacket.parse(data)
            await rtcp(data)

        dtls._handle_rtp_data = handle_rtp  # type: ignore[method-assign]
        dtls._handle_rtcp_data = handle_rtcp  # type: ignore[method-assign]
        return str(self.connection.localDescription.sdp)


@contextlib.asynccontextmanager
async def listening(stream: AudioStream, codec: str = "opus") -> AsyncIterator[tuple[AudioSender, Recorder]]:
    """Connect a sender of a sound with a plain aiortc receiver."""
    recorder = Recorder()
    async with Peer() as peer:
        sender = peer.connection.add_audio(stream)
        known = RTCRtpSender.getCapabilities("audio").codecs
        preferred = [one for one in known if one.name.lower() == codec]
        peer.connection._connection.getTransceivers()[0].setCodecPreferences(preferred)
        await peer.connection.set_answer(await recorder.answer(await peer.connection.offer()))
        await peer.until_state("connected")
        await until(lambda: stream.viewers or codec != "opus")
        yield sender, recorder
    await recorder.connection.close()


@pytest.mark.long
async def test_plain_aiortc_plays_it() -> None:
    stream, begin = AudioStream(), clock.now()
    async with listening(stream) as (_, recorder):
        send_tone(stream, range(30), begin)
        frames: list[Any] = [await asyncio.wait_for(recorder.tracks[0].recv(), 5) for _ in range(20)]
    read = Tone.read_time(frames[10].to_ndarray()[0, ::2], near=begin)
    assert read == pytest.approx(begin + 10 * BLOCK / RATE - 312 / RATE, abs=0.002)


async def test_packets_are_numbered_timed_and_marked_where_sound_begins() -> None:
    stream, begin = AudioStream(ORIGIN), clock.now()
    async with listening(stream) as (sender, recorder):
        send_tone(stream, range(3), begin)
        send_tone(stream, range(10, 12), begin)
        await until(lambda: len(recorder.rtp) == 5)
        assert sender.packets == 5
        assert sender.octets == sum(len(packet.payload) for packet in recorder.rtp)
    first = recorder.rtp[0]
    assert [(packet.sequence_number - first.sequence_number) % 2**16 for packet in recorder.rtp] == [0, 1, 2, 3, 4]
    assert [(packet.timestamp - ORIGIN + 312) % 2**32 // BLOCK for packet in recorder.rtp] == [0, 1, 2, 10, 11]
    assert [packet.marker for packet in recorder.rtp] == [1, 0, 0, 1, 0]
    assert {(packet.ssrc, packet.payload_type) for packet in recorder.rtp} == {(sender._ssrc, 96)}


async def test_the_first_packet_is_followed_by_a_report_of_when_it_was_captured() -> None:
    stream, begin = AudioStream(ORIGIN), clock.now() - 0.25
    async with listening(stream) as (sender, recorder):
        send_tone(stream, range(2), begin)
        await until(lambda: recorder.rtcp and len(recorder.rtp) == 2)
        (stats,) = (await sender.getStats()).values()
        assert isinstance(stats, RTCOutboundRtpStreamStats)
        assert (stats.kind, stats.packetsSent) == ("audio", 2)
    report = recorder.rtcp[0]
    assert isinstance(report, RtcpSrPacket)
    assert report.sender_info.packet_count == 1
    said = report.sender_info.ntp_timestamp / 2**32 - NTP_EPOCH
    ahead = (report.sender_info.rtp_timestamp - recorder.rtp[0].timestamp) % 2**32 / RATE
    assert said - ahead == pytest.approx(begin - 312 / RATE, abs=1e-4)
    assert {type(packet) for packet in recorder.rtcp} == {RtcpSrPacket, RtcpSdesPacket, RtcpByePacket}


async def test_packets_tell_how_loud_they_are() -> None:
    stream = AudioStream()
    async with listening(stream) as (_, recorder):
        send_tone(stream, range(2), 0.0)
        stream.send(b"\xf8\xff\xfe", 2 * BLOCK, 0.04)
        await until(lambda: len(recorder.rtp) == 3)
    powers = [np.square(Tone().samples(at, BLOCK)).mean() for at in (0.0, BLOCK / RATE)]
    told = [(True, round(-10 * np.log10(power))) for power in powers]
    assert [packet.extensions.audio_level for packet in recorder.rtp] == [*told, None]


async def test_what_the_peer_loses_can_be_read() -> None:
    stream = AudioStream()
    async with listening(stream) as (sender, _):
        assert sender.loss is None
        info = RtcpReceiverInfo(sender._ssrc, 64, 3, 0, 0, 0, 0)
        await sender._handle_rtcp_packet(RtcpRrPacket(ssrc=1, reports=[info]))
        assert stream.losses == [sender.loss] == [0.25]
        assert sender.rtt is None


async def test_it_may_be_sent_another_sound_or_none() -> None:
    one, two = AudioStream(), AudioStream(ORIGIN)
    async with listening(one) as (sender, recorder):
        send_tone(one, range(1), 0.0)
        sender.switch(None)
        assert sender.stream is None
        send_tone(one, range(1, 2), 0.0)
        sender.switch(two)
        sender.switch(two)
        assert (one.viewers, two.viewers) == (0, 1)
        send_tone(two, range(2), 0.0)
        await until(lambda: len(recorder.rtp) == 3)
    assert two.viewers == 0
    assert [packet.marker for packet in recorder.rtp] == [1, 1, 0]
    assert recorder.rtp[1].sequence_number == (recorder.rtp[0].sequence_number + 1) % 2**16
    assert recorder.rtp[1].timestamp == (ORIGIN - 312) % 2**32


async def test_what_the_socket_does_not_take_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = AudioStream()
    async with listening(stream) as (sender, recorder):
        send_tone(stream, range(1), 0.0)
        monkeypatch.setattr(sender._outlet._socket, "send", lambda *_: False)
        send_tone(stream, range(1, 2), 0.0)
        monkeypatch.undo()
        send_tone(stream, range(2, 3), 0.0)
        await until(lambda: len(recorder.rtp) == 2)
        assert (sender.packets, sender.dropped) == (2, 1)
    assert (recorder.rtp[1].sequence_number - recorder.rtp[0].sequence_number) % 2**16 == 2


async def test_a_peer_without_opus_gets_no_sound(caplog: pytest.LogCaptureFixture) -> None:
    stream = AudioStream()
    async with listening(stream, PCMU_CODEC.name.lower()):
        assert stream.viewers == 0
    assert "does not take Opus" in caplog.text
