"""A frame with its faces, as applications get it at either end."""

from dataclasses import dataclass
from typing import Generic

import av
from typing_extensions import TypeVar  # whose type variables have defaults (PEP 696)

from synopticon_rtc.faces.face import Face

F_co = TypeVar("F_co", default=av.VideoFrame, covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class Moment(Generic[F_co]):
    """A frame with its faces.

    Attributes:
        frame: The decoded frame; its ``pts`` is the RTP timestamp, its ``time_base`` 1/90000 s. An
            :class:`~synopticon_rtc.EncodedVideoFrame` where the receiver does not decode, None where it takes no video.
        faces: The faces found in it, or with ``sync="latest"`` the newest known when it came.
        detected: Whether ``faces`` is what was found in this very frame: False where no detection ran on it, or its
            result was lost or late.
        captured: When the frame was captured, seconds since the epoch on the broadcaster's clock; None where it did not
            tell (yet).
        rtp_timestamp: That of the frame, 0 to 2**32 - 1, in 1/90000 s; None where there is no frame and the broadcaster
            did not tell.
        faces_age: Seconds by which the frame that ``faces`` were found in is older than this one: 0 where they are its
            own, None where there are none or the broadcaster did not tell.
    """

    frame: F_co
    faces: tuple[Face, ...]
    detected: bool
    captured: float | None
    rtp_timestamp: int | None
    faces_age: float | None = None
