"""Which frames a detector gets, by a clock of the test's own."""

import math
import random
from collections import deque

import pytest

from synopticon_rtc.detecting.cadence import Cadence

FPS = 30


def play(cadence: Cadence, seconds: float, *, frames: int = 300, jitter: float = 0.0) -> tuple[list[int], list[float]]:
    """Have frames detected that take so long each: which were looked at, and how old each was when its faces came."""
    chance = random.Random(1)  # noqa: S311 - no secret
    looked: list[int] = []
    ages: list[float] = []
    begun: tuple[int, float, float] | None = None  # the frame in work: its number, when it came and was begun with
    waiting: deque[tuple[int, float]] = deque()
    came = 0.0
    for number in range(frames):
        now = came = max(came, number / FPS + chance.uniform(0, jitter))
        while begun is not None and begun[2] + seconds <= now:
            looked.append(begun[0])
            ended = begun[2] + seconds
            cadence.end(ended)
            ages.append(ended - begun[1])
            begun = (*waiting.popleft(), ended) if waiting else None
            if begun is not None:
                cadence.begin(ended)
        most = cadence.pick(now, len(waiting))
        if not most:
            continue
        if begun is None:
            begun = number, now, now
            cadence.begin(now)
            continue
        while len(waiting) >= most:
            waiting.popleft()
        waiting.append((number, now))
    return looked + ([begun[0]] if begun else []) + [number for number, _ in waiting], ages


def test_a_quick_detector_gets_every_frame() -> None:
    cadence = Cadence(FPS)
    picked, _ = play(cadence, 0.01, jitter=0.005)
    assert picked == list(range(300))
    assert cadence.rate(10.0) == pytest.approx(FPS, rel=0.02)


@pytest.mark.parametrize("seconds", [0.01, 0.02, 0.03])
def test_one_that_keeps_up_gets_every_frame_also_where_they_come_unevenly(seconds: float) -> None:
    looked, ages = play(Cadence(FPS), seconds, jitter=0.04)
    assert len(looked) > 0.98 * 300
    assert max(ages) < seconds + 1.1 / FPS


@pytest.mark.parametrize("seconds", [0.035, 0.04, 0.05, 0.08, 0.2])
def test_a_slow_one_is_kept_busy_and_its_faces_do_not_get_old(seconds: float) -> None:
    cadence = Cadence(FPS)
    picked, ages = play(cadence, seconds)
    assert len(picked) / 10 > 0.75 / seconds
    assert cadence.rate(10.0) == pytest.approx(len(picked) / 10, rel=0.1)
    assert max(ages[5:]) < seconds + 0.6 / FPS


@pytest.mark.parametrize("most", [1, 5, 10, 12.5, 25, 29])
def test_the_rate_is_capped_without_a_drift(most: float) -> None:
    picked, _ = play(Cadence(FPS, most), 0.005, jitter=0.01)
    assert len(picked) == pytest.approx(most * 10, abs=1.5)


def test_a_cap_above_the_frame_rate_leaves_nothing_out() -> None:
    for most in (FPS, 60, 1e9):
        assert len(play(Cadence(FPS, most), 0.005)[0]) == 300


def test_what_was_missed_is_not_made_up_for() -> None:
    cadence = Cadence(FPS, 10)
    assert cadence.pick(0.0, 0)
    assert sum(cadence.pick(100 + number / FPS, 0) > 0 for number in range(30)) in {10, 11}
    assert cadence.pick(200.0, 0)
    assert not cadence.pick(200.0 + 1 / FPS, 0)


@pytest.mark.parametrize("most", [0, -1, math.nan])
def test_a_cap_that_is_none_is_refused(most: float) -> None:
    with pytest.raises(ValueError, match="faces_fps"):
        Cadence(FPS, most)
