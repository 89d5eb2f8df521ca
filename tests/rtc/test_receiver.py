"""What a receiver does against loss, and without decoding: peers over real sockets, some of whose packets get lost."""

import asyncio
import contextlib
import fractions
import functools
import gc
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import av
import numpy as np
import pytest
from aiortc.rtp import AnyRtcpPacket, RtcpByePacket, RtpPacket
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from rtc_helpers import HEIGHT, TICKS, WIDTH, Clip, Peer, Tap, is_rtp, join, watching, ways
from turned import elapse, turned
from waiting import turns
from wires import Losses

from synopticon_rtc.media.codecs import opened
from synopticon_rtc.rtc import EncodedVideoFrame
from synopticon_rtc.rtc.assembly import MOST_MISSING
from synopticon_rtc.rtc.receiver import (
    KEYFRAME_REQUEST_INTERVAL,
    VideoReceiver,
)
from synopticon_rtc.rtc.reception import MOST_STREAMS, REPORT_INTERVAL
from synopticon_rtc.rtc.reporting_receiver import SILENCE
from synopticon_rtc.rtc.stream import Codec

KEYFRAME, DELTA = b"\x10\x00key", b"\x10\x01delta"
"""VP8 payloads as short as they may be, for what is not decoded."""


def is_keyframe_request(data: bytes) -> bool:
    """Whether a datagram is a picture loss indication; the head of encrypted RTCP is in the clear (RFC 3711)."""
    return data[1] == 206 and data[0] & 0x1F == 1


def is_nack(data: bytes) -> bool:
    return data[1] == 205 and data[0] & 0x1F == 1


def receiver_of(peer: Peer) -> VideoReceiver:
    return peer.connection._receivers["0"]


def next_number(sender: Peer) -> int:
    return sender.connection.senders[0]._writer.next_number


class Copies:
    """Loses the first copies of some packets, sent again or not.

    Args:
        sender: Who sends them.
        numbers: Their RTP sequence numbers.
        copies: How many of each.
    """

    def __init__(self, sender: Peer, numbers: range, copies: int) -> None:
        self._ssrc = sender.connection.senders[0]._ssrc.to_bytes(4, "big")
        self._numbers = {number & 0xFFFF for number in numbers}
        self._copies = copies
        self.again = 0
        """Packets sent again."""

    def __call__(self, data: bytes) -> bool:
        if not is_rtp(data):
            return False
        if data[8:12] != self._ssrc:  # the payload of a retransmission is encrypted, but they come in order
            self.again += 1
            return self.again <= (self._copies - 1) * len(self._numbers)
        return int.from_bytes(data[2:4], "big") in self._numbers


@turned
async def test_a_lost_retransmission_is_asked_for_again_in_time() -> None:
    clip = Clip()
    async with watching(clip, shown=3) as (sender, receiver):
        requests, number = clip.requests, next_number(sender)
        copies = Copies(sender, range(number, number + 1), copies=3)
        Tap(sender, copies)
        await clip.play(20, interval=0.03)
        await receiver.until(lambda: len(receiver.frames) == 23)
        assert copies.again == 3
        assert receiver_of(receiver).nacks == 3
        assert clip.requests == requests


@turned
async def test_a_request_is_repeated_without_any_packet_coming() -> None:
    clip = Clip()
    async with watching(clip, shown=3) as (sender, receiver):
        number = next_number(sender)
        Tap(sender, Copies(sender, range(number, number + 1), copies=3))
        await clip.play(2, interval=0)
        await receiver.until(lambda: len(receiver.frames) == 5, seconds=1)


@turned
async def test_a_keyframe_is_asked_for_until_it_comes() -> None:
    clip = Clip()
    async with watching(clip, shown=3) as (sender, receiver):
        before, number = clip.requests, next_number(sender)
        lost = 0

        def lose_two(data: bytes) -> bool:
            nonlocal lost
            lost += is_keyframe_request(data)
            return is_keyframe_request(data) and lost <= 2

        Tap(receiver, lose_two)
        Tap(sender, Copies(sender, range(number, number + 1), copies=100))
        await clip.play(60, interval=0.03)
        assert clip.requests == before + 1
        assert receiver_of(receiver).keyframe_requests == lost == 3
        assert receiver.frames[-1].rtp_timestamp >= max(clip.numbers) - TICKS
        assert all(clip.shows_its_number(frame) for frame in receiver.frames)


