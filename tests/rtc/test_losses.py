"""When missing packets are asked for, and again."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.rtc.losses import MOST_REQUESTS, SHORTEST_WAIT, Losses


def requests(losses: Losses, missing: list[int], rtt: float, until: float) -> list[tuple[float, list[int]]]:
    """Drive the schedule as a timer would, and return when was asked for what."""
    now, asked = 0.0, []
    while now < until:
        if due := losses.update(missing, now, rtt):
            asked.append((now, due))
        now = losses.next_due()
    return asked


def test_a_packet_is_asked_for_at_once_and_again_ever_more_seldom() -> None:
    asked = requests(Losses(), [7], rtt=0.0, until=10)
    waits = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(asked)]
    assert asked[0] == (0.0, [7])
    assert waits[0] == SHORTEST_WAIT
    assert all(abs(later - 2 * earlier) < 1e-9 for earlier, later in itertools.pairwise(waits))
    assert len(asked) == MOST_REQUESTS


def test_nothing_is_asked_for_again_before_it_can_have_come() -> None:
    (first, _), (second, _), *_ = requests(Losses(), [7], rtt=0.2, until=10)
    assert second - first >= 0.2 * 1.5


def test_what_came_is_forgotten() -> None:
    losses = Losses()
    assert losses.update([1, 2, 3], 0.0, 0.0) == [1, 2, 3]
    assert losses.update([2], 0.01, 0.0) == []
    assert losses.update([2], 0.02, 0.0) == [2]
    assert losses.update([], 0.03, 0.0) == []
    assert losses.next_due() == losses.since(0) == float("inf")
    assert losses.update([2], 1.0, 0.0) == [2]


def test_each_packet_keeps_its_own_time() -> None:
    losses = Losses()
    losses.update([1], 0.0, 0.0)
    assert losses.update([1, 5], 0.01, 0.0) == [5]
    assert losses.update([1, 5], 0.02, 0.0) == [1]
    assert (losses.since(0), losses.since(2), losses.since(6)) == (0.0, 0.01, float("inf"))


@given(st.lists(st.lists(st.integers(0, 30), unique=True), max_size=50), st.floats(0, 0.5))
def test_no_packet_is_asked_for_too_often_or_when_it_is_there(turns: list[list[int]], rtt: float) -> None:
    losses = Losses()
    last: dict[int, float] = {}
    for turn, missing in enumerate(turns):
        now = turn * 0.013
        asked = losses.update(sorted(missing), now, rtt)
        assert set(asked) <= set(missing)
        assert losses.next_due() > now
        last = {number: at for number, at in last.items() if number in missing}
        for number in asked:
            assert now - last.get(number, -1) >= max(SHORTEST_WAIT, 1.5 * rtt) - 1e-9
            last[number] = now
