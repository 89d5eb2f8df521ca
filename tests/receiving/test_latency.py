"""Where the time goes: what one side measures and the other reports, put together."""

from dataclasses import astuple

import pytest

from synopticon_rtc.peers.control import Report
from synopticon_rtc.receiving.latency import Delays, Latency

REPORT = Report(2**32 - 9000, 1_700_000_000_000.0, capture=1.0, encoding=6.0, detection=9.0)


def test_the_parts_make_up_the_delay() -> None:
    latency = Latency()
    latency.reported(REPORT)
    for now in (0.0, 0.5, 1.0):
        latency.add(now, delay=0.030, decoding=0.002, waiting=0.004)
    assert latency.delay == pytest.approx(0.030)
    delays = latency.delays
    expected = Delays(0.001, 0.006, 0.017, 0.002, 0.004, 0.009)
    assert astuple(delays) == pytest.approx(astuple(expected))
    parts = (delays.capture, delays.encoding, delays.network, delays.decoding, delays.waiting)
    assert sum(part or 0 for part in parts) == pytest.approx(latency.delay)


def test_only_the_last_two_seconds_count_and_stay_when_nothing_follows() -> None:
    latency = Latency()
    for now in range(10):
        latency.add(float(now), delay=float(now), decoding=0.0, waiting=0.0)
    assert latency.delay == 8.5


def test_what_is_not_known_is_none() -> None:
    latency = Latency()
    assert (latency.delay, latency.delays, latency.captured(0)) == (None, Delays(), None)
    latency.add(0.0, delay=None, decoding=0.002, waiting=0.004)
    assert latency.delay is None
    assert latency.delays == Delays(decoding=0.002, waiting=0.004)
    latency.reported(Report(0, 0.0, detection=9.0))  # of a broadcaster that encodes nothing for us yet
    latency.add(0.1, delay=0.030, decoding=0.002, waiting=0.004)
    assert latency.delays == Delays(decoding=0.002, waiting=0.004, detection=0.009)


def test_a_way_that_clocks_make_too_short_takes_no_time() -> None:
    latency = Latency()
    latency.reported(REPORT)
    latency.add(0.0, delay=0.010, decoding=0.002, waiting=0.004)
    assert latency.delays.network == 0


def test_without_video_there_are_detection_and_the_way() -> None:
    latency = Latency(video=False)
    latency.reported(REPORT)
    latency.add(0.0, delay=0.012, decoding=0.0, waiting=0.0)
    assert latency.delays.network == pytest.approx(0.003)
    assert latency.delays == Delays(network=latency.delays.network, detection=0.009)


def test_capture_times_follow_the_rtp_timestamps_around_their_wrap() -> None:
    latency = Latency()
    latency.reported(REPORT)
    assert latency.captured(2**32 - 9000) == 1_700_000_000
    assert latency.captured(9000) == pytest.approx(1_700_000_000.2)
    assert latency.captured(2**32 - 18_000) == pytest.approx(1_699_999_999.9)
