"""Means and rates of the last two seconds."""

import pytest

from synopticon_rtc.basics.recent import Recent


def test_a_mean_is_of_the_last_two_seconds() -> None:
    recent = Recent()
    assert recent.mean(0.0) is None
    recent.add(0.0, 100.0)
    recent.add(1.0, 2.0)
    recent.add(1.9, 4.0)
    assert recent.mean(1.9) == pytest.approx(106 / 3)
    assert recent.mean(2.5) == 3.0
    assert recent.mean(9.0) is None


def test_a_rate_is_that_of_the_intervals() -> None:
    recent = Recent()
    assert recent.rate(0.0) == 0
    recent.add(0.0)
    assert recent.rate(0.0) == 0
    for number in range(1, 90):
        recent.add(number / 30)
    assert recent.rate(3.0) == pytest.approx(30)
    assert recent.rate(6.0) == 0


def test_two_samples_close_after_each_other_are_no_rate() -> None:
    recent = Recent()
    recent.add(0.0)
    recent.add(0.026)
    assert recent.rate(0.026) == 0
    recent.add(0.5)
    assert recent.rate(0.5) == pytest.approx(4)
