"""What is on the wire, held against what aiortc's own sender puts there."""

import asyncio
import time
from fractions import Fraction
from typing import Any

import pylibsrtp
import pytest
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.codecs import h264, vpx
from aiortc.codecs.vpx import VpxPayloadDescriptor
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import (
    HeaderExtensionsMap,
    RtcpByePacket,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSrPacket,
    RtpPacket,
    is_rtcp,
)
from aiortc.stats import RTCOutboundRtpStreamStats
from rtc_helpers import TICKS, Clip, Peer, describe, is_rtp, watching
from turned import elapse, turned
from waiting import until

from synopticon_rtc.rtc.budget import Budget
from synopticon_rtc.rtc.history import HISTORY_FRAMES
from synopticon_rtc.rtc.packets import LARGEST_PAYLOAD
from synopticon_rtc.rtc.sender import KEYFRAME_INTERVAL, KEYFRAMES_AT_ONCE, PACE
from synopticon_rtc.rtc.stream import Codec, VideoStream

MTU = 1200
"""Octets that a packet's payload takes at most."""
EXTENSIONS = HeaderExtensionsMap()
"""As aiortc numbers them in its offers."""


@pytest.fixture(autouse=True)
def known_extensions() -> None:
    class Extension:
        def __init__(self, number: int, uri: str) -> None:
            self.id, self.uri = number, uri

    class Parameters:
        headerExtensions = (  # noqa: N815 - aiortc's name
            Extension(1, "urn:ietf:params:rtp-hdrext:sdes:mid"),
            Extension(3, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"),
        )

    EXTENSIONS.configure(Parameters())  # type: ignore[arg-type]


class Recorder:
    """A plain aiortc peer that keeps what comes in, decrypted."""

    def __init__(self) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.rtp: list[bytes] = []
        self.rtcp: list[Any] = []

    async def answer(self, sdp: str) -> str:
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        await self.connection.setLocalDescription()
        dtls = self.connection.getTransceivers()[0].receiver.transport
        rtp, rtcp = dtls._handle_rtp_data, dtls._handle_rtcp_data

        async def handle_rtp(data: bytes, arrival_time_ms: int) -> None:
            self.rtp.append(data)
            await rtp(data, arrival_time_ms)

        async def handle_rtcp(data: bytes) -> None:
            self.rtcp.append(RtcpPacket.parse(data))
            await rtcp(data)

        dtls._handle_rtp_data = handle_rtp  # type: ignore[method-assign]
        dtls._handle_rtcp_data = handle_rtcp  # type: ignore[method-assign]
        return str(self.connection.localDescription.sdp)


async def ours(codec: Codec, packets: list[Any]) -> Recorder:
    recorder, clip = Recorder(), Clip(codec)
    async with Peer() as sender:
        sender.connection.add_video(lambda _: clip.stream, [codec])
        await sender.connection.set_answer(await recorder.answer(await sender.connection.offer()))
        await sender.until(lambda: clip.stream.viewers)
        for packet in packets:
            clip.stream.send(packet)
        # The first report goes with the first frame, the next a second later.
        await until(lambda: sum(isinstance(p, RtcpSrPacket) for packets in recorder.rtcp for p in packets) > 1)
    await until(lambda: any(isinstance(p, RtcpByePacket) for packets in recorder.rtcp for p in packets))
    await recorder.connection.close()
    return recorder


async def theirs(codec: Codec, packets: list[Any]) -> Recorder:
    left = iter(packets)

    class Packets(MediaStreamTrack):
        kind = "video"

        async def recv(self) -> Any:
            try:
                return next(left)
            except StopIteration:
                raise MediaStreamError from None

    recorder = Recorder()
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    transceiver = connection.addTransceiver(Packets(), direction="sendonly")
    known = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([c for c in known if c.name.lower() in {codec, "rtx"}])
    await connection.setLocalDescription()
    answer = await recorder.answer(connection.localDescription.sdp)
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await until(lambda: any(isinstance(p, RtcpSrPacket) for packets in recorder.rtcp for p in packets))
    await connection.close()
    await until(lambda: any(isinstance(p, RtcpByePacket) for packets in recorder.rtcp for p in packets))
    await recorder.connection.close()
    return recorder


def comparable(codec: Codec, data: list[bytes]) -> list[dict[str, Any]]:
    """Take out of RTP packets what is random or tells the time."""
    packets = [RtpPacket.parse(packet, EXTENSIONS) for packet in data]
    first = packets[0]
    result = []
    for raw, packet in zip(data, packets, strict=True):
        payload: Any = packet.payload
        if codec == "vp8":
            descriptor, body = VpxPayloadDescriptor.parse(packet.payload)
            start, _ = VpxPayloadDescriptor.parse(first.payload)
            assert descriptor.picture_id is not None
            assert start.picture_id is not None
            picture = (descriptor.picture_id - start.picture_id) % 2**15
            payload = (descriptor.partition_start, descriptor.partition_id, picture, body)
        assert packet.extensions.abs_send_time is not None
        result.append(
            {
                "flags": raw[0],
                "marker": packet.marker,
                "payload_type": packet.payload_type,
                "sequence_number": (packet.sequence_number - first.sequence_number) % 2**16,
                "timestamp": (packet.timestamp - first.timestamp) % 2**32,
                "one_source": packet.ssrc == first.ssrc,
                "mid": packet.extensions.mid,
                "header": len(raw) - len(packet.payload),
                "extension": raw[12:16],
                "payload": payload,
            }
        )
    return result


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_packets_are_those_of_aiortcs_own_sender(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (h264, vpx):
        monkeypatch.setattr(module, "PACKET_MAX", LARGEST_PAYLOAD)
    clip = Clip(codec)
    packets = [clip.packet() for _ in range(12)]
    mine, plain = await asyncio.gather(ours(codec, packets), theirs(codec, packets))
    assert comparable(codec, mine.rtp) == comparable(codec, plain.rtp)
    assert len(mine.rtp) > 12

    kinds = {type(packet) for packets in mine.rtcp for packet in packets}
    assert kinds == {type(packet) for packets in plain.rtcp for packet in packets}
    assert kinds == {RtcpSrPacket, RtcpSdesPacket, RtcpByePacket}


async def test_reports_say_what_was_sent_and_when_from_the_first_frame_on() -> None:
    clip = Clip()
    recorder = await ours("vp8", [clip.packet() for _ in range(12)])
    first, report, *_ = (packet for packets in recorder.rtcp for packet in packets if isinstance(packet, RtcpSrPacket))
    packets = [RtpPacket.parse(data, EXTENSIONS) for data in recorder.rtp]
    assert first.sender_info.packet_count == sum(packet.timestamp == packets[0].timestamp for packet in packets)
    assert (first.sender_info.rtp_timestamp - packets[0].timestamp) % 2**32 < 900
    assert report.ssrc == packets[0].ssrc
    assert report.sender_info.packet_count == len(packets)
    assert report.sender_info.octet_count == sum(len(packet.payload) for packet in packets)
    # The send times of RTP packets are 24 bits of the NTP time, in 1/2**18 s.
    last = packets[-1]
    assert last.extensions.abs_send_time is not None
    elapsed = ((report.sender_info.ntp_timestamp >> 14) - last.extensions.abs_send_time) % 2**24 / 2**18
    passed = (report.sender_info.rtp_timestamp - last.timestamp) % 2**32 / 90_000
    assert passed == pytest.approx(elapsed, abs=0.001)
    assert 0.5 < passed < 2


async def test_every_receiver_gets_the_same_timestamps() -> None:
    clip = Clip()
    async with watching(clip) as (_, one), watching(clip) as (_, two):
        await clip.play(5)
        await one.until(lambda: len(one.frames) == 5)
        await two.until(lambda: len(two.frames) == 5)
        assert [frame.rtp_timestamp for frame in one.frames] == [frame.rtp_timestamp for frame in two.frames]


async def test_only_what_is_still_known_is_sent_again() -> None:
    clip = Clip()
    async with watching(clip) as (sender, _):
        (fanout,) = sender.connection.senders
        clip.send()
        first = fanout._repair.history[0][0]
        media = fanout._ssrc
        await fanout._handle_rtcp_packet(RtcpRtpfbPacket(1, 0, media, lost=[(first - 1) % 65_536, first]))
        assert fanout.retransmits == 1
        packet = clip.packet()
        for _ in range(HISTORY_FRAMES):
            clip.stream.send(packet)
        await fanout._handle_rtcp_packet(RtcpRtpfbPacket(1, 0, media, lost=[first]))
        assert fanout.retransmits == 1


async def test_feedback_that_is_malformed_or_meant_for_others_is_ignored() -> None:
    clip = Clip()
    async with watching(clip) as (sender, _):
        (fanout,) = sender.connection.senders
        clip.send()
        before = clip.requests
        for fci in b"", b"REMB", b"REMB\xff\0\0\0", b"REMB\x01\0\0\x10\0\0\0\0":
            await fanout._handle_rtcp_packet(RtcpPsfbPacket(15, 0, 0, fci))
        await fanout._handle_rtcp_packet(RtcpPsfbPacket(2, 0, fanout._ssrc))
        await fanout._handle_rtcp_packet(RtcpByePacket([1]))
        assert fanout.bitrate_limit is None
        assert clip.requests == before
        for fmt in 1, 4:  # PLI, FIR
            await fanout._handle_rtcp_packet(RtcpPsfbPacket(fmt, 0, fanout._ssrc))
        assert clip.requests == before + 2


async def test_a_peer_whose_socket_is_full_is_sent_nothing_until_a_keyframe() -> None:
    clip = Clip()
    async with watching(clip) as (sender, _):
        (fanout,) = sender.connection.senders
        ice = sender.connection._ice
        assert ice is not None
        assert ice.selected_pair is not None
        protocol = ice.selected_pair.protocol

        class Full:
            size = 0
            sent = 0

            def get_write_buffer_size(self) -> int:
                return self.size

            def sendto(self, data: bytes, address: object) -> None:
                assert address
                self.sent += is_rtp(data) and not is_rtcp(data)

        real, full = protocol.transport, Full()
        protocol.transport = full  # type: ignore[assignment]
        clip.send()
        full.size, sent, requests = 10**6, full.sent, clip.requests
        for keyframe in False, True, False:
            clip._keyframe = keyframe
            clip.send()
        assert (full.sent, clip.requests) == (sent, requests)  # no use to ask while it is full
        full.size = 0
        clip.send()
        assert (full.sent, clip.requests) == (sent, requests + 1)
        clip.send()
        assert full.sent > sent
        assert fanout.packets == full.sent
        protocol.transport = real


async def test_statistics_are_aiortcs() -> None:
    clip = Clip()
    async with watching(clip) as (sender, _):
        await clip.play(3)
        (fanout,) = sender.connection.senders
        (outbound,) = [s for s in (await fanout.getStats()).values() if isinstance(s, RTCOutboundRtpStreamStats)]
        assert (outbound.packetsSent, outbound.bytesSent) == (fanout.packets, fanout.octets)
        assert outbound.packetsSent > 3


async def test_a_packet_without_a_time_is_refused() -> None:
    clip = Clip()
    packet = clip.packet()
    packet.pts = None
    with pytest.raises(ValueError, match="presentation time"):
        clip.stream.send(packet)
    assert clip.stream.rtp_timestamp(TICKS) == (clip.stream.rtp_timestamp(0) + TICKS) % 2**32
    assert Fraction(1, 90_000) == packet.time_base


@turned
async def test_a_peer_is_moved_to_another_stream_at_its_keyframe_and_sees_every_picture_once() -> None:
    large, small = Clip(origin=7), Clip(origin=7)
    async with watching(large) as (sender, receiver):
        (fanout,) = sender.connection.senders
        asked = small.requests

        async def play(count: int) -> None:
            for _ in range(count):
                # Neither encoder is always the first.
                for clip in (large, small) if large._count % 2 else (small, large):
                    clip.send()
                await elapse(0.01)

        await play(5)
        fanout.switch(small.stream)
        assert fanout.stream is large.stream
        assert small.requests == asked + 1
        await play(10)
        assert fanout.stream is small.stream
        assert (large.stream.viewers, small.stream.viewers) == (0, 1)
        fanout.switch(large.stream)
        await play(10)
        assert (large.stream.viewers, small.stream.viewers) == (1, 0)
        await receiver.until(lambda: len(receiver.frames) == 25)
        timestamps = [frame.rtp_timestamp for frame in receiver.frames]
        assert timestamps == [7 + n * TICKS for n in range(25)]
        assert fanout.retransmits == 0  # no packet was missed


async def test_a_move_that_is_taken_back_leaves_no_trace() -> None:
    large, small = Clip(origin=7), Clip(origin=7)
    async with watching(large) as (sender, receiver):
        (fanout,) = sender.connection.senders
        await large.play(3)
        fanout.switch(small.stream)
        await large.play(2)
        fanout.switch(large.stream)
        await large.play(3)
        assert (large.stream.viewers, small.stream.viewers) == (1, 0)
        await receiver.until(lambda: len(receiver.frames) == 8)


@turned
async def test_one_peer_costs_the_others_few_keyframes() -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver), watching(clip) as (_, other):
        (fanout,) = sender.connection.senders
        await clip.play(3)
        await receiver.until(lambda: receiver.frames)  # on a busy machine they have asked, too
        await other.until(lambda: other.frames)
        fanout._keyframes = Budget(1 / KEYFRAME_INTERVAL, KEYFRAMES_AT_ONCE)
        before = clip.requests
        for _ in range(20):
            await fanout._handle_rtcp_packet(RtcpPsfbPacket(1, 0, fanout._ssrc))
        assert clip.requests == before + KEYFRAMES_AT_ONCE
        await elapse(KEYFRAME_INTERVAL)
        clip._keyframe = False
        clip.send()  # what it still wants is asked for when its time has come
        assert clip.requests == before + KEYFRAMES_AT_ONCE + 1


async def test_padding_harms_no_picture() -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        (fanout,) = sender.connection.senders
        await clip.play(5)
        fanout.rate.padding = 500_000.0
        padded: list[int] = []

        def note(now: float, octets: int) -> None:  # noqa: ARG001 - as it is called
            padded.append(octets)

        fanout.rate.padded = note  # type: ignore[method-assign]
        begun = fanout._repair._padded_at
        await clip.play(20)
        assert 5_000 < sum(padded) < 500_000 / 8 * (fanout._repair._padded_at - begun) + MTU
        await receiver.until(lambda: len(receiver.frames) == 25)


async def test_a_slow_peer_is_sent_what_waits_no_faster_than_its_link_bears() -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        (fanout,) = sender.connection.senders
        await clip.play(5)
        await receiver.until(lambda: len(receiver.frames) == 5)
        fanout.rate.estimate = 200_000.0
        before, begun = fanout.octets, time.monotonic()
        await clip.play(5, interval=0)
        await receiver.until(lambda: len(receiver.frames) == 10)
        last = fanout._repair.history[-1][1].octets
        assert time.monotonic() - begun >= (fanout.octets - before - last) * 8 / (PACE * 200_000)


async def test_another_route_is_another_path() -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        (fanout,) = sender.connection.senders
        await clip.play(3)
        forgotten: list[bool] = []
        outlet = fanout._outlet
        outlet._on_rerouted = lambda: forgotten.append(True)
        assert outlet._route is not None
        outlet._route = (outlet._route[0], ("127.0.0.1", 1))  # as if it had been another until now
        await clip.play(3)
        assert forgotten == [True]
        await receiver.until(lambda: len(receiver.frames) == 6)


async def test_a_peer_that_there_is_no_stream_for_is_given_up() -> None:
    def select(codec: Codec) -> VideoStream:
        raise RuntimeError(f"no encoder for {codec}")

    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(select, ["vp8"])
        await describe(sender, receiver)
        await sender.until_state("failed")


async def test_a_report_that_cannot_be_encrypted_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        (fanout,) = sender.connection.senders
        monkeypatch.setattr("synopticon_rtc.rtc.reporting_sender.REPORT_INTERVAL", 0.05)

        class Broken:
            def protect_rtcp(self, data: bytes) -> bytes:
                raise pylibsrtp.Error(data)

        with monkeypatch.context() as patch:
            patch.setattr("synopticon_rtc.rtc.outlet.seams.outgoing_srtp", lambda _: Broken())
            fanout._send_report()
        assert fanout._reporting is not None
        assert not fanout._reporting.done()
        await clip.play(3)
        await receiver.until(lambda: len(receiver.frames) == 3)
