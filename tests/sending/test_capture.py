"""The times of a source's frames, and its silence."""

import av
import pytest

from synopticon_rtc import SourceEvent, TestPattern
from synopticon_rtc.sending.capture import CLOCK_RATE, SILENCE, Capture

FRAME = av.VideoFrame(64, 64, "yuv420p")


@pytest.fixture
def capture() -> Capture:
    return Capture(TestPattern((64, 64)))


def test_frames_are_as_far_apart_as_they_came(capture: Capture) -> None:
    first = capture.stamp(FRAME, 1000.0, 5.0)
    second = capture.stamp(FRAME, 1000.5, 5.5)
    assert (first.ticks, second.ticks) == (0, CLOCK_RATE // 2)
    assert (second.rtp_timestamp - first.rtp_timestamp) % 2**32 == CLOCK_RATE // 2
    assert (second.time, capture.newest) == (1000.5, second)


def test_no_two_frames_have_the_same_time(capture: Capture) -> None:
    stamps = [capture.stamp(FRAME, 1000.0, 5.0).rtp_timestamp for _ in range(10)]
    assert len(set(stamps)) == 10


def test_timestamps_wrap(capture: Capture) -> None:
    capture.origin = 2**32 - 1
    assert [capture.stamp(FRAME, 1000.0, now).rtp_timestamp for now in (5.0, 6.0)] == [2**32 - 1, CLOCK_RATE - 1]


def test_what_came_is_counted(capture: Capture) -> None:
    for number in range(61):
        capture.stamp(FRAME, 1000.0, 5.0 + number / 30)
    assert capture.count == 61
    assert capture.seconds == pytest.approx(2.0)
    assert capture.rate(7.0) == pytest.approx(30)


def test_silence_is_told_once_and_so_is_its_end(capture: Capture) -> None:
    told: list[SourceEvent] = []
    capture.events.subscribe(told.append)
    capture.stamp(FRAME, 1000.0, 5.0)
    capture.watch(5.0 + SILENCE)
    assert not told
    capture.watch(5.1 + SILENCE)
    capture.watch(6.0 + SILENCE)
    assert [event.state for event in told] == ["silent"]
    capture.stamp(FRAME, 1010.0, 15.0)
    capture.stamp(FRAME, 1010.1, 15.1)
    assert [event.state for event in told] == ["silent", "flowing"]
