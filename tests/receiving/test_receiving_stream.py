"""One stream as its receiver sees it: what goes out, when, and what is counted."""

import asyncio
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import pytest
from turned import elapse, turned

from synopticon_rtc import Face, Moment, ReceiverStats
from synopticon_rtc.basics import clock
from synopticon_rtc.faces.wire import FacesMessage, encode
from synopticon_rtc.peers.control import Report
from synopticon_rtc.receiving.latency import Latency
from synopticon_rtc.receiving.stream import Stream

FRAME = av.VideoFrame(64, 48, "yuv420p")
FACE = Face(np.full((478, 3), 0.5, np.float32), {})
LONG = 60.0  # seconds: whoever waits so long is found out


class Outlet:
    """Where a stream gives its moments, and counts."""

    def __init__(self, *, video: bool = True, faces_wait: float = LONG, jitter: float = 0.0) -> None:
        self.moments: list[Moment[Any]] = []
        self.heard: list[float] = []
        self.totals = ReceiverStats()
        self.latency = Latency(video=video)
        self.stream = Stream(
            video=video,
            sync="exact",
            faces_wait=faces_wait,
            jitter=jitter,
            totals=self.totals,
            latency=self.latency,
            heard=self.heard.append,
            give=self.moments.append,
        )
        self.now = asyncio.get_running_loop().time()

    def frame(self, timestamp: int, captured: float | None = None) -> None:
        self.stream.take_frame(FRAME, timestamp, self.now - 0.02, self.now, captured)

    def faces(self, timestamp: int | None, *faces: Face, captured: float = 1.0) -> None:
        message = FacesMessage(faces, 64, 48, timestamp, captured, detected=True)
        self.stream.take_faces(encode(message), self.now)

    @property
    def given(self) -> list[int | None]:
        return [moment.rtp_timestamp for moment in self.moments]


@pytest.fixture
def outlets() -> Iterator[list[Outlet]]:
    outlets: list[Outlet] = []
    yield outlets
    for outlet in outlets:
        assert outlet.stream._timer is None or outlet.stream._timer.cancelled()


async def test_a_frame_goes_out_with_its_faces_when_both_are_there(outlets: list[Outlet]) -> None:
    outlets.append(outlet := Outlet())
    outlet.stream.expect_faces()
    outlet.frame(0)
    assert outlet.moments == []
    outlet.faces(0, FACE)
    (moment,) = outlet.moments
    assert (moment.frame, len(moment.faces), moment.detected) == (FRAME, 1, True)
    totals = outlet.totals
    assert (totals.frames, totals.faces_messages, totals.frames_with_faces, totals.faces) == (1, 1, 1, 1)
    outlet.stream.close()


@turned
async def test_a_frame_whose_faces_do_not_come_goes_out_when_its_time_is_up() -> None:
    outlet = Outlet(faces_wait=0.01)
    outlet.stream.expect_faces()
    outlet.frame(0)
    await elapse(0.011)
    assert not outlet.moments[0].detected
    outlet.faces(0, FACE)
    assert outlet.totals.faces_late == 1


async def test_when_a_frame_was_captured_is_what_its_rtp_says_until_the_sender_reports() -> None:
    outlet = Outlet()
    outlet.frame(0)
    outlet.frame(3000, 5.0)
    outlet.stream.reported(Report(6000, 7000.0))
    outlet.frame(6000, 6.0)
    assert [moment.captured for moment in outlet.moments] == [None, 5.0, 7.0]


async def test_where_no_faces_are_expected_nothing_waits() -> None:
    outlet = Outlet()
    outlet.frame(0)
    assert outlet.given == [0]


async def test_at_the_end_all_that_waits_goes_out_in_order_and_nothing_after_it(outlets: list[Outlet]) -> None:
    outlets.append(outlet := Outlet(jitter=LONG))
    outlet.stream.expect_faces()
    for timestamp in (0, 3000, 6000):
        outlet.frame(timestamp)
    outlet.faces(3000)
    assert outlet.given == []
    outlet.stream.close()
    assert outlet.given == [0, 3000, 6000]
    outlet.frame(9000)
    outlet.faces(9000)
    assert (len(outlet.moments), outlet.totals.frames, outlet.totals.faces_messages) == (3, 3, 1)


async def test_a_moment_without_a_time_does_not_overtake_those_that_are_held_back() -> None:
    outlet = Outlet(video=False, jitter=LONG)
    for captured, timestamp in enumerate((0, 3000, None)):
        outlet.faces(timestamp, FACE, captured=captured)
    assert outlet.given == [0, 3000, None]


async def test_without_video_every_faces_message_is_a_moment() -> None:
    outlet = Outlet(video=False)
    outlet.faces(0, FACE)
    (moment,) = outlet.moments
    assert (moment.frame, outlet.totals.width, outlet.totals.height) == (None, 64, 48)
    assert outlet.heard == [outlet.now]


async def test_what_is_no_faces_message_is_counted_and_left_out() -> None:
    outlet = Outlet(video=False)
    outlet.stream.message("nonsense")
    outlet.stream.message(b"\xff")
    assert (outlet.moments, outlet.totals.invalid_faces, outlet.totals.faces_messages) == ([], 2, 0)


async def test_the_time_of_capture_is_known_by_what_the_sender_reports() -> None:
    outlet = Outlet()
    outlet.stream.reported(Report(rtp_timestamp=90_000, captured=5_000.0))
    outlet.frame(180_000)
    assert outlet.moments[0].captured == 6.0


async def test_the_age_of_a_moment_needs_the_senders_clock() -> None:
    outlet = Outlet()
    moment = Moment(FRAME, (), False, clock.now() - 1.0, 0)
    assert outlet.stream.age(moment) is None
    outlet.stream.offset = lambda: 10.0
    assert outlet.stream.age(moment) == pytest.approx(11.0, abs=0.5)


async def test_two_streams_count_together_and_wait_alone() -> None:
    one, other = Outlet(), Outlet()
    one.stream.expect_faces()
    other.totals = one.totals
    other.stream._totals = one.totals
    one.frame(0)
    other.frame(0)
    assert (one.given, other.given, one.totals.frames) == ([], [0], 2)
    one.stream.close()
