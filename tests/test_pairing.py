"""Frames and their faces, brought together again whatever way they come."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.faces import Face
from synopticon_rtc.faces.wire import FacesMessage
from synopticon_rtc.pairing import Moment, Pairing, Unpaired

STEP = 3000  # of RTP timestamps, at 30 fps
FRAME = av.VideoFrame(16, 16, "yuv420p")


def face(number: int) -> Face:
    return Face(np.full((478, 3), number, np.float32), {})


def message(timestamp: int | None, number: int = 0, *, faces: bool = True) -> FacesMessage:
    return FacesMessage((face(number),) if faces else (), 16, 16, timestamp, 1000.0 + number)


def expecting(sync: str = "exact", wait: float = 0.05) -> Pairing:
    pairing = Pairing("exact" if sync == "exact" else "latest", wait)
    pairing.expected = True
    return pairing


def one(moments: Iterator[Moment]) -> Moment:
    (moment,) = moments
    return moment


def none(moments: Iterator[Moment]) -> None:
    assert list(moments) == []


def test_a_frame_waits_for_its_faces() -> None:
    pairing = expecting()
    none(pairing.frame(FRAME, 0, 0.0))
    moment = one(pairing.message(message(0), 0.01))
    assert moment.detected
    assert len(moment.faces) == 1
    assert moment.captured == 1000.0


def test_faces_wait_for_their_frame() -> None:
    pairing = expecting()
    none(pairing.message(message(0), 0.0))
    moment = one(pairing.frame(FRAME, 0, 1.0))
    assert (moment.detected, moment.faces_age) == (True, 0)


def test_a_frame_waits_no_longer_than_the_bound() -> None:
    pairing = expecting(wait=0.05)
    none(pairing.frame(FRAME, 0, 10.0))
    assert pairing.next_tick() == pytest.approx(10.05)
    none(pairing.tick(10.04))
    moment = one(pairing.tick(10.05))
    assert not moment.detected
    assert moment.faces == ()
    assert pairing.next_tick() == float("inf")


def test_faces_that_come_too_late_are_not_given_to_another_frame() -> None:
    pairing = expecting()
    none(pairing.frame(FRAME, 0, 0.0))
    one(pairing.tick(1.0))
    none(pairing.message(message(0), 1.1))
    none(pairing.frame(FRAME, STEP, 1.2))


def test_a_frame_without_detection_is_let_go_when_later_faces_come() -> None:
    pairing = expecting()
    none(pairing.frame(FRAME, 0, 0.0))
    moments = list(pairing.message(message(STEP), 0.01))
    assert [moment.detected for moment in moments] == [False]
    assert one(pairing.frame(FRAME, STEP, 0.02)).detected


def test_a_frame_that_is_told_to_be_skipped_goes_at_once_and_overtakes_nothing() -> None:
    pairing = expecting()
    none(pairing.frame(FRAME, 0, 0.0))
    none(pairing.message(FacesMessage((), 16, 16, STEP, 1001.0, detected=False), 0.0))
    assert one(pairing.message(message(0), 0.01)).detected
    moment = one(pairing.frame(FRAME, STEP, 0.02))
    assert (moment.detected, moment.faces, moment.captured) == (False, (), 1001.0)
    assert moment.faces_age is None


def test_no_face_is_told_from_no_detection() -> None:
    pairing = expecting()
    none(pairing.frame(FRAME, 0, 0.0))
    moment = one(pairing.message(message(0, faces=False), 0.0))
    assert (moment.detected, moment.faces) == (True, ())


def test_timestamps_may_wrap() -> None:
    pairing = expecting()
    last, first = 2**32 - 1000, 2000
    none(pairing.frame(FRAME, last, 0.0))
    assert one(pairing.message(message(last), 0.0)).detected
    none(pairing.frame(FRAME, first, 0.03))
    assert one(pairing.message(message(first), 0.03)).detected


def test_a_connection_without_faces_waits_for_nothing() -> None:
    moment = one(Pairing("exact").frame(FRAME, 0, 0.0))
    assert not moment.detected


def test_a_sender_without_timestamps_is_followed() -> None:
    pairing = expecting()
    none(pairing.message(message(None, 7), 0.0))
    moment = one(pairing.frame(FRAME, 0, 0.0))
    assert not moment.detected
    assert moment.faces[0].landmarks[0, 0] == 7


def test_latest_waits_for_nothing_and_gives_the_newest() -> None:
    pairing = expecting("latest")
    assert one(pairing.frame(FRAME, 0, 0.0)).faces == ()
    none(pairing.message(message(STEP, 2), 0.0))
    none(pairing.message(message(0, 1), 0.0))
    moment = one(pairing.frame(FRAME, 2 * STEP, 0.0))
    assert moment.faces[0].landmarks[0, 0] == 2
    assert not moment.detected
    assert moment.faces_age == pytest.approx(1 / 30)
    own = one(pairing.frame(FRAME, STEP, 0.0))
    assert (own.detected, own.faces_age) == (True, 0)
    assert one(pairing.frame(FRAME, 2**32 - STEP, 0.0)).faces_age == pytest.approx(-2 / 30)


def late_faces(pairing: Pairing, numbers: range, age: float) -> list[float]:
    """Play frames whose faces come so much later than they; returns how long each waited."""
    waited = []
    for number in numbers:
        came = number / 30
        moments = list(pairing.frame(FRAME, number * STEP, came))
        if not moments and age > 0.05:
            moments = list(pairing.tick(pairing.next_tick()))
            waited.append(0.05)
        elif not moments:
            moments = list(pairing.message(message(number * STEP, number), came + age))
            waited.append(age)
            assert moments[0].detected
            continue
        else:
            waited.append(0.0)
        assert [moment.detected for moment in moments] == [False]
        none(pairing.message(message(number * STEP, number), came + age))
    return waited


def test_frames_wait_no_more_when_faces_keep_coming_too_late_and_again_when_they_do_not() -> None:
    pairing = expecting(wait=0.05)
    assert late_faces(pairing, range(3), 0.08) == [0.05] * 3
    assert not pairing.in_vain
    assert late_faces(pairing, range(3, 20), 0.08) == [0.05] * 2 + [0.0] * 15
    assert pairing.in_vain
    assert late_faces(pairing, range(20, 30), 0.02) == [0.0] + [0.02] * 9
    assert not pairing.in_vain


def test_faces_that_are_there_are_given_even_where_none_are_waited_for() -> None:
    pairing = expecting(wait=0.05)
    late_faces(pairing, range(10), 0.08)
    none(pairing.message(message(10 * STEP), 0.4))
    assert one(pairing.frame(FRAME, 10 * STEP, 0.4)).detected
    assert not pairing.in_vain


def test_a_frame_that_the_detector_left_out_does_not_make_the_others_late() -> None:
    pairing = expecting(wait=0.05)
    for number in range(20):
        none(pairing.frame(FRAME, number * STEP, number / 30))
        skipped = FacesMessage((), 16, 16, number * STEP, 1000.0, detected=False)
        assert not one(pairing.message(skipped, number / 30 + 0.001)).detected
    assert not pairing.in_vain


@dataclass
class Arrival:
    """A frame or a faces message, and how late it comes."""

    at: float
    number: int
    is_frame: bool


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.floats(0, 0.2), st.floats(0, 0.2), st.booleans(), st.booleans()), max_size=40),
)
def test_whatever_is_late_or_lost_nothing_is_paired_wrongly(
    origin: int, delays: list[tuple[float, float, bool, bool]]
) -> None:
    arrivals: list[Arrival] = []
    due = 0.0
    for number, (video, data, lost_frame, lost_faces) in enumerate(delays):
        if not lost_frame:
            due = max(due, number / 30 + video)  # the track keeps its order, the channel does not
            arrivals.append(Arrival(due, number, is_frame=True))
        if not lost_faces:
            arrivals.append(Arrival(number / 30 + data, number, is_frame=False))
    pairing = expecting()
    frames = {number: av.VideoFrame(16, 16, "yuv420p") for number in range(len(delays))}
    out: list[Moment] = []
    for arrival in sorted(arrivals, key=lambda arrival: (arrival.at, arrival.number)):
        while pairing.next_tick() <= arrival.at:
            out += pairing.tick(pairing.next_tick())
        timestamp = (origin + arrival.number * STEP) % 2**32
        if arrival.is_frame:
            frame = frames[arrival.number]
            frame.pts = arrival.number
            out += pairing.frame(frame, timestamp, arrival.at)
        else:
            out += pairing.message(message(timestamp, arrival.number), arrival.at)
    out += pairing.tick(float("inf"))
    numbers = [moment.frame.pts for moment in out]
    assert numbers == [arrival.number for arrival in sorted(arrivals, key=lambda a: a.number) if arrival.is_frame]
    for moment in out:
        if moment.detected:
            assert moment.faces[0].landmarks[0, 0] == moment.frame.pts


def test_without_video_each_message_is_a_moment_unless_a_later_one_was() -> None:
    unpaired = Unpaired()
    (first,) = unpaired.message(message(STEP, 1), 0.0)
    assert (first.frame, first.detected, first.rtp_timestamp, first.captured) == (None, True, STEP, 1001.0)
    assert first.faces[0].landmarks[0, 0] == 1
    assert list(unpaired.message(message(0, 0), 0.0)) == []
    assert list(unpaired.message(dataclasses.replace(message(2 * STEP, faces=False), detected=False), 0.0)) == []
    (empty,) = unpaired.message(message(2 * STEP, faces=False), 0.0)
    assert (empty.faces, empty.detected) == ((), True)
    (anonymous,) = unpaired.message(message(None, 5), 0.0)
    assert anonymous.rtp_timestamp is None
    assert unpaired.next_tick() == float("inf")
