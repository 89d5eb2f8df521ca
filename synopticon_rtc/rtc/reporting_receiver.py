"""What receivers of sound and of video have in common: what they count of the peer, and the reports that it gets."""

import asyncio
from collections import deque

from aiortc import RTCRtpReceiver
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters
from aiortc.rtp import AnyRtcpPacket

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.rtc import seams
from synopticon_rtc.rtc.ice import IceConnection
from synopticon_rtc.rtc.reception import MOST_STREAMS, Reception

SILENCE = 0.2
"""Seconds without a packet after which a source that was left may be returned to, and from a goodbye to a packet that
takes it back; before, it is what was under way."""


class ReportingReceiver(RTCRtpReceiver):
    """Takes the place of aiortc's receiver."""

    def _prepare(self, ice: IceConnection, ssrc: int, faults: Faults) -> None:
        self._ice = ice
        self._faults = faults
        self._reception = Reception(ssrc, faults)
        self._mid = ""
        self._media_ssrc = 0
        self._left_ssrcs: deque[int] = deque(maxlen=MOST_STREAMS)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        self._reports: asyncio.Task[None] | None = None

    @property
    def packets(self) -> int:
        """RTP packets that came."""
        return self._reception.packets

    @property
    def octets(self) -> int:
        """Octets in their payloads."""
        return self._reception.octets

    # Overrides of what aiortc calls

    async def stop(self) -> None:
        """Stop, and end the track."""
        self._handle_disconnect()
        if self._reports is not None:
            seams.unregister_receiver(self.transport, self)
            self._reports.cancel()
            await asyncio.wait({self._reports})
            self._reports = None  # its error holds this

    def _handle_disconnect(self) -> None:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()

    # Parts of what those that derive from it do

    def _begin(self, parameters: RTCRtpReceiveParameters) -> None:
        self._mid = parameters.muxId
        self._media_ssrc = parameters.encodings[0].ssrc if parameters.encodings else 0
        seams.register_receiver(self.transport, self, parameters)
        self._reports = asyncio.create_task(self._reception.keep_reporting(self._send))

    def _send(self, packet: AnyRtcpPacket) -> None:
        self._ice.send_now(seams.outgoing_srtp(self.transport).protect_rtcp(bytes(packet)))
