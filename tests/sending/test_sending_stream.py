"""One stream, without anybody who found the way to it by signaling."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import av
import pytest
from aiortc.rtp import RtcpPacket, RtcpSrPacket
from rtc_helpers import Peer, join
from waiting import until

from synopticon_rtc import Face, Moment, TestPattern
from synopticon_rtc.errors import SourceError
from synopticon_rtc.faces import Detector
from synopticon_rtc.media import Source
from synopticon_rtc.rtc import FanoutSender
from synopticon_rtc.rtc.budget import Budget
from synopticon_rtc.rtc.capture_time import NTP_EPOCH
from synopticon_rtc.rtc.stream import CLOCK_RATE, ntp_time
from synopticon_rtc.sending.stream import Stream
from synopticon_rtc.sending.video import PREPARED

SIZE = (320, 240)


class Nobody:
    """Finds no face."""

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - whichever it is
        return ()


def stream_of(source: Source, detector: Detector | None = None, encoder: str | None = None) -> Stream:
    return Stream(source, detector, codecs=("vp8", "h264"), bitrate=1_000_000, fps=30, faces_fps=None, encoder=encoder)


class Flow:
    """A stream that is started, and how it ended."""

    def __init__(self, source: Source, detector: Detector | None = None, encoder: str | None = None) -> None:
        self.stream = stream_of(source, detector, encoder)
        self.ends: list[BaseException | None] = []
        self.ended = asyncio.Event()

    def end(self, error: BaseException | None) -> None:
        self.ends.append(error)
        self.ended.set()

    async def __aenter__(self) -> Stream:
        await self.stream.start(self.end)
        return self.stream

    async def __aexit__(self, *exception: object) -> None:
        await self.stream.aclose()


@contextlib.asynccontextmanager
async def watched(stream: Stream) -> AsyncIterator[Peer]:
    """Have a stream watched by a peer."""
    async with Peer() as sender, Peer() as receiver:
        watcher = stream.add(sender.connection, video=True)
        await join(sender, receiver)
        watcher.joining = None
        yield receiver
        stream.remove(watcher)


async def test_whoever_watches_gets_its_frames_and_when_they_were_captured() -> None:
    async with Flow(TestPattern(SIZE, 30)) as stream, watched(stream) as receiver, asyncio.timeout(20):
        await receiver.until(lambda: len(receiver.frames) >= 5)
        report = stream.report(stream.watchers[0])
        assert report is not None
        behind = (report.rtp_timestamp - receiver.frames[-1].rtp_timestamp) % 2**32 / 90_000
        assert behind < 20
        assert stream.peer_stats(stream.watchers[0].connection, stream.watchers[0]).codec == "vp8"


async def test_sender_reports_say_when_frames_were_captured_and_not_when_they_were_sent() -> None:
    async with Flow(TestPattern(SIZE, 30)) as stream, watched(stream) as receiver, asyncio.timeout(20):
        await receiver.until(lambda: len(receiver.frames) >= 5)
        (sender,) = stream.watchers[0].connection.senders
        assert isinstance(sender, FanoutSender)
        info, *_ = RtcpPacket.parse(sender._reports.write(ntp_time(), 0))
        assert isinstance(info, RtcpSrPacket)
        since = (info.sender_info.rtp_timestamp - stream._capture.origin) % 2**32 / CLOCK_RATE
        said = info.sender_info.ntp_timestamp / 2**32 - NTP_EPOCH
        assert said - since == pytest.approx(stream._capture.began, abs=5e-5)


async def test_what_nobody_watches_is_neither_encoded_nor_looked_at() -> None:
    async with Flow(TestPattern(SIZE, 60), Nobody()) as stream, asyncio.timeout(20):
        await until(lambda: stream.stats().frames >= 10)
        assert (stream.stats().encoded, stream.stats().detected) == (0, 0)


async def test_faces_are_looked_for_where_an_application_listens() -> None:
    moments: list[Moment] = []
    async with Flow(TestPattern(SIZE, 60), Nobody()) as stream, asyncio.timeout(20):
        stream.faces.subscribe(moments.append)
        await until(lambda: len(moments) >= 3)
        assert stream.stats().detected >= 3
        assert stream.stats().faces_messages == 0


async def test_two_streams_are_strangers() -> None:
    one, other = Flow(TestPattern(SIZE, 60)), Flow(TestPattern((160, 120), 60))
    async with one as first, other as second:
        await one.stream.aclose()
        assert (one.ends, other.ends) == ([None], [])
        assert (first.stats().width, second.stats().width) == (320, 160)


async def test_it_ends_with_its_source() -> None:
    async def three() -> AsyncIterator[av.VideoFrame]:
        for _ in range(3):
            yield av.VideoFrame(64, 64, "yuv420p")

    flow = Flow(three())
    async with flow, asyncio.timeout(10):
        await flow.ended.wait()
    assert flow.ends == [None]


async def test_a_source_that_gives_nothing_is_an_error_at_once() -> None:
    async def nothing() -> AsyncIterator[av.VideoFrame]:
        return
        yield

    flow = Flow(nothing())
    with pytest.raises(SourceError, match="ended before its first frame"):
        async with flow:
            pass
    assert [type(error) for error in flow.ends] == [SourceError]


async def test_asking_for_offers_again_and_again_costs_others_few_keyframes() -> None:
    asked: list[int] = []

    def ask(stream: Stream) -> int:
        stream._prepared = Budget(0.0, PREPARED[1])  # however long it takes
        stream.ladder("vp8").top.on_keyframe_request = lambda: asked.append(1)
        asked.clear()
        for _ in range(20):
            stream.prepare("vp8")
        return len(asked)

    async with Flow(TestPattern(SIZE, 30)) as stream, asyncio.timeout(20):
        assert ask(stream) == 20  # where nobody watches, nobody pays for it
        async with watched(stream) as receiver:
            await receiver.until(lambda: receiver.frames)
            assert ask(stream) == PREPARED[1]


@pytest.mark.parametrize(
    ("encoder", "lines"),
    [
        ("libx264", []),
        ("libx264rgb", ["libx264rgb cannot be used here, and libx264 encodes in its place: Invalid argument"]),
    ],
)
async def test_an_encoder_of_ones_own_choice_is_tried_at_the_start_and_its_codec_offered_first(
    encoder: str, lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Flow(TestPattern(SIZE, 30), encoder=encoder) as stream,
        watched(stream) as receiver,
        asyncio.timeout(20),
    ):
        assert [each for each in caplog.messages if "encode" in each] == lines
        await receiver.until(lambda: len(receiver.frames) >= 5)
        assert stream.peer_stats(stream.watchers[0].connection, stream.watchers[0]).codec == "h264"
