"""What a receiver can be asked for: little delay, an even rhythm, no video, no decoding."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, assert_type

import av
import number_face
import numpy as np
import pytest
from number_face import NumberFace
from waiting import until

from synopticon_rtc import (
    Broadcaster,
    EncodedVideoFrame,
    Moment,
    Receiver,
    SignalingServer,
    TestPattern,
)
from synopticon_rtc.errors import ConnectionLost, NobodyAnswered
from synopticon_rtc.media import Codec
from synopticon_rtc.receiving.pairing import F

SIZE = (320, 180)
FPS = 30
RTP_STEP = 3000


def number_of(moment: Moment[Any]) -> int:
    return number_face.number_of(moment.faces[0])


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


async def take(receiver: Receiver[F], count: int, pause: float = 0.0) -> list[tuple[float, Moment[F]]]:
    """Take moments, and when each came, with a pause after each."""
    moments = []
    async with asyncio.timeout(20):
        async for moment in receiver:
            moments.append((time.time(), moment))
            if len(moments) == count:
                break
            await asyncio.sleep(pause)
    return moments


async def test_a_slow_consumer_gets_the_newest_and_its_delay_does_not_grow(server: SignalingServer) -> None:
    async with Broadcaster(server.url, TestPattern(SIZE, FPS), faces=NumberFace()), Receiver(server.url) as receiver:
        moments = await take(receiver, 12, pause=0.2)
    delays = [at - moment.captured for at, moment in moments if moment.captured is not None]
    assert len(delays) > 8
    assert max(delays) < 1  # it would be 2 s if it grew


# An even rhythm


async def unevenness(receiver: Receiver[Any]) -> float:
    """How far apart moments come, other than their timestamps say: seconds, the 90th percentile."""
    moments = (await take(receiver, 120))[30:]
    offsets = [at - (moment.rtp_timestamp or 0) / 90_000 for at, moment in moments]
    errors = sorted(abs(later - earlier) for earlier, later in itertools.pairwise(offsets))
    return errors[len(errors) * 9 // 10]


@pytest.mark.long
async def test_delay_can_be_traded_for_an_even_rhythm(server: SignalingServer) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, FPS), faces=NumberFace(more=0.03)),
        Receiver(server.url, jitter_ms=100) as even,
        Receiver(server.url) as uneven,
    ):
        smooth, rough = await asyncio.gather(unevenness(even), unevenness(uneven))
    assert smooth < rough


def test_a_negative_delay_is_refused() -> None:
    with pytest.raises(ValueError, match="jitter_ms"):
        Receiver("ws://127.0.0.1:1/ws", jitter_ms=-1)


# Without video


async def test_faces_alone_need_no_video(server: SignalingServer) -> None:
    detector = NumberFace()
    async with (
        Broadcaster(server.url, TestPattern(SIZE, FPS), faces=detector) as broadcaster,
        Receiver(server.url, video=False) as receiver,
    ):
        assert_type(receiver, Receiver[None])
        moments = [moment for _, moment in await take(receiver, 40)]
        assert (broadcaster.stats.encoded, broadcaster.stats.bytes) == (0, 0)
        stats = receiver.stats
    assert {moment.frame for moment in moments} == {None}
    numbers = [number_of(moment) for moment in moments]
    assert numbers == sorted(set(numbers))
    assert all(moment.detected and moment.captured is not None for moment in moments)
    steps = [
        (later.rtp_timestamp or 0) - (earlier.rtp_timestamp or 0) for earlier, later in itertools.pairwise(moments)
    ]
    assert np.median(np.array(steps) % 2**32) == pytest.approx(RTP_STEP, rel=0.2)
    assert (stats.frames, stats.width, stats.height) == (0, *SIZE)
    assert stats.first_frame is not None


async def test_who_wants_no_video_takes_it_from_nobody_else(server: SignalingServer) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, FPS), faces=NumberFace()) as broadcaster,
        Receiver(server.url, video=False) as faces,
    ):
        await take(faces, 5)
        async with Receiver(server.url) as both:
            assert_type(both, Receiver[av.VideoFrame])
            moments = [moment for _, moment in await take(both, 30)]
            await take(faces, 5)
            assert len(broadcaster.peers) == 2
            assert moments[0].frame.width == SIZE[0]
            assert all(moment.frame.pts == moment.rtp_timestamp for moment in moments)
        await until(lambda: len(broadcaster.peers) == 1)
        await take(faces, 10)  # while what was under way is done
        encoded = broadcaster.stats.encoded
        await take(faces, 10)
        assert broadcaster.stats.encoded == encoded > 0


async def test_faces_alone_where_none_are_looked_for_is_told(server: SignalingServer) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, FPS), name="card"),
        Receiver(server.url, video=False, timeout=1) as receiver,
    ):
        with pytest.raises(NobodyAnswered, match="card answered, but no faces came"):
            await take(receiver, 1)


async def test_the_end_of_faces_is_told(server: SignalingServer) -> None:
    async with Receiver(server.url, video=False, timeout=2) as receiver:
        async with Broadcaster(server.url, TestPattern(SIZE, FPS), faces=NumberFace()):
            await take(receiver, 3)
        with pytest.raises(ConnectionLost, match="no faces within 2 s: the broadcaster is gone"):
            await take(receiver, 1000)


# What is too large


@pytest.mark.parametrize("decode", [True, False])
async def test_video_larger_than_max_size_is_left_out_and_counted(server: SignalingServer, decode: bool) -> None:  # noqa: FBT001 - a parameter
    width, height = SIZE
    async with (
        Broadcaster(server.url, TestPattern(SIZE, FPS)),
        Receiver(server.url, decode=decode, max_size=(width - 1, height), timeout=2) as receiver,
    ):
        with pytest.raises(NobodyAnswered, match="no video came"):
            await anext(receiver)
        assert receiver.stats.too_large > 0
        assert receiver.stats.frames == 0


@pytest.mark.parametrize("size", [(0, 100), (100, 0), (-1, -1)])
def test_a_max_size_that_is_none_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="max_size"):
        Receiver("ws://localhost", max_size=size)


# Without decoding


def record(path: Path, frames: list[EncodedVideoFrame]) -> list[int | None]:
    """Write frames to a file as they are, and return which numbers its pictures show."""
    with av.open(str(path), "w") as file:
        first = frames[0]
        stream = file.add_mux_stream(first.codec, rate=FPS, width=SIZE[0], height=SIZE[1])
        for frame in frames:
            packet = frame.packet(first.pts)
            packet.stream = stream
            file.mux(packet)
    with av.open(str(path)) as file:
        return [TestPattern.read_number(frame.to_ndarray(format="gray")) for frame in file.decode(video=0)]


@pytest.mark.parametrize(("codec", "name"), [("vp8", "film.webm"), ("vp8", "film.mkv"), ("h264", "film.mp4")])
async def test_what_is_not_decoded_can_be_recorded(
    server: SignalingServer, codec: Codec, name: str, tmp_path: Path
) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, FPS), faces=NumberFace(), codecs=[codec]),
        Receiver(server.url, decode=False) as receiver,
    ):
        assert_type(receiver, Receiver[EncodedVideoFrame])
        moments = [moment for _, moment in await take(receiver, 45)]
    frames = [moment.frame for moment in moments]
    assert {frame.codec for frame in frames} == {codec}
    assert frames[0].keyframe
    numbers = record(tmp_path / name, frames)
    assert len(numbers) == 45
    paired = [(number_of(moment), number) for moment, number in zip(moments, numbers, strict=True) if moment.detected]
    assert len(paired) > 30
    assert all(found == number for found, number in paired)


async def test_a_recorder_that_is_too_slow_goes_on_at_a_keyframe(server: SignalingServer, tmp_path: Path) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, FPS)),
        Receiver(server.url, decode=False) as receiver,
    ):
        before = [moment.frame for _, moment in await take(receiver, 10)]
        await until(lambda: receiver.stats.frames > 50)
        after = [moment.frame for _, moment in await take(receiver, 30)]
    first = next(at for at, frame in enumerate(after) if frame.keyframe)
    numbers = [number or 0 for number in record(tmp_path / "film.mkv", [*before, *after])]
    assert len(numbers) == 40
    steps = np.diff(numbers)
    assert (steps > 0).all()
    gaps = [at for at, step in enumerate(steps) if step > FPS // 2]
    assert gaps[0] == 9 + first
    assert all([*before, *after][at + 1].keyframe for at in gaps)  # on a busy machine there may be more


async def test_a_keyframe_can_be_asked_for(server: SignalingServer) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, FPS)),
        Receiver(server.url, decode=False) as receiver,
    ):
        receiver.request_keyframe()  # of nobody yet
        await take(receiver, 15)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                async for moment in receiver:
                    receiver.request_keyframe()
                    if moment.frame.keyframe:
                        return
        pytest.fail("no keyframe came")
