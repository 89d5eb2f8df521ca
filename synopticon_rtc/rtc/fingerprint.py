"""What tells encoded frames apart wherever they can be seen, as servers on the way rewrite their timestamps.

It is made of a frame's own last bytes, which servers pass on as they are, whatever the codec: they rewrite what RTP
says, and with several layers of VP8 the picture ids too. What receivers put before H.264's units is left out.
"""

from zlib import crc32

from synopticon_rtc.rtc.assembly import depayload
from synopticon_rtc.rtc.stream import Codec, EncodedFrame

LENGTH = 64
"""Bytes that are looked at. They are entropy-coded, so two frames that are not the same differ in them."""
_START = b"\0\0\1"


def fingerprint(data: bytes) -> int:
    """Return the fingerprint of an encoded frame: 32 bits, the CRC of its last bytes from the last start code on."""
    return crc32(data[-LENGTH:].rpartition(_START)[2])


def fingerprint_of(frame: EncodedFrame, codec: Codec) -> int:
    """Return the fingerprint of a frame that was cut into the payloads of packets."""
    data = b""
    for payload in reversed(frame.payloads):
        data = depayload(codec, 0, 0, marker=False, payload=payload).data + data
        if len(data) >= LENGTH:
            break
    return fingerprint(data)