@turned
async def test_who_gets_nothing_from_the_start_asks_for_a_keyframe() -> None:
    clip = Clip()
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda _: clip.stream)
        await join(sender, receiver)
        await sender.until(lambda: clip.stream.viewers)
        before = clip.requests
        await receiver.until(lambda: clip.requests > before, seconds=1)


@turned
async def test_when_very_much_is_lost_a_keyframe_takes_the_place_of_all_that() -> None:
    clip = Clip()
    async with watching(clip, shown=3) as (sender, receiver):
        await elapse(0.3)
        before, number = clip.requests, next_number(sender)
        copies = Copies(sender, range(number, number + MOST_MISSING + 20), copies=1)
        Tap(sender, copies)
        for _ in range(200):
            await clip.play(1)
            if clip.requests > before:
                break
        await clip.play(5)
        await receiver.until(lambda: receiver.frames[-1].rtp_timestamp == max(clip.numbers))
        assert clip.requests == before + 1
        assert copies.again < 10
        assert receiver_of(receiver).decode_errors == 0
        assert all(clip.shows_its_number(frame) for frame in receiver.frames)


@pytest.mark.parametrize("codec", ["vp8", "h264"])
@turned
@pytest.mark.long
async def test_at_five_percent_loss_both_ways_video_never_stands_still(codec: Codec) -> None:
    clip = Clip(codec)
    async with watching(clip) as (sender, receiver):
        for way in ways(sender, receiver):
            way.delay, way.losses = 0.02, Losses(0.05)
        await clip.play(200, interval=1 / 30)
        await receiver.until(lambda: receiver.frames[-1].rtp_timestamp >= max(clip.numbers) - 2 * TICKS)
        times = [frame.arrived for frame in receiver.frames]
        assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 1
        assert len(receiver.frames) > 180
        assert all(clip.shows_its_number(frame) for frame in receiver.frames)
        assert receiver_of(receiver).nacks > 10


@turned
async def test_nothing_is_asked_for_after_the_end() -> None:
    clip = Clip()
    async with watching(clip, shown=3) as (sender, receiver):
        tap = Tap(receiver, lambda _: False)
        receiver_of(receiver)._need_keyframe()
        await sender.connection.close()
        await receiver.until_state("closed")
        receiver_of(receiver)._need_keyframe()
        receiver.connection.request_keyframe()
        count = len(tap.sent)
        await elapse(0.5)
        assert not any(is_keyframe_request(data) for data in tap.sent[count:])


async def test_what_came_while_the_loop_was_held_up_is_read_at_once() -> None:
    clip = Clip()
    async with watching(clip, shown=2) as (sender, receiver):
        for _ in range(20):
            clip.send()
        await turns(4)
        assert sender.connection.stats().packets_sent == receiver.connection.stats().packets_received > 20
        await receiver.until(lambda: len(receiver.frames) == 22)


# Without decoding


@pytest.mark.parametrize("codec", ["vp8", "h264"])
@turned
async def test_encoded_frames_come_in_order_and_can_be_decoded(codec: Codec) -> None:
    clip, frames = Clip(codec), list[EncodedVideoFrame]()
    async with Peer() as sender, Peer(on_encoded=frames.append) as receiver:
        sender.connection.add_video(lambda _: clip.stream, [codec])
        await join(sender, receiver)
        await sender.until(lambda: clip.stream.viewers)
        sent = await clip.play(10)
        await receiver.until(lambda: len(frames) == 10)
        await elapse(0.3)
        before = clip.requests
        for _ in range(3):  # in one go: one request
            receiver.connection.request_keyframe()
        await sender.until(lambda: clip.requests > before)
        assert receiver_of(receiver).keyframe_requests == 1
        sent += await clip.play(5)
        await receiver.until(lambda: len(frames) == 15)
        assert receiver_of(receiver)._decoder is None
    assert [frame.rtp_timestamp for frame in frames] == sent
    assert [at for at, frame in enumerate(frames) if frame.keyframe] == [0, 10]
    assert {frame.codec for frame in frames} == {codec}
    decoder = av.CodecContext.create(codec, "r")
    assert isinstance(decoder, VideoCodecContext)
    pictures = [picture for frame in frames for picture in decoder.decode(frame.packet(sent[0]))]
    assert [picture.pts for picture in pictures] == [number * TICKS for number in range(15)]


