"""Two peers in one process."""

import asyncio
import contextlib
import gc
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from rtc_helpers import TICKS, Clip, Peer, Tap, describe, is_rtp, join, watching
from turned import turned
from waiting import turns

from synopticon_rtc.errors import ConnectionLost, NoCommonCodec
from synopticon_rtc.rtc import Channel, stream
from synopticon_rtc.rtc.stream import Codec

CODECS: tuple[Codec, ...] = ("vp8", "h264")


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """A socket that is left open warns when it is collected, and a warning is an error here."""
    yield
    gc.collect()


# Video


@pytest.mark.parametrize("codec", CODECS)
@turned
async def test_frames_arrive_with_the_timestamps_they_were_sent_with(codec: Codec) -> None:
    clip = Clip(codec)
    async with watching(clip) as (_, receiver):
        sent = await clip.play(20)
        await receiver.until(lambda: receiver.frames[-1].rtp_timestamp == sent[-1])
        assert [frame.rtp_timestamp for frame in receiver.frames] == sent
        for received in receiver.frames:
            assert received.frame.pts == received.rtp_timestamp
            assert received.frame.time_base == Fraction(1, 90_000)
            assert clip.shows_its_number(received)


@pytest.mark.parametrize("codec", CODECS)
@turned
async def test_a_frame_is_given_out_before_the_next_one_is_sent(codec: Codec) -> None:
    clip = Clip(codec)
    async with watching(clip) as (_, receiver):
        for count in range(1, 6):
            clip.send()
            await receiver.until(lambda count=count: len(receiver.frames) == count, seconds=1)  # type: ignore[misc]


@pytest.mark.parametrize("codec", CODECS)
@turned
async def test_timestamps_wrap_around(codec: Codec) -> None:
    clip = Clip(codec, origin=2**32 - 5 * TICKS)
    async with watching(clip) as (_, receiver):
        sent = await clip.play(12)
        await receiver.until(lambda: len(receiver.frames) == 12)
        assert sent[4] == 2**32 - TICKS
        assert sent[5] == 0
        assert [frame.rtp_timestamp for frame in receiver.frames] == sent
        assert all(clip.shows_its_number(frame) for frame in receiver.frames)


@turned
async def test_the_codec_that_both_want_most_is_selected() -> None:
    for codecs, expected in (["vp8", "h264"], "vp8"), (["h264"], "h264"):
        chosen: list[str] = []
        async with Peer() as sender, Peer() as receiver:
            sender.connection.add_video(lambda codec: chosen.append(codec) or Clip(codec).stream, codecs)  # type: ignore[func-returns-value, arg-type] # noqa: B023 - called before the next turn
            await join(sender, receiver)
            await sender.until(lambda: chosen)  # noqa: B023 - awaited here
        assert chosen == [expected]


@pytest.mark.parametrize("codec", CODECS)
async def test_plain_aiortc_is_received(codec: Codec) -> None:
    class Packets(MediaStreamTrack):
        kind = "video"

        async def recv(self) -> Any:
            await asyncio.sleep(0.02)
            return clip.packet()

    clip = Clip(codec)
    other = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    known = RTCRtpSender.getCapabilities("video").codecs
    other.addTransceiver(Packets(), "sendonly").setCodecPreferences([c for c in known if c.name.lower() == codec])
    await other.setLocalDescription()
    async with Peer() as receiver:
        answer = await receiver.connection.answer(other.localDescription.sdp)
        await other.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await receiver.until(lambda: len(receiver.frames) >= 5)
        first = receiver.frames[0].rtp_timestamp
        assert [(frame.rtp_timestamp - first) % 2**32 for frame in receiver.frames[:5]] == [
            number * TICKS for number in range(5)
        ]
        await other.close()
        await receiver.until_state("closed")


@turned
async def test_vp8_is_offered_beside_h264_and_taken_where_h264_is_not() -> None:
    clip = Clip("vp8")

    def without_h264(sdp: str) -> str:
        numbers = re.findall(r"a=rtpmap:(\d+) H264", sdp)
        assert numbers
        for number in numbers:
            sdp = re.sub(rf"a=(?:rtpmap|fmtp|rtcp-fb):{number} .*\r\n", "", sdp)
        return sdp

    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda _: clip.stream, ["h264"])
        await join(sender, receiver, offer=without_h264)
        await sender.until(lambda: clip.stream.viewers)
        await clip.play(5)
        await receiver.until(lambda: len(receiver.frames) == 5)


