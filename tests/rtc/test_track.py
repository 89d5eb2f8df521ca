"""Decoding, and handing out the newest frame."""

import asyncio
import itertools
import threading
import time
from typing import Any

import av
import pytest
from h264_helpers import PPS, SPS, encode, kind
from rtc_helpers import TICKS, Clip, watching
from turned import elapse, turned
from waiting import turns

from synopticon_rtc.rtc import Received, VideoTrack
from synopticon_rtc.rtc.assembly import EncodedVideoFrame
from synopticon_rtc.rtc.bitstream import MAX_SIZE
from synopticon_rtc.rtc.decoder import BACKLOG_LIMIT, LONGEST_KEYFRAME, MOST_SILENT, Decoder


def received(timestamp: int) -> Received:
    return Received(av.VideoFrame(16, 16, "yuv420p"), timestamp, 0.0)


def assembled(clip: Clip, arrived: float = 0.0) -> EncodedVideoFrame:
    packet = clip.packet()
    return EncodedVideoFrame(clip.stream.codec, bytes(packet), packet.pts or 0, packet.is_keyframe, arrived)


async def test_the_newest_frame_wins() -> None:
    track = VideoTrack("0")
    for timestamp in range(3):
        track.put(received(timestamp))
    assert (await anext(track)).rtp_timestamp == 2
    assert (track.decoded, track.skipped) == (3, 2)
    waiting = asyncio.create_task(track.__anext__())
    await turns()
    track.put(received(3))
    assert (await waiting).rtp_timestamp == 3


async def test_the_iteration_ends_with_the_track() -> None:
    track = VideoTrack("0")
    track.put(received(1))
    track.end()
    assert [frame.rtp_timestamp async for frame in track] == [1]
    waiting = VideoTrack("1")
    iteration = asyncio.create_task(waiting.__anext__())
    await turns()
    waiting.end()
    with pytest.raises(StopAsyncIteration):
        await iteration


