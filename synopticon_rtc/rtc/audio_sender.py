"""The sending end of one sound to one peer."""

import asyncio
import contextlib
import dataclasses
import logging
import struct

from aiortc import RTCRtpSender, RTCStatsReport
from aiortc.rtcrtpparameters import RTCRtpSendParameters
from aiortc.rtcrtpsender import random_sequence_number
from aiortc.rtp import AnyRtcpPacket, RtcpRrPacket, RtcpSrPacket

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.rtc import seams
from synopticon_rtc.rtc.audio_stream import CLOCK_RATE, AudioPacket, AudioStream
from synopticon_rtc.rtc.header import Header
from synopticon_rtc.rtc.ice import IceConnection
from synopticon_rtc.rtc.outlet import Outlet
from synopticon_rtc.rtc.reports import Reports
from synopticon_rtc.rtc.sender import REPORT_INTERVAL
from synopticon_rtc.rtc.stream import ntp_time

logger = logging.getLogger(__name__)

_tail = struct.Struct("!II").pack


class AudioSender(RTCRtpSender):
    """Sends one peer its packets of an :class:`AudioStream`.

    It takes the place of aiortc's sender, as ``FanoutSender`` does for video. A packet is encrypted and handed to the
    socket in the call that brings it; what the socket does not take is not sent. Sender reports tell when sound was
    captured, not when it was sent; the first follows the first packet, so that the peer knows from the beginning.

    Attributes:
        packets: Packets that were sent.
        dropped: Packets that the socket did not take, or for which there was no way.
    """

    @classmethod
    def adopt(
        cls,
        sender: RTCRtpSender,
        ice: IceConnection,
        stream: AudioStream | None,
        faults: Faults | None = None,
    ) -> "AudioSender":
        """Turn a sender that has not started into one that sends a shared sound.

        Args:
            sender: aiortc's sender; a peer connection makes it itself and takes no other.
            ice: The connection that carries the peer.
            stream: The sound; None where there is none yet.
            faults: What counts errors that nobody foresaw.
        """
        sender.__class__ = cls
        assert isinstance(sender, cls)  # noqa: S101 - tells the type checkers
        sender._set_up(ice, stream, faults)  # noqa: SLF001 - takes the place of a constructor
        return sender

    def _set_up(self, ice: IceConnection, stream: AudioStream | None, faults: Faults | None) -> None:
        self.packets = 0
        self.dropped = 0
        self._stream = stream
        self._faults = faults or Faults()
        self._outlet = Outlet(ice, lambda: None)
        self._reports = Reports(self._ssrc, self.kind, CLOCK_RATE)
        self._next_number = random_sequence_number()
        self._header: Header
        self._reporting: asyncio.Task[None] | None = None

    @property
    def stream(self) -> AudioStream | None:
        """The sound that the peer is sent."""
        return self._stream

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

    def switch(self, stream: AudioStream | None) -> None:
        """Send another sound from its next packet on, or none."""
        if stream is self._stream:
            return
        self._leave()
        self._reports.forget()
        self._stream = stream
        if stream is not None and self._reporting is not None:
            stream.add(self)

    def leave(self) -> None:
        """Send nothing more, until :meth:`switch`; the media section stays."""
        self.switch(None)

    def _leave(self) -> None:
        if self._stream is not None:
            self._stream.remove(self)
            self._stream = None

    # Overrides of what aiortc calls

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        """Start; aiortc calls this once the peer is connected."""
        if self._reporting is not None or not parameters.codecs:
            return
        opus = [codec for codec in parameters.codecs if codec.mimeType.lower() == "audio/opus"]
        if not opus:
            logger.warning("a peer does not take Opus: it gets no sound")
            return
        self._outlet.begin(self.transport)
        self._header = Header(dataclasses.replace(parameters, codecs=opus))
        self._reports.begin(parameters.rtcp.cname or "", seams.transport_id(self.transport))
        seams.register_sender(self.transport, self, parameters)
        self._reporting = asyncio.create_task(self._report())
        if self._stream is not None:
            self._stream.add(self)

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

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
            self._reports.read(packet, ntp_time(), self.packets)

    # Packets

    def send_packet(self, packet: AudioPacket) -> None:
        """Send one packet."""
        stream = self._stream
        if stream is None or not self._outlet.open():
            self.dropped += 1
            return
        header, number = self._header, self._next_number + packet.lost & 0xFFFF
        self._next_number = (number + 1) & 0xFFFF
        word = header.first_octet << 24 | header.payload_type << 16 | number
        first, sent = self._reports.latest is None, packet.sent
        if packet.stamped or first:
            extension = header.stamped(sent, packet.captured, packet.level)
        else:
            extension = header.extension(sent, packet.level)
        tail = _tail(packet.timestamp, self._ssrc) + extension
        # The marker says that a talkspurt begins, so that a receiver may adjust its delay (RFC 3551 section 4.1).
        marked = packet.begins or first
        if not self._outlet.send_burst(stream.sealer, packet.payloads, word, tail, marked=marked):
            self.dropped += 1
            return
        self.packets += 1
        self._reports.frames += 1
        self._reports.octets += len(packet.payloads[0])
        self._reports.latest = packet
        if not self._reports.told:
            self._faults.call(self._send_report)

    # Reports

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            if self._reports.latest is not None:
                self._faults.call(self._send_report)

    def _send_report(self, *, goodbye: bool = False) -> None:
        self._outlet.send_report(self._reports.write(ntp_time(), self.packets, goodbye=goodbye))
