"""The sending end of one video track to one peer."""

import asyncio
import contextlib
import logging
import struct
from collections import deque
from collections.abc import Callable

import pylibsrtp
from aiortc import RTCRtpSender, RTCStatsReport, clock
from aiortc.codecs import is_rtx
from aiortc.rtcrtpparameters import RTCRtpSendParameters
from aiortc.rtcrtpsender import random_sequence_number
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    HeaderExtensions,
    HeaderExtensionsMap,
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
    unpack_remb_fci,
)
from aiortc.stats import RTCOutboundRtpStreamStats, RTCRemoteInboundRtpStreamStats

from synopticon_rtc.rtc import seams
from synopticon_rtc.rtc.ice import IceConnection
from synopticon_rtc.rtc.stream import CLOCK_RATE, Codec, EncodedFrame, VideoStream

logger = logging.getLogger(__name__)

HISTORY_FRAMES = 128
"""Frames that can be sent again: four seconds of video, far beyond what a receiver waits for."""
REPORT_INTERVAL = 1.0
WRITE_BUFFER_LIMIT = 65_536
"""Bytes that may wait for the system to take them; a peer past it is sent nothing until the next keyframe."""
EXTENDED = 0x90
"""The first octet of an RTP header: version 2, with an extension (RFC 3550 section 5.1)."""
PLAIN = 0x80

_header = struct.Struct("!BBHII").pack


