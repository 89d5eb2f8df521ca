"""What senders of sound and of video have in common: what they know of the peer, and the reports that it gets."""

import asyncio
import contextlib
from abc import ABC, abstractmethod

from aiortc import RTCRtpSender, RTCStatsReport
from aiortc.rtcrtpparameters import RTCRtpSendParameters

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.rtc import seams
from synopticon_rtc.rtc.outlet import Outlet
from synopticon_rtc.rtc.reports import Reports
from synopticon_rtc.rtc.stream import ntp_time

REPORT_INTERVAL = 1.0


class ReportingSender(RTCRtpSender, ABC):
    """Takes the place of aiortc's sender, which runs a task a peer and packetises again for each.

    Sender reports tell when what is sent was captured, not when it was sent. The first follows the first of that, so
    that the peer knows from the beginning.
    """

    def _prepare(self, outlet: Outlet, clock_rate: int, faults: Faults | None) -> None:
        self._outlet = outlet
        self._faults = faults or Faults()
        self._reports = Reports(self._ssrc, self.kind, clock_rate)
        self._reporting: asyncio.Task[None] | None = None

    @property
    @abstractmethod
    def packets(self) -> int:
        """Packets that were sent, those that were sent again not counted."""

    @property
    def octets(self) -> int:
        """Octets of the payloads of what was sent."""
        return self._reports.octets

    @property
    def rtt(self) -> float | None:
        """Round-trip time in seconds."""
        return self._reports.rtt

    @property
    def loss(self) -> float | None:
        """Share of packets lost on the way, 0 to 1, as last reported."""
        return self._reports.loss

    # Overrides of what aiortc calls

    async def stop(self) -> None:
        """Stop, and say goodbye to the peer."""
        self._leave()
        if self._reporting is None:
            return
        seams.unregister_sender(self.transport, self)
        self._reporting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reporting
        self._outlet.close()
        self._send_report(goodbye=True)

    async def getStats(self) -> RTCStatsReport:  # noqa: N802 - the name that aiortc calls
        """Return statistics as aiortc does."""
        return self._reports.sum_up(self.packets, str(id(self.track)))

    # Parts of those overrides

    def _begin(self, parameters: RTCRtpSendParameters) -> None:
        self._reports.begin(parameters.rtcp.cname or "", seams.transport_id(self.transport))
        seams.register_sender(self.transport, self, parameters)
        self._reporting = asyncio.create_task(self._report())

    @abstractmethod
    def _leave(self) -> None:
        """Send nothing more of the stream."""

    # Reports

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            if self._reports.latest is not None:
                self._faults.call(self._send_report)

    def _send_report(self, *, goodbye: bool = False) -> None:
        self._outlet.send_report(self._reports.write(ntp_time(), self.packets, goodbye=goodbye))
