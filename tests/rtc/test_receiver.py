"""What a receiver does against loss, and without decoding: peers over real sockets, some of whose packets get lost."""

import asyncio
import itertools
import random
from typing import Any

import av
import pytest
from av.video.codeccontext import VideoCodecContext
from rtc_helpers import TICKS, Clip, Peer, Tap, is_rtp, join, watching

from synopticon_rtc.rtc import EncodedVideoFrame
from synopticon_rtc.rtc.assembly import MOST_MISSING
from synopticon_rtc.rtc.receiver import VideoReceiver
from synopticon_rtc.rtc.stream import Codec


class Late:
    """A transport on which everything takes a while.

    Args:
        transport: What sends in the end.
        seconds: How long it takes there.
    """

    def __init__(self, transport: Any, seconds: float) -> None:
        self._transport = transport
        self._seconds = seconds

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        asyncio.get_running_loop().call_later(self._seconds, self._send, data, address)

    def _send(self, data: bytes, address: tuple[str, int]) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(data, address)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def is_keyframe_request(data: bytes) -> bool:
    """Whether a datagram is a picture loss indication; the head of encrypted RTCP is in the clear (RFC 3711)."""
    return data[1] == 206 and data[0] & 0x1F == 1


def is_nack(data: bytes) -> bool:
    return data[1] == 205 and data[0] & 0x1F == 1


def receiver_of(peer: Peer) -> VideoReceiver:
    return peer.connection._receivers[0]


def next_number(sender: Peer) -> int:
    return sender.connection._senders[0]._sequence_number


class Copies:
    """Loses the first copies of some packets, sent again or not.

    Args:
        sender: Who sends them.
        numbers: Their RTP sequence numbers.
        copies: How many of each.
    """

    def __init__(self, sender: Peer, numbers: range, copies: int) -> None:
        self._ssrc = sender.connection._senders[0]._ssrc.to_bytes(4, "big")
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


async def test_a_lost_retransmission_is_asked_for_again_in_time() -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        await clip.play(3)
        await receiver.until(lambda: len(receiver.frames) == 3)
        requests, number = clip.requests, next_number(sender)
        copies = Copies(sender, range(number, number + 1), copies=3)
        Tap(sender, copies)
        await clip.play(20, interval=0.03)
        await receiver.until(lambda: len(receiver.frames) == 23)
        assert copies.again == 3
        assert receiver_of(receiver).nacks == 3
        assert clip.requests == requests
        times = [frame.arrived for frame in receiver.frames]
        assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 0.25


async def test_a_request_is_repeated_without_any_packet_coming() -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        await clip.play(3)
        await receiver.until(lambda: len(receiver.frames) == 3)
        number = next_number(sender)
        Tap(sender, Copies(sender, range(number, number + 1), copies=3))
        await clip.play(2, interval=0)
        await receiver.until(lambda: len(receiver.frames) == 5, seconds=1)


async def test_a_keyframe_is_asked_for_until_it_comes() -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        await clip.play(3)
        await receiver.until(lambda: len(receiver.frames) == 3)
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


async def test_who_gets_nothing_from_the_start_asks_for_a_keyframe() -> None:
    clip = Clip()
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda _: clip.stream)
        await join(sender, receiver)
        await sender.until(lambda: clip.stream.viewers)
        before = clip.requests
        await receiver.until(lambda: clip.requests > before, seconds=1)


async def test_when_very_much_is_lost_a_keyframe_takes_the_place_of_all_that() -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        await clip.play(3)
        await receiver.until(lambda: len(receiver.frames) == 3)
        await asyncio.sleep(0.3)
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
async def test_at_five_percent_loss_both_ways_video_never_stands_still(codec: Codec) -> None:
    clip = Clip(codec)
    async with watching(clip) as (sender, receiver):
        chance = random.Random(4)  # noqa: S311 - no secret
        for peer in sender, receiver:
            tap = Tap(peer, lambda data: 127 < data[0] < 192 and chance.random() < 0.05)
            tap._transport = Late(tap._transport, 0.02)
        await clip.play(200, interval=1 / 30)
        await receiver.until(lambda: receiver.frames[-1].rtp_timestamp >= max(clip.numbers) - 2 * TICKS)
        times = [frame.arrived for frame in receiver.frames]
        assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 1
        assert len(receiver.frames) > 180
        assert all(clip.shows_its_number(frame) for frame in receiver.frames)
        assert receiver_of(receiver).nacks > 10


async def test_nothing_is_asked_for_after_the_end() -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        await clip.play(3)
        await receiver.until(lambda: len(receiver.frames) == 3)
        tap = Tap(receiver, lambda _: False)
        receiver_of(receiver)._need_keyframe()
        await sender.connection.close()
        await receiver.until_state("closed")
        receiver_of(receiver)._need_keyframe()
        receiver.connection.request_keyframe()
        count = len(tap.sent)
        await asyncio.sleep(0.5)
        assert not any(is_keyframe_request(data) for data in tap.sent[count:])


async def test_what_came_while_the_loop_was_held_up_is_read_at_once() -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        await clip.play(2)
        await receiver.until(lambda: len(receiver.frames) == 2)
        for _ in range(20):
            clip.send()
        for _ in range(4):  # turns of the loop
            await asyncio.sleep(0)
        assert sender.connection.stats().packets_sent == receiver.connection.stats().packets_received > 20
        await receiver.until(lambda: len(receiver.frames) == 22)


# Without decoding


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_encoded_frames_come_in_order_and_can_be_decoded(codec: Codec) -> None:
    clip, frames = Clip(codec), list[EncodedVideoFrame]()
    async with Peer() as sender, Peer(on_encoded=frames.append) as receiver:
        sender.connection.add_video(lambda _: clip.stream, [codec])
        await join(sender, receiver)
        await sender.until(lambda: clip.stream.viewers)
        sent = await clip.play(10)
        await receiver.until(lambda: len(frames) == 10)
        await asyncio.sleep(0.3)
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
