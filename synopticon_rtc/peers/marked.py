"""What goes through an engine on its one data channel: faces that say whose they are, and mark a frame (docs/janus.md).

A binary message begins with the name of a stream, and with a mark: the RTP timestamp that a frame of it, sent a moment
ago, has at its broadcaster, and the frame's fingerprint, by which it is known wherever servers on the way rewrite that.
Faces in the format ``faces/1`` may follow. Text messages are JSON, as on the control channel.
"""

import struct
from typing import NamedTuple

PROTOCOL = "marked/1"
_HEAD = struct.Struct(">BB")
_MARK = struct.Struct(">II")
_VERSION = 1


class Marked(NamedTuple):
    """A binary message.

    Attributes:
        stream: The name of the stream.
        timestamp: That of a frame as its broadcaster sent it.
        fingerprint: Of that frame; 0 where there is no such frame yet.
        faces: What is said of faces in the format ``faces/1``; empty for nothing.
    """

    stream: str
    timestamp: int
    fingerprint: int
    faces: bytes = b""

    def encode(self) -> bytes:
        """Write it."""
        name = self.stream.encode()
        return _HEAD.pack(_VERSION, len(name)) + name + _MARK.pack(self.timestamp, self.fingerprint) + self.faces


def decode(data: bytes) -> Marked | None:
    """Read a binary message; None for what is none, or of another version."""
    try:
        version, length = _HEAD.unpack_from(data)
        at = _HEAD.size + length
        timestamp, fingerprint = _MARK.unpack_from(data, at)
        name = data[_HEAD.size : at].decode()
    except (struct.error, UnicodeDecodeError):
        return None
    return Marked(name, timestamp, fingerprint, data[at + _MARK.size :]) if version == _VERSION else None
