"""The headers of RTP packets to one peer."""

import struct

from aiortc.codecs import is_rtx
from aiortc.rtcrtpparameters import RTCRtpSendParameters
from aiortc.rtp import HeaderExtensions, HeaderExtensionsMap

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

    def extension(self, ntp_time: int) -> bytes:
        """Return the header extension of a packet that is sent at a time."""
        before, after = self._extensions
        if not self._timed:
            return before
        return before + (ntp_time >> 14 & 0xFFFFFF).to_bytes(3, "big") + after
