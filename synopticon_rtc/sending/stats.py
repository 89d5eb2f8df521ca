"""What a broadcaster tells of itself in figures."""

from dataclasses import dataclass

from synopticon_rtc.media import Codec
from synopticon_rtc.rtc import Stats


@dataclass(slots=True)
class BroadcasterStats:
    """Totals since the start.

    Attributes:
        frames: Frames that the source gave.
        encoded: Frames that were encoded.
        detected: Frames in which faces were looked for.
        faces: Faces found in the last of them.
        faces_messages: Faces messages sent, counted once however many receivers there were.
        frames_with_faces: Frames in which at least one face was found.
        bytes: Bytes of encoded video, counted once however many receivers there were.
        width: Width of the last frame, pixels.
        height: Height of the last frame, pixels.
        peers: Receivers connected now.
        fps: Frames that the source gives in a second, now.
        seconds: From the first frame to the last.
        faces_fps: In how many of them faces are looked for.
        detection: Seconds from the capture of a frame until its faces are found, None while none are looked for.
        faults: Errors that nobody foresaw, of this package, the detector or a callback, with those of the signaling
            client; each cost a message, a frame or a peer, and is in the log.
    """

    frames: int = 0
    encoded: int = 0
    detected: int = 0
    faces: int = 0
    faces_messages: int = 0
    frames_with_faces: int = 0
    bytes: int = 0
    width: int = 0
    height: int = 0
    peers: int = 0
    fps: float = 0.0
    seconds: float = 0.0
    faces_fps: float = 0.0
    detection: float | None = None
    faults: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStats(Stats):
    """What was sent to one receiver.

    Attributes:
        codec: Of its video, None before the first frame.
        scale: How many times smaller a side than the source its video is, 1, 2 or 4.
        encode_ms: Milliseconds to encode one frame of it, a moving average.
    """

    codec: Codec | None
    scale: int | None
    encode_ms: float
