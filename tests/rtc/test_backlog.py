"""What waits to be sent to one peer."""

import pytest
from frames import encoded
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.rtc.backlog import BACKLOG_FRAMES, Backlog, after


def begun() -> Backlog:
    """Return a backlog whose keyframe was sent."""
    backlog = Backlog()
    assert backlog.put(encoded(0, keyframe=True))
    assert backlog.advance()
    return backlog


@given(st.integers(0, 2**32 - 1), st.integers(1, 2**31 - 1))
def test_timestamps_wrap_around(timestamp: int, ticks: int) -> None:
    later = (timestamp + ticks) % 2**32
    assert after(later, timestamp)
    assert not after(timestamp, later)
    assert not after(timestamp, timestamp)


def test_nothing_waits_before_a_keyframe() -> None:
    backlog = Backlog()
    assert not backlog.put(encoded(0))
    assert backlog.put(encoded(1, keyframe=True))
    assert backlog.put(encoded(2))
    assert (len(backlog.frames), backlog.dropped) == (2, 1)


def test_frames_go_out_burst_by_burst() -> None:
    backlog = Backlog()
    first, second = encoded(0, keyframe=True, bursts=2), encoded(1)
    backlog.put(first)
    assert backlog.is_fresh()
    assert (backlog.frames[0], backlog.position) == (first, 0)
    assert not backlog.advance()
    assert not backlog.is_fresh()
    backlog.put(second)
    assert (backlog.frames[0], backlog.position) == (first, 1)
    assert backlog.advance()
    assert (backlog.frames[0], backlog.position) == (second, 0)
    assert backlog.advance()
    assert not backlog.frames


def test_a_keyframe_that_was_sent_is_wanted_no_more() -> None:
    backlog = Backlog()
    backlog.wants_keyframe = True
    backlog.put(encoded(0, keyframe=True))
    assert backlog.wants_keyframe
    backlog.advance()
    assert not backlog.wants_keyframe


def test_a_frame_behind_a_newer_one_is_left_out_with_what_builds_on_it() -> None:
    backlog = begun()
    assert backlog.put(encoded(2))
    assert not backlog.put(encoded(1))
    assert backlog.wants_keyframe
    assert not backlog.put(encoded(3))
    assert backlog.put(encoded(4, keyframe=True))
    assert backlog.dropped == 2


def test_where_too_much_waits_it_is_full_until_that_is_dropped() -> None:
    backlog = begun()
    for number in range(1, BACKLOG_FRAMES + 1):
        assert not backlog.is_full()
        assert backlog.put(encoded(number))
    assert backlog.is_full()
    backlog.drop()
    assert not backlog.is_full()
    assert (len(backlog.frames), backlog.dropped) == (0, BACKLOG_FRAMES)


def test_what_was_dropped_is_made_good_by_a_keyframe_alone() -> None:
    backlog = begun()
    backlog.drop()
    assert backlog.wants_keyframe
    assert not backlog.put(encoded(1))
    assert backlog.put(encoded(2, keyframe=True))
    assert backlog.put(encoded(3))


@pytest.mark.parametrize("is_begun", [False, True])
def test_what_is_forgotten_leaves_what_was_begun(*, is_begun: bool) -> None:
    backlog = begun()
    first = encoded(1, bursts=2)
    for frame in first, encoded(2), encoded(3):
        backlog.put(frame)
    if is_begun:
        backlog.advance()
    backlog.forget()
    assert len(backlog.frames) == is_begun
    assert backlog.dropped == 3 - is_begun
    assert not backlog.needs_keyframe


def test_what_is_cleared_is_not_counted_as_dropped() -> None:
    backlog = begun()
    backlog.put(encoded(1))
    backlog.clear()
    assert (len(backlog.frames), backlog.dropped) == (0, 0)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(-2, 3), st.booleans()),
            st.tuples(st.sampled_from(["advance", "drop", "forget"]), st.just(1), st.just(value=True)),
        )
    )
)
def test_whatever_happens_a_frame_builds_on_the_one_before_it(steps: list[tuple[str, int, bool]]) -> None:
    backlog, number = Backlog(), 100
    whole = False  # whether the frame before was sent, or waits
    newest = -1
    for what, ahead, keyframe in steps:
        if what == "advance":
            if backlog.frames:
                backlog.advance()
            continue
        if what == "drop":
            backlog.drop()
            whole = False
            continue
        if what == "forget":  # a newer keyframe comes in place of what waits
            backlog.forget()
            number = newest
        number += ahead
        if backlog.is_full():
            backlog.drop()
            whole = False
        accepted = backlog.put(encoded(number, keyframe=keyframe, bursts=2))
        if accepted:
            assert keyframe or whole
            assert number >= newest
            newest = number
        whole = accepted
        assert len(backlog.frames) <= BACKLOG_FRAMES
