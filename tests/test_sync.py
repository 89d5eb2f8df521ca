"""Faces stay with their frames, whatever happens between a real broadcaster and a real receiver."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import av
import number_face
import pytest
from number_face import NumberFace
from rtc_helpers import Tap, is_rtp
from waiting import turns, until

from synopticon_rtc import Broadcaster, FaceLandmarker, Moment, Portrait, Receiver, SignalingServer, TestPattern
from synopticon_rtc.media.pacing import drawn
from synopticon_rtc.peers.faces_channel import BUFFERED, FacesChannel

SIZE = (320, 180)
FPS = 60
PATIENT = 1.0  # seconds that frames wait for their faces here, so that a busy machine changes nothing
MOST = 0.6  # of the frames: where the machine is busy the detector is, too


def number_of(moment: Moment[Any]) -> int:
    return number_face.number_of(moment.faces[0])


def shown(moment: Moment) -> int | None:
    return TestPattern.read_number(moment.frame.to_ndarray(format="gray"))


class Takes:
    """Cards of several kinds, one after the other, each from a number on."""

    def __init__(self, *takes: tuple[tuple[int, int], int], frames: int = 45) -> None:
        self._takes = takes
        self._frames = frames

    def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        cards = [(TestPattern(size, FPS), first) for size, first in self._takes]

        def draw(number: int) -> av.VideoFrame:
            card, first = cards[number // self._frames % len(cards)]
            return card.draw(first + number % self._frames)

        return drawn(draw, FPS)


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


async def take(receiver: Receiver, count: int, until: Callable[[Moment], bool] = lambda _: True) -> list[Moment]:
    """Take so many moments at least, and on until one is as it should be; none may have faces of another frame."""
    moments: list[Moment] = []
    async with asyncio.timeout(60):
        async for moment in receiver:
            moments.append(moment)
            if moment.faces:
                assert shown(moment) in {number_of(moment), None}
            if len(moments) >= count and until(moment):
                break
    return moments


def paired(moments: Sequence[Moment]) -> float:
    return sum(moment.detected for moment in moments) / len(moments)


async def test_through_the_wrap_of_rtp_timestamps(server: SignalingServer) -> None:
    broadcaster = Broadcaster(server.url, TestPattern(SIZE, FPS), faces=NumberFace())
    assert broadcaster._stream is not None
    broadcaster._stream._capture.origin = 2**32 - 360_000  # four seconds before it
    async with broadcaster, Receiver(server.url, faces_wait=PATIENT) as receiver:

        def wrapped(moment: Moment) -> bool:
            return 20_000 < (moment.rtp_timestamp or 0) < 2**31

        moments = await take(receiver, 30, wrapped)
    timestamps = [moment.rtp_timestamp or 0 for moment in moments]
    assert max(timestamps) > 2**31
    captured = [moment.captured for moment in moments if moment.captured is not None]
    assert captured == sorted(captured)
    assert paired(moments[10:]) > MOST


async def test_through_a_reconnect(server: SignalingServer) -> None:
    async with Receiver(server.url, faces_wait=PATIENT) as receiver:
        for _ in range(2):
            async with Broadcaster(server.url, TestPattern(SIZE, FPS), faces=NumberFace()):
                moments = await take(receiver, 40)
                assert paired(moments[10:]) > MOST


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_through_a_change_of_resolution(server: SignalingServer, codec: Any) -> None:
    source = Takes((SIZE, 0), ((160, 120), 45), ((180, 320), 90))
    async with (
        Broadcaster(server.url, source, faces=NumberFace(), codecs=[codec]),
        Receiver(server.url, faces_wait=PATIENT) as receiver,
    ):
        moments = await take(receiver, 120)
    assert len({round(moment.frame.width / moment.frame.height, 1) for moment in moments}) == 3
    assert paired(moments[10:]) > MOST


async def test_through_a_switch_of_the_source(server: SignalingServer) -> None:
    async with (
        Broadcaster(server.url, Takes((SIZE, 0), (SIZE, 3000)), faces=NumberFace()),
        Receiver(server.url, faces_wait=PATIENT) as receiver,
    ):
        moments = await take(receiver, 90)
    numbers = [number_of(moment) for moment in moments if moment.faces]
    assert min(numbers) < 3000 <= max(numbers)
    assert paired(moments[10:]) > MOST


def lose(broadcaster: Broadcaster, share: float, kind: Callable[[bytes], bool]) -> Tap:
    """Lose a share of the datagrams of a kind that are sent to the one receiver."""
    chance = random.Random(5)  # noqa: S311 - no secret
    peer: Any = next(iter(broadcaster._peers.values()))
    return Tap(peer, lambda data: kind(data) and chance.random() < share)


def is_dtls(data: bytes) -> bool:
    """Whether a datagram is DTLS, which carries the channels (RFC 7983)."""
    return 19 < data[0] < 64


async def test_lost_messages_cost_their_own_frames_alone(server: SignalingServer) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, FPS), faces=NumberFace()) as broadcaster,
        Receiver(server.url, faces_wait=PATIENT) as receiver,
    ):
        await take(receiver, 10)
        lose(broadcaster, 0.2, is_dtls)
        moments = await take(receiver, 90)
    assert 0.2 < paired(moments) < 1


async def test_faces_are_sent_twice_where_packets_get_lost(server: SignalingServer) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, 30), faces=NumberFace()) as broadcaster,
        Receiver(server.url, faces_wait=PATIENT) as receiver,
    ):
        await take(receiver, 10)
        lose(broadcaster, 0.05, is_rtp)
        await take(receiver, 10, lambda _: any(stats.loss for stats in broadcaster.peer_stats().values()))
        lose(broadcaster, 0.2, is_dtls)
        moments = await take(receiver, 90)
    assert paired(moments) > 0.88  # 0.96 on average, and 0.8 if each was sent once


async def test_lost_frames_leave_the_others_their_faces(server: SignalingServer) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, FPS), faces=NumberFace()) as broadcaster,
        Receiver(server.url, faces_wait=PATIENT) as receiver,
    ):
        await take(receiver, 10)
        tap = lose(broadcaster, 0.1, is_rtp)
        moments = await take(receiver, 90)
        assert any(is_rtp(data) for data in tap.sent)
    assert paired(moments) > MOST


async def test_faces_that_cannot_go_out_are_dropped_and_the_video_goes_on(server: SignalingServer) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, FPS), faces=NumberFace(noise=0.003)) as broadcaster,
        Receiver(server.url) as receiver,
    ):
        await take(receiver, 10)
        tap = lose(broadcaster, 1.0, is_dtls)
        assert broadcaster._stream is not None
        waiting = []
        for _ in range(35):
            await take(receiver, 1)
            ways = [watcher.faces for watcher in broadcaster._stream.watchers]
            channels = [way for way in ways if isinstance(way, FacesChannel)]
            waiting += [faces.channel._channel.bufferedAmount for faces in channels]
        assert BUFFERED < max(waiting) < BUFFERED + 2000
        tap.drop = lambda _: False
        moments = await take(receiver, 1, lambda moment: moment.detected)
        age = receiver.age(moments[-1])
        assert age is None or age < 1


async def test_for_one_who_joins_late(server: SignalingServer) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, FPS), faces=NumberFace()),
        Receiver(server.url, faces_wait=PATIENT) as first,
    ):
        await take(first, 60)
        async with Receiver(server.url, faces_wait=PATIENT) as late:
            moments = await take(late, 45)
    assert paired(moments[15:]) > MOST  # those of before come without, as faces are not sent again


# A detector that does not look at every frame


async def test_frames_that_are_left_out_are_told_at_once(server: SignalingServer) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, FPS), faces=NumberFace(), faces_fps=10) as broadcaster,
        Receiver(server.url, faces_wait=PATIENT) as receiver,
    ):
        moments = (await take(receiver, 100))[10:]
        stats = broadcaster.stats
    assert 0 < paired(moments) < 1
    assert all(moment.captured is not None for moment in moments)
    assert 0 < stats.faces_fps < 20


async def test_frames_do_not_wait_for_a_detector_that_is_always_too_late(
    server: SignalingServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, FPS), faces=NumberFace(0.2)),
        Receiver(server.url, faces_wait=0.1) as receiver,
    ):
        await take(receiver, 90)
        moments = await take(receiver, 60)
        detection = receiver.stats.delays.detection
    assert not any(moment.faces for moment in moments)
    assert [record.name for record in caplog.records if "larger faces_wait" in record.message]
    assert (detection or 0) > 0.2


# Faces at the broadcaster


async def test_the_application_can_listen_to_faces_without_any_receiver(server: SignalingServer) -> None:
    detector = NumberFace()
    async with (
        asyncio.timeout(10),
        Broadcaster(server.url, TestPattern(SIZE, FPS), faces=detector) as broadcaster,
    ):
        heard: list[Moment] = []
        leave = broadcaster.faces.subscribe(heard.append)
        async for moment in broadcaster.faces:
            assert (number_of(moment), moment.detected) == (shown(moment), True)
            assert moment.captured is not None
            if len(heard) >= 10:
                break
        leave()
        frames = broadcaster.stats.frames
        await until(lambda: broadcaster.stats.frames > frames + 5)
        calls = detector.calls
        assert calls >= 10
        await until(lambda: broadcaster.stats.frames > frames + 15)
        assert detector.calls == calls
        assert (broadcaster.stats.encoded, broadcaster.stats.faces_messages) == (0, 0)


async def test_an_iteration_over_faces_ends_with_the_broadcaster(server: SignalingServer) -> None:
    async with asyncio.timeout(10):
        async with Broadcaster(server.url, TestPattern(SIZE, FPS), faces=NumberFace()) as broadcaster:
            await anext(aiter(broadcaster.faces))
            rest = asyncio.create_task(collect(broadcaster))
            await turns()
        await rest


async def collect(broadcaster: Broadcaster) -> list[Moment]:
    return [moment async for moment in broadcaster.faces]


# Delays


async def test_the_delay_is_split_into_parts_that_make_it_up(server: SignalingServer, face_model: Any) -> None:
    async with (
        Broadcaster(server.url, Portrait(SIZE, FPS), faces=FaceLandmarker(model=face_model)) as broadcaster,
        Receiver(server.url) as receiver,
    ):
        moments = await take(
            receiver, 60, lambda _: None not in (receiver.stats.delays.network, receiver.stats.delays.detection)
        )
        age = receiver.age(moments[-1])
        stats = receiver.stats
        delays = stats.delays
        assert broadcaster.stats.detection is not None
    parts = (delays.capture, delays.encoding, delays.network, delays.decoding, delays.waiting)
    assert None not in (stats.delay, delays.detection, age, *parts)
    assert all(part is not None and 0 <= part < 2 for part in parts)
    assert (delays.encoding or 0) > 0
    assert (delays.decoding or 0) > 0
    assert sum(part or 0 for part in parts) >= (stats.delay or 0) - 1e-9
    assert receiver.age(moments[-1]) is None  # the broadcaster is gone


async def test_video_alone_has_a_delay_too(server: SignalingServer) -> None:
    async with Broadcaster(server.url, TestPattern(SIZE, FPS)), Receiver(server.url) as receiver:
        await take(receiver, 10, lambda moment: moment.captured is not None and receiver.stats.delay is not None)
        assert receiver.stats.delay is not None
        assert 0 <= receiver.stats.delay < 2
        assert receiver.stats.delays.detection is None
