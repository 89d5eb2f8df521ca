"""Frames and their faces, brought together again whatever way they come."""

import dataclasses
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.faces import Face
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.faces.wire import FacesMessage
from synopticon_rtc.receiving.pairing import KEPT, MOST_FACES, REMEMBERED, SWAPPED, F, Pairing, Unpaired

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


def one(moments: Iterator[Moment[F]]) -> Moment[F]:
    (moment,) = moments
    return moment


def none(moments: Iterator[Moment[Any]]) -> None:
    assert list(moments) == []


def test_a_frame_waits_for_its_faces() -> None:
    pairing = expecting()
    none(pairing.frame(FRAME, 0, 0.0))
    moment = one(pairing.message(message(0), 0.01))
    assert moment.detected
    assert len(moment.faces) == 1
    assert moment.captured == 1000.0


def test_where_timestamps_become_others_nothing_of_before_is_paired_with_what_comes() -> None:
    pairing = expecting()
    none(pairing.frame(FRAME, 0, 0.0))
    assert not one(pairing.begin_anew()).faces
    none(pairing.message(message(STEP, 1), 0.01))
    none(pairing.begin_anew())
    none(pairing.frame(FRAME, STEP, 0.02))
    assert one(pairing.message(message(STEP, 2), 0.03)).captured == 1002.0


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


# Senders without timestamps


def numbered(number: int) -> av.VideoFrame:
    frame = av.VideoFrame(16, 16, "yuv420p")
    frame.pts = number
    return frame


def test_frames_that_wait_go_before_later_ones_when_faces_turn_out_to_have_no_timestamps() -> None:
    pairing = expecting()
    none(pairing.frame(numbered(0), 0, 0.0))
    none(pairing.frame(numbered(1), STEP, 0.033))
    out = list(pairing.message(message(None, 7), 0.04))
    out += pairing.frame(numbered(2), 2 * STEP, 0.066)
    assert [moment.frame.pts for moment in out] == [0, 1, 2]
    assert {moment.faces[0].landmarks[0, 0] for moment in out} == {7}
    assert not any(moment.detected for moment in out)
    assert pairing.next_tick() == float("inf")


@pytest.mark.parametrize("sync", ["exact", "latest"])
def test_faces_without_timestamps_are_not_given_for_ever(sync: str) -> None:
    pairing = expecting(sync)
    none(pairing.message(message(None, 7), 0.0))
    assert one(pairing.frame(FRAME, 0, KEPT)).faces
    assert not one(pairing.frame(FRAME, STEP, KEPT + 0.1)).faces
    none(pairing.message(message(None, 8), KEPT + 0.2))
    assert one(pairing.frame(FRAME, 2 * STEP, KEPT + 0.3)).faces[0].landmarks[0, 0] == 8


# Faces that do not come


def test_frames_wait_for_faces_from_the_first_message_on() -> None:
    pairing = Pairing("exact")
    one(pairing.frame(FRAME, 0, 0.0))
    none(pairing.message(message(0), 0.01))
    none(pairing.frame(FRAME, STEP, 0.033))
    assert one(pairing.message(message(STEP), 0.043)).detected


def test_frames_wait_no_more_where_faces_have_stopped_and_again_when_they_go_on() -> None:
    pairing = expecting()
    none(pairing.frame(FRAME, 0, 0.0))
    one(pairing.message(message(0), 0.01))
    now = 0.01 + KEPT + 0.05 + 0.01
    later = round(now * 90_000)
    one(pairing.frame(FRAME, later, now))
    none(pairing.message(message(later), now + 0.01))
    none(pairing.frame(FRAME, later + STEP, now + 0.033))
    assert one(pairing.message(message(later + STEP), now + 0.043)).detected


def test_frames_do_not_wait_for_ever_for_faces_that_were_promised() -> None:
    pairing = expecting()
    waits = []
    for number in range(90):
        came = number / 30
        waits.append(0.0 if list(pairing.frame(FRAME, number * STEP, came)) else 0.05)
        list(pairing.tick(came + 0.05))
    assert waits[0] == 0.05
    assert not any(waits[-20:])


# Faces that overtake one another


def test_faces_that_were_overtaken_on_their_way_still_find_their_frame() -> None:
    pairing = expecting()
    none(pairing.frame(numbered(0), 0, 0.0))
    none(pairing.frame(numbered(1), STEP, 0.033))
    none(pairing.message(message(STEP, 1), 0.034))
    assert pairing.next_tick() == pytest.approx(0.034 + SWAPPED)
    moments = list(pairing.message(message(0, 0), 0.036))
    assert [(moment.frame.pts, moment.detected) for moment in moments] == [(0, True), (1, True)]