@turned
async def test_a_slow_consumer_gets_the_newest_frame_each_time() -> None:
    clip = Clip()
    async with watching(clip) as (_, receiver):
        (track,) = receiver.tracks
        playing = asyncio.create_task(clip.play(40))
        ages = []
        async for frame in track:
            await receiver.until(lambda: True)
            ages.append((max(clip.numbers) - frame.rtp_timestamp) // TICKS)
            if len(ages) == 3:
                break
            await elapse(0.1)
        await playing
        assert max(ages) <= 3
        assert track.skipped > 5


async def test_frames_tell_when_they_arrived() -> None:
    clip = Clip()
    async with watching(clip, shown=10) as (_, receiver):
        times = [frame.arrived for frame in receiver.frames]
        assert all(0 < later - earlier < 0.5 for earlier, later in itertools.pairwise(times))


class Sink:
    """What a decoder is connected to."""

    def __init__(self, max_size: tuple[int, int] = MAX_SIZE) -> None:
        self.frames: list[Received] = []
        self.errors: list[bool] = []
        self.silences = 0
        self.decoder = Decoder(max_size=max_size, on_frame=self._frame, on_error=self._error, on_silent=self._silent)
        self._changed = asyncio.Event()

    def _frame(self, received: Received) -> None:
        self.frames.append(received)
        self._changed.set()

    def _error(self, lasting: bool) -> None:  # noqa: FBT001 - a callback
        self.errors.append(lasting)
        self._changed.set()

    def _silent(self) -> None:
        self.silences += 1
        self._changed.set()

    async def until(self, count: int, *, errors: int = 0, silences: int = 0) -> None:
        async with asyncio.timeout(20):
            while len(self.frames) < count or len(self.errors) < errors or self.silences < silences:
                self._changed.clear()
                await self._changed.wait()

    async def stop(self) -> None:
        self.decoder.stop()
        await self.decoder.wait_stopped()


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_a_frame_that_cannot_be_decoded_is_told_and_decoding_goes_on(codec: Any) -> None:
    sink, clip = Sink(), Clip(codec)
    assert sink.decoder.put(assembled(clip))
    await sink.until(1)
    sink.decoder.put(EncodedVideoFrame(codec, b"\0\0\0\1\x65garbage", 1, keyframe=True, arrived=0))
    await sink.until(1, errors=1)
    clip._request()
    sink.decoder.put(assembled(clip))
    await sink.until(2)
    assert sink.errors == [True]
    await sink.stop()


async def test_an_error_before_a_keyframe_that_waits_already_is_not_lasting() -> None:
    sink, clip = Sink(), Clip()
    release = threading.Event()
    decode = sink.decoder._decode

    def slow(*arguments: Any) -> bool:
        release.wait(10)
        return decode(*arguments)

    sink.decoder._decode = slow  # type: ignore[method-assign,assignment]
    sink.decoder.put(EncodedVideoFrame("vp8", b"garbage", 1, keyframe=False, arrived=0))
    sink.decoder.put(assembled(clip))
    release.set()
    await sink.until(1, errors=1)
    assert sink.errors == [False]
    await sink.stop()


@pytest.mark.parametrize("error", [RuntimeError("odd"), MemoryError(), ValueError("size")])
async def test_whatever_the_codec_raises_decoding_goes_on(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    sink, clip = Sink(), Clip()
    decode = sink.decoder._decode

    def failing(*_: Any) -> bool:
        sink.decoder._decode = decode  # type: ignore[method-assign]
        raise error

    sink.decoder._decode = failing  # type: ignore[method-assign,assignment]
    sink.decoder.put(assembled(clip))
    await sink.until(0, errors=1)
    clip._request()
    sink.decoder.put(assembled(clip))
    await sink.until(1)
    assert sink.errors == [True]
    assert "decoding failed" in caplog.text
    async with asyncio.timeout(20):
        await sink.stop()


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_a_decoder_itself_refuses_frames_that_are_larger_than_allowed(codec: Any) -> None:
    sink = Sink(max_size=(16, 16))
    sink.decoder.put(assembled(Clip(codec)))
    await sink.until(0, errors=1)
    assert sink.frames == []
    await sink.stop()


async def test_a_stream_of_which_nothing_can_be_shown_is_told() -> None:
    sink = Sink()
    first, second, *others = encode(2 * MOST_SILENT, {0})
    sets = [unit for unit in first if kind(unit) in {SPS, PPS}]
    for number, units in enumerate([[*sets, *second], *others]):
        data = b"".join(b"\0\0\0\1" + unit for unit in units)
        sink.decoder.put(EncodedVideoFrame("h264", data, number, keyframe=False, arrived=0))
    await sink.until(0, silences=1)
    assert not sink.frames
    await sink.stop()


async def test_frames_may_change_their_size_at_every_keyframe() -> None:
    sink = Sink()
    sizes = [(320, 240), (16, 16), (640, 64), (2, 480)] * 3
    for number, size in enumerate(sizes):
        (units,) = encode(1, {0}, size)
        data = b"".join(b"\0\0\0\1" + unit for unit in units)
        sink.decoder.put(EncodedVideoFrame("h264", data, number, keyframe=True, arrived=0))
    await sink.until(len(sizes))
    assert [(frame.frame.width, frame.frame.height) for frame in sink.frames] == sizes
    assert not sink.errors
    await sink.stop()


async def test_what_waits_for_a_keyframe_that_takes_long_is_not_thrown_away() -> None:
    sink, clip = Sink(), Clip()
    sink.decoder._keyframe_seconds = 1.0
    entered, release = threading.Event(), threading.Event()
    decode = sink.decoder._decode

    def slow(*arguments: Any) -> bool:
        entered.set()
        release.wait(10)
        return decode(*arguments)

    sink.decoder._decode = slow  # type: ignore[method-assign,assignment]
    sink.decoder.put(assembled(clip, 0.0))
    await asyncio.to_thread(entered.wait)
    sink.decoder._keyframe_since = time.monotonic() - 1
    assert [sink.decoder.put(assembled(clip, at)) for at in (0.1, 0.5, 1.3)] == [True, True, True]
    release.set()
    await sink.until(4)
    await sink.stop()


async def test_a_decoder_that_falls_behind_starts_again_at_a_keyframe() -> None:
    sink, clip = Sink(), Clip()
    longest = BACKLOG_LIMIT + LONGEST_KEYFRAME + 0.1
    entered, release = threading.Event(), threading.Event()
    decode = sink.decoder._decode

    def slow(*arguments: Any) -> bool:
        entered.set()
        release.wait(10)
        return decode(*arguments)

    sink.decoder._decode = slow  # type: ignore[method-assign,assignment]
    assert sink.decoder.put(assembled(clip, 0.0))
    await asyncio.to_thread(entered.wait)
    assert [sink.decoder.put(assembled(clip, at)) for at in (0.1, 0.2, 0.3)] == [True, True, True]
    assert not sink.decoder.put(assembled(clip, 0.1 + longest))
    assert not sink.decoder._queue
    clip._request()
    assert sink.decoder.put(assembled(clip, 10.6))
    assert sink.decoder.put(assembled(clip, 10.7))
    clip._request()
    assert [sink.decoder.put(assembled(clip, at)) for at in (10.8, 10.9, 10.7 + longest)] == [True, True, True]
    release.set()
    await sink.until(4)
    await sink.stop()
    assert [frame.rtp_timestamp // TICKS for frame in sink.frames] == [0, 7, 8, 9]


async def test_stopping_takes_no_longer_than_the_frame_in_work() -> None:
    sink, clip = Sink(), Clip()
    for _ in range(50):
        sink.decoder.put(assembled(clip))
    async with asyncio.timeout(20):
        await sink.stop()
    assert len(sink.frames) < 50
