"""Sound and picture of one broadcaster come out together, and where there is only one of them nothing waits."""

import asyncio
import itertools
import random
from dataclasses import dataclass
from statistics import median, quantiles

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from turned import elapse, turned

from synopticon_rtc.receiving.lips import LONGEST_HOLD, PACE, Held, Lips

EPOCH = 1_700_000_000.0


def play(lips: Lips, video: float, sound: float, jitter: float) -> tuple[list[float], list[float]]:
    """Play frames and sound that are ready so long after their capture, and return the delays with which they come."""
    seconds = 10
    chance = random.Random(1)  # noqa: S311 - no secret
    events = [(n / 30 + video + chance.uniform(0, jitter), n / 30, True) for n in range(seconds * 30)]
    events += [(n / 50 + sound, n / 50, False) for n in range(seconds * 50)]
    delays: dict[bool, list[float]] = {True: [], False: []}
    for now, captured, is_video in sorted(events):
        due = (lips.video if is_video else lips.sound)(EPOCH + captured, now)
        assert now <= due <= now + LONGEST_HOLD
        if captured > seconds / 2:
            delays[is_video].append(due - captured)
    return delays[True], delays[False]


@pytest.mark.parametrize(("video", "sound"), [(0.03, 0.06), (0.12, 0.04), (0.06, 0.06), (0.01, 0.18)])
@pytest.mark.parametrize("jitter", [0.0, 0.02])
def test_they_come_out_together(video: float, sound: float, jitter: float) -> None:
    seen, heard = play(Lips(), video, sound, jitter)
    apart = [abs(delay - median(heard)) for delay in seen]
    assert median(apart) < 0.01
    assert quantiles(apart, n=20)[-1] < 0.02
    assert median(heard) < max(video + jitter / 2, sound) + 0.005


def test_neither_waits_longer_than_it_may() -> None:
    seen, heard = play(Lips(), 0.5, 0.04, 0.0)
    assert median(seen) == pytest.approx(0.5)
    assert median(heard) == pytest.approx(0.04 + LONGEST_HOLD)


def test_times_that_cannot_be_true_hold_nothing_back() -> None:
    seen, heard = play(Lips(), 30.0, 0.04, 0.0)
    assert median(seen) == pytest.approx(30.0)
    assert median(heard) == pytest.approx(0.04)


def test_where_there_is_only_one_of_them_nothing_waits() -> None:
    lips = Lips()
    play(lips, 0.1, 0.04, 0.0)
    times = [20 + number / 50 for number in range(200)]
    assert [lips.sound(EPOCH + now - 0.04, now) for now in times] == times
    assert lips.video(None, 25.0) == 25.0


def test_the_sound_moves_no_faster_than_it_can_be_played() -> None:
    lips = Lips()
    dues = []
    for number in range(1000):
        now = number / 50
        lips.video(EPOCH + now - (0.05 if number < 300 else 0.15), now)
        dues.append(lips.sound(EPOCH + now - 0.05, now) - now)
    steps = [later - one for one, later in itertools.pairwise(dues[300:])]
    assert max(steps) <= PACE / 50 + 1e-6
    assert dues[-1] == pytest.approx(0.1, abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.one_of(st.none(), st.floats(-1e10, 1e10)), st.floats(0, 3))))
def test_whatever_is_told_nothing_waits_for_long(told: list[tuple[bool, float | None, float]]) -> None:
    lips, now = Lips(), 0.0
    for is_video, captured, passed in told:
        now += passed
        assert now <= (lips.video if is_video else lips.sound)(captured, now) <= now + LONGEST_HOLD


@dataclass
class Shown:
    captured: float | None


@turned
async def test_what_is_held_comes_in_order_when_it_is_due_and_the_rest_at_the_end() -> None:
    loop, out = asyncio.get_running_loop(), []
    held: Held[Shown] = Held(
        lambda captured, now: now + (captured or 0), lambda shown: out.append((loop.time() - begun, shown.captured))
    )
    begun = loop.time()
    for wait in 0.0, 0.1, 0.05, None, 0.2, 0.3:
        held.put(Shown(wait))
    assert out == [(0, 0.0)]
    await elapse(0.15)
    assert [wait for _, wait in out] == [0.0, 0.1, 0.05, None]
    assert out[-1][0] == pytest.approx(0.1)
    await elapse(0.1)
    held.close()
    await elapse(1)
    assert [(round(at, 6), wait) for at, wait in out[4:]] == [(0.2, 0.2), (0.25, 0.3)]
