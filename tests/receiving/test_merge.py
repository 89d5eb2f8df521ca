"""Items of several sources come out in the order of their times, as far as they come in time."""

import itertools
from collections import defaultdict
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.receiving.merge import Merge

WITHIN = 0.1


@dataclass(frozen=True)
class Sent:
    """An item on its way."""

    source: int
    time: float
    arrived: float


@st.composite
def sources(draw: st.DrawFn, *, most_delay: float) -> list[Sent]:
    """Draw what some sources send, each with delays that change, in the order in which it comes."""
    sent = []
    for source in range(draw(st.integers(1, 4))):
        at, before = draw(st.floats(0, 0.05)), 0.0
        for _ in range(draw(st.integers(0, 12))):
            at += draw(st.floats(0.001, 0.07))
            before = max(before, at + draw(st.floats(0, most_delay)))
            sent.append(Sent(source, at, before))
    return sorted(sent, key=lambda each: each.arrived)


def played(sent: list[Sent]) -> list[tuple[float, Sent, bool]]:
    """Return when each comes out, and whether it was late."""
    merge: Merge[int, Sent] = Merge(WITHIN, linger=1.0)
    out = []

    def take() -> None:
        while merge.is_ready:
            at, source, item, late = merge.take()
            assert source == item.source
            out.append((at, item, late))

    for source in {each.source for each in sent}:
        merge.join(source)
    for each in sent:
        while (due := merge.next_tick()) < each.arrived:
            merge.tick(due)
            take()
        merge.put(each.source, each.time, each, each.arrived)
        take()
    while (due := merge.next_tick()) < float("inf"):
        merge.tick(due)
        take()
    return out


@given(sources(most_delay=0.4))
def test_all_come_out_once_in_time_and_in_order(sent: list[Sent]) -> None:
    out = played(sent)
    assert sorted(map(id, sent)) == sorted(id(item) for _, item, _ in out)
    assert all(at <= item.arrived + WITHIN for at, item, _ in out)
    of_each = defaultdict(list)
    for _, item, _ in out:
        of_each[item.source].append(item.time)
    assert all(times == sorted(times) for times in of_each.values())
    passed = float("-inf")
    for _, item, late in out:
        assert late == (item.time < passed)
        passed = max(passed, item.time)


@given(sources(most_delay=WITHIN))
def test_nothing_is_late_where_delays_differ_by_no_more_than_it_waits(sent: list[Sent]) -> None:
    assert not any(late for _, _, late in played(sent))


def taken(merge: Merge[str, str]) -> list[str]:
    return [merge.take().item for _ in itertools.takewhile(lambda _: merge.is_ready, itertools.count())]


def test_what_is_certain_waits_for_nothing() -> None:
    merge: Merge[str, str] = Merge(WITHIN, linger=1.0)
    merge.join("a")
    merge.join("b")
    merge.put("a", 10.0, "a1", 10.01)
    assert taken(merge) == []
    merge.put("b", 10.03, "b1", 10.04)
    assert taken(merge) == ["a1"]
    merge.leave("a", 10.05)
    assert taken(merge) == ["b1"]


def test_a_clock_that_is_wrong_holds_up_nobody_else() -> None:
    merge: Merge[str, str] = Merge(WITHIN, linger=1.0)
    merge.join("a")
    merge.join("b")
    merge.put("a", 1e12, "from the future", 10.0)
    merge.put("b", 10.01, "b1", 10.02)
    merge.put("a", 1e12, "again", 10.03)
    merge.tick(11)
    out = [merge.take() for _ in range(3)]
    assert [(each.item, each.late) for each in out] == [("from the future", False), ("b1", False), ("again", False)]


def test_whoever_is_slow_gets_the_newest_of_each() -> None:
    missed: list[str] = []
    merge: Merge[str, str] = Merge(0.0, linger=0.02, missed=missed.append)
    for number in range(4):
        merge.put("a", number, f"a{number}", number)
        merge.put("b", number + 0.5, f"b{number}", number + 0.5)
    assert taken(merge) == ["a3", "b3"]
    assert (missed.count("a"), missed.count("b")) == (3, 3)


def test_what_builds_on_what_gave_way_gives_way_too() -> None:
    missed: list[str] = []
    merge: Merge[str, str] = Merge(0.0, linger=1.0, stands_alone=lambda item: item.isupper(), missed=missed.append)
    for at, item in enumerate(["A", "b", "c", "D", "e"]):
        merge.put("one", at / 2, item, at / 2)
        if item == "b":
            merge.put("other", 0.6, "X", 0.6)
    assert taken(merge) == ["X", "D", "e"]
    assert missed == ["one", "one"]


def test_nothing_to_take_is_an_error() -> None:
    with pytest.raises(IndexError):
        Merge[str, str](WITHIN).take()