@turned
async def test_encoded_frames_that_build_on_a_lost_one_are_left_out() -> None:
    clip, frames = Clip(), list[EncodedVideoFrame]()
    async with Peer() as sender, Peer(on_encoded=frames.append) as receiver:
        sender.connection.add_video(lambda _: clip.stream)
        await join(sender, receiver)
        await sender.until(lambda: clip.stream.viewers)
        await clip.play(3)
        number = next_number(sender)
        Tap(sender, Copies(sender, range(number, number + 1), copies=100))
        await clip.play(40, interval=0.02)
        await receiver.until(lambda: frames[-1].rtp_timestamp == max(clip.numbers))
    assert [at for at, frame in enumerate(frames) if frame.keyframe] == [0, 3]


@turned
async def test_video_that_nobody_wants_is_not_sent() -> None:
    clip = Clip()
    async with Peer() as sender, Peer(video=False) as receiver:
        sender.connection.add_video(lambda _: clip.stream)
        channel = sender.connection.add_channel("faces")
        await join(sender, receiver)
        await sender.until(lambda: channel.is_open)
        await clip.play(5)
        assert clip.viewers == []
        assert sender.connection.stats().packets_sent == receiver.connection.stats().packets_received == 0


# Streams that start anew


class Wire:
    """Sends RTP and RTCP of one's own making from a peer that is connected.

    Args:
        sender: That peer.
        receiver: Who gets it.
        ssrc: The first source.
    """

    def __init__(self, sender: Peer, receiver: Peer, ssrc: int | None = None) -> None:
        fanout = sender.connection.senders[0]
        self.fanout = fanout
        self.transport = fanout.transport
        self.ssrc = fanout._ssrc if ssrc is None else ssrc
        self.number = 40_000
        self.timestamp = 5000
        self.codecs = {
            (codec.name.lower(), codec.parameters.get("apt")): number
            for number, codec in receiver_of(receiver)._known_codecs.items()
        }
        self.payload_type = self.codecs["vp8", None]

    def packet(self, payload: bytes, *, marker: bool = True, **fields: Any) -> RtpPacket:
        """Make the next packet."""
        packet = RtpPacket(
            payload_type=fields.get("payload_type", self.payload_type),
            marker=int(marker),
            sequence_number=self.number & 0xFFFF,
            timestamp=self.timestamp & 0xFFFFFFFF,
            ssrc=fields.get("ssrc", self.ssrc),
            payload=payload,
        )
        self.number += 1
        self.timestamp += TICKS
        return packet

    async def send(self, packet: RtpPacket | AnyRtcpPacket) -> None:
        """Send a packet."""
        data = packet.serialize() if isinstance(packet, RtpPacket) else bytes(packet)
        await self.transport._send_rtp(data)

    async def frame(self, payload: bytes = KEYFRAME, **fields: Any) -> None:
        """Send a frame of one packet."""
        await self.send(self.packet(payload, **fields))


@contextlib.asynccontextmanager
async def wired(**options: Any) -> AsyncIterator[tuple[Wire, Peer, list[EncodedVideoFrame]]]:
    """Connect a sender that sends nothing by itself with a receiver that does not decode."""
    clip, frames = Clip(), list[EncodedVideoFrame]()
    async with Peer() as sender, Peer(on_encoded=frames.append, **options) as receiver:
        sender.connection.add_video(lambda _: clip.stream)
        await join(sender, receiver)
        await sender.until(lambda: clip.stream.viewers)
        yield Wire(sender, receiver), receiver, frames


@pytest.mark.parametrize("jump", [-20_000, 0, 1, 20_000])
@turned
async def test_a_sender_with_a_new_source_is_followed(jump: int) -> None:
    clip = Clip()
    async with watching(clip, shown=10) as (sender, receiver):
        fanout = sender.connection.senders[0]
        fanout._writer._ssrc ^= 0x1234
        fanout._writer.next_number = (fanout._writer.next_number + jump) & 0xFFFF
        clip._request()
        before = receiver_of(receiver).keyframe_requests
        await clip.play(10)
        await receiver.until(lambda: len(receiver.frames) == 20)
        assert receiver_of(receiver).keyframe_requests == before


@turned
async def test_a_new_source_that_begins_without_a_keyframe_is_asked_for_one() -> None:
    clip = Clip()
    async with watching(clip, shown=10) as (sender, receiver):
        fanout = sender.connection.senders[0]
        fanout._writer._ssrc ^= 0x1234
        fanout._writer.next_number ^= 0x4000
        requested = receiver_of(receiver).keyframe_requests
        await clip.play(1)
        await receiver.until(lambda: receiver_of(receiver).keyframe_requests > requested)


