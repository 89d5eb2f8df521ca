"""Noticing that nothing comes, in time that is turned by hand."""

from synopticon_rtc.rtc.watchdog import MISSED, PATIENCE, Watchdog


def barks(watchdog: Watchdog, fps: float, seconds: float) -> list[float]:
    """Have frames due that are not delivered, and return when it barked."""
    return [at / fps for at in range(round(seconds * fps)) if watchdog.due(100 + at / fps)]


def test_it_barks_after_a_second_without_anything_and_each_second_from_then_on() -> None:
    assert barks(Watchdog(), 30, 3.5) == [1.0, 2.0, 3.0]


def test_it_is_silent_while_things_are_delivered() -> None:
    watchdog = Watchdog()
    for at in range(300):
        assert not watchdog.due(at / 30)
        if at % 25 == 0:
            watchdog.delivered()


def test_a_slow_source_is_no_fault() -> None:
    watchdog = Watchdog()
    assert [watchdog.due(100.0 + 5 * at) for at in range(MISSED)] == [False] * MISSED
    assert watchdog.due(100.0 + 5 * MISSED)
    assert MISSED > 1
    assert PATIENCE <= 1


def test_a_pause_of_the_source_does_not_count() -> None:
    watchdog = Watchdog()
    watchdog.due(100.0)
    watchdog.delivered()
    assert not watchdog.due(200.0)
    assert watchdog.missed == 1