def test_faces_that_were_lost_hold_up_those_of_the_next_frame_for_a_moment_only() -> None:
    pairing = expecting(wait=1.0)
    none(pairing.frame(numbered(0), 0, 0.0))
    none(pairing.frame(numbered(1), STEP, 0.033))
    none(pairing.message(message(STEP, 1), 0.04))
    moments = list(pairing.tick(0.04 + SWAPPED))
    assert [(moment.frame.pts, moment.detected) for moment in moments] == [(0, False), (1, True)]


def test_a_copy_of_faces_that_were_given_changes_nothing() -> None:
    pairing = expecting()
    none(pairing.frame(FRAME, 0, 0.0))
    one(pairing.message(message(0), 0.01))
    none(pairing.frame(FRAME, STEP, 0.033))
    none(pairing.message(message(0), 0.034))
    assert pairing.next_tick() == pytest.approx(0.083)
    assert one(pairing.message(message(STEP), 0.04)).detected


# Senders whose timestamps start anew


@pytest.mark.parametrize("sync", ["exact", "latest"])
@pytest.mark.parametrize("jump", [-90_000_000, -(2**31) + 1, 2**30, -90_000, 2**31 - 1])
def test_timestamps_that_start_anew_are_followed(sync: str, jump: int) -> None:
    pairing = expecting(sync)
    out: list[Moment] = []
    for number in range(60):
        timestamp = (2**31 + number * STEP + (jump if number >= 30 else 0)) % 2**32
        out += pairing.frame(numbered(number), timestamp, number / 30)
        out += pairing.message(message(timestamp, number), number / 30 + 0.01)
    assert [moment.frame.pts for moment in out] == list(range(60))
    assert out[30].faces == () or out[30].detected  # and no faces of before
    given = [moment.frame.pts - moment.faces[0].landmarks[0, 0] for moment in out if moment.faces]
    assert len(given) >= 58
    assert set(given) <= ({0} if sync == "exact" else {0, 1})


def test_late_faces_of_before_the_new_start_are_not_the_newest() -> None:
    pairing = expecting("latest")
    one(pairing.frame(FRAME, 90_000_000, 0.0))
    one(pairing.frame(FRAME, 0, 0.033))
    none(pairing.message(message(0, 1), 0.04))
    none(pairing.message(message(90_000_000, 0), 0.05))
    assert one(pairing.frame(FRAME, STEP, 0.066)).faces[0].landmarks[0, 0] == 1


def test_faces_whose_timestamps_are_none_of_the_video_are_followed_all_the_same() -> None:
    pairing = expecting("latest")
    one(pairing.frame(FRAME, 0, 0.0))
    none(pairing.message(message(0, 1), 0.01))
    one(pairing.frame(FRAME, 90_000, 1.0))
    for number in range(2, 5):
        none(pairing.message(message(2**31 - 1 + number * STEP, number), 1 + number / 30))
        moment = one(pairing.frame(FRAME, 90_000 + number * STEP, 1 + number / 30))
        assert moment.faces[0].landmarks[0, 0] == number


def test_without_video_timestamps_that_start_anew_are_followed() -> None:
    unpaired = Unpaired()
    one(unpaired.message(message(90_000_000, 0), 0.0))
    assert one(unpaired.message(message(0, 1), 0.033)).rtp_timestamp == 0
    none(unpaired.message(message(0, 1), 0.034))


# Any order, losses, copies, starts and floods


@dataclass
class Arrival:
    """A frame or a faces message, and when it comes."""

    at: float
    number: int
    is_frame: bool


@dataclass
class Way:
    """How a frame and its faces come: seconds late, whether they are lost, when a copy comes, whether time leaps."""

    video: float
    data: float
    frame_lost: bool
    faces_lost: bool
    copy: float | None
    skipped: bool
    start: int | None


