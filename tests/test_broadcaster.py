"""A broadcaster with bad options, and the ways in which it ends."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import av
import numpy as np
import pytest
from waiting import turns, until

from synopticon_rtc import Broadcaster, Face, Moment, Receiver, SignalingServer, TestPattern
from synopticon_rtc.errors import DetectorError, SignalingError, SourceError
from synopticon_rtc.events import PeerEvent
from synopticon_rtc.media import SharedEncoder
from synopticon_rtc.rtc import IceServer, PeerConnection
from synopticon_rtc.rtc.ice import IceConnection

SIZE = (320, 240)
NOWHERE = "ws://127.0.0.1:1/ws"


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


class Source:
    """Gives frames, new ones or always the same, until something happens."""

    def __init__(
        self, frames: int = 10**6, end: BaseException | None = None, frame: av.VideoFrame | None = None
    ) -> None:
        self._frames = frames
        self._end = end
        self._frame = frame

    async def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        for _ in range(self._frames):
            await asyncio.sleep(1 / 60)
            yield self._frame or av.VideoFrame(*SIZE, "yuv420p")
        if self._end is not None:
            raise self._end


class Detector:
    """Finds nothing until something happens."""

    def __init__(self, end: Callable[[], object] | None = None) -> None:
        self._end = end
        self._calls = 0

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - as it is called
        self._calls += 1
        await turns()
        if self._end is not None and self._calls > 5:
            self._end()
            await turns()
        return ()


def be_cancelled() -> None:
    raise asyncio.CancelledError


def cancel_oneself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"codecs": ()}, "codecs must name at least one"),
        ({"codecs": "vp8"}, "codecs must name at least one"),
        ({"codecs": ("av1",)}, "no such codec: 'av1'; there are vp8, h264"),
        ({"codecs": ("vp8", "VP8")}, "no such codec: 'VP8'"),
        ({"bitrate": 0}, "bitrate must be positive, from 10,000 to"),
        ({"bitrate": -1}, "bitrate must be"),
        ({"bitrate": 3}, "bitrate must be"),
        ({"bitrate": 10**12}, "bitrate must be"),
        ({"bitrate": math.nan}, "bitrate must be"),
        ({"bitrate": math.inf}, "bitrate must be"),
        ({"fps": 0}, "fps must be"),
        ({"fps": -30}, "fps must be"),
        ({"fps": math.nan}, "fps must be"),
        ({"fps": math.inf}, "fps must be"),
        ({"fps": 1e-9}, "fps must be"),
        ({"faces_fps": 0}, "faces_fps must be above 0"),
        ({"faces_fps": -1}, "faces_fps must be"),
        ({"faces_fps": math.nan}, "faces_fps must be"),
        ({"faces_fps": math.inf}, "faces_fps must be"),
    ],
)
def test_options_with_which_every_receiver_would_fail_are_refused_in_words(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Broadcaster(NOWHERE, Source(), **options)


def test_an_ice_server_that_is_none_is_refused_in_words() -> None:
    with pytest.raises(TypeError, match=r"IceServer.*not str"):
        Broadcaster(NOWHERE, Source(), ice_servers=("stun:localhost",))  # type: ignore[arg-type]
    Broadcaster(NOWHERE, Source(), ice_servers=(IceServer("stun:localhost"),))


@pytest.mark.parametrize("codec", ["vp8", "h264"])
@pytest.mark.parametrize(
    "options", [{"bitrate": 10_000}, {"bitrate": 1e6}, {"bitrate": 1_000_000_000}, {"fps": 0.01}, {"fps": 1000}]
)
async def test_options_at_the_edge_of_their_range_work(
    server: SignalingServer, codec: Any, options: dict[str, Any]
) -> None:
    source = TestPattern((640, 480), 30)
    async with Broadcaster(server.url, source, codecs=(codec,), **options), Receiver(server.url) as receiver:
        async with asyncio.timeout(20):
            await anext(aiter(receiver))


async def test_a_broadcaster_is_entered_once(server: SignalingServer) -> None:
    broadcaster = Broadcaster(server.url, Source())
    async with broadcaster:
        with pytest.raises(RuntimeError, match="can be entered only once"):
            await broadcaster.__aenter__()
        assert not broadcaster._life.over
    with pytest.raises(RuntimeError, match="can be entered only once"):
        async with broadcaster:
            pass


@pytest.mark.parametrize(
    ("source", "detector", "error"),
    [
        (Source(10), Detector(), None),
        (Source(10, SourceError("unplugged")), Detector(), SourceError),
        (Source(10, RuntimeError("a bug")), Detector(), RuntimeError),
        (Source(10, asyncio.CancelledError()), Detector(), SourceError),
        (Source(), Detector(cancel_oneself), DetectorError),
    ],
    ids=["ends", "source", "bug", "source cancelled", "detector cancels itself"],
)
async def test_however_it_ends_iterations_end_and_waiting_tells_why(
    server: SignalingServer, source: Source, detector: Detector, error: type[Exception] | None
) -> None:
    async with Broadcaster(server.url, source, faces=detector) as broadcaster:

        async def follow(things: Any) -> None:
            async for _ in things:
                pass

        async with asyncio.timeout(10):
            await asyncio.gather(follow(broadcaster.events), follow(broadcaster.faces))
            if error is None:
                await broadcaster.wait_closed()
            else:
                with pytest.raises(error):
                    await broadcaster.wait_closed()


async def test_leaving_is_no_error(server: SignalingServer) -> None:
    async with Broadcaster(server.url, Source(), faces=Detector()) as broadcaster:
        following = asyncio.create_task(anext(aiter(broadcaster.events), None))
        await until(lambda: broadcaster.stats.frames)
    await broadcaster.wait_closed()
    assert await following is None


async def test_an_encoder_that_is_cancelled_ends_it_with_an_error(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Broadcaster(server.url, Source()) as broadcaster, Receiver(server.url) as receiver:
        async with asyncio.timeout(10):
            await anext(aiter(receiver))
            monkeypatch.setattr(SharedEncoder, "_keyframe_allowed", lambda *_: be_cancelled())
            with pytest.raises(SourceError, match="vp8 encoder was cancelled"):
                await broadcaster.wait_closed()


async def test_signaling_that_is_refused_for_good_cuts_off_nobody_who_is_connecting(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, go_on = IceConnection.connect, asyncio.Event()

    async def later(self: IceConnection) -> None:
        await go_on.wait()
        await connect(self)

    monkeypatch.setattr(IceConnection, "connect", later)
    async with Broadcaster(server.url, Source()) as broadcaster:
        negotiator = broadcaster._negotiator
        async with Receiver(server.url) as receiver, asyncio.timeout(20):
            links = negotiator.handshake.links
            await until(lambda: any(link.phase == "connecting" for link in links.values()))
            negotiator.failed(SignalingError("the token expired"))
            assert not broadcaster._life.over
            go_on.set()
            await anext(aiter(receiver))
            assert not broadcaster._life.over
        async with asyncio.timeout(20):
            with pytest.raises(SignalingError, match="token"):
                await broadcaster.wait_closed()


async def test_signaling_that_is_refused_for_good_ends_it_where_nobody_can_connect_any_more(
    server: SignalingServer,
) -> None:
    async with Broadcaster(server.url, Source()) as broadcaster:
        broadcaster._negotiator.failed(SignalingError("the token expired"))
        with pytest.raises(SignalingError, match="token"):
            await asyncio.wait_for(broadcaster.wait_closed(), 5)


async def test_iterations_over_what_its_stream_tells_end_when_signaling_is_refused_for_good(
    server: SignalingServer,
) -> None:
    async def follow(things: Any) -> None:
        async for _ in things:
            pass

    async with Broadcaster(server.url, Source(), faces=Detector()) as broadcaster:
        told = broadcaster.faces, broadcaster.source_events, broadcaster.detector_events, broadcaster.events
        following = [asyncio.create_task(follow(things)) for things in told]
        await turns()
        broadcaster._negotiator.failed(SignalingError("the token expired"))
        async with asyncio.timeout(20):
            await asyncio.gather(*following)


async def test_a_frame_that_comes_again_is_not_touched_and_its_faces_have_their_own_time(
    server: SignalingServer,
) -> None:
    frame = av.VideoFrame.from_ndarray(np.full((SIZE[1] * 3 // 2, SIZE[0]), 99, np.uint8), format="yuv420p")
    frame.pts = 7
    before = (frame.pts, frame.time_base, frame.pict_type, frame.to_ndarray().tobytes())

    class Slow:
        async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - as it is called
            await asyncio.sleep(0.1)
            return ()

    moments: list[Moment] = []
    async with Broadcaster(server.url, Source(frame=frame), faces=Slow()) as broadcaster:
        broadcaster.faces.subscribe(moments.append)
        async with Receiver(server.url) as receiver, asyncio.timeout(20):
            seen = []
            async for moment in receiver:
                seen.append(moment.rtp_timestamp)
                if len(moments) >= 6 and len(seen) > 30:
                    break
    assert len(set(seen)) == len(seen)  # each encoded with a time of its own
    origin = moments[0]
    for moment in moments[1:]:
        assert moment.rtp_timestamp is not None
        assert origin.rtp_timestamp is not None
        assert moment.captured is not None
        assert origin.captured is not None
        ticks = (moment.rtp_timestamp - origin.rtp_timestamp) % 2**32
        assert ticks / 90_000 == pytest.approx(moment.captured - origin.captured, abs=0.02)
    assert (frame.pts, frame.time_base, frame.pict_type, frame.to_ndarray().tobytes()) == before


async def watch_once(url: str) -> Moment:
    async with Receiver(url) as receiver:
        return await anext(aiter(receiver))


@pytest.mark.parametrize("method", ["add_video", "add_channel"])
async def test_an_error_at_one_receiver_ends_its_link_alone(
    server: SignalingServer, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug of ours")

    async with (
        Broadcaster(server.url, Source(), faces=Detector()) as broadcaster,
        Receiver(server.url) as first,
        asyncio.timeout(30),
    ):
        moments = aiter(first)
        await anext(moments)
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def note(event: PeerEvent) -> None:
            if event.state == "closed" and not ended.done():
                ended.set_result(event.reason)

        broadcaster.events.subscribe(note)
        with monkeypatch.context() as patch:
            patch.setattr(PeerConnection, method, broken)
            second = asyncio.create_task(watch_once(server.url))
            assert "an error of ours" in await ended
            assert broadcaster._stream is not None
            assert len(broadcaster._peers) == len(broadcaster._stream.watchers) == 1
        await anext(moments)
        await second  # it asks again, and there is nothing wrong any more
