"""When media were captured, as RTP tells it: by sender reports (RFC 3550), and in headers by abs-capture-time.

That is a header extension of WebRTC's, which reaches receivers through servers that write reports of their own:
https://webrtc.googlesource.com/src/+/main/docs/native-code/rtp-hdrext/abs-capture-time
"""

import struct
from dataclasses import dataclass

from aiortc.rtcrtpparameters import RTCRtpParameters
from aiortc.rtp import (
    HeaderExtensions,
    HeaderExtensionsMap,
    RtcpSenderInfo,
    RtpPacket,
    unpack_header_extensions,
)

URI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
NUMBER = 4
"""Of the extension, where we offer it: aiortc has those below."""
NTP_EPOCH = 2_208_988_800
"""Seconds from 1900 to 1970."""
OCTETS = 8
"""Of the time of capture."""
_EXTENDED = 16
"""With the offset of the clock that it is told by."""


@dataclass
class StampedExtensions(HeaderExtensions):
    """The header extensions of a packet that tells when what begins in it was captured."""

    captured: int = 0
    """By the sender's clock, seconds since 1900 in 32.32 bits."""


class ExtensionsMap(HeaderExtensionsMap):
    """Reads the header extensions that aiortc knows, and abs-capture-time."""

    def __init__(self) -> None:
        super().__init__()
        self._number: int | None = None

    def configure(self, parameters: RTCRtpParameters) -> None:
        """Learn the numbers of extensions."""
        super().configure(parameters)
        self._number = next((known.id for known in parameters.headerExtensions if known.uri == URI), self._number)

    def get(self, extension_profile: int, extension_value: bytes) -> HeaderExtensions:
        """Read the extensions of a packet."""
        values = super().get(extension_profile, extension_value)
        if self._number is None or len(extension_value) <= OCTETS:
            return values
        for number, data in unpack_header_extensions(extension_profile, extension_value):
            if number == self._number and len(data) in {OCTETS, _EXTENDED}:
                captured, ahead = struct.unpack("!Qq", data.ljust(_EXTENDED, b"\0"))
                return StampedExtensions(**vars(values), captured=captured - ahead)
        return values


class CaptureTimes:
    """Says when what a source sends was captured, by what it has told last.

    Args:
        clock_rate: Of its timestamps, Hz.
    """

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._told: tuple[float, int] | None = None

    def tell(self, report: RtcpSenderInfo) -> None:
        """Learn from a sender report; the time 0 says that there is none."""
        if report.ntp_timestamp:
            self._told = report.ntp_timestamp / 2**32 - NTP_EPOCH, report.rtp_timestamp

    def read(self, packet: RtpPacket) -> None:
        """Learn from a packet, if it tells."""
        if isinstance(packet.extensions, StampedExtensions):
            self._told = packet.extensions.captured / 2**32 - NTP_EPOCH, packet.timestamp

    def of(self, timestamp: int) -> float | None:
        """Return when what has a timestamp was captured, seconds since the epoch; None where nothing was told."""
        if self._told is None:
            return None
        time, told = self._told
        return time + ((timestamp - told + 2**31) % 2**32 - 2**31) / self._clock_rate