WAYS = st.builds(
    Way,
    video=st.floats(0, 0.2),
    data=st.floats(0, 0.2),
    frame_lost=st.booleans(),
    faces_lost=st.booleans(),
    copy=st.none() | st.floats(0, 1),
    skipped=st.booleans(),
    start=st.none() | st.none() | st.integers(0, 2**32 // STEP - 1),
)


def timestamps(ways: list[Way], origin: int) -> list[int]:
    """Of the frames: each start has a grid of its own, as no two starts of a sender share one but by chance."""
    found, base, starts = [], origin // STEP * STEP, 0
    for number, way in enumerate(ways):
        if way.start is not None:
            starts += 1
            base = way.start * STEP - number * STEP + starts
        found.append((base + number * STEP) % 2**32)
    return found


def played(
    pairing: Pairing, arrivals: list[Arrival], stamps: list[int], skipped: Collection[int] = ()
) -> list[tuple[float, Moment]]:
    """Feed what arrives, and return the moments, each with when it came out."""
    out: list[tuple[float, Moment]] = []
    for arrival in sorted(arrivals, key=lambda arrival: (arrival.at, arrival.number)):
        while (due := pairing.next_tick()) <= arrival.at:
            out += ((due, moment) for moment in pairing.tick(due))
        timestamp = stamps[arrival.number]
        if arrival.is_frame:
            moments = pairing.frame(numbered(arrival.number), timestamp, arrival.at)
        elif arrival.number in skipped:
            moments = pairing.message(FacesMessage((), 16, 16, timestamp, 0.0, detected=False), arrival.at)
        else:
            moments = pairing.message(message(timestamp, arrival.number), arrival.at)
        out += ((arrival.at, moment) for moment in moments)
        assert len(pairing._waiting) <= REMEMBERED
        assert len(pairing._messages) <= REMEMBERED
    while (due := pairing.next_tick()) < float("inf"):
        out += ((due, moment) for moment in pairing.tick(due))
    return out


@given(st.sampled_from(["exact", "latest"]), st.integers(0, 2**32 - 1), st.lists(WAYS, max_size=60))
def test_whatever_comes_late_twice_or_never_frames_keep_their_order_and_get_no_others_faces(
    sync: str, origin: int, ways: list[Way]
) -> None:
    stamps = timestamps(ways, origin)
    arrivals: list[Arrival] = []
    due = 0.0
    for number, way in enumerate(ways):
        if not way.frame_lost:
            due = max(due, number / 30 + way.video)  # the track keeps its order, the channel does not
            arrivals.append(Arrival(due, number, is_frame=True))
        if not way.faces_lost:
            arrivals.append(Arrival(number / 30 + way.data, number, is_frame=False))
            if way.copy is not None:
                arrivals.append(Arrival(number / 30 + way.data + way.copy, number, is_frame=False))
    came = {arrival.number: arrival.at for arrival in arrivals if arrival.is_frame}
    skipped = {number for number, way in enumerate(ways) if way.skipped}
    out = played(expecting(sync), arrivals, stamps, skipped)
    assert [moment.frame.pts for _, moment in out] == sorted(came)
    for at, moment in out:
        number = moment.frame.pts or 0
        assert at - came[number] <= (0.05 if sync == "exact" else 0) + 1e-9
        assert moment.rtp_timestamp == stamps[number]
        if moment.detected or (sync == "exact" and moment.faces):
            assert moment.detected
            assert moment.faces[0].landmarks[0, 0] == number
            assert number not in skipped


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.floats(0, 0.03), min_size=1, max_size=60),
    st.lists(st.integers(0, 59)),
    st.floats(0, 0.014),
)
def test_faces_that_come_in_time_are_all_given(
    origin: int, delays: list[float], overtaken: list[int], swap: float
) -> None:
    arrivals: list[Arrival] = []
    for number, late in enumerate(delays):
        arrivals.append(Arrival(number / 30, number, is_frame=True))
        arrivals.append(Arrival(number / 30 + late + swap * (number in overtaken), number, is_frame=False))
    out = played(expecting(), arrivals, [(origin + number * STEP) % 2**32 for number in range(len(delays))])
    assert [moment.frame.pts for _, moment in out if moment.detected] == list(range(len(delays)))


def test_a_flood_of_faces_takes_bounded_memory() -> None:
    pairing = expecting()
    crowd = FacesMessage((face(0),) * 32, 16, 16, 0, 0.0)
    for number in range(2 * REMEMBERED):
        none(pairing.message(dataclasses.replace(crowd, rtp_timestamp=number * STEP), number / 1e6))
    kept = list(pairing._messages.values())
    assert len(kept) == MOST_FACES // 32
    for number in range(2 * REMEMBERED):
        none(pairing.message(message(2**31 + number), number / 1e6))
    assert len(pairing._messages) == REMEMBERED


def test_messages_whose_frames_never_come_are_forgotten_in_time() -> None:
    pairing = expecting()
    for number in range(30):
        none(pairing.message(message(2**31 + number * STEP), number / 30))
    list(pairing.frame(FRAME, 0, 1.0 + KEPT))
    assert pairing._messages == {}


def test_a_flood_of_frames_takes_bounded_memory_and_keeps_its_order() -> None:
    pairing = expecting(wait=1000)
    out = [moment for number in range(2 * REMEMBERED) for moment in pairing.frame(numbered(number), number, 0.0)]
    assert [moment.frame.pts for moment in out] == list(range(REMEMBERED))
    rest = list(pairing.tick(float("inf")))
    assert [moment.frame.pts for moment in rest] == list(range(REMEMBERED, 2 * REMEMBERED))
    assert len(pairing._gone) <= REMEMBERED


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