@turned
async def test_what_was_under_way_from_the_old_source_does_not_bring_it_back() -> None:
    async with wired() as (wire, receiver, frames):
        old, new = wire.ssrc, wire.ssrc ^ 1
        for _ in range(3):
            await wire.frame()
        late = [wire.packet(KEYFRAME, ssrc=old) for _ in range(5)]
        wire.number = 100
        for packet in late:
            await wire.frame(ssrc=new)
            await wire.send(packet)
        await receiver.until(lambda: len(frames) == 8)
        assert receiver_of(receiver)._media_ssrc == new
        assert receiver_of(receiver).keyframe_requests == 0


@turned
async def test_a_source_that_was_left_is_returned_to_once_the_other_is_silent() -> None:
    async with wired() as (wire, receiver, frames):
        await wire.frame()
        await wire.frame(ssrc=wire.ssrc ^ 1)
        await receiver.until(lambda: len(frames) == 2)
        await elapse(1.5 * SILENCE)
        await wire.frame()
        await receiver.until(lambda: len(frames) == 3)


@turned
async def test_what_a_new_source_loses_is_sent_again_by_the_source_that_repaired_the_old() -> None:
    async with wired() as (wire, receiver, frames):
        repairs = receiver_of(receiver)._repaired_ssrcs
        (repairing,) = [ssrc for ssrc, media in repairs.items() if media == wire.ssrc]
        await wire.frame()
        wire.ssrc ^= 1
        await wire.frame()
        lost = wire.packet(KEYFRAME)
        delta = wire.packet(DELTA)
        await elapse(1.5 * SILENCE)
        await wire.send(delta)
        await receiver.until(lambda: receiver_of(receiver).nacks)
        again = wire.packet(lost.sequence_number.to_bytes(2, "big") + lost.payload, ssrc=repairing)
        again.payload_type, again.timestamp = wire.codecs["rtx", wire.payload_type], lost.timestamp
        await wire.send(again)
        await receiver.until(lambda: len(frames) == 4)
        assert [frame.keyframe for frame in frames] == [True, True, True, False]


@turned
async def test_a_goodbye_of_a_source_that_goes_on_as_another_does_not_end_the_track() -> None:
    async with wired() as (wire, receiver, frames):
        await wire.frame()
        await receiver.until(lambda: len(frames) == 1)
        await wire.send(RtcpByePacket([wire.ssrc]))
        wire.ssrc ^= 1
        await wire.frame()
        await wire.frame()
        await receiver.until(lambda: len(frames) == 3)
        assert receiver_of(receiver)._parted is None


@turned
async def test_a_goodbye_of_somebody_else_is_none() -> None:
    async with wired() as (wire, receiver, frames):
        await wire.frame()
        await receiver.until(lambda: len(frames) == 1)
        await wire.send(RtcpByePacket([wire.fanout._rtx_ssrc]))
        await wire.frame()
        await receiver.until(lambda: len(frames) == 2)
        assert receiver_of(receiver)._parted is None


@pytest.mark.parametrize("anew", [False, True])
@turned
async def test_a_source_that_comes_back_long_after_a_goodbye_is_shown_again(*, anew: bool) -> None:
    clip = Clip()
    async with watching(clip, shown=3) as (sender, receiver):
        fanout, video, tap = sender.connection.senders[0], receiver_of(receiver), Tap(receiver, lambda _: False)
        await Wire(sender, receiver).send(RtcpByePacket([fanout._ssrc]))
        await receiver.until(lambda: video._parted)
        video.request_keyframe()
        await elapse(1.5)
        assert not any(is_keyframe_request(data) for data in tap.sent)  # nobody is there to be asked
        if anew:
            fanout._writer._ssrc ^= 1
            clip._keyframe = True
        sent = await clip.play(10)
        await receiver.until(lambda: receiver.frames[-1].rtp_timestamp == sent[-1])
        assert not receiver.tracks[0]._ended
        await receiver.until(lambda: any(is_keyframe_request(data) for data in tap.sent) or not video._keyframe_wanted)


