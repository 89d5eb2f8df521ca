"""The headers of RTP packets to one peer."""

import struct

from aiortc.codecs import is_rtx
from aiortc.rtcrtpparameters import RTCRtpSendParameters
from aiortc.rtp import HeaderExtensions, HeaderExtensionsMap

from synopticon_rtc.rtc import capture_time

ONE_BYTE = 0xBEDE
"""What header extensions begin with whose heads have one byte each (RFC 8285 section 4.2)."""
MOST_NUMBERS = 14
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
"""The header extension that tells how loud a packet of sound is (RFC 6464)."""
VOICE = 0x80
"""The bit of it that says that somebody speaks,"""
VOICE_FROM = 50
"""and the level from which on it is set, -dBov: whether a sound is a voice is not looked at."""
EXTENDED = 0x90
"""The first octet of an RTP header: version 2, with an extension (RFC 3550 section 5.1)."""
PLAIN = 0x80
_ALL = 2**64 - 1


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
        self.payload_type = codec.payloadType or 0
        self.rtx_payload_type: int | None = next(
            (
                other.payloadType
                for other in parameters.codecs
                if is_rtx(other) and other.parameters.get("apt") == codec.payloadType
            ),
            None,
        )
        # Header extensions are the same in every packet but for the 24 bits of the time, and what some have at the end.
        known = HeaderExtensionsMap()
        known.configure(parameters)
        mid = parameters.muxId or None
        self._profile, zeros = known.set(HeaderExtensions(mid=mid, abs_send_time=0))
        _, ones = known.set(HeaderExtensions(mid=mid, abs_send_time=0xFFFFFF))
        self.first_octet = EXTENDED if zeros else PLAIN
        at = next((at for at, (zero, one) in enumerate(zip(zeros, ones, strict=True)) if zero != one), None)
        end = len(ones.rstrip(b"\0"))  # what follows fills up a word
        self._timed = at is not None
        self._common = (zeros[:end], b"") if at is None else (zeros[:at], zeros[at + 3 : end])
        numbers = {each.uri: each.id for each in parameters.headerExtensions} if self._profile == ONE_BYTE else {}
        self._level = _tag(numbers.get(AUDIO_LEVEL, 0), 1)
        self._stamp = _tag(numbers.get(capture_time.URI, 0), capture_time.OCTETS)
        self._forms: dict[int, tuple[bytes, bytes, bytes]] = {}  # by how much there is at the end

    def extension(self, ntp_time: int, level: int | None = None) -> bytes:
        """Return the header extensions of a packet.

        Args:
            ntp_time: When it is sent.
            level: How loud it is, -dBov, told if the peer reads that; None where it is not known.
        """
        return self._write(ntp_time, self._leveled(level))

    def stamped(self, ntp_time: int, captured: int, level: int | None = None) -> bytes:
        """Return those that also tell when what begins in the packet was captured, if the peer reads that.

        Args:
            ntp_time: As for :meth:`extension`.
            captured: The time of capture, seconds since 1900 in 32.32 bits.
            level: As for :meth:`extension`.
        """
        stamp = (captured & _ALL).to_bytes(capture_time.OCTETS, "big") if self._stamp else b""
        return self._write(ntp_time, self._leveled(level) + self._stamp + stamp)

    def _leveled(self, level: int | None) -> bytes:
        if level is None or not self._level:
            return b""
        return self._level + bytes([level | (VOICE if level <= VOICE_FROM else 0)])

    def _write(self, ntp_time: int, last: bytes) -> bytes:
        if self.first_octet == PLAIN:
            return b""
        before, after, fill = self._forms.get(len(last)) or self._form(len(last))
        if not self._timed:
            return before + last + fill
        return before + (ntp_time >> 14 & 0xFFFFFF).to_bytes(3, "big") + after + last + fill

    def _form(self, octets: int) -> tuple[bytes, bytes, bytes]:
        """Make what is before the time, after it, and after so many octets at the end."""
        before, after = self._common
        taken = len(before) + (3 if self._timed else 0) + len(after) + octets
        words = -(-taken // 4)
        form = struct.pack("!HH", self._profile, words) + before, after, bytes(4 * words - taken)
        self._forms[octets] = form
        return form


def _tag(number: int, octets: int) -> bytes:
    """Return the head of a header extension; empty where it has no number that fits."""
    return bytes([number << 4 | octets - 1]) if 0 < number <= MOST_NUMBERS else b""
