"""By how much a server has moved timestamps: found out for certain, and never by frames that are the same."""

from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.receiving.shift import REMEMBERED, Shift

NUMBERS = st.integers(0, 2**32 - 1)


@given(st.lists(NUMBERS, min_size=2, max_size=20, unique=True), NUMBERS)
def test_two_frames_that_are_known_tell_it_for_all(frames: list[int], moved: int) -> None:
    shift = Shift()
    for timestamp in frames:
        shift.frame((timestamp + moved) % 2**32, timestamp)
    assert shift.value is None
    for timestamp in frames[:2]:
        shift.mark(timestamp, timestamp)
    assert shift.value == moved
    assert shift.apply(frames[0]) == (frames[0] + moved) % 2**32


def test_marks_may_come_before_their_frames() -> None:
    shift = Shift()
    for timestamp in (1000, 4000):
        shift.mark(timestamp, timestamp)
        shift.frame(timestamp + 7, timestamp)
    assert shift.value == 7


def test_one_frame_that_is_marked_again_and_again_is_no_more_than_one() -> None:
    shift = Shift()
    shift.frame(1007, 1)
    for _ in range(5):
        shift.mark(1000, 1)
    assert shift.value is None


def test_frames_that_are_the_same_tell_nothing() -> None:
    shift = Shift()
    for number in range(6):
        shift.frame(3000 * number, number // 2)
        shift.mark(3000 * number + 100, number // 2)
    assert shift.value != 100 - 3000
    still = Shift()
    for number in range(10):
        still.frame(3000 * number, 0)
        still.mark(3000 * number + 100, 0)
    assert still.value is None


def test_a_server_that_begins_anew_is_followed_once_two_frames_agree() -> None:
    shift = Shift()
    for number in range(3):
        shift.frame(number, number)
        shift.mark(number, number)
    assert shift.value == 0
    shift.frame(1000, 1000)
    shift.mark(500, 1000)
    assert shift.value == 0
    shift.frame(1001, 1001)
    shift.mark(501, 1001)
    assert shift.value == 500


def test_what_is_remembered_is_bounded() -> None:
    shift = Shift()
    for number in range(3 * REMEMBERED):
        shift.frame(number, number)
        shift.mark(number, number + 2**31)
    assert len(shift._frames) == len(shift._marks) == REMEMBERED


def test_of_another_layer_it_is_found_out_anew() -> None:
    shift = Shift()
    for timestamp in (1000, 4000, 7000, 10_000):
        shift.mark(timestamp, timestamp)
    for timestamp in (1000, 4000):
        shift.frame(timestamp + 7, timestamp)
    shift.begin_anew()
    assert shift.value is None
    shift.frame(7009, 7000)
    assert shift.value is None
    shift.frame(10_009, 10_000)
    assert shift.value == 9
