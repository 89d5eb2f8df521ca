"""When missing packets are asked for, and again."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.rtc.losses import MOST_REQUESTS, SHORTEST_WAIT, Losses


def requests(losses: Losses, missing: list[int], rtt: float, until: float) -> list[tuple[float, list[int]]]:
    """Drive the schedule as a timer would, and return when was asked for what."""
    now, asked = losses.add(missing, 0.0, rtt), [(0.0, missing)]
    while now < until:
        if due := losses.update(missing.__contains__, now):
            asked.append((now, due))
        now = losses.next_due()
    return asked


def test_a_packet_is_asked_for_again_ever_more_seldom() -> None:
    asked = requests(Losses(), [7], rtt=0.0, until=10)
    waits = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(asked)]
    assert waits[0] == SHORTEST_WAIT
    assert all(abs(later - 2 * earlier) < 1e-9 for earlier, later in itertools.pairwise(waits))
    assert len(asked) == MOST_REQUESTS


def test_nothing_is_asked_for_again_before_it_can_have_come() -> None:
    (first, _), (second, _), *_ = requests(Losses(), [7], rtt=0.2, until=10)
    assert second - first >= 0.2 * 1.5


def test_what_came_is_forgotten() -> None:
    losses = Losses()
    losses.add([1, 2, 3], 0.0, 0.0)
    assert losses.update({2}.__contains__, 0.01) == []
    assert losses.update({2}.__contains__, 0.02) == [2]
    assert losses.update(set[int]().__contains__, 0.03) == []
    assert losses.next_due() == losses.since(0) == float("inf")


def test_each_packet_keeps_its_own_time() -> None:
    losses = Losses()
    losses.add([1], 0.0, 0.0)
    losses.add([5], 0.01, 0.0)
    assert losses.update({1, 5}.__contains__, 0.02) == [1]
    assert (losses.since(0), losses.since(2), losses.since(6)) == (0.0, 0.01, float("inf"))


@given(st.lists(st.sets(st.integers(0, 30)), max_size=50), st.floats(0, 0.5))
def test_no_packet_is_asked_for_too_often_or_when_it_is_there(turns: list[set[int]], rtt: float) -> None:
    losses = Losses()
    last: dict[int, float] = {}
    for turn, missing in enumerate(turns):
        now = turn * 0.013
        asked = losses.update(missing.__contains__, now)
        losses.add(sorted(missing - last.keys()), now, rtt)
        assert set(asked) <= missing
        assert losses.next_due() > now
        for number in asked:
            assert now - last[number] >= max(SHORTEST_WAIT, 1.5 * rtt) - 1e-9
        last = {number: now if number in asked else last.get(number, now) for number in missing}
