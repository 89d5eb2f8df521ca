"""Every frame of a film, looked at as fast as the machine can."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path

import av
import msgspec

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.opening import open_in_thread
from synopticon_rtc.detecting.detection import Detection
from synopticon_rtc.errors import TableError
from synopticon_rtc.faces import Detector, Face, Tracker
from synopticon_rtc.faces.detector import at_once
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.media import VideoFile
from synopticon_rtc.recording.ahead import ahead, in_order
from synopticon_rtc.recording.annotated import FILMS, AnnotatedVideo
from synopticon_rtc.recording.parts import Parts, Progress
from synopticon_rtc.recording.table import FacesTable, kind_of

PART = 10.0
"""Seconds of work after which a part is whole: as much is done again after an end that nobody foresaw."""
WARM_UP = 60
"""Frames before the first of those that are new, from which a detector knows the faces again."""

AHEAD = 3
"""Frames that are looked at, or wait for it, while what was found in the one before is written."""

Looked = tuple[av.VideoFrame, tuple[Face, ...] | None]
"""A frame with what was found in it; None where it was not looked at."""


class Analysis:
    """Looks for the faces in every frame of a film, and writes a table of them.

    The detector never waits: while it looks at one frame the next is decoded, and what it found before is written and
    joined. What is done is kept in parts, in a folder beside the table, until all is done: if it ends before, the next
    one goes on there.

    Args:
        film: The film; every frame of it is looked at, however long that takes.
        detector: What finds the faces. It is entered and left with the analysis if it is an async context manager. One
            that goes by time should go by ``frame.time``, as ``FaceLandmarker(live=False)`` does.
        table: Where the table is to be, as for :class:`~synopticon_rtc.recording.table.FacesTable`.
        video: Where a film with the faces drawn on it is to be.
        landmarks: Whether the table has the landmarks, as for the table.
        job: What else decides the result: parts of another job are thrown away.

    Raises:
        TableError: The ending of a name is none that can be written.
    """

    def __init__(
        self,
        film: VideoFile,
        detector: Detector,
        table: Path,
        *,
        video: Path | None = None,
        landmarks: bool | None = None,
        job: Mapping[str, str] | None = None,
    ) -> None:
        kind_of(table)  # which refuses others
        if video is not None and video.suffix.lower() not in FILMS:
            raise TableError(f"{video} does not end in {', '.join(FILMS)}: which of them is to be written?")
        self._film = film
        self._detector = detector
        self._video = video
        self._landmarks = landmarks
        self._parts = Parts(table, video)
        self._keeping: asyncio.Task[None] | None = None
        self._stopped = False
        self._job = {"landmarks": str(landmarks), "video": str(video), **(job or {})}

    def stop(self) -> None:
        """End after the frame that was told last: the next one with this table goes on there."""
        self._stopped = True

    async def run(self, tell: Callable[[Progress], None]) -> Progress:
        """Look at all frames, and return what it came to; not finished where it was stopped.

        Args:
            tell: Called at the beginning, and after each frame, with how far it is.

        Raises:
            SourceError: The film cannot be read.
            DetectorError: The detector has failed for five seconds of the film.
            TableError: The table or the film cannot be written.
            MissingExtra: The table is to be Parquet, and pyarrow is not installed.
        """
        async with contextlib.AsyncExitStack() as stack:
            if isinstance(self._detector, contextlib.AbstractAsyncContextManager):
                await stack.enter_async_context(self._detector)
            job = self._job | {"detector": str(getattr(self._detector, "name", ""))}  # with its versions, once entered
            progress = await open_in_thread(lambda: self._parts.begin(job), lambda _: self._parts.leave())
            try:
                pictures = await stack.enter_async_context(contextlib.aclosing(ahead(self._film.pictures())))
                tell(progress)
                await self._pass_over(pictures, progress.frames)
                found = await stack.enter_async_context(contextlib.aclosing(self._look(pictures)))
                tracker = Tracker.restored(bytes(progress.tracker))
                while not self._stopped:
                    part, further = await self._part(found, tracker, progress, tell)
                    if further.frames == progress.frames:
                        await part.aclose()
                        break
                    progress = msgspec.structs.replace(further, tracker=msgspec.Raw(tracker.save()))
                    self._keeping = asyncio.create_task(self._keep(part, progress))
                await self._kept()
                if not self._stopped:
                    await asyncio.to_thread(self._parts.finish)
                    progress = msgspec.structs.replace(progress, finished=True)
            finally:
                if self._keeping is not None:
                    await asyncio.gather(self._keeping, return_exceptions=True)  # told already, or less than what is
                await asyncio.to_thread(self._parts.leave)
            return progress

    async def _keep(self, part: contextlib.AsyncExitStack, progress: Progress) -> None:
        """Close a part, while the detector goes on with the next."""
        await part.aclose()
        await asyncio.to_thread(self._parts.keep, progress)

    async def _kept(self) -> None:
        """Wait until the part before is closed, which goes on if nobody waits any more. Raises what that raised."""
        if self._keeping is not None:
            await asyncio.shield(self._keeping)

    async def _pass_over(self, pictures: AsyncGenerator[av.VideoFrame, None], done: int) -> None:
        """Leave out what is done, but show the last of it to the detector, which goes by what it saw before."""
        detection = Detection(self._detector)
        for number in range(done):
            frame = None if self._stopped else await anext(pictures, None)
            if frame is not None and number >= done - WARM_UP:
                await detection.find(frame, frame.time or 0.0)

    def _look(self, pictures: AsyncGenerator[av.VideoFrame, None]) -> AsyncGenerator[Looked, None]:
        """Give the frames that are left, each with what the detector finds in it."""
        detection = Detection(self._detector, turn=asyncio.Semaphore(at_once(self._detector)))
        return in_order(pictures, lambda frame: detection.find(frame, frame.time or 0.0), AHEAD)

    async def _part(
        self,
        found: AsyncGenerator[Looked, None],
        tracker: Tracker,
        progress: Progress,
        tell: Callable[[Progress], None],
    ) -> tuple[contextlib.AsyncExitStack, Progress]:
        """Write what is found in the next frames to a part, and return what closes it, and how far it is then.

        Where there are no more frames it is as far as before.
        """
        begun, part = clock.monotonic(), progress.parts
        video: AnnotatedVideo | None = None
        async with contextlib.AsyncExitStack() as stack:
            path = self._parts.table(part)
            table = await stack.enter_async_context(FacesTable(path, landmarks=self._landmarks, first=progress.frames))
            async for frame, faces in found:
                size = progress.size if progress.frames else (frame.width, frame.height)
                time = frame.time or 0.0
                tracked = () if faces is None else tracker.track(faces, time)
                age = None if faces is None else 0.0
                moment = Moment(frame, tracked, faces is not None, None, None, age)
                await table.write(moment, time=time)
                if self._video is not None:
                    if video is None:
                        video = await stack.enter_async_context(AnnotatedVideo(self._parts.video(part), size))
                    await video.write(frame, moment.faces)
                progress = msgspec.structs.replace(
                    progress,
                    parts=part + 1,
                    frames=progress.frames + 1,
                    detected=progress.detected + moment.detected,
                    with_faces=progress.with_faces + bool(moment.faces),
                    size=size,
                )
                tell(progress)
                if self._stopped or clock.monotonic() - begun >= PART:
                    break
            await self._kept()  # so that no more than two are open
            return stack.pop_all(), progress
