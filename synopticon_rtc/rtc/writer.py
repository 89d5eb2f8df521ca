"""The RTP packets of one peer."""

import struct

from aiortc.rtcrtpparameters import RTCRtpSendParameters
from aiortc.rtcrtpsender import random_sequence_number

from synopticon_rtc.rtc.header import Header
from synopticon_rtc.rtc.outlet import Outlet
from synopticon_rtc.rtc.sealer import Sealer
from synopticon_rtc.rtc.stream import EncodedFrame, ntp_time

_header = struct.Struct("!BBHII").pack
_tail = struct.Struct("!II").pack


class PacketWriter:
    """Writes one peer's headers before the payloads that all peers share, and sends what comes of it.

    Args:
        outlet: The way to the peer.
        ssrc: Of the peer's RTP stream (RFC 3550).
        rtx_ssrc: Of the stream of packets that are sent again (RFC 4588).

    Attributes:
        next_number: The sequence number of the next packet, counted on beyond 16 bits.
        packets: How many were sent, those that were sent again not counted.
    """

    def __init__(self, outlet: Outlet, ssrc: int, rtx_ssrc: int) -> None:
        self.next_number = random_sequence_number()
        self.packets = 0
        self._outlet = outlet
        self._ssrc = ssrc
        self._rtx_ssrc = rtx_ssrc
        self._next_rtx_number = random_sequence_number()
        self._header: Header

    def begin(self, parameters: RTCRtpSendParameters) -> None:
        """Write headers as was negotiated."""
        self._header = Header(parameters)

    @property
    def has_rtx(self) -> bool:
        """Whether what is sent again goes on a stream of its own, so that it may be sent though nobody misses it."""
        return self._header.rtx_payload_type is not None

    def write(self, frame: EncodedFrame, position: int, ntp_time: int, sealer: Sealer) -> bool:
        """Send one burst of a frame; False if the system did not take all.

        Args:
            frame: What all peers are sent.
            position: Of the burst in it.
            ntp_time: When it is sent, as :func:`ntp_time` tells.
            sealer: Encrypts for one peer after another.
        """
        header, payloads = self._header, frame.bursts[position]
        first = self.next_number
        self.next_number = first + len(payloads)
        word = header.first_octet << 24 | header.payload_type << 16 | first & 0xFFFF
        if frame.stamped and not position:
            extension = header.stamped(ntp_time, frame.captured)
        else:
            extension = header.extension(ntp_time)
        tail = _tail(frame.timestamp, self._ssrc) + extension
        if not self._outlet.send_burst(sealer, payloads, word, tail, marked=position == len(frame.bursts) - 1):
            return False
        self.packets += len(payloads)
        return True

    def write_again(self, frame: EncodedFrame, index: int, number: int) -> int:
        """Send a packet again, on its own RTP stream where that was negotiated (RFC 4588).

        Args:
            frame: The packet is of.
            index: Of the packet in it.
            number: The sequence number that it had, 16 bits.

        Returns:
            The octets of its payload, 0 where it was not sent.
        """
        header, payload = self._header, frame.payloads[index]
        marker = 0x80 if index == len(frame.payloads) - 1 else 0
        payload_type, ssrc, own = header.payload_type, self._ssrc, number
        if header.rtx_payload_type is not None:
            payload_type, ssrc, own = header.rtx_payload_type, self._rtx_ssrc, self._next_rtx_number
            payload = number.to_bytes(2, "big") + payload
            self._next_rtx_number = (own + 1) & 0xFFFF
        head = _header(header.first_octet, marker | payload_type, own, frame.timestamp, ssrc)
        return len(payload) if self._outlet.send_packet(head + header.extension(ntp_time()) + payload) else 0
