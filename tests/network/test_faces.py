"""A frame has its own faces or none, whatever the network does to either and the application does meanwhile."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import av
import numpy as np
import pytest
from rtc_helpers import Peer, join, ways
from turned import elapse, turned
from wires import Losses

from synopticon_rtc import Face, Moment, ReceivedStream, TestPattern
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.latest import Latest
from synopticon_rtc.faces import Detector
from synopticon_rtc.faces.wire import PROTOCOL, FacesMessage, decode, encode
from synopticon_rtc.peers.faces_channel import FacesChannel
from synopticon_rtc.receiving.finder import Finder, Look
from synopticon_rtc.receiving.iterations import BURST
from synopticon_rtc.receiving.latency import Latency
from synopticon_rtc.receiving.peer import Peer as Sender
from synopticon_rtc.receiving.stream import Stream as ReceivingStream
from synopticon_rtc.rtc import Channel, VideoTrack
from synopticon_rtc.sending.stream import Stream as SendingStream

SIZE = (320, 180)
FPS = 30
MOST = 500
"""Frames."""


class NumberFace:
    """Finds in each test card one face, all of whose landmarks are the number of the frame.

    Args:
        seconds: That pass meanwhile: longer than a frame, so that every other one is looked at.
    """

    def __init__(self, seconds: float = 0.05) -> None:
        self._seconds = seconds

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:
        number = TestPattern.read_number(frame.to_ndarray(format="gray"))
        assert number is not None
        await elapse(self._seconds)
        return [Face(np.full((478, 3), number / MOST, np.float32), {})]


class Viewer:
    """A receiver, and what it gives its application.

    Args:
        source: What it watches.
        detector: What looks for faces here, if the source has none.
    """

    def __init__(self, source: SendingStream, detector: Detector | None = None) -> None:
        self.given: list[Moment[Any]] = []
        self.moments: Latest[Moment[Any]] = Latest(BURST)
        self.handle = ReceivedStream()
        self.latency = Latency()
        self.stream = ReceivingStream(
            video=True,
            sync="exact",
            faces_wait=0.3,
            jitter=0.0,
            totals=self.handle.totals,
            latency=self.latency,
            heard=lambda _: None,
            give=self._give,
        )
        self.returned: dict[str, list[FacesMessage]] = {}  # to the sender, by the label of the channel
        self.returning: list[Channel] = []
        self.sender = Peer(on_channel=self._on_return)
        self.receiver = Peer(on_channel=self._on_channel)
        self.receiver.connection._on_video = self._play
        self._playing: asyncio.Task[None] | None = None
        self.watcher = source.add(self.sender.connection, video=True)
        if source.has_faces:
            self.watcher.faces = FacesChannel(self.sender.connection, binary=True)
        self.sender.connection.add_channel("control")
        self.finder: Finder | None = None
        if detector is not None:
            self.finder = Finder(detector, self.handle, most=None, wait=0.3, returns=True, faults=Faults())
            sender = Sender(1, "sender", self.receiver.connection, Faults(), takes_faces=True)
            sender.first, sender.listed = self.stream, True
            if source.has_faces:
                self.stream.expect_faces()  # as it has told
            self.stream.look = Look(self.finder, sender, self.handle, self.stream, lambda: True)

    def _give(self, moment: Moment[Any]) -> None:
        self.given.append(moment)
        self.moments.put(moment)

    def _play(self, track: VideoTrack) -> None:
        self._playing = asyncio.create_task(self._watch(track))  # it ends with the connection

    async def _watch(self, track: VideoTrack) -> None:
        async for received in track:
            self.stream.decoded(received)

    def _on_channel(self, channel: Channel) -> None:
        if channel.label == "control":
            return
        assert channel.protocol == PROTOCOL
        self.stream.expect_faces()
        channel.on_message = self.stream.message

    def _on_return(self, channel: Channel) -> None:
        assert channel.protocol == PROTOCOL
        messages = self.returned[channel.label] = []
        self.returning.append(channel)

        def take(data: str | bytes) -> None:
            assert isinstance(data, bytes)
            messages.append(decode(data))

        channel.on_message = take


@contextlib.asynccontextmanager
async def broadcast(detector: Detector | None) -> AsyncIterator[SendingStream]:
    stream = SendingStream(TestPattern(SIZE, FPS), detector, codecs=("vp8",), bitrate=600_000, fps=FPS, faces_fps=None)
    await stream.start(lambda _: None)
    try:
        yield stream
    finally:
        await stream.aclose()


@contextlib.asynccontextmanager
async def watching(source: SendingStream, detector: Detector | None = None) -> AsyncIterator[Viewer]:
    viewer = Viewer(source, detector)
    async with viewer.sender, viewer.receiver, viewer.finder or contextlib.nullcontext():
        await join(viewer.sender, viewer.receiver)
        viewer.watcher.joining = None
        yield viewer
        source.remove(viewer.watcher)
        viewer.stream.close()


def number_of(moment: Moment[Any]) -> int:
    number = TestPattern.read_number(moment.frame.to_ndarray(format="gray"))
    assert number is not None
    return number


def check(moments: Sequence[Moment[Any]]) -> None:
    """Fail if a frame is not in its place, or has what is not its own."""
    numbers = [number_of(moment) for moment in moments]
    assert numbers == sorted(set(numbers))
    for number, moment in zip(numbers, moments, strict=True):
        found = [round(float(face.landmarks[0, 0]) * MOST) for face in moment.faces]
        assert found == ([number] if moment.detected else [])


@pytest.mark.parametrize(
    "way",
    [
        {},
        {"losses": Losses(0.05, burst=2)},
        {"jitter": 0.06},
        {"reordered": 0.2, "late": 0.06},
        {"losses": Losses(0.05), "jitter": 0.03, "reordered": 0.1},
    ],
    ids=["nothing", "loss", "jitter", "reordering", "all"],
)
@turned
async def test_every_frame_has_its_own_faces_or_says_that_it_was_not_looked_at(way: dict[str, Any]) -> None:
    async with broadcast(NumberFace()) as source, watching(source) as viewer:
        down, _ = ways(viewer.sender, viewer.receiver)
        for name, value in way.items():
            setattr(down, name, value)
        await elapse(5)
        check(viewer.given)
        assert len(viewer.given) > 4 * FPS
        looked_at = source.stats().detected
        assert sum(moment.detected for moment in viewer.given) > 0.6 * looked_at > FPS


@pytest.mark.parametrize("way", [{}, {"losses": Losses(0.05, burst=2)}], ids=["nothing", "loss"])
@turned
async def test_faces_that_are_found_at_the_receiving_end_are_those_of_their_frames_and_go_back_with_their_times(
    way: dict[str, Any],
) -> None:
    async with broadcast(None) as source, watching(source, NumberFace()) as viewer:
        for towards in ways(viewer.sender, viewer.receiver):
            for name, value in way.items():
                setattr(towards, name, value)
        await elapse(5)
        check(viewer.given)
        stats = viewer.handle.stats
        assert len(viewer.given) > 4 * FPS
        assert stats.faces_late == 0
        assert sum(moment.detected for moment in viewer.given) >= stats.looked_at - 1 > FPS
        assert 0.049 < (viewer.latency.delays.detection or 0) < 0.1  # a frame may wait for its turn
        shown = {moment.rtp_timestamp: number_of(moment) for moment in viewer.given}
        returned = viewer.returned.pop("returned")
        found = [message for message in returned if message.detected and message.rtp_timestamp in shown]
        assert len(found) > 0.8 * stats.looked_at
        for message in found:
            assert round(float(message.faces[0].landmarks[0, 0]) * MOST) == shown[message.rtp_timestamp]


@turned
async def test_a_detector_at_the_receiving_end_that_takes_long_holds_up_no_frame_that_it_does_not_look_at() -> None:
    async with broadcast(None) as source, watching(source, NumberFace(0.29)) as viewer:
        await elapse(5)
        check(viewer.given)
        assert len(viewer.given) > 4.5 * FPS
        assert 2 * 5 < sum(moment.detected for moment in viewer.given) < 4 * 5


@turned
async def test_where_the_sender_has_faces_of_its_own_nobody_looks_for_any() -> None:
    async with broadcast(NumberFace()) as source, watching(source, NumberFace()) as viewer:
        await elapse(2)
        check(viewer.given)
        assert viewer.given[-1].detected or viewer.given[-2].detected
        assert viewer.handle.stats.looked_at == 0
        assert viewer.returned == {}


@turned
async def test_where_the_sender_has_faces_after_all_none_go_back_to_it_any_more() -> None:
    async with broadcast(None) as source, watching(source, NumberFace()) as viewer:
        await elapse(2)
        (channel,) = viewer.returning
        assert channel.is_open
        viewer.stream.message(encode(FacesMessage((), *SIZE, viewer.given[-1].rtp_timestamp)))
        await elapse(1)
        assert not channel.is_open


@turned
async def test_faces_that_all_get_lost_hold_up_no_frame_for_long() -> None:
    async with broadcast(NumberFace()) as source, watching(source) as viewer:
        await elapse(1)
        viewer.watcher.faces.send = lambda _faces, _now: None  # type: ignore[union-attr, method-assign]
        begun = len(viewer.given)
        await elapse(3)
        check(viewer.given)
        assert len(viewer.given) - begun > 2 * FPS
        assert not viewer.given[-1].detected


@turned
async def test_an_application_that_stalls_goes_on_with_the_newest_moment_and_nobody_else_notices() -> None:
    async with broadcast(NumberFace()) as source, watching(source) as stalled, watching(source) as other:
        await stalled.moments.get()
        begun = len(other.given)
        await elapse(5)  # nobody takes anything
        assert len(stalled.moments._items) <= 2
        newest = stalled.given[-1]
        taken = [await stalled.moments.get() for _ in range(len(stalled.moments._items))]
        assert taken[-1] is newest
        check(stalled.given)
        assert len(other.given) - begun > 4.5 * FPS
        for viewer in stalled, other:
            assert viewer.stream._times.keys() <= {moment.timestamp for moment in viewer.stream._pairing._waiting}
            assert viewer.receiver.connection._receivers["0"].keyframe_requests == 0
