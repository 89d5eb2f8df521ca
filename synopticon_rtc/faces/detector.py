"""The seam at which faces are found."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import av

from synopticon_rtc.faces.face import Face


@runtime_checkable
class Detector(Protocol):
    """Finds the faces in a frame.

    A detector that is an async context manager too is entered before the first frame and left after the last. It is
    called with one frame at a time, the newest if it is slow, and must not block the event loop. Where every frame of a
    film is looked at, one with an attribute ``queue`` is given so many of the next before it is done.
    """

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:
        """Return the faces in ``frame``, none or more.

        Raises:
            FrameSkipped: It does not look at this one, on purpose.
            DetectorError: It cannot look at this one. Whatever is raised, a broadcaster goes on with the next.
        """
        ...


@runtime_checkable
class Queueing(Protocol):
    """A detector that may be given frames while it looks at one, and looks at them in their order.

    So it need not wait for the next where every frame of a film is looked at. Live frames are never queued.

    Attributes:
        queue: How many may wait.
    """

    queue: int


@runtime_checkable
class Renewable(Protocol):
    """A detector that follows faces from frame to frame, and so needs another of its kind for each further stream."""

    def another(self) -> Detector:
        """Make one more, with the same options; or return itself where it can look at several streams."""
        ...


def at_once(detector: Detector) -> int:
    """Return how many frames a detector may be given before it is done with the first."""
    return 1 + max(0, detector.queue) if isinstance(detector, Queueing) else 1


def another(detector: Detector) -> Detector:
    """Return a detector for one more stream: the same where there can be no other of its kind."""
    return detector.another() if isinstance(detector, Renewable) else detector
