"""The end that receives makes the offer, as it does with WHEP, and whoever answers sends."""

import pytest
from rtc_helpers import Clip, Peer, join
from turned import turned

from synopticon_rtc.errors import NoCommonCodec
from synopticon_rtc.rtc.stream import Codec


@pytest.mark.parametrize("codec", ["vp8", "h264"])
@turned
async def test_whoever_answers_sends_its_video(codec: Codec) -> None:
    clip = Clip(codec)
    async with Peer() as receiver, Peer() as sender:
        receiver.connection.receive()
        sender.connection.add_video(lambda _: clip.stream, [codec])
        await join(receiver, sender)
        await sender.until(lambda: clip.stream.viewers)
        sent = await clip.play(10)
        await receiver.until(lambda: receiver.frames[-1].rtp_timestamp == sent[-1])
        assert [frame.rtp_timestamp for frame in receiver.frames] == sent


@turned
async def test_channels_of_whoever_answers_need_a_section_of_the_offer() -> None:
    clip = Clip()
    async with Peer() as receiver, Peer() as sender:
        receiver.connection.receive()
        receiver.connection.add_channel("ours")
        sender.connection.add_video(lambda _: clip.stream, ["vp8"])
        sender.connection.add_channel("faces", protocol="faces/1")
        await join(receiver, sender)
        await receiver.until(lambda: receiver.channels)
        assert receiver.channels[0].protocol == "faces/1"


@turned
async def test_what_the_offer_has_no_section_for_is_not_sent() -> None:
    clip = Clip()
    async with Peer() as receiver, Peer() as sender:
        receiver.connection.receive()
        video = sender.connection.add_video(lambda _: clip.stream, ["vp8"])
        sound = sender.connection.add_audio(None)
        sender.connection.add_channel("faces")
        await join(receiver, sender)
        assert sender.connection.takes(video)
        assert not sender.connection.takes(sound)


@turned
async def test_whoever_answers_refuses_h264_of_too_low_a_level() -> None:
    clip = Clip("h264")

    def poor(offer: str) -> str:
        lines = [line for line in offer.split("\r\n") if "VP8" not in line]
        return "\r\n".join(lines).replace("level-asymmetry-allowed=1;", "").replace("34\r\n", "1f\r\n")

    async with Peer() as receiver, Peer() as sender:
        receiver.connection.receive()
        sender.connection.add_video(lambda _: clip.stream, ["h264"], level=51)
        with pytest.raises(NoCommonCodec):
            await sender.connection.answer(poor(await receiver.connection.offer()))


@turned
async def test_what_comes_of_an_offer_to_receive_may_be_refused() -> None:
    async with Peer() as receiver, Peer() as stranger:
        receiver.connection.receive()
        answer = await stranger.connection.answer(await receiver.connection.offer(), [])
        await receiver.connection.set_answer(answer)
        assert receiver.frames == []


@turned
async def test_a_description_can_wait_for_all_candidates() -> None:
    clip = Clip()
    async with Peer() as receiver, Peer() as sender:
        receiver.connection.receive()
        sender.connection.add_video(lambda _: clip.stream, ["vp8"])
        answer = await sender.connection.complete(await sender.connection.answer(await receiver.connection.offer()))
        assert answer.count("a=candidate:") >= 1
        assert answer.count("a=end-of-candidates") == 1
