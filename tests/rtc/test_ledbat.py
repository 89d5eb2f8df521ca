"""The window of what can wait."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.rtc.ledbat import HISTORY, LEAST, LEAST_RATE, MOST, PACKET, SAMPLES, SMALL, TARGET, Ledbat


def settled(base: float = 0.05) -> Ledbat:
    """Return a window that knows its path, and is past the start."""
    window = Ledbat()
    for turn in range(20):
        window.measured(turn * base, base)
        window.acknowledged(round(window.size))
    window.lost(100 * base)
    return window


def queue(window: Ledbat, now: float, rtt: float, turns: int = 1) -> None:
    for turn in range(turns):
        for part in range(SAMPLES):
            window.measured(now + (turn + part / SAMPLES) * rtt, rtt)
        window.acknowledged(round(window.size))


def test_it_grows_at_once_on_a_path_without_a_queue() -> None:
    window = Ledbat()
    for turn in range(6):
        window.measured(turn * 0.05, 0.05)
        window.acknowledged(round(window.size))
    assert window.size == MOST or window.size >= PACKET * 2**6


def test_a_queue_longer_than_wanted_shrinks_it_to_less_than_a_packet_and_then_it_pauses() -> None:
    window = settled()
    queue(window, 6.0, 0.05 + 4 * TARGET, turns=60)
    assert window.size == window.least < PACKET
    assert PACKET / (0.05 + 4 * TARGET + window.pause) == pytest.approx(LEAST_RATE)
    assert window.piece == SMALL


def test_it_recovers_when_the_queue_is_gone() -> None:
    window = settled()
    queue(window, 6.0, 0.05 + 4 * TARGET, turns=50)
    queue(window, 7.0, 0.05, turns=30)
    assert window.size > 4 * PACKET
    assert window.pause == 0


def test_a_loss_halves_it_once_in_a_round_trip() -> None:
    window = settled()
    before = window.size
    for later in (0.0, 0.01, 0.02):
        window.lost(6.0 + later)
    assert window.size == before / 2


def test_a_path_that_has_become_longer_counts_as_one_after_a_while() -> None:
    window = settled(0.02)
    queue(window, 1.0, 0.1)
    assert window.queueing > TARGET
    for turn in range(round(2.5 * HISTORY / 0.1)):
        window.measured(1.0 + turn * 0.1, 0.1)
    assert window.queueing == 0


def test_where_round_trips_are_long_two_packets_may_always_be_on_their_way() -> None:
    window = settled(0.6)
    for second in range(10):
        window.lost(70.0 + second)
    queue(window, 90.0, 0.6 + 4 * TARGET, turns=14)  # within a period of history
    assert window.size == 2 * PACKET
    assert window.pause == 0


@pytest.mark.parametrize("jitter", [0.1, 0.3])
def test_jitter_is_no_queue(jitter: float) -> None:
    chance = random.Random(1)  # noqa: S311 - no secret
    window, now = settled(0.02), 100.0
    for _ in range(1000):
        rtt = 0.02 + chance.uniform(0, jitter)
        now += rtt
        window.measured(now, rtt)
        window.acknowledged(round(window.size))
    assert window.size > 2 * PACKET


@given(st.lists(st.tuples(st.sampled_from(["rtt", "ack", "loss"]), st.floats(0, 5), st.integers(0, 70_000))))
def test_it_stays_in_bounds_whatever_comes(events: list[tuple[str, float, int]]) -> None:
    window, now = Ledbat(), 0.0
    for kind, seconds, octets in events:
        now += seconds
        if kind == "rtt":
            window.measured(now, seconds)
        elif kind == "ack":
            window.acknowledged(octets)
        else:
            window.lost(now)
        assert LEAST <= window.size <= MOST
        assert SMALL <= window.piece <= PACKET
        assert window.pause >= 0
