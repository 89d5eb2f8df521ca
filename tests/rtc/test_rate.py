"""What a link is thought to bear, from what is reported of it."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.rtc.rate import (
    BACK_OFF,
    FEWEST_REPEATS,
    HOLD,
    LONGEST_HOLD,
    LOWEST,
    REPEATS,
    REPORTED,
    RateControl,
)


class Link:
    """Sends a steady stream, and moves time on."""

    def __init__(self, bitrate: int = 1_500_000) -> None:
        self.rate = RateControl()
        self.bitrate = bitrate
        self.now = 100.0

    def send(self, seconds: float) -> None:
        for _ in range(round(seconds * 50)):
            self.now += 0.02
            self.rate.sent(self.now, self.bitrate // 400)
            if self.rate.padding:
                self.rate.padded(self.now, round(self.rate.padding / 400))

    def report(self, loss: float = 0.0, rtt: float = 0.02) -> None:
        self.rate.reported(self.now, loss, rtt)

    def live(self, seconds: float, capacity: float = math.inf) -> None:
        """Go through time with reports each second, of a link that loses what is beyond its capacity."""
        for _ in range(round(seconds)):
            for _ in range(4):
                self.send(0.25)
                self.rate.grow(self.now, enough=1_800_000)
            sent = self.rate.media_rate(self.now) + self.rate.padding
            self.report(max(0.0, 1 - capacity / sent))


def test_a_link_of_which_nothing_bad_is_heard_is_not_limited() -> None:
    link = Link()
    link.live(5)
    assert math.isinf(link.rate.estimate)
    assert link.rate.padding == 0
    assert 1_400_000 < link.rate.media_rate(link.now) < 1_600_000
    assert 49 <= link.rate.frame_rate(link.now) <= 51


def test_heavy_loss_limits_a_link_to_what_got_through() -> None:
    link = Link()
    link.send(2)
    link.report(loss=0.6)
    assert 0.95 < link.rate.estimate / (1_500_000 * 0.4 * BACK_OFF) < 1.05


def test_moderate_loss_is_believed_the_second_time() -> None:
    link = Link()
    link.send(2)
    link.report(loss=0.15)
    link.report(loss=0.02)
    link.report(loss=0.15)
    assert math.isinf(link.rate.estimate)
    link.report(loss=0.15)
    assert link.rate.estimate < 1_500_000


def test_loss_that_comes_and_goes_is_believed_in_the_end() -> None:
    link = Link()
    for loss in (0.24, 0.01, 0.2, 0.02):  # a full queue, which has room again for a second
        link.send(1)
        link.report(loss)
    assert link.rate.estimate < 1_500_000


def test_what_was_sent_twice_is_not_taken_for_what_a_link_bears() -> None:
    plain, repairing = Link(), Link()
    for link in plain, repairing:
        link.send(2)
    repairing.rate.repeated(repairing.now, 30_000)
    for link in plain, repairing:
        link.report(loss=0.3)
    through = 1_500_000 + 240_000 - 0.3 * (1_500_000 + 240_000)
    assert 0.95 < repairing.rate.estimate / ((through - 240_000) * BACK_OFF) < 1.05
    assert repairing.rate.estimate < plain.rate.estimate


def test_a_few_percent_of_random_loss_limit_nothing() -> None:
    link = Link()
    for loss in (0.05, 0.09, 0.03, 0.1, 0.07):
        link.send(1)
        link.report(loss)
    assert math.isinf(link.rate.estimate)


def test_a_queue_that_fills_up_limits_before_anything_is_lost() -> None:
    link = Link()
    for rtt in (0.03, 0.3, 0.5):
        link.send(1)
        link.report(rtt=rtt)
    assert link.rate.estimate < 1_500_000


def test_the_receivers_own_estimate_counts_where_it_is_below_what_is_sent() -> None:
    link = Link()
    for limit in (2_250_000, 1_000_000, 2_000_000):
        link.send(4)
        link.rate.limited(link.now, limit)
    assert math.isinf(link.rate.estimate)
    for _ in range(2):
        link.send(1)
        link.rate.limited(link.now, 400_000)
    assert link.rate.estimate == 400_000


def test_a_receivers_estimate_is_followed_down_as_it_falls_by_and_by() -> None:
    link = Link()
    link.send(4)
    link.rate.limited(link.now, 1_600_000)
    for step in range(40):
        link.send(0.04)
        link.rate.limited(link.now, max(330_000, 1_500_000 * 0.95**step))
    assert link.rate.estimate == 330_000


def test_a_queue_that_begins_to_fill_ends_a_try() -> None:
    link = Link()
    link.send(2)
    link.report(loss=0.8)
    link.bitrate = 250_000
    link.live(HOLD + 1)
    assert link.rate.padding > 0
    tried = link.rate.estimate
    link.report(rtt=0.1)
    assert link.rate.padding == 0
    assert LOWEST < link.rate.estimate < tried


def test_repairs_are_bounded_by_what_is_sent() -> None:
    link = Link()
    link.send(2)
    octets = 0
    while link.rate.may_repeat(link.now):
        link.rate.repeated(link.now, 1000)
        octets += 1000
    assert 0.95 < octets / (REPEATS * 1_500_000 / 8) < 1.05
    link.send(1.1)
    link.rate.padded(link.now, octets)
    assert link.rate.may_repeat(link.now)


def test_a_receivers_estimate_that_only_grows_slowly_limits_nothing() -> None:
    link = Link()
    for second in range(30):
        link.send(1)
        link.rate.limited(link.now, 150_000 * 1.08**second)
    assert math.isinf(link.rate.estimate)


def test_a_link_that_bears_more_again_is_found_out_by_padding() -> None:
    link = Link()
    link.send(2)
    link.report(loss=0.8)
    link.bitrate = 200_000  # it was moved to a smaller layer
    link.live(HOLD - 1)
    assert link.rate.padding == 0
    padded = 0.0
    for _ in range(10):
        link.live(1)
        padded = max(padded, link.rate.padding)
    assert padded > 500_000
    assert math.isinf(link.rate.estimate)
    assert link.rate.padding == 0


def test_a_link_that_bears_no_more_is_tried_ever_more_seldom() -> None:
    link = Link()
    link.send(2)
    link.report(loss=0.8)
    link.bitrate = 200_000
    tries = []
    for second in range(200):
        before = link.rate.padding
        link.live(1, capacity=400_000)
        if link.rate.padding and not before:
            tries.append(second)
        assert link.rate.estimate < 700_000
    gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert gaps == sorted(gaps)
    assert gaps[-1] >= LONGEST_HOLD / 2


def test_nothing_more_is_tried_where_nothing_is_reported() -> None:
    link = Link()
    link.send(2)
    link.report(loss=0.8)
    estimate = link.rate.estimate
    for _ in range(20):
        link.send(0.5)
        link.rate.grow(link.now, enough=1_800_000)
    assert link.now - 100 > HOLD + REPORTED
    assert link.rate.estimate == estimate
    assert link.rate.padding == 0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.floats(0.02, 2)),
            st.tuples(st.just("report"), st.floats(0, 1)),
            st.tuples(st.just("limit"), st.floats(0, 1e9)),
            st.tuples(st.just("grow"), st.floats(1e4, 1e8)),
        ),
        max_size=60,
    )
)
def test_an_estimate_is_always_of_use(steps: list[tuple[str, float]]) -> None:
    link = Link()
    for what, value in steps:
        match what:
            case "send":
                link.send(value)
            case "report":
                link.report(value, rtt=value)
            case "limit":
                link.rate.limited(link.now, value)
            case _:
                link.rate.grow(link.now, enough=value)
        assert link.rate.estimate >= LOWEST
        assert 0 <= link.rate.padding <= link.rate.estimate
        assert link.rate.padding == 0 or math.isfinite(link.rate.estimate)


@pytest.mark.parametrize("bitrate", [300_000, 1_500_000, 6_000_000, 50_000_000])
def test_what_was_sent_is_counted_at_any_rate_in_bounded_memory(bitrate: int) -> None:
    rate = RateControl()
    now = 100.0
    media = repeats = 0
    for frame in range(90):
        now = 100 + frame / 30
        rate.sent(now, bitrate // 240)
        media += bitrate // 240 if frame >= 60 else 0
        for _ in range(4 * bitrate // 240 // 1200):
            if rate.may_repeat(now):
                rate.repeated(now, 1200)
                repeats += 1200 if frame >= 60 else 0
            rate.padded(now, 1200)
    assert rate.media_rate(now) == pytest.approx(bitrate, rel=0.05)
    assert rate.frame_rate(now) == pytest.approx(30, abs=1.1)
    assert repeats <= max(FEWEST_REPEATS, REPEATS * media) + 2 * 1200
    expected = bitrate + 8 * (repeats + 1200 * 30 * (4 * bitrate // 240 // 1200))
    assert rate._rate(now) == pytest.approx(expected, rel=0.06)
    for window in (rate._media, rate._repeats, rate._padding):
        assert len(window._entries) <= 258


def test_a_window_is_as_short_after_a_flood() -> None:
    rate = RateControl()
    for packet in range(200_000):
        rate.repeated(100 + packet / 50_000, 100)
    assert len(rate._repeats._entries) <= 258
    assert rate._repeats.octets(110.0) == 0


@pytest.mark.parametrize(("before", "after"), [(0.02, 0.25), (0.01, 0.09), (0.05, 1.0)])
def test_a_path_that_becomes_longer_for_good_is_found_to_bear_as_much(before: float, after: float) -> None:
    link = Link()
    for _ in range(10):
        link.send(1)
        link.report(rtt=before)
    link.report(loss=0.3, rtt=after)
    for _ in range(30):
        for _ in range(4):
            link.send(0.25)
            link.rate.grow(link.now, enough=1_800_000)
        link.report(rtt=after)
    assert math.isinf(link.rate.estimate)


def test_one_round_trip_that_was_too_short_limits_nothing_for_long() -> None:
    link = Link()
    for second in range(40):
        for _ in range(4):
            link.send(0.25)
            link.rate.grow(link.now, enough=1_800_000)
        link.report(rtt=0.0 if second == 10 else 0.25)
    assert math.isinf(link.rate.estimate)


def test_a_longer_path_is_not_backed_off_from_again_and_again() -> None:
    link = Link()
    link.send(5)
    link.report(rtt=0.02)
    lowest = math.inf
    for _ in range(9):
        link.send(1)
        link.report(rtt=0.4)
        lowest = min(lowest, link.rate.estimate)
    assert lowest >= 1_500_000 * BACK_OFF**2 * 0.95


def test_a_queue_that_backing_off_drains_is_backed_off_from() -> None:
    link = Link()
    link.send(5)
    link.report(rtt=0.02)
    estimates = []
    for rtt in (0.3, 0.4, 0.6, 0.7, 1.0, 1.2, 1.6, 1.9):  # it grows: the link bears far less
        link.send(1)
        link.bitrate = round(min(link.bitrate, link.rate.estimate))
        link.report(rtt=rtt)
        estimates.append(link.rate.estimate)
    assert estimates == sorted(estimates, reverse=True)
    assert estimates[-1] < 1_500_000 * BACK_OFF**2


def test_another_route_has_a_round_trip_of_its_own() -> None:
    link = Link()
    link.send(5)
    link.report(rtt=0.02)
    link.rate.rerouted()
    for _ in range(5):
        link.send(1)
        link.report(rtt=0.4)
    assert math.isinf(link.rate.estimate)
