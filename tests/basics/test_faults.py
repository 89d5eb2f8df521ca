"""What nobody foresaw is counted, and logged once with its trace."""

import logging
from collections.abc import Callable

import pytest

from synopticon_rtc.basics.faults import EVERY, WARNINGS, Faults


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def fail_here() -> None:
    raise KeyError("here")


def fail_there() -> None:
    raise KeyError("there")


def note(faults: Faults, fail: Callable[[], None] = fail_here, *arguments: object) -> None:
    try:
        fail()
    except KeyError:
        faults.note(f"something is over{' for %s' * len(arguments)}", *arguments)


def test_the_first_is_logged_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults()
    note(faults)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.message == "something is over"
    assert "fail_here" in caplog.text
    assert faults.count == 1


def test_the_same_again_is_counted_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults()
    for peer in range(100):
        note(faults, fail_here, peer)
    assert [record.message for record in caplog.records] == ["something is over for 0"]
    assert faults.count == 100


def test_one_that_goes_on_is_told_again_in_a_line_without_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults(clock=(clock := Clock()))
    for now in (0.0, 1.0, 2.0, EVERY):
        clock.now = now
        note(faults, fail_here, now)
    assert caplog.records[0].exc_info
    assert not caplog.records[1].exc_info
    assert caplog.records[1].message == "something is over for 60.0: KeyError('here'), as told before (2 more since)"


def test_another_fault_at_the_same_place_has_its_own_trace(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults()
    note(faults, fail_here)
    note(faults, fail_there)
    assert "fail_here" in caplog.text
    assert "fail_there" in caplog.text
    assert faults.count == 2


def test_a_fault_of_a_part_is_one_of_the_whole_and_told_once_for_all_parts(caplog: pytest.LogCaptureFixture) -> None:
    whole = Faults()
    one, other = Faults(whole), Faults(whole)
    note(one)
    note(other)
    assert (one.count, other.count, whole.count) == (1, 1, 2)
    assert len(caplog.records) == 1


def test_what_a_callback_raises_is_noted_and_goes_no_further() -> None:
    faults = Faults()
    faults.call(fail_here)
    assert faults.count == 1


def test_a_callback_gets_what_it_is_called_with() -> None:
    faults, given = Faults(), list[int]()
    faults.call(given.append, 3)
    faults.call(None, 3)
    assert given == [3]
    assert not faults.count


def test_being_interrupted_is_no_fault() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    faults = Faults()
    with pytest.raises(KeyboardInterrupt):
        faults.call(interrupt)
    assert not faults.count


def test_what_befalls_many_peers_at_once_is_logged_some_times_and_then_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    broadcaster = Faults(clock=clock)
    log = logging.getLogger("peers")
    for peer in range(900):
        Faults(broadcaster).warn(log, "peer %s gets nothing", peer)
    Faults(broadcaster).warn(log, "peer %s is slow", 900)
    assert [record.message for record in caplog.records] == [
        *(f"peer {peer} gets nothing" for peer in range(WARNINGS)),
        "peer 900 is slow",
    ]
    assert {record.name for record in caplog.records} == {"peers"}
    caplog.clear()
    clock.now += EVERY
    broadcaster.warn(log, "peer %s gets nothing", 901)
    assert caplog.messages == [f"peer 901 gets nothing (and {900 - WARNINGS} more since)"]
    assert broadcaster.count == 0
