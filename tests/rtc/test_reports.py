"""What is said of one peer's video."""

import dataclasses
from typing import Any

import pytest
from aiortc.rtp import RtcpByePacket, RtcpPacket, RtcpReceiverInfo, RtcpRrPacket, RtcpSdesPacket, RtcpSrPacket
from aiortc.stats import RTCOutboundRtpStreamStats, RTCRemoteInboundRtpStreamStats
from frames import encoded

from synopticon_rtc.rtc.reports import Reports
from synopticon_rtc.rtc.stream import CLOCK_RATE

SSRC = 7
SECOND = 2**32


def reports(**counts: int) -> Reports:
    made = Reports(SSRC, "video")
    made.begin("somebody", "transport_1")
    for name, count in counts.items():
        setattr(made, name, count)
    return made


def report_of(made: Reports, now: int, packets: int = 5) -> RtcpSrPacket:
    first, *_ = RtcpPacket.parse(made.write(now, packets))
    assert isinstance(first, RtcpSrPacket)
    return first


def receiver_report(**fields: Any) -> RtcpRrPacket:
    plain = {
        "ssrc": SSRC,
        "fraction_lost": 64,
        "packets_lost": 3,
        "highest_sequence": 0,
        "jitter": 9,
        "lsr": 0,
        "dlsr": 0,
    }
    return RtcpRrPacket(ssrc=1, reports=[RtcpReceiverInfo(**plain | fields)])


def test_a_report_says_how_much_was_sent() -> None:
    made = reports(octets=2**32 + 1234)
    made.latest = encoded(0)
    info = report_of(made, now=50 * SECOND, packets=2**32 + 99).sender_info
    assert (info.packet_count, info.octet_count) == (99, 1234)
    assert info.ntp_timestamp == 50 * SECOND


def test_a_report_says_which_timestamp_is_captured_now_however_late_a_frame_was_sent() -> None:
    made, frame = reports(), encoded(30)
    made.latest = dataclasses.replace(frame, captured=frame.ntp_time - SECOND // 4)
    info = report_of(made, now=frame.ntp_time + SECOND // 2).sender_info
    assert info.rtp_timestamp == frame.timestamp + CLOCK_RATE * 3 // 4


def test_of_a_stream_that_has_not_begun_nothing_is_said() -> None:
    made = reports(octets=1234)
    for _ in "at first", "and after another one":
        first, *_ = RtcpPacket.parse(made.write(0, 5))
        assert isinstance(first, RtcpRrPacket)
        assert not made.told
        made.latest = encoded(0)
        report_of(made, now=SECOND)
        assert made.told
        made.forget()


def test_a_report_names_us_and_at_the_end_says_goodbye() -> None:
    _, names, *rest = RtcpPacket.parse(reports().write(0, 0))
    assert isinstance(names, RtcpSdesPacket)
    assert [(source.ssrc, source.items) for source in names.chunks] == [(SSRC, [(1, b"somebody")])]
    assert not rest
    (*_, bye) = RtcpPacket.parse(reports().write(0, 0, goodbye=True))
    assert isinstance(bye, RtcpByePacket)
    assert bye.sources == [SSRC]


def test_loss_and_round_trip_are_heard() -> None:
    made, now = reports(), 1000 * SECOND
    sent, held = (now >> 16) - 65_536, 32_768  # a second ago, half of which the peer held it
    heard = made.read(receiver_report(lsr=sent & 0xFFFFFFFF, dlsr=held), now, 50)
    assert heard is not None
    assert (heard.loss, heard.rtt) == (made.loss, made.rtt) == (0.25, 0.5)
    (stats,) = made.stats.values()
    assert isinstance(stats, RTCRemoteInboundRtpStreamStats)
    assert (stats.packetsReceived, stats.packetsLost, stats.jitter, stats.roundTripTime) == (47, 3, 9, 0.5)


@pytest.mark.parametrize(("lsr", "dlsr"), [(0, 0), (1, 0xFFFFFF)])
def test_a_report_that_tells_no_round_trip_leaves_the_last(lsr: int, dlsr: int) -> None:
    made = reports()
    made.rtt = 0.3
    now = 1000 * SECOND
    heard = made.read(receiver_report(lsr=(now >> 16) - 1000 & 0xFFFFFFFF if lsr else 0, dlsr=dlsr), now, 50)
    assert heard is not None
    assert heard.rtt is None
    assert made.rtt == 0.3


def test_what_is_said_of_others_is_not_heard() -> None:
    made = reports()
    assert made.read(receiver_report(ssrc=SSRC + 1), 0, 50) is None
    assert made.loss is None
    assert not made.stats


def test_one_report_of_many_counts() -> None:
    made = reports()
    packet = receiver_report()
    packet.reports += [RtcpReceiverInfo(SSRC, 255, 0, 0, 0, 0, 0)] * 30
    heard = made.read(packet, 0, 50)
    assert heard is not None
    assert heard.loss == 0.25


def test_statistics_are_those_of_aiortc() -> None:
    (stats,) = reports(octets=4321).sum_up(12, "track").values()
    assert isinstance(stats, RTCOutboundRtpStreamStats)
    assert (stats.packetsSent, stats.bytesSent, stats.ssrc, stats.kind) == (12, 4321, SSRC, "video")
    assert (stats.transportId, stats.trackId) == ("transport_1", "track")