class FanoutSender(RTCRtpSender):
    """Sends one peer its packets of a :class:`VideoStream`.

    It takes the place of aiortc's sender, which runs a task a peer and packetises again for each. Nothing is queued:
    a packet is encrypted and handed to the socket in the call that brings it.
    """

    @classmethod
    def adopt(cls, sender: RTCRtpSender, ice: IceConnection, select: Callable[[Codec], VideoStream]) -> "FanoutSender":
        """Turn a sender that has not started into one that sends a shared stream.

        Args:
            sender: aiortc's sender; a peer connection makes it itself and takes no other.
            ice: The connection that carries the peer.
            select: Gives the stream for the codec that was negotiated, ``"vp8"`` or ``"h264"``.
        """
        sender.__class__ = cls
        assert isinstance(sender, cls)  # noqa: S101 - tells the type checkers
        sender._set_up(ice, select)  # noqa: SLF001 - takes the place of a constructor
        return sender

    def _set_up(self, ice: IceConnection, select: Callable[[Codec], VideoStream]) -> None:
        self._ice = ice
        self._select = select
        self.stream: VideoStream | None = None
        self.packets = 0
        self.octets = 0
        self.retransmits = 0
        self.rtt: float | None = None
        """Round-trip time in seconds."""
        self.loss: float | None = None
        """Share of packets lost on the way, 0 to 1, as last reported."""
        self.bitrate_limit: int | None = None
        """What the peer estimates that it can receive, in bit/s (REMB)."""
        self._waiting = True
        self._stalled = False
        self._first_octet = PLAIN
        self._payload_type = 0
        self._extensions = (b"", b"")
        self._timed = False
        self._rtx_payload_type: int | None = None
        self._sequence_number = random_sequence_number()
        self._rtx_sequence_number = random_sequence_number()
        self._history: deque[tuple[int, EncodedFrame]] = deque(maxlen=HISTORY_FRAMES)
        self._reports: asyncio.Task[None] | None = None
        self._report_stats = RTCStatsReport()
        self._cname = ""

    # Overrides of what aiortc calls

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        """Start; aiortc calls this once the peer is connected."""
        if self._reports is not None or not parameters.codecs:
            return
        try:
            self._configure(parameters)
            self.stream = self._select("h264" if parameters.codecs[0].name == "H264" else "vp8")
        except Exception:
            logger.exception("a peer is sent no video")
            return
        seams.register_sender(self.transport, self, parameters)
        self._reports = asyncio.create_task(self._send_reports())
        self.stream.add(self)

    async def stop(self) -> None:
        """Stop, and say goodbye to the peer."""
        if self.stream is not None:
            self.stream.remove(self)
        if self._reports is None:
            return
        seams.unregister_sender(self.transport, self)
        self._reports.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reports
        self._send_report(bytes(RtcpByePacket([self._ssrc])))

    async def getStats(self) -> RTCStatsReport:  # noqa: N802 - the name that aiortc calls
        """Return statistics as aiortc does."""
        self._report_stats.add(
            RTCOutboundRtpStreamStats(
                timestamp=clock.current_datetime(),
                type="outbound-rtp",
                id=f"outbound-rtp_{id(self)}",
                ssrc=self._ssrc,
                kind=self.kind,
                transportId=seams.transport_id(self.transport),
                packetsSent=self.packets,
                bytesSent=self.octets,
                trackId=str(id(self.track)),
            )
        )
        return self._report_stats

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        match packet:
            case RtcpRrPacket() | RtcpSrPacket():
                self._note_reports(packet)
            case RtcpRtpfbPacket(fmt=fmt) if fmt == RTCP_RTPFB_NACK:
                for sequence_number in packet.lost:
                    self._resend(sequence_number)
            case RtcpPsfbPacket(fmt=fmt) if fmt in {RTCP_PSFB_PLI, RTCP_PSFB_FIR}:
                if self.stream is not None:
                    self.stream.request_keyframe()
            case RtcpPsfbPacket(fmt=fmt) if fmt == RTCP_PSFB_APP:
                with contextlib.suppress(ValueError, struct.error):
                    bitrate, ssrcs = unpack_remb_fci(packet.fci)
                    if self._ssrc in ssrcs:
                        self.bitrate_limit = bitrate

    # Sending

    def send_frame(self, frame: EncodedFrame) -> None:
        """Send one frame, unless the peer still waits for a keyframe."""
        route = self._ice.route
        if route is None:
            return
        transport, address = route
        if transport.get_write_buffer_size() > WRITE_BUFFER_LIMIT:
            self._waiting = self._stalled = True
            return
        if self._waiting and not frame.keyframe:
            if self._stalled and self.stream is not None:
                self._stalled = False
                self.stream.request_keyframe()
            return
        self._waiting = self._stalled = False

        # The hot path: this loop runs for every packet and peer.
        protect, sendto = seams.outgoing_srtp(self.transport).protect, transport.sendto
        first_octet, payload_type, timestamp, ssrc = self._first_octet, self._payload_type, frame.timestamp, self._ssrc
        extension = self._extension(frame.ntp_time)
        sequence_number = self._sequence_number
        self._history.append((sequence_number, frame))
        last = len(frame.payloads) - 1
        for index, payload in enumerate(frame.payloads):
            marked = payload_type | 0x80 if index == last else payload_type
            header = _header(first_octet, marked, sequence_number, timestamp, ssrc)
            sendto(protect(header + extension + payload), address)
            sequence_number = (sequence_number + 1) & 0xFFFF
        self._sequence_number = sequence_number
        self.packets += len(frame.payloads)
        self.octets += frame.octets

    def _resend(self, sequence_number: int) -> None:
        """Send a packet again, on its own RTP stream where that was negotiated (RFC 4588)."""
        found = self._find(sequence_number)
        if found is None:
            return
        frame, index = found
        payload = frame.payloads[index]
        marker = 0x80 if index == len(frame.payloads) - 1 else 0
        if self._rtx_payload_type is None:
            header = _header(
                self._first_octet, marker | self._payload_type, sequence_number, frame.timestamp, self._ssrc
            )
        else:
            header = _header(
                self._first_octet,
                marker | self._rtx_payload_type,
                self._rtx_sequence_number,
                frame.timestamp,
                self._rtx_ssrc,
            )
            payload = sequence_number.to_bytes(2, "big") + payload
            self._rtx_sequence_number = (self._rtx_sequence_number + 1) & 0xFFFF
        data = header + self._extension(clock.current_ntp_time()) + payload
        with contextlib.suppress(pylibsrtp.Error):  # too old to be encrypted once more
            self._ice.send_now(seams.outgoing_srtp(self.transport).protect(data))
            self.retransmits += 1

    def _find(self, sequence_number: int) -> tuple[EncodedFrame, int] | None:
        for first, frame in reversed(self._history):
            index = (sequence_number - first) & 0xFFFF
            if index < len(frame.payloads):
                return frame, index
        return None

    def _configure(self, parameters: RTCRtpSendParameters) -> None:
        codec = parameters.codecs[0]
        self._cname = parameters.rtcp.cname or ""
        self._payload_type = codec.payloadType or 0
        for other in parameters.codecs:
            if is_rtx(other) and other.parameters.get("apt") == codec.payloadType:
                self._rtx_payload_type = other.payloadType
                break

        # The header extension is the same in every packet but for the 24 bits of the time.
        known = HeaderExtensionsMap()
        known.configure(parameters)
        mid = parameters.muxId or None
        profile, zeros = known.set(HeaderExtensions(mid=mid, abs_send_time=0))
        _, ones = known.set(HeaderExtensions(mid=mid, abs_send_time=0xFFFFFF))
        if not zeros:
            return
        self._first_octet = EXTENDED
        head = struct.pack("!HH", profile, len(zeros) // 4)
        at = next((at for at, (zero, one) in enumerate(zip(zeros, ones, strict=True)) if zero != one), None)
        self._extensions = (head + zeros, b"") if at is None else (head + zeros[:at], zeros[at + 3 :])
        self._timed = at is not None

    def _extension(self, ntp_time: int) -> bytes:
        before, after = self._extensions
        if not self._timed:
            return before
        return before + (ntp_time >> 14 & 0xFFFFFF).to_bytes(3, "big") + after

    # Reports

    async def _send_reports(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            if self._history:
                self._send_report()

    def _send_report(self, more: bytes = b"") -> None:
        """Say how much was sent, and which RTP timestamp it is now (RFC 3550 section 6.4.1)."""
        now = clock.current_ntp_time()
        timestamp = 0
        if self._history:
            frame = self._history[-1][1]
            timestamp = (frame.timestamp + ((now - frame.ntp_time) * CLOCK_RATE >> 32)) & 0xFFFFFFFF
        report = RtcpSrPacket(
            ssrc=self._ssrc,
            sender_info=RtcpSenderInfo(
                ntp_timestamp=now,
                rtp_timestamp=timestamp,
                packet_count=self.packets & 0xFFFFFFFF,
                octet_count=self.octets & 0xFFFFFFFF,
            ),
        )
        source = RtcpSdesPacket([RtcpSourceInfo(ssrc=self._ssrc, items=[(1, self._cname.encode())])])
        self._ice.send_now(seams.outgoing_srtp(self.transport).protect_rtcp(bytes(report) + bytes(source) + more))

    def _note_reports(self, packet: RtcpRrPacket | RtcpSrPacket) -> None:
        for report in packet.reports:
            if report.ssrc != self._ssrc:
                continue
            self.loss = report.fraction_lost / 256
            if report.lsr:
                # Round-trip time from the middle 32 bits of NTP times, in 1/65536 s (RFC 3550 section 6.4.1).
                elapsed = ((clock.current_ntp_time() >> 16) - report.lsr - report.dlsr) & 0xFFFFFFFF
                if elapsed < 0x80000000:  # noqa: PLR2004 - else negative: the clock was set back
                    self.rtt = elapsed / 65536
            self._report_stats.add(
                RTCRemoteInboundRtpStreamStats(
                    timestamp=clock.current_datetime(),
                    type="remote-inbound-rtp",
                    id=f"remote-inbound-rtp_{id(self)}",
                    ssrc=packet.ssrc,
                    kind=self.kind,
                    transportId=seams.transport_id(self.transport),
                    packetsReceived=self.packets - report.packets_lost,
                    packetsLost=report.packets_lost,
                    jitter=report.jitter,
                    roundTripTime=self.rtt or 0.0,
                    fractionLost=report.fraction_lost,
                )
            )