@turned
async def test_from_however_many_sources_a_peer_sends_few_are_kept_and_reported_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with wired() as (wire, receiver, frames):
        video = receiver_of(receiver)

        def has_packets(count: int) -> bool:
            return video.packets == count

        await wire.frame()
        for ssrc in range(1, 400):
            packet = wire.packet(KEYFRAME, ssrc=ssrc)
            packet.extensions.abs_send_time = ssrc * 1000
            await wire.transport._send_rtp(packet.serialize(video.transport._rtp_header_extensions_map))
            if ssrc % 50 == 0:
                await receiver.until(functools.partial(has_packets, ssrc + 1))
        await receiver.until(lambda: video.packets == 400)
        reception = video._reception
        for kept in reception.streams, reception.last_reports, video._repaired_ssrcs, video._bitrate.ssrcs:
            assert len(kept) <= MOST_STREAMS
        assert len(video.transport._rtp_router.ssrc_table) <= 2 * MOST_STREAMS
        assert len(bytes(reception.report())) < 300
        await elapse(1.2 * REPORT_INTERVAL)
        assert video._reports is not None
        assert not video._reports.done()
        assert len(frames) == 400
    assert "Traceback" not in caplog.text


@turned
@pytest.mark.long
async def test_a_silence_costs_nothing_however_long_it_was() -> None:
    async with wired() as (wire, receiver, frames):
        video = receiver_of(receiver)
        for arrived in 0, 5_000_000, 5_000_010, 10_000_000, 50, 15_000_000:  # ms; clocks are set, too
            packet = wire.packet(KEYFRAME)
            packet.extensions.abs_send_time = 1000
            gc.collect()  # not meanwhile
            began = time.thread_time()
            await video._handle_rtp_packet(packet, arrival_time_ms=arrived)
            assert time.thread_time() - began < 0.05
        assert len(frames) == 6


@turned
async def test_a_report_that_fails_is_logged_and_neither_ends_reporting_nor_hinders_closing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synopticon_rtc.rtc.reception.REPORT_INTERVAL", 0.02)
    async with wired() as (wire, receiver, frames):
        video = receiver_of(receiver)
        await wire.frame()
        await receiver.until(lambda: len(frames) == 1)
        video._reception.streams[5] = None  # type: ignore[assignment]
        await receiver.until(lambda: "a report could not be sent" in caplog.text)
        await elapse(0.1)
        assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
        assert video._reports is not None
        assert not video._reports.done()
        async with asyncio.timeout(20):
            await receiver.connection.close()


@turned
async def test_presentation_times_run_on_over_the_wrap_and_a_new_start() -> None:
    async with wired() as (wire, receiver, frames):
        wire.timestamp = 2**32 - TICKS
        for _ in range(3):
            await wire.frame()
        wire.timestamp = 10
        wire.ssrc ^= 1
        await wire.frame()
        await wire.frame()
        await receiver.until(lambda: len(frames) == 5)
        assert [frame.rtp_timestamp for frame in frames] == [2**32 - TICKS, 0, TICKS, 10, 10 + TICKS]
        times = [frame.pts for frame in frames]
        assert times[:3] == [2**32 - TICKS, 2**32, 2**32 + TICKS]
        assert times[2] < times[3] < times[2] + 10 * 90_000
        assert times[4] == times[3] + TICKS


# What is asked for


@turned
async def test_a_keyframe_that_is_wanted_right_after_another_comes_too() -> None:
    clip, frames = Clip(), list[EncodedVideoFrame]()
    async with Peer() as sender, Peer(on_encoded=frames.append) as receiver:
        sender.connection.add_video(lambda _: clip.stream)
        await join(sender, receiver)
        await sender.until(lambda: clip.stream.viewers)
        playing = asyncio.create_task(clip.play(200))
        await receiver.until(lambda: frames)
        await elapse(KEYFRAME_REQUEST_INTERVAL)
        receiver.connection.request_keyframe()
        await receiver.until(lambda: sum(frame.keyframe for frame in frames) == 2)
        receiver.connection.request_keyframe()
        await receiver.until(lambda: sum(frame.keyframe for frame in frames) == 3)
        playing.cancel()


