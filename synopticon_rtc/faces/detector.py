"""The seam at which faces are found."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import av

from synopticon_rtc.faces.face import Face


@runtime_checkable
class Detector(Protocol):
    """Finds the faces in a frame.

    A detector that is an async context manager too is entered before the first frame and left after the last. It is
    called with one frame at a time, the newest, and must not block the event loop.
    """

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:
        """Return the faces in ``frame``, none or more.

        Raises:
            FrameSkipped: It does not look at this one, on purpose.
            DetectorError: It cannot look at this one. Whatever is raised, a broadcaster goes on with the next.
        """
        ...
