"""What a peer's RTCP may cost, whatever is in it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiortc import RTCDtlsTransport
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpByePacket,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSourceInfo,
    pack_remb_fci,
)
from rtc_helpers import Clip, watching
from turned import elapse, turned

from synopticon_rtc.rtc.history import History
from synopticon_rtc.rtc.repair import LOOKUPS, REPAIRS
from synopticon_rtc.rtc.sender import FanoutSender
from synopticon_rtc.rtc.stream import ntp_time
from synopticon_rtc.rtc.transport import RTCP_OCTETS, RTCP_PACKET


def nack(sender: FanoutSender, lost: list[int]) -> RtcpRtpfbPacket:
    return RtcpRtpfbPacket(RTCP_RTPFB_NACK, 1, sender._ssrc, lost)


def counting(function: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return function(*arguments)

    return counted


async def test_a_packet_that_is_named_often_is_sent_again_once() -> None:
    clip = Clip()
    async with watching(clip) as (sender, _):
        (fanout,) = sender.connection.senders
        await clip.play(3)
        newest = fanout._writer.next_number - 1 & 0xFFFF
        await fanout._handle_rtcp_packet(nack(fanout, [newest] * 5000))
        assert fanout.retransmits == 1


@pytest.mark.parametrize("lost", [list(range(65_536)), [n % 65_536 for n in range(40_000, 110_000)]])
async def test_naming_every_packet_costs_a_bounded_number_of_lookups_and_repairs(
    lost: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = Clip()
    async with watching(clip) as (sender, _):
        (fanout,) = sender.connection.senders
        await clip.play(20)
        lookups: list[Any] = []
        monkeypatch.setattr(fanout._repair._lookups, "_rate", 0.0)  # however long it takes
        monkeypatch.setattr(fanout._repair._repairs, "_rate", 0.0)
        find = History.find
        monkeypatch.setattr(History, "find", counting(find, lookups))
        for _ in range(50):
            await fanout._handle_rtcp_packet(nack(fanout, lost))
        assert len(lookups) <= LOOKUPS[1]
        assert fanout.retransmits <= REPAIRS[1]


async def test_one_report_of_a_packet_counts() -> None:
    clip = Clip()
    async with watching(clip) as (sender, _):
        (fanout,) = sender.connection.senders
        await clip.play(3)
        reports: list[Any] = []
        fanout.rate.reported = counting(fanout.rate.reported, reports)  # type: ignore[method-assign]
        info = RtcpReceiverInfo(
            ssrc=fanout._ssrc, fraction_lost=20, packets_lost=0, highest_sequence=0, jitter=0, lsr=0, dlsr=0
        )
        await fanout._handle_rtcp_packet(RtcpRrPacket(ssrc=1, reports=[info] * 31))
        assert len(reports) == 1


def junk(ssrc: int) -> list[bytes]:
    """Return packets that take as long as can be to look at."""
    info = RtcpReceiverInfo(ssrc=ssrc, fraction_lost=9, packets_lost=9, highest_sequence=9, jitter=9, lsr=9, dlsr=9)
    everything = [pid + n for pid in range(0, 17 * 290, 17) for n in range(17)]
    return [
        bytes(RtcpRtpfbPacket(RTCP_RTPFB_NACK, 1, ssrc, everything)),
        bytes(RtcpPsfbPacket(RTCP_PSFB_PLI, 1, ssrc)) * 90,
        bytes(RtcpPsfbPacket(RTCP_PSFB_FIR, 1, ssrc)) * 90,
        bytes(RtcpPsfbPacket(RTCP_PSFB_APP, 1, 0, pack_remb_fci(2**70, [ssrc] * 200))),
        bytes(RtcpRrPacket(ssrc=1, reports=[info] * 31)),
        bytes(RtcpByePacket([])) * 300,
        bytes(RtcpSdesPacket([RtcpSourceInfo(ssrc=ssrc, items=[(1, b"x")] * 200)])),
    ]


async def test_a_flood_of_feedback_is_not_looked_at_and_others_get_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Clip()
    async with watching(clip) as (sender, attacker), watching(clip) as (_, honest):
        (fanout,) = sender.connection.senders
        looked_at: list[Any] = []
        monkeypatch.setattr("aiortc.rtcdtlstransport.RtcpPacket.parse", counting(RtcpPacket.parse, looked_at))
        flood: RTCDtlsTransport = attacker.connection._connection.getTransceivers()[0].receiver.transport
        begun = asyncio.get_running_loop().time()
        shown = len(honest.frames)
        for _ in range(30):
            for packet in junk(fanout._ssrc) * 5:
                await flood._send_rtp(packet)
            await clip.play(1)
        await honest.until(lambda: len(honest.frames) == shown + 30)
        seconds = asyncio.get_running_loop().time() - begun
        cost = sum(len(data) + RTCP_PACKET for (data,) in looked_at)
        # There are four connections' ends, and the honest ones send little.
        assert cost <= 2 * RTCP_OCTETS * (1 + seconds)
        assert len(looked_at) < 30 * 35


@turned
async def test_feedback_is_heard_again_after_a_flood() -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        (fanout,) = sender.connection.senders
        transport: RTCDtlsTransport = receiver.connection._connection.getTransceivers()[0].receiver.transport
        for _ in range(3):
            for packet in junk(fanout._ssrc) * 10:
                await transport._send_rtp(packet)
            await elapse(0)
        await elapse(0.3)
        before = clip.requests
        await transport._send_rtp(bytes(RtcpPsfbPacket(RTCP_PSFB_PLI, 1, fanout._ssrc)))
        await sender.until(lambda: clip.requests > before)


@pytest.mark.parametrize(("lsr", "dlsr"), [(0, 0), (1, 0xFFFFFFFF)])
async def test_a_report_that_tells_no_round_trip_is_not_one_of_the_last(lsr: int, dlsr: int) -> None:
    clip = Clip()
    async with watching(clip) as (sender, _):
        (fanout,) = sender.connection.senders
        fanout._reports.rtt = 0.5
        reports: list[Any] = []
        fanout.rate.reported = counting(fanout.rate.reported, reports)  # type: ignore[method-assign]
        before = (ntp_time() >> 16) - 1000 & 0xFFFFFFFF if lsr else 0
        info = RtcpReceiverInfo(
            ssrc=fanout._ssrc, fraction_lost=0, packets_lost=0, highest_sequence=0, jitter=0, lsr=before, dlsr=dlsr >> 8
        )
        await fanout._handle_rtcp_packet(RtcpRrPacket(ssrc=1, reports=[info]))
        assert [rtt for _, _, rtt in reports] == [None]
        assert fanout.rtt == 0.5
