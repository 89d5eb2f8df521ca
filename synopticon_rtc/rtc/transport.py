"""The DTLS transport under everything, which survives whatever a peer puts into RTP and RTCP."""

import contextlib
import struct

import pylibsrtp
from aiortc import RTCDtlsTransport
from aiortc.rtp import RtcpPacket, RtpPacket

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.rtc import reference_time
from synopticon_rtc.rtc.budget import Budget
from synopticon_rtc.rtc.capture_time import ExtensionsMap

MAX_SSRCS = 64
"""Synchronisation sources of a peer that are remembered; libsrtp walks through all that it knows for each packet."""
RTCP_OCTETS = 32_768
"""Octets of RTCP that a peer may send in a second, several times what one needs that loses a tenth of 50 Mbit/s."""
RTCP_PACKET = 64
"""Octets that each packet counts for beyond its own, for what it costs to look at it."""
RTCP_SENDER = 8
"""Bytes of an RTCP packet up to the end of its sender's source."""


class Transport(RTCDtlsTransport):
    """aiortc's transport, for peers that may send anything: a packet that cannot be read is lost, and nothing else."""

    faults: Faults
    sources: dict[int, None]
    """The synchronisation sources of the peer, the oldest first."""
    feedback: Budget
    """What RTCP of the peer is looked at."""

    @classmethod
    def adopt(cls, transport: RTCDtlsTransport, faults: Faults) -> None:
        """Make a transport of aiortc one of these, before it starts."""
        transport.__class__ = cls
        assert isinstance(transport, cls)  # noqa: S101 - it is now
        transport.faults = faults
        transport.sources = {}
        transport._rtp_header_extensions_map = ExtensionsMap()  # noqa: SLF001 - in place of its own
        transport.feedback = Budget(RTCP_OCTETS, RTCP_OCTETS)

    async def _recv_next(self) -> None:
        try:
            await super()._recv_next()
        except ConnectionError:
            raise
        except Exception:
            if not self.encrypted:  # the handshake ends by it
                raise
            self.faults.note("a datagram could not be handled")

    async def _handle_rtp_data(self, data: bytes, arrival_time_ms: int) -> None:
        try:
            packet = RtpPacket.parse(data, self._rtp_header_extensions_map)
        except (ValueError, struct.error):  # the latter is that of a header extension of another length
            return
        if packet.ssrc not in self.sources:
            self._remember(packet.ssrc)
        receiver = self._rtp_router.route_rtp(packet)
        if receiver is None:
            return
        try:
            await receiver._handle_rtp_packet(packet, arrival_time_ms=arrival_time_ms)  # noqa: SLF001 - as aiortc does
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001 - it is noted, and the next may go better
            self.faults.note("an RTP packet could not be handled")

    def _remember(self, ssrc: int) -> None:
        """Remember a source that has proven itself, and forget the oldest of too many, here and in libsrtp."""
        self.sources[ssrc] = None
        if len(self.sources) > MAX_SSRCS:
            oldest = next(iter(self.sources))
            del self.sources[oldest]
            self._rtp_router.ssrc_table.pop(oldest, None)
            with contextlib.suppress(pylibsrtp.Error):  # it was never one of libsrtp's
                self._rx_srtp.remove_stream(oldest)

    async def _handle_rtcp_data(self, data: bytes) -> None:
        if not self.feedback.take(clock.monotonic(), len(data) + RTCP_PACKET):
            return
        if len(data) >= RTCP_SENDER and (ssrc := int.from_bytes(data[4:RTCP_SENDER], "big")) not in self.sources:
            self._remember(ssrc)
        try:
            recipients = [
                (recipient, packet)
                for packet in RtcpPacket.parse(data)
                for recipient in self._rtp_router.route_rtcp(packet)
            ]
        except (ValueError, struct.error):  # the latter is that of a REMB that names more than it has
            return
        try:
            if (reply := reference_time.answer(data, next(iter(self._rtp_router.senders), 0))) is not None:
                with contextlib.suppress(ConnectionError):  # there is no way just now
                    await self._send_rtp(reply)
            for recipient, packet in recipients:
                await recipient._handle_rtcp_packet(packet)  # noqa: SLF001 - as aiortc does
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001 - it is noted, and the next may go better
            self.faults.note("an RTCP packet could not be handled")
