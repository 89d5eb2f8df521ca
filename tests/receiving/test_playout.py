"""The rhythm of moments."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.receiving.playout import CLOCK_RATE, REMEMBERED, Playout

STEP = 3000  # of RTP timestamps, at 30 fps


def play(arrivals: list[tuple[int, float]], delay: float) -> list[tuple[int, float]]:
    """Feed items, each its RTP timestamp, at the times when they arrive; return which came out, and when."""
    playout: Playout[int] = Playout(delay)
    out = []
    for timestamp, at in arrivals:
        while playout.next_tick() <= at:
            now = playout.next_tick()
            out += [(item, now) for item in playout.tick(now)]
        playout.put(timestamp, timestamp, at)
        out += [(item, at) for item in playout.tick(at)]
    while (now := playout.next_tick()) < float("inf"):
        out += [(item, now) for item in playout.tick(now)]
    return out


@given(st.lists(st.floats(0, 0.1), min_size=2, max_size=200), st.integers(0, 2**32 - 1))
def test_unevenness_within_the_delay_is_made_even(lateness: list[float], first: int) -> None:
    lateness[0] = 0.0  # the fastest comes first: no later one moves the rhythm
    lateness = [late if number % (REMEMBERED // 2) else 0.0 for number, late in enumerate(lateness)]
    arrivals, last = [], 0.0
    for number, late in enumerate(lateness):
        last = max(last, number * STEP / CLOCK_RATE + late)
        arrivals.append(((first + number * STEP) % 2**32, last))
    out = play(arrivals, 0.1)
    assert [item for item, _ in out] == [item for item, _ in arrivals]
    times = [at for _, at in out]
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(step == pytest.approx(STEP / CLOCK_RATE, abs=1e-6) for step in steps)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.floats(0, 1)), max_size=100))
def test_everything_comes_out_in_order_and_nothing_waits_longer_than_the_delay(jumble: list[tuple[int, float]]) -> None:
    times = itertools.accumulate(step for _, step in jumble)
    arrivals = [(timestamp, at) for (timestamp, _), at in zip(jumble, times, strict=True)]
    out = play(arrivals, 0.2)
    assert [item for item, _ in out] == [item for item, _ in arrivals]
    assert all(0 <= later - at <= 0.2 + 1e-6 for (_, at), (_, later) in zip(arrivals, out, strict=True))


def test_one_that_is_later_than_the_delay_comes_out_at_once() -> None:
    out = play([(0, 0.0), (STEP, 0.5), (2 * STEP, 0.5)], 0.1)
    assert out == [(0, 0.1), (STEP, 0.5), (2 * STEP, 0.5)]


def test_a_clock_that_drifts_is_followed() -> None:
    slow = 1.001  # the sender's clock counts too few ticks
    arrivals = [(number * STEP, number * STEP / CLOCK_RATE * slow) for number in range(1000)]
    waits = [later - at for (_, at), (_, later) in zip(arrivals, play(arrivals, 0.1), strict=True)]
    assert min(waits) > 0.09


@pytest.mark.parametrize("jump", [-90_000_000, 2**30, 2**31 - 1])
def test_timestamps_that_start_anew_have_their_rhythm_from_the_first_on(jump: int) -> None:
    stamps = [(2**31 + number * STEP + (jump if number >= 30 else 0)) % 2**32 for number in range(60)]
    late = [0.03 if number % 3 == 1 else 0.0 for number in range(60)]
    out = play([(stamp, number / 30 + late[number]) for number, stamp in enumerate(stamps)], 0.1)
    assert [item for item, _ in out] == stamps
    steps = [later - earlier for (_, earlier), (_, later) in itertools.pairwise(out)]
    assert steps == pytest.approx([1 / 30] * 59, abs=1e-6)
