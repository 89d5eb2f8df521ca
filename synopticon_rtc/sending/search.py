"""Looks for faces in as many frames of a stream as the detector manages, and tells of all the others at once."""

import asyncio
import logging
from collections.abc import Callable

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.latest import Latest
from synopticon_rtc.basics.recent import Recent
from synopticon_rtc.errors import DetectorError
from synopticon_rtc.events import DetectorEvent, Events
from synopticon_rtc.faces import Detector, Face
from synopticon_rtc.sending.cadence import Cadence
from synopticon_rtc.sending.capture import Captured
from synopticon_rtc.sending.detection import Detection

logger = logging.getLogger(__name__)


class FaceSearch:
    """Gives a detector frames of one stream, beside their encoding, never more than one and the newest.

    Args:
        detector: What finds faces.
        fps: The expected frame rate, until it is known.
        most: Frames a second to look at, at most; None for as many as the detector manages.
        tell: Called once for each frame that was wanted, in order: with its faces, or with None where it was not
            looked at, since there was no time for it, or the detector failed on it.
        faults: What counts errors that nobody foresaw.

    Attributes:
        events: What happens to the detector.
        ended: Whether the detector failed for so long that faces are looked for no more.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        fps: float,
        most: float | None,
        tell: Callable[[Captured, tuple[Face, ...] | None], None],
        faults: Faults | None = None,
    ) -> None:
        self.events: Events[DetectorEvent] = Events(faults=faults)
        self.ended = False
        self._tell = tell
        self._detection = Detection(detector, faults)
        self._cadence = Cadence(fps, most)
        self._next: Latest[Captured] = Latest()  # for the detector, when it is free
        self._delays = Recent()

    def offer(self, captured: Captured, now: float, *, wanted: bool) -> None:
        """Take the next frame.

        Args:
            captured: It has just come.
            now: By the loop's clock.
            wanted: Whether anybody wants its faces.
        """
        picked = self._cadence.pick(now) and not self.ended
        if wanted:
            for skipped in self._next.put(captured) if picked else [captured]:
                self._tell(skipped, None)

    async def run(self) -> None:
        """Look for faces until it is cancelled."""
        loop = asyncio.get_running_loop()
        while not self.ended:
            captured = await self._next.get()
            begun = loop.time()
            self._cadence.begin(begun)
            try:
                faces = await self._detection.look(captured.frame, begun)
            except DetectorError as error:
                self._end(error)
                faces = None
            now = loop.time()
            self._cadence.end(now)
            if faces is not None:
                self._delays.add(now, clock.now() - captured.time)
            self._tell(captured, faces)
        await asyncio.Event().wait()

    def rate(self, now: float) -> float:
        """Return in how many frames a second faces are looked for."""
        return self._cadence.rate(now)

    def delay(self, now: float) -> float | None:
        """Return the seconds from the capture of a frame until its faces are found; None while none are looked for."""
        return self._delays.mean(now)

    def _end(self, error: DetectorError) -> None:
        """Go on without faces: a detector that fails is no reason to end the video."""
        logger.error("%s", error)
        self.ended = True
        self.events.emit(DetectorEvent("ended", str(error)))
