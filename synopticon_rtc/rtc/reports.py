"""What is said of what one peer is sent, by us and by the peer."""

from typing import NamedTuple

from aiortc import RTCStatsReport, clock
from aiortc.rtp import (
    RtcpByePacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
)
from aiortc.stats import RTCOutboundRtpStreamStats, RTCRemoteInboundRtpStreamStats

from synopticon_rtc.rtc.audio_stream import AudioPacket
from synopticon_rtc.rtc.stream import CLOCK_RATE, EncodedFrame

_CNAME = 1
"""The type of an SDES item (RFC 3550 section 6.5.1)."""


class Heard(NamedTuple):
    """What a report of the peer says.

    Attributes:
        loss: Share of packets lost on the way, 0 to 1.
        rtt: Round-trip time in seconds; None where the peer has had no report of ours.
    """

    loss: float
    rtt: float | None


class Reports:
    """Writes the RTCP reports of a stream to one peer, and reads those that come back (RFC 3550 section 6.4).

    Times are in 32.32 bits, as :func:`ntp_time` tells them, and passed in.

    Args:
        ssrc: Of the peer's RTP stream.
        kind: ``"video"`` or ``"audio"``.
        clock_rate: Of its timestamps, Hz.

    Attributes:
        frames: Frames, or packets of sound, that were sent.
        octets: Octets of their payloads.
        latest: The last of them, None before the first.
        told: Whether the peer was told when what it is sent was captured.
        rtt: Round-trip time in seconds, as last heard.
        loss: Share of packets lost on the way, 0 to 1, as last heard.
        stats: The same as aiortc has it.
    """

    def __init__(self, ssrc: int, kind: str, clock_rate: int = CLOCK_RATE) -> None:
        self.frames = 0
        self.octets = 0
        self.latest: EncodedFrame | AudioPacket | None = None
        self.told = False
        self.rtt: float | None = None
        self.loss: float | None = None
        self.stats = RTCStatsReport()
        self._ssrc = ssrc
        self._kind = kind
        self._clock_rate = clock_rate
        self._ahead = 0  # what the clock of the last report was ahead of ours
        self._cname = ""
        self._transport_id = ""

    def begin(self, cname: str, transport_id: str) -> None:
        """Be told by what name the peer knows us (CNAME), and what aiortc calls the transport."""
        self._cname = cname
        self._transport_id = transport_id

    def forget(self) -> None:
        """Begin another stream, whose timestamps tell other times, or none."""
        self.latest, self.told = None, False

    def write(self, now: int, packets: int, *, goodbye: bool = False) -> bytes:
        """Say how much was sent, and which RTP timestamp what is captured now will have (RFC 3550 section 6.4.1).

        So whoever has several streams of ours can play them in step, however long each takes to be encoded. It is told
        by the clock of who captures, also where that is not ours. Of a stream that has not begun nothing is said.

        Args:
            now: The time, by our clock.
            packets: How many were sent.
            goodbye: Say that there will be no more.
        """
        report: RtcpSrPacket | RtcpRrPacket = RtcpRrPacket(ssrc=self._ssrc)
        if (frame := self.latest) is not None:
            self.told = True
            self._ahead = frame.ahead
            now += frame.ahead
            report = RtcpSrPacket(
                ssrc=self._ssrc,
                sender_info=RtcpSenderInfo(
                    ntp_timestamp=now,
                    rtp_timestamp=frame.timestamp + ((now - frame.captured) * self._clock_rate >> 32) & 0xFFFFFFFF,
                    packet_count=packets & 0xFFFFFFFF,
                    octet_count=self.octets & 0xFFFFFFFF,
                ),
            )
        source = RtcpSdesPacket([RtcpSourceInfo(ssrc=self._ssrc, items=[(_CNAME, self._cname.encode())])])
        return bytes(report) + bytes(source) + (bytes(RtcpByePacket([self._ssrc])) if goodbye else b"")

    def read(self, packet: RtcpRrPacket | RtcpSrPacket, now: int, packets: int) -> Heard | None:
        """Read what the peer says of our stream; None where it says nothing of it.

        Args:
            packet: Its report.
            now: The time, by our clock.
            packets: How many were sent.
        """
        report = next((report for report in packet.reports if report.ssrc == self._ssrc), None)
        if report is None:
            return None
        self.loss = report.fraction_lost / 256
        rtt = _round_trip(report, now + self._ahead)
        self.rtt = self.rtt if rtt is None else rtt
        self.stats.add(
            RTCRemoteInboundRtpStreamStats(
                timestamp=clock.current_datetime(),
                type="remote-inbound-rtp",
                id=f"remote-inbound-rtp_{id(self)}",
                ssrc=packet.ssrc,
                kind=self._kind,
                transportId=self._transport_id,
                packetsReceived=packets - report.packets_lost,
                packetsLost=report.packets_lost,
                jitter=report.jitter,
                roundTripTime=self.rtt or 0.0,
                fractionLost=report.fraction_lost,
            )
        )
        return Heard(self.loss, rtt)

    def sum_up(self, packets: int, track_id: str) -> RTCStatsReport:
        """Return statistics as aiortc does."""
        self.stats.add(
            RTCOutboundRtpStreamStats(
                timestamp=clock.current_datetime(),
                type="outbound-rtp",
                id=f"outbound-rtp_{id(self)}",
                ssrc=self._ssrc,
                kind=self._kind,
                transportId=self._transport_id,
                packetsSent=packets,
                bytesSent=self.octets,
                trackId=track_id,
            )
        )
        return self.stats


def _round_trip(report: RtcpReceiverInfo, now: int) -> float | None:
    """Return seconds, from the middle 32 bits of NTP times, in 1/65536 s (RFC 3550 section 6.4.1)."""
    if not report.lsr:
        return None
    elapsed = ((now >> 16) - report.lsr - report.dlsr) & 0xFFFFFFFF
    return elapsed / 65536 if elapsed < 0x80000000 else None  # noqa: PLR2004 - else negative: the peer errs by a little
