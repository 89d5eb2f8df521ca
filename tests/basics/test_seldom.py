"""Of many alike lines of a log, one is written."""

from synopticon_rtc.basics.seldom import Seldom


def test_of_many_alike_lines_one_is_written_and_the_others_are_counted() -> None:
    now = 0.0
    seldom = Seldom(1.0, lambda: now)
    assert [seldom.take() for _ in range(3)] == [0, None, None]
    now = 1.0
    assert [seldom.take() for _ in range(2)] == [2, None]
    now = 5.0
    assert seldom.take() == 1


def test_a_few_may_be_let_through_each_time() -> None:
    now = 0.0
    seldom = Seldom(1.0, lambda: now, most=2)
    assert [seldom.take() for _ in range(4)] == [0, 0, None, None]
    now = 1.0
    assert [seldom.take() for _ in range(3)] == [2, 0, None]