@turned
async def test_large_frames_come_whole() -> None:
    async with wired() as (wire, receiver, frames):
        body = bytes(range(256)) * 4
        for count in (511, 513, 2000):
            for at in range(count):
                packet = wire.packet((KEYFRAME if at == 0 else b"\x00") + body, marker=at == count - 1)
                packet.timestamp = count
                await wire.send(packet)
                if at % 100 == 0:
                    await elapse(0.001)
        await receiver.until(lambda: len(frames) == 3)
        assert [len(frame.data) // len(body) for frame in frames] == [511, 513, 2000]
        assert receiver_of(receiver).keyframe_requests == 0


@turned
async def test_a_4k_page_of_text_is_shown() -> None:
    page = np.full((2160, 3840), 255, np.uint8)
    chance = np.random.default_rng(1)
    page[::2] = np.repeat(chance.integers(0, 2, (1080, 1280), np.uint8) * 255, 3, axis=1)
    planes = np.concatenate([page, np.full((1080, 3840), 128, np.uint8)])
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    frame.pts, frame.pict_type = 0, PictureType.I
    (packet,) = opened("vp8", 3840, 2160, bitrate=8_000_000, fps=fractions.Fraction(5), threads=1).encode(frame)
    packet.time_base = fractions.Fraction(1, 90_000)
    assert packet.size > 700_000
    clip = Clip()
    async with watching(clip) as (_, receiver):
        clip.stream.send(packet)
        await receiver.until(lambda: receiver.frames, seconds=30)
        assert (receiver.frames[0].frame.width, receiver.frames[0].frame.height) == (3840, 2160)


@pytest.mark.parametrize("payload", [b"\x80", b"\x10", b""], ids=["broken", "empty", "padding"])
@turned
async def test_a_packet_that_holds_nothing_leaves_no_hole(payload: bytes) -> None:
    async with wired() as (wire, receiver, frames):
        await wire.frame()
        for _ in range(5):
            await wire.frame(payload)
            await wire.frame(DELTA)
        await receiver.until(lambda: len(frames) == 6)
        assert receiver_of(receiver).nacks == 0


# Several videos, and large ones


@pytest.mark.parametrize("encoded", [False, True])
@turned
async def test_of_several_videos_the_first_is_received(encoded: bool) -> None:  # noqa: FBT001 - a parameter
    clips, frames = [Clip(), Clip()], list[EncodedVideoFrame]()
    async with Peer() as sender, Peer(on_encoded=frames.append if encoded else None) as receiver:
        sender.connection.add_video(lambda _: clips[0].stream)
        sender.connection.add_video(lambda _: clips[1].stream)
        await join(sender, receiver)
        await sender.until(lambda: clips[0].stream.viewers)
        for _ in range(10):
            for clip in clips:
                clip.send()
            await elapse(0.01)
        await receiver.until(lambda: len(frames) + len(receiver.frames) == 10)
        assert len(receiver.connection._receivers) == 1
        assert len(receiver.tracks) == 1 - encoded
        assert not clips[1].stream.viewers
        timestamps = [frame.rtp_timestamp for frame in frames] + [frame.rtp_timestamp for frame in receiver.frames]
        assert timestamps == list(clips[0].numbers)


@turned
async def test_a_video_that_is_not_sent_does_not_take_the_place_of_one_that_is() -> None:
    clips = [Clip(), Clip()]
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda _: clips[0].stream)
        sender.connection.add_video(lambda _: clips[1].stream)
        await join(sender, receiver, offer=lambda sdp: sdp.replace("a=sendonly", "a=inactive", 1))
        await sender.until(lambda: clips[1].stream.viewers)
        await clips[1].play(5)
        await receiver.until(lambda: len(receiver.frames) == 5)


@pytest.mark.parametrize("codec", ["vp8", "h264"])
@pytest.mark.parametrize("encoded", [False, True])
@turned
async def test_video_that_is_too_large_is_left_out_and_told_and_the_connection_lives(
    codec: Codec,
    encoded: bool,  # noqa: FBT001 - a parameter
    caplog: pytest.LogCaptureFixture,
) -> None:
    clip, frames = Clip(codec), list[EncodedVideoFrame]()
    async with (
        Peer() as sender,
        Peer(on_encoded=frames.append if encoded else None, max_size=(WIDTH, HEIGHT - 1)) as receiver,
    ):
        sender.connection.add_video(lambda _: clip.stream, [codec])
        channel = sender.connection.add_channel("faces")
        await join(sender, receiver)
        await sender.until(lambda: clip.stream.viewers and channel.is_open)
        for _ in range(5):
            clip._request()
            await clip.play(3)
        await receiver.until(lambda: receiver.connection.stats().frames_too_large == 5)
        assert not frames
        assert not receiver.frames
        assert receiver.connection.state == "connected"
        (message,) = [record.message for record in caplog.records if "max_size" in record.message]
        assert f"{WIDTH}x{HEIGHT}" in message
        assert receiver_of(receiver).keyframe_requests <= 1
