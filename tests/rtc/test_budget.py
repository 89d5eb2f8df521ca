"""What may be spent, in time that is turned by hand."""

from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.rtc.budget import Budget


def test_what_was_saved_up_can_be_spent_at_once_and_no_more() -> None:
    budget = Budget(rate=10, most=3)
    assert [budget.take(50.0) for _ in range(5)] == [True, True, True, False, False]


def test_it_is_earned_again_as_time_passes() -> None:
    budget = Budget(rate=10, most=3)
    assert budget.take(50.0, 3)
    assert not budget.take(50.05)
    assert budget.take(50.1)
    assert not budget.take(50.1)
    assert not budget.take(99.0, 3.5)  # more than can be saved up


def test_a_clock_that_goes_back_costs_nothing() -> None:
    budget = Budget(rate=10, most=3)
    assert budget.take(50.0, 2)
    assert budget.take(40.0, 1)
    assert not budget.take(40.0, 1)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 5)), max_size=50))
def test_no_more_is_spent_than_was_there_and_was_earned(steps: list[tuple[float, float]]) -> None:
    budget = Budget(rate=2, most=4)
    now, spent = 100.0, 0.0
    for wait, cost in steps:
        now += wait
        spent += cost * budget.take(now, cost)
        assert spent <= 4 + 2 * (now - 100.0) + 1e-6