@turned
async def test_a_late_joiner_starts_with_the_last_keyframe_if_it_is_recent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "GROUP_AGE", 60)  # however long joining takes
    clip = Clip()
    async with watching(clip) as (_, first), Peer() as other, Peer() as late:
        await other.until(lambda: clip.stream.viewers == 1)
        clip._request()
        requests = clip.requests
        sent = await clip.play(5)
        other.connection.add_video(lambda _: clip.stream)
        await join(other, late)
        await late.until(lambda: len(late.frames) > 0 and late.frames[-1].rtp_timestamp == sent[-1])
        sent += await clip.play(5)
        await late.until(lambda: late.frames[-1].rtp_timestamp == sent[-1])
        assert {frame.rtp_timestamp for frame in late.frames} <= set(sent)
        assert late.connection._receivers["0"].decode_errors == 0
        assert clip.requests == requests
        await first.until(lambda: first.frames[-1].rtp_timestamp == sent[-1])


@turned
async def test_a_late_joiner_starts_with_a_keyframe_and_nobody_else_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "GROUP_AGE", 0)
    monkeypatch.setattr("synopticon_rtc.rtc.receiver.KEYFRAME_REQUEST_INTERVAL", 60)  # however long it takes to come
    clip = Clip()
    async with watching(clip) as (_, first), Peer() as other, Peer() as late:
        await clip.play(10)
        requests = clip.requests
        other.connection.add_video(lambda _: clip.stream)
        await join(other, late)
        await other.until(lambda: clip.stream.viewers == 2)
        assert clip.requests == requests + 1
        sent = await clip.play(10)
        await late.until(lambda: late.frames[-1].rtp_timestamp == sent[-1])
        await first.until(lambda: first.frames[-1].rtp_timestamp == sent[-1])
        assert [frame.rtp_timestamp for frame in late.frames] == sent
        assert len(first.frames) == 20
        assert late.connection._receivers["0"].decode_errors == 0
        assert clip.requests == requests + 1


@turned
async def test_nothing_is_sent_before_a_keyframe() -> None:
    clip = Clip()
    clip.packet()  # the keyframe, which nobody gets
    async with watching(clip) as (sender, _):
        clip._keyframe = False
        await clip.play(3)
        assert sender.connection.stats().packets_sent == 0
        clip._request()
        clip.send()
        assert sender.connection.stats().packets_sent > 0


@turned
async def test_an_encoder_is_told_when_it_is_watched() -> None:
    clip = Clip()
    assert clip.stream.viewers == 0
    async with watching(clip) as (sender, _):
        await sender.until(lambda: clip.viewers == [1])
    assert clip.viewers == [1, 0]
    assert clip.stream.viewers == 0


@turned
async def test_one_peer_that_fails_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def send_frame(self, frame: object, now: float) -> None:  # noqa: ARG002 - as viewers are called
            raise RuntimeError(frame)

    clip = Clip()
    clip.stream.add(Broken())
    async with watching(clip, shown=5):
        pass
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "a frame is not sent to a peer"
    ]


# Feedback


@turned
async def test_a_lost_picture_leads_to_a_request_for_a_keyframe() -> None:
    clip = Clip()
    async with watching(clip, shown=3) as (_, receiver):
        before = clip.requests
        receiver.connection._receivers["0"]._need_keyframe()
        await receiver.until(lambda: clip.requests == before + 1)


@turned
async def test_a_packet_lost_for_good_freezes_the_video_for_no_longer_than_a_keyframe_takes() -> None:
    clip = Clip()
    async with watching(clip, shown=2) as (sender, receiver):
        requests, lost = clip.requests, sender.connection.senders[0]._writer.next_number.to_bytes(2, "big")
        # Neither the packet nor its retransmissions, which name it in their first two octets, arrive.
        Tap(sender, lambda data: is_rtp(data) and (data[2:4] == lost or data[1] & 0x7F == 98))
        await clip.play(60)
        await receiver.until(lambda: receiver.frames[-1].rtp_timestamp == max(clip.numbers))
        assert clip.requests == requests + 1
        assert 10 < len(receiver.frames) < 60


def drop_rtx(sdp: str) -> str:
    for number in re.findall(r"a=rtpmap:(\d+) rtx", sdp):
        sdp = re.sub(rf"a=(?:rtpmap|fmtp):{number} .*\r\n", "", sdp)
    return sdp


