"""Looks for faces in as many frames of a stream as the detector manages, and tells of all the others at once."""

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import av

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.recent import Recent
from synopticon_rtc.detecting.cadence import Cadence
from synopticon_rtc.detecting.detection import Detection
from synopticon_rtc.errors import DetectorError
from synopticon_rtc.events import DetectorEvent, Events
from synopticon_rtc.faces import Detector, Face

logger = logging.getLogger(__name__)


class Framed(Protocol):
    """What has a frame in which faces may be looked for."""

    @property
    def frame(self) -> av.VideoFrame:
        """The frame, which is only read."""
        ...  # pragma: no cover

    @property
    def time(self) -> float:
        """Since when the search takes, seconds since the epoch by our clock."""
        ...  # pragma: no cover


T = TypeVar("T", bound=Framed)


class FaceSearch(Generic[T]):
    """Gives a detector frames of one stream, beside what else is done with them: one, and the newest two.

    Args:
        detector: What finds faces.
        fps: The expected frame rate, until it is known.
        most: Frames a second to look at, at most; None for as many as the detector manages.
        tell: Called once for each frame that was wanted, in order: with its faces, or with None where it was not
            looked at, since there was no time for it, or the detector failed on it.
        faults: What counts errors that nobody foresaw.
        turn: Held while the detector looks, where other streams have the same one.

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
        tell: Callable[[T, tuple[Face, ...] | None], None],
        faults: Faults | None = None,
        turn: asyncio.Lock | None = None,
    ) -> None:
        self.events: Events[DetectorEvent] = Events(faults=faults)
        self.ended = False
        self._tell = tell
        self._detection = Detection(detector, faults, turn=turn)
        self._cadence = Cadence(fps, most)
        self._waiting: asyncio.Queue[T] = asyncio.Queue()  # for the detector to be free
        self._delays = Recent()

    def offer(self, item: T, now: float, *, wanted: bool) -> None:
        """Take the next frame.

        Args:
            item: It has just come.
            now: By the loop's clock.
            wanted: Whether anybody wants its faces.
        """
        most = 0 if self.ended else self._cadence.pick(now, self._waiting.qsize())
        if not wanted:
            return
        if not most:
            self._tell(item, None)
            return
        while self._waiting.qsize() >= most:
            self._tell(self._waiting.get_nowait(), None)
        self._waiting.put_nowait(item)

    async def run(self) -> None:
        """Look for faces until it is cancelled."""
        while True:
            item = await self._waiting.get()
            self._tell(item, None if self.ended else await self._look(item))

    async def _look(self, item: T) -> tuple[Face, ...] | None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self._cadence.begin(begun)
        try:
            faces = await self._detection.look(item.frame, begun)
        except DetectorError as error:
            self.end(error)
            faces = None
        now = loop.time()
        self._cadence.end(now)
        if faces is not None:
            self._delays.add(now, clock.now() - item.time)
        return faces

    def rate(self, now: float) -> float:
        """Return in how many frames a second faces are looked for."""
        return self._cadence.rate(now)

    def delay(self, now: float) -> float | None:
        """Return the seconds from the time of a frame until its faces are found; None while none are looked for."""
        return self._delays.mean(now)

    def end(self, error: Exception) -> None:
        """Go on without faces: a detector that fails is no reason to end the video."""
        logger.error("%s", error)
        self.ended = True
        self.events.emit(DetectorEvent("ended", str(error)))
