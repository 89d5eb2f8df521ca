"""What a receiver counts of a peer's sources, and reports of them (RFC 3550 section 6.4)."""

import asyncio
from collections.abc import Callable

from aiortc.rtcrtpreceiver import StreamStatistics
from aiortc.rtp import AnyRtcpPacket, RtcpReceiverInfo, RtcpRrPacket, RtcpSrPacket, RtpPacket

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults

REPORT_INTERVAL = 1.0
MOST_STREAMS = 8
"""SSRCs that are counted and reported on. A video has two, with what is sent again; a report has room for 31."""


class Reception:
    """Counts what comes, and reports of it every second.

    Args:
        ssrc: Who we are in the reports.
        faults: What counts errors that nobody foresaw.

    Attributes:
        packets: RTP packets that came.
        octets: In their payloads.
        streams: What was counted, by SSRC.
        last_reports: The time of the last sender report of each, in 16.16 bits as it says it, and when it came.
    """

    def __init__(self, ssrc: int, faults: Faults) -> None:
        self.packets = 0
        self.octets = 0
        self.streams: dict[int, StreamStatistics] = {}
        self.last_reports: dict[int, tuple[int, float]] = {}
        self._ssrc = ssrc
        self._faults = faults

    def count(self, packet: RtpPacket, clock_rate: int, kept: int) -> int | None:
        """Count a packet.

        Args:
            packet: The packet.
            clock_rate: Of its timestamps, 1/s.
            kept: The SSRC that is not given up for others.

        Returns:
            The SSRC that was given up, as a peer may send from as many as it likes; None where there was room.
        """
        self.packets += 1
        self.octets += len(packet.payload)
        stream = self.streams.get(packet.ssrc)
        given_up = None
        if stream is None:
            if len(self.streams) >= MOST_STREAMS:
                given_up = next(ssrc for ssrc in self.streams if ssrc != kept)
                del self.streams[given_up]
                self.last_reports.pop(given_up, None)
            stream = self.streams[packet.ssrc] = StreamStatistics(clock_rate)
        stream.add(packet)
        return given_up

    def take_report(self, packet: RtcpSrPacket) -> None:
        """Take a sender report."""
        if packet.ssrc in self.streams:
            middle = packet.sender_info.ntp_timestamp >> 16 & 0xFFFFFFFF
            self.last_reports[packet.ssrc] = (middle, clock.monotonic())

    def report(self) -> RtcpRrPacket:
        """Write a receiver report."""
        return RtcpRrPacket(ssrc=self._ssrc, reports=[self._describe(ssrc) for ssrc in self.streams])

    async def keep_reporting(self, send: Callable[[AnyRtcpPacket], None]) -> None:
        """Send reports until cancelled.

        Args:
            send: Sends one.
        """
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            if not self.streams:
                continue
            try:
                send(self.report())
            except Exception:  # noqa: BLE001 - it is noted; the next may go better, and closing waits for this task
                self._faults.note("a report could not be sent")

    def _describe(self, ssrc: int) -> RtcpReceiverInfo:
        stream = self.streams[ssrc]
        last, at = self.last_reports.get(ssrc, (0, 0.0))
        return RtcpReceiverInfo(
            ssrc=ssrc,
            fraction_lost=stream.fraction_lost,
            packets_lost=stream.packets_lost,
            highest_sequence=stream.cycles + (stream.max_seq or 0) & 0xFFFFFFFF,
            jitter=min(stream.jitter, 0xFFFFFFFF),
            lsr=last,
            dlsr=min(int((clock.monotonic() - at) * 65536), 0xFFFFFFFF) if last else 0,
        )