@pytest.mark.parametrize("rtx", [True, False], ids=["on its own stream", "on the same stream"])
@pytest.mark.parametrize("codec", CODECS)
@turned
async def test_lost_packets_are_sent_again(codec: Codec, rtx: bool) -> None:  # noqa: FBT001 - a parameter
    clip = Clip(codec)
    edits = {} if rtx else {"answer": drop_rtx}
    async with watching(clip, shown=0, **edits) as (sender, receiver):
        seen: set[int] = set()
        source = sender.connection.senders[0]._ssrc.to_bytes(4, "big")

        def drop(data: bytes) -> bool:
            """Lose every fifth packet the first time that it comes."""
            number = int.from_bytes(data[2:4], "big")
            first = is_rtp(data) and data[8:12] == source and number not in seen
            seen.add(number)
            return first and number % 5 == 0

        await clip.play(1)
        Tap(sender, drop)
        requests = clip.requests
        await clip.play(40)
        # A gap shows when the next packet comes, so the last frames may wait.
        await receiver.until(lambda: receiver.tracks[0].decoded >= 38)
        assert sender.connection.stats().retransmits > 5
        assert clip.requests == requests
        assert receiver.connection._receivers["0"].decode_errors == 0
        assert all(clip.shows_its_number(frame) for frame in receiver.frames)


@turned
async def test_reports_give_round_trip_time_and_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in "reporting_sender", "reception":
        monkeypatch.setattr(f"synopticon_rtc.rtc.{module}.REPORT_INTERVAL", 0.2)
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        count = 0

        def drop(data: bytes) -> bool:
            nonlocal count
            count += is_rtp(data)
            return is_rtp(data) and count % 4 == 0

        Tap(sender, drop)
        playing = asyncio.create_task(clip.play(1000, interval=0.015))
        await sender.until(lambda: sender.connection.stats().bitrate_limit)
        playing.cancel()
        stats = sender.connection.stats()
        assert stats.rtt is not None
        assert 0 < stats.rtt < 0.2
        assert stats.loss is not None
        assert 0.1 < stats.loss < 0.4
        assert stats.bitrate_limit is not None
        assert 10_000 < stats.bitrate_limit < 10_000_000
        assert (stats.local_candidate, stats.remote_candidate) == ("host", "host")
        received = receiver.connection.stats()
        assert 0 < received.packets_received < stats.packets_sent + stats.retransmits
        assert received.bytes_received > 0


# Channels


@turned
async def test_channels_carry_text_and_bytes_both_ways() -> None:
    messages: list[bytes | str] = []
    replies: list[bytes | str] = []

    def on_channel(channel: Channel) -> None:
        def reply(message: bytes | str) -> None:
            messages.append(message)
            channel.send(message)

        channel.on_message = reply
        channels.append(channel)

    channels: list[Channel] = []
    async with Peer() as sender, Peer(on_channel=on_channel) as receiver:
        channel = sender.connection.add_channel("faces", protocol="faces/1", ordered=False, max_retransmits=0)
        opened: list[bool] = []
        channel.on_open = lambda: opened.append(channel.is_open)
        channel.on_message = replies.append
        assert not channel.is_open
        assert not channel.send(b"too early")
        await join(sender, receiver)
        await sender.until(lambda: channel.is_open)
        assert opened == [True]
        assert channel.send("text ☺")
        assert channel.send(b"\x00\xff")
        assert channel.send("")
        assert channel.send(b"")
        await sender.until(lambda: len(replies) == 4)
        assert messages == replies == ["text ☺", b"\x00\xff", "", b""]
        assert [(channel.label, channel.protocol) for channel in channels] == [("faces", "faces/1")]
        channel.close()
        await sender.until(lambda: not channels[0].is_open)
        assert not channels[0].send(b"too late")


@turned
async def test_a_channel_drops_rather_than_queues() -> None:
    got: list[bytes | str] = []
    async with Peer() as sender, Peer() as receiver:
        channel = sender.connection.add_channel("faces", max_buffered=10_000)
        await join(sender, receiver)
        await receiver.until(lambda: receiver.channels)
        receiver.channels[0].on_message = got.append
        await sender.until(lambda: channel.is_open)
        sent = [channel.send(bytes([number]) * 4_000) for number in range(100)]
        assert 1 <= sum(sent) <= 4
        assert sent == sorted(sent, reverse=True)
        await sender.until(lambda: len(got) == sum(sent))
        assert channel.send(b"and goes on")


@turned
async def test_a_message_larger_than_the_peer_takes_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async with Peer() as sender, Peer() as receiver:
        channel = sender.connection.add_channel("faces")
        await join(sender, receiver, answer=lambda sdp: re.sub(r"max-message-size:\d+", "max-message-size:100", sdp))
        await sender.until(lambda: channel.is_open)
        assert channel.send(bytes(100))
        for _ in range(100):
            assert not channel.send(bytes(101))
    assert "101 bytes" in caplog.text
    assert len(caplog.records) == 1


