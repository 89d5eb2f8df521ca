"""Video that is added to a connection which is up, and taken off it."""

import pytest
from aiortc.rtp import RtcpPacket, RtcpSrPacket
from rtc_helpers import Clip, Peer, join, watching

from synopticon_rtc.rtc.stream import Codec


async def add(sender: Peer, receiver: Peer, clip: Clip, *, taken: bool = True) -> str:
    """Offer one more video, and return the section that it goes over."""
    connection = sender.connection
    video = connection.add_video(lambda _: clip.stream, [clip.stream.codec])
    offer = await connection.offer()
    assert "candidate" not in offer
    mid = connection.section(video)
    assert mid is not None
    await connection.set_answer(await receiver.connection.answer(offer, [mid] if taken else []))
    return mid


async def plays(clip: Clip, receiver: Peer, mid: str) -> bool:
    """Whether frames of a clip come out of a section, each the one that was sent."""
    sent = set(await clip.play(10))
    track = next(track for track in receiver.tracks if track.mid == mid)
    before = track.decoded
    last = clip.send()
    await receiver.until(lambda: any(frame.rtp_timestamp == last for frame in receiver.frames))
    frames = [frame for frame in receiver.frames if frame.rtp_timestamp in sent]
    return track.decoded > before and bool(frames) and all(map(clip.shows_its_number, frames))


@pytest.mark.parametrize("codecs", [("vp8", "vp8"), ("vp8", "h264"), ("h264", "h264")])
async def test_a_second_video_is_added_while_the_first_plays_on(codecs: tuple[Codec, Codec]) -> None:
    first, second = Clip(codecs[0], origin=0), Clip(codecs[1], origin=2**31)
    async with watching(first) as (sender, receiver):
        mid = await add(sender, receiver, second)
        await sender.until(lambda: second.stream.viewers)
        assert await plays(second, receiver, mid)
        assert await plays(first, receiver, receiver.tracks[0].mid)
        assert receiver.tracks[0].mid != mid
        assert sender.states == receiver.states == ["connecting", "connected"]


async def test_a_video_that_is_not_taken_is_not_sent() -> None:
    first, second = Clip(origin=0), Clip(origin=2**31)
    async with watching(first) as (sender, receiver):
        await add(sender, receiver, second, taken=False)
        assert await plays(first, receiver, receiver.tracks[0].mid)
        assert second.stream.viewers == 0
        assert len(receiver.tracks) == 1


async def test_an_offer_that_was_not_answered_is_replaced_by_the_next() -> None:
    first, second, third = Clip(origin=0), Clip(origin=2**31), Clip(origin=2**30)
    async with watching(first) as (sender, receiver):
        sender.connection.add_video(lambda _: second.stream, ["vp8"])
        await sender.connection.offer()
        await add(sender, receiver, third)
        await sender.until(lambda: third.stream.viewers)
        assert second.stream.viewers == 0
        assert await plays(third, receiver, receiver.tracks[-1].mid)


async def test_a_section_that_was_left_carries_another_video(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Clip(origin=2**31), Clip(origin=0)
    async with watching(first) as (sender, receiver):
        assert await plays(first, receiver, receiver.tracks[0].mid)
        (video,) = sender.connection.senders
        video.leave()
        assert first.stream.viewers == 0
        told: list[bytes] = []
        monkeypatch.setattr(video._outlet, "send_report", told.append)
        video.begin(lambda _: second.stream)
        assert not told
        begun = second.send()
        report, *_ = RtcpPacket.parse(told.pop())  # at once, as its timestamps are others
        assert isinstance(report, RtcpSrPacket)
        assert (report.sender_info.rtp_timestamp - begun) % 2**32 < 900
        assert await plays(second, receiver, receiver.tracks[0].mid)


async def test_video_comes_to_a_connection_that_had_channels_alone() -> None:
    clip = Clip()
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_channel("control")
        await join(sender, receiver)
        mid = await add(sender, receiver, clip)
        await sender.until(lambda: clip.stream.viewers)
        assert await plays(clip, receiver, mid)
