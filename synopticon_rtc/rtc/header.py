"""The headers of RTP packets to one peer."""

import struct

from aiortc.codecs import is_rtx
from aiortc.rtcrtpparameters import RTCRtpSendParameters
from aiortc.rtp import HeaderExtensions, HeaderExtensionsMap

from synopticon_rtc.rtc import capture_time

ONE_BYTE = 0xBEDE
"""What header extensions begin with whose heads have one byte each (RFC 8285 section 4.2)."""
MOST_NUMBERS = 14
_ALL = 2**64 - 1
EXTENDED = 0x90
"""The first octet of an RTP header: version 2, with an extension (RFC 3550 section 5.1)."""
PLAIN = 0x80


class Header:
    """What the headers of all packets to a peer have in common, as was negotiated.

    Args:
        parameters: What was negotiated.

    Attributes:
        first_octet: The first octet of each.
        payload_type: Of media.
        rtx_payload_type: Of what is sent again on a stream of its own (RFC 4588); None where that was not negotiated.
    """

    def __init__(self, parameters: RTCRtpSendParameters) -> None:
        codec = parameters.codecs[0]
        self.first_octet = PLAIN
        self.payload_type = codec.payloadType or 0
        self.rtx_payload_type: int | None = next(
            (
                other.payloadType
                for other in parameters.codecs
                if is_rtx(other) and other.parameters.get("apt") == codec.payloadType
            ),
            None,
        )
        self._extensions = (b"", b"")
        self._stamp: tuple[bytes, bytes, bytes] | None = None
        self._timed = False
        # The header extension is the same in every packet but for the 24 bits of the time.
        known = HeaderExtensionsMap()
        known.configure(parameters)
        mid = parameters.muxId or None
        profile, zeros = known.set(HeaderExtensions(mid=mid, abs_send_time=0))
        _, ones = known.set(HeaderExtensions(mid=mid, abs_send_time=0xFFFFFF))
        if not zeros:
            return
        self.first_octet = EXTENDED
        head = struct.pack("!HH", profile, len(zeros) // 4)
        at = next((at for at, (zero, one) in enumerate(zip(zeros, ones, strict=True)) if zero != one), None)
        self._extensions = (head + zeros, b"") if at is None else (head + zeros[:at], zeros[at + 3 :])
        self._timed = at is not None
        number = next((known.id for known in parameters.headerExtensions if known.uri == capture_time.URI), 0)
        if profile != ONE_BYTE or not 0 < number <= MOST_NUMBERS:
            return
        end = len(ones.rstrip(b"\0"))  # what follows fills up a word
        words, left = divmod(end + 1 + capture_time.OCTETS + 3, 4)
        head = struct.pack("!HH", profile, words)
        tag, fill = bytes([number << 4 | capture_time.OCTETS - 1]), bytes(3 - left)
        self._stamp = (
            (head + zeros[:end], tag, fill) if at is None else (head + zeros[:at], zeros[at + 3 : end] + tag, fill)
        )

    def extension(self, ntp_time: int) -> bytes:
        """Return the header extension of a packet that is sent at a time."""
        before, after = self._extensions
        if not self._timed:
            return before
        return before + (ntp_time >> 14 & 0xFFFFFF).to_bytes(3, "big") + after

    def stamped(self, ntp_time: int, captured: int) -> bytes:
        """Return one that also tells when what begins in the packet was captured, if the peer reads that.

        Args:
            ntp_time: When it is sent.
            captured: The time of capture, seconds since 1900 in 32.32 bits.
        """
        if self._stamp is None:
            return self.extension(ntp_time)
        before, between, fill = self._stamp
        sent = (ntp_time >> 14 & 0xFFFFFF).to_bytes(3, "big") if self._timed else b""
        return before + sent + between + (captured & _ALL).to_bytes(capture_time.OCTETS, "big") + fill