@turned
async def test_a_handler_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    got: list[bytes | str] = []

    def fail_once(message: bytes | str) -> None:
        got.append(message)
        if len(got) == 1:
            raise RuntimeError("no good")

    async with Peer() as sender, Peer() as receiver:
        channel = sender.connection.add_channel("faces")
        await join(sender, receiver)
        await receiver.until(lambda: receiver.channels)
        receiver.channels[0].on_message = fail_once
        await sender.until(lambda: channel.is_open)
        channel.send("one")
        channel.send("two")
        await receiver.until(lambda: got == ["one", "two"])
    assert "no good" in caplog.text


# States and endings


@turned
async def test_states_are_told_in_order() -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        assert sender.connection.state == "connected"
    assert sender.states == receiver.states == ["connecting", "connected", "closed"]


@turned
async def test_a_peer_is_reached_once_while_it_connects() -> None:
    async with watching(Clip()) as (sender, receiver):
        assert sender.reached == receiver.reached == ["connecting"]


@turned
async def test_a_goodbye_ends_the_other_side_at_once() -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        await clip.play(3)
        await sender.connection.close()
        await receiver.until_state("closed", seconds=1)
        await receiver.until(lambda: receiver.tracks[0]._ended, seconds=1)
        assert sender.connection.state == receiver.connection.state == "closed"


@turned
async def test_closing_again_waits_for_the_first() -> None:
    peer = Peer().connection
    peer.add_channel("faces")
    await peer.offer()
    await asyncio.gather(peer.close(), peer.close())
    await peer.close()
    with pytest.raises(ConnectionLost):
        await peer.offer()


async def test_nothing_is_left_behind_whenever_a_peer_is_closed() -> None:
    for after in range(14):
        sender, receiver = Peer(), Peer()
        sender.connection.add_video(lambda codec: Clip(codec).stream)
        sender.connection.add_channel("faces")
        joining = asyncio.create_task(describe(sender, receiver))
        await turns(after * 2)
        if not joining.done():
            joining.cancel()
        await asyncio.gather(joining, sender.connection.close(), receiver.connection.close(), return_exceptions=True)
        await turns(2)
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == [], after


@turned
async def test_an_answer_after_closing_raises_a_clear_error() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_channel("faces")
        answer = await receiver.connection.answer(await sender.connection.offer())
        await sender.connection.close()
        with pytest.raises(ConnectionLost):
            await sender.connection.set_answer(answer)


async def test_a_connection_that_is_closed_while_it_is_described_raises_a_clear_error() -> None:
    for after in range(12):
        async with Peer() as sender, Peer() as receiver:
            sender.connection.add_channel("faces")
            offer = await sender.connection.offer()
            answering = asyncio.create_task(receiver.connection.answer(offer))
            await turns(after)
            await receiver.connection.close()
            with contextlib.suppress(ConnectionLost):  # and nothing else
                await answering


@turned
async def test_pictures_go_over_a_connection_once_both_ends_have_agreed_on_them() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda codec: Clip(codec).stream)
        sender.connection.add_channel("faces")
        answer = await receiver.connection.answer(await sender.connection.offer())
        assert not sender.connection.has_media
        await sender.connection.set_answer(answer)
        assert sender.connection.has_media
        assert receiver.connection.has_media


@turned
async def test_no_pictures_go_over_a_connection_whose_answer_refuses_them() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda codec: Clip(codec).stream)
        sender.connection.add_channel("faces")
        await sender.connection.set_answer(await receiver.connection.answer(await sender.connection.offer(), []))
        assert not sender.connection.has_media
        assert not receiver.connection.has_media


@turned
async def test_a_peer_that_takes_none_of_our_codecs_is_told_apart() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda codec: Clip(codec).stream, ["h264"])
        sender.connection.add_channel("faces")
        answer = await receiver.connection.answer(await sender.connection.offer())
        refused = re.sub(r"m=(\w+) \d+", r"m=\1 0", answer)
        with pytest.raises(NoCommonCodec, match="this peer takes none of our codecs"):
            await sender.connection.set_answer(refused)


@turned
async def test_what_is_sent_on_sections_in_another_order_than_it_was_added_goes_over_the_one_transport() -> None:
    clip, plain = Clip(), RTCPeerConnection(RTCConfiguration(iceServers=[]))
    plain.addTransceiver("video", "recvonly")
    plain.addTransceiver("audio", "recvonly")
    await plain.setLocalDescription()
    async with Peer() as peer:
        peer.connection.add_audio(None)
        peer.connection.add_video(lambda _: clip.stream, ["vp8"])
        assert "a=candidate:" in await peer.connection.answer(plain.localDescription.sdp)
    await plain.close()


async def test_a_channel_that_never_opened_is_closed_with_its_connection() -> None:
    closed: list[bool] = []
    async with Peer() as sender:
        sender.connection.add_channel("first").on_close = lambda: closed.append(True)
        await sender.connection.offer()
    assert closed == [True]
