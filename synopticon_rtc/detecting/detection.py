"""Looks for faces with whatever detector an application brings, and survives what it does."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterable, Iterable
from typing import cast

import av

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.patience import warning_after
from synopticon_rtc.errors import DetectorError, FrameSkipped, InvalidFaces
from synopticon_rtc.faces import Detector, Face, Tracker
from synopticon_rtc.faces.wire import check_faces

logger = logging.getLogger(__name__)

TOLERATED = 5.0  # seconds for which a detector may fail on frame after frame


def check_detector(detector: object, option: str = "faces") -> None:
    """Refuse what cannot find a face.

    Args:
        detector: What may be one.
        option: What it was given as.

    Raises:
        TypeError: It is none.
    """
    if isinstance(detector, type):
        raise TypeError(f"{option} must be a detector, not the class of one: give {detector.__name__}()")
    if detector is not None and not isinstance(detector, Detector):
        raise TypeError(f"{option} must be a detector, an object with `async def detect(frame)`, not {detector!r:.100}")


def name_of(detector: Detector) -> str:
    """Return what a detector is, in words for people: its ``name``, or else its class."""
    return str(getattr(detector, "name", type(detector).__name__))


class Detection:
    """Asks a detector for the faces of one frame after the other, and gives them their ids.

    Args:
        detector: Faces that it returns in any iterable are taken, and whatever it raises.
        faults: What counts frames on which it failed.
        turn: Held while the detector looks, where others have the same one, or where it may look at several frames.
    """

    def __init__(
        self,
        detector: Detector,
        faults: Faults | None = None,
        *,
        turn: asyncio.Lock | asyncio.Semaphore | None = None,
    ) -> None:
        self._detector = detector
        self._faults = faults or Faults()
        self._tracker = Tracker()
        self._turn = turn or asyncio.Lock()
        self._failing_since: float | None = None

    async def look(self, frame: av.VideoFrame, now: float) -> tuple[Face, ...] | None:
        """Return the faces in a frame with their ids, or None as :meth:`find` does, with the same arguments."""
        faces = await self.find(frame, now)
        return None if faces is None else self._tracker.track(faces, now)

    async def find(self, frame: av.VideoFrame, now: float) -> tuple[Face, ...] | None:
        """Return the faces in a frame, or None where it was not looked at: the detector left it out, or failed on it.

        They have the ids that the detector gave them, which are to be ignored.

        Args:
            frame: The frame.
            now: Any clock in seconds, when the frame is given to the detector.

        Raises:
            DetectorError: It has failed for five seconds, whatever the frame.
        """
        try:
            with warning_after(TOLERATED, logger, "the detector has looked at one frame for %g s", TOLERATED):
                faces = await self._ask(frame)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._fail(error, now)  # something within the detector was cancelled
            return None
        except FrameSkipped:
            self._failing_since = None
            return None
        except Exception as error:  # noqa: BLE001 - it is noted: the detector is the application's own
            self._fail(error, now)
            return None
        self._failing_since = None
        return faces

    async def _ask(self, frame: av.VideoFrame) -> tuple[Face, ...]:
        async with self._turn:
            found: object = self._detector.detect(frame)
            if inspect.isawaitable(found):
                found = await found
            if isinstance(found, AsyncIterable):
                found = [face async for face in found]
        try:
            faces = tuple(cast("Iterable[Face]", found))
        except TypeError as error:
            raise InvalidFaces(f"it gave {found!r:.100}, not a sequence of faces: {error}") from error
        check_faces(faces)
        return faces

    def _fail(self, error: BaseException, now: float) -> None:
        self._faults.note("the detector failed on a frame, which goes without faces", error=error)
        reason = str(error) or type(error).__name__
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since >= TOLERATED:
            raise DetectorError(f"the detector has failed for {TOLERATED:g} s, faces are looked for no more: {reason}")
