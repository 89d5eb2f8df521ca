"""What a receiver tells of itself in figures."""

import dataclasses
from dataclasses import dataclass

from synopticon_rtc.receiving.latency import Delays


@dataclass(slots=True)
class ReceiverStats:
    """Totals since the start, over all connections.

    Attributes:
        frames: Frames decoded, or received where they are not decoded.
        too_large: Frames left out because they were larger than ``max_size``.
        looked_at: Frames in which this receiver looked for faces itself, as its broadcaster sends none.
        faces_messages: Faces messages received, with the copies that are sent where packets get lost.
        invalid_faces: Messages that were dropped, as they are no faces messages.
        frames_with_faces: Frames given out with at least one face.
        faces_late: Frames given out without their faces, which came after them; more ``faces_wait`` gets them.
        faces: Faces in the last frame given out.
        width: Width of the last frame, pixels; without video, of the one that the last faces were found in; 0 where
            frames are not decoded.
        height: Its height, likewise.
        first_frame: Seconds from the first discovery sent to the first frame, or the first faces where there is no
            video; None before it.
        delay: Seconds from the capture of a frame to its being given out, by clocks aligned over the control channel,
            the mean of two seconds; None where the broadcaster is none of this package.
        delays: The parts of it.
        faults: Errors that nobody foresaw, of this package or a callback, with those of the signaling client; each cost
            a message, a frame or a connection, and is in the log.
    """

    frames: int = 0
    too_large: int = 0
    looked_at: int = 0
    faces_messages: int = 0
    invalid_faces: int = 0
    frames_with_faces: int = 0
    faces_late: int = 0
    faces: int = 0
    width: int = 0
    height: int = 0
    first_frame: float | None = None
    delay: float | None = None
    delays: Delays = dataclasses.field(default_factory=Delays)
    faults: int = 0
