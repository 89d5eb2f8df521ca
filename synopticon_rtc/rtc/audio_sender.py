"""The sending end of one sound to one peer."""

import dataclasses
import logging
import struct

from aiortc import RTCRtpSender
from aiortc.rtcrtpparameters import RTCRtpSendParameters
from aiortc.rtcrtpsender import random_sequence_number
from aiortc.rtp import AnyRtcpPacket, RtcpRrPacket, RtcpSrPacket

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.rtc.audio_stream import CLOCK_RATE, AudioPacket, AudioStream
from synopticon_rtc.rtc.header import Header
from synopticon_rtc.rtc.ice import IceConnection
from synopticon_rtc.rtc.outlet import Outlet
from synopticon_rtc.rtc.reporting_sender import ReportingSender
from synopticon_rtc.rtc.stream import ntp_time

logger = logging.getLogger(__name__)

_tail = struct.Struct("!II").pack


class AudioSender(ReportingSender):
    """Sends one peer its packets of an :class:`AudioStream`.

    A packet is encrypted and handed to the socket in the call that brings it. What the socket does not take is dropped.

    Attributes:
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
        self.dropped = 0
        self._stream = stream
        self._prepare(Outlet(ice, lambda: None), CLOCK_RATE, faults)
        self._next_number = random_sequence_number()
        self._header: Header

    @property
    def stream(self) -> AudioStream | None:
        """The sound that the peer is sent."""
        return self._stream

    @property
    def packets(self) -> int:
        """Packets that were sent."""
        return self._reports.frames

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
            self._faults.warn(logger, "a peer does not take Opus: it gets no sound")
            return
        self._outlet.begin(self.transport)
        self._header = Header(dataclasses.replace(parameters, codecs=opus))
        self._begin(parameters)
        if self._stream is not None:
            self._stream.add(self)

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
        self._reports.frames += 1
        self._reports.octets += len(packet.payloads[0])
        self._reports.latest = packet
        if not self._reports.told:
            self._faults.call(self._send_report)
