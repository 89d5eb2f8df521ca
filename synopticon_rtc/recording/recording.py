"""A recording, read as its receiver once got it."""

import asyncio
import contextlib
import datetime as dt
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Generic, Literal, Self, cast, overload

import av
from av.error import FFmpegError

from synopticon_rtc.basics.life import not_open
from synopticon_rtc.errors import FrameSkipped, RecordingError, SourceError
from synopticon_rtc.faces.face import Face
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.media import Hint
from synopticon_rtc.media.pacing import taken
from synopticon_rtc.receiving.pairing import F
from synopticon_rtc.receiving.sound import AudioMoment
from synopticon_rtc.recording.reader import Played, Reader, RecordedStream, is_recording, open_matroska
from synopticon_rtc.rtc import EncodedVideoFrame


class Recording(Generic[F]):
    """A file that a :class:`Recorder` has written: an async iteration of the same moments that its receiver got.

    The iteration is over the first video. Each iteration begins at the beginning, or where :meth:`seek` was last, and
    any number of them run beside one another. A file that was cut off, as by a crash, is read up to there.

    Args:
        path: Of the file.
        decode: Whether to decode the video. Else ``frame`` is an :class:`EncodedVideoFrame`, which is a good deal
            faster where faces are all that is wanted.
        paced: Whether moments come in the rhythm in which they were captured. Else they come as fast as they are taken.

    Attributes:
        path: Of the file.
        name: Of the broadcaster; empty where it had none.
        session: Its signaling session at that time.
        begun: When the recording begins, on the broadcaster's clock.
        clock_offset: That clock minus the recorder's at the beginning, seconds; None where it was not known.
        duration: Seconds; None where the file was never completed.
        tags: All that the file says of itself, by name.
        streams: What is in it, by name.

    Raises:
        RecordingError: There is no such file, or it is no recording. While iterating: it is damaged, and where.
    """

    @overload
    def __init__(
        self: "Recording[av.VideoFrame]",
        path: str | os.PathLike[str],
        *,
        decode: Literal[True] = True,
        paced: bool = False,
    ) -> None: ...
    @overload
    def __init__(
        self: "Recording[EncodedVideoFrame]",
        path: str | os.PathLike[str],
        *,
        decode: Literal[False],
        paced: bool = False,
    ) -> None: ...
    def __init__(self, path: str | os.PathLike[str], *, decode: bool = True, paced: bool = False) -> None:
        self.path = Path(path)
        self._decode = decode
        self._paced = paced
        self._from = 0.0
        self._reader: Reader | None = Reader(path, decode=decode)
        told = self._reader
        self.tags: Mapping[str, str] = MappingProxyType(told.tags)
        self.name = told.tags.get("title", "")
        self.session = told.tags.get("SESSION", "")
        self.begun = dt.datetime.fromtimestamp(told.begun, dt.UTC)
        self.clock_offset = told.clock_offset
        self.duration = told.duration
        self.streams: Mapping[str, RecordedStream] = MappingProxyType(told.streams)

    async def __aenter__(self) -> Self:
        """Do nothing: it is open from the beginning."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Close the file; iterations that run go on to their ends."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def seek(self, seconds: float) -> None:
        """Have iterations begin at a time, in seconds from the beginning of the recording."""
        if not seconds >= 0:
            raise ValueError(f"a recording begins at 0 seconds, not at {seconds}")
        self._from = seconds

    def __aiter__(self) -> AsyncIterator[Moment[F]]:
        """Iterate over the moments of the first video."""
        name = next((name for name, stream in self.streams.items() if stream.kind == "video"), None)
        if name is None:
            self._check_head()
            raise RecordingError(f"there is no video in {self.path}, but only sound: iterate over audio()")
        return self.moments(name)

    async def moments(self, name: str) -> AsyncGenerator[Moment[F], None]:
        """Iterate over the moments of one video.

        Raises:
            KeyError: There is none of that name.
            RecordingError: The file is damaged; this comes after all that is right.
        """
        async with contextlib.aclosing(self.played(self._named(name, "video"))) as played:
            async for item in played:
                if isinstance(item.moment, Moment):
                    yield item.moment

    async def audio(self, name: str | None = None) -> AsyncGenerator[AudioMoment, None]:
        """Iterate over the sound of a stream; without a name, of the first that there is.

        What is missing, as it was silence or was lost, is a gap between the times of two moments.

        Raises:
            KeyError: There is none of that name.
            RecordingError: The file is damaged.
        """
        first = next((stream for stream, told in self.streams.items() if told.kind == "audio"), None)
        async with contextlib.aclosing(self.played(self._named(name or first, "audio"))) as played:
            async for item in played:
                if isinstance(item.moment, AudioMoment):
                    yield item.moment

    async def played(self, *names: str) -> AsyncGenerator[Played, None]:
        """Iterate over several streams at once, or all, as they stand in the file: each in order.

        Raises:
            RecordingError: The file is damaged.
        """
        if self._reader is None:
            raise not_open(self)
        wanted, start = names or tuple(self.streams), self._from

        def produce(put: Callable[[Played], None], stop: threading.Event) -> None:
            reader = Reader(self.path, decode=self._decode)
            try:
                if start:
                    reader.seek(start, wanted)
                for item in reader.read(wanted):
                    put(item)
                    if stop.is_set():
                        return
            finally:
                reader.close()

        begun = asyncio.get_running_loop().time() - start
        async with contextlib.aclosing(taken(produce, each=True)) as items:
            async for item in items:
                if self._paced:
                    await asyncio.sleep(begun + item.time - asyncio.get_running_loop().time())
                yield item

    def _named(self, name: str | None, kind: str) -> str:
        if name is None or name not in self.streams or self.streams[name].kind != kind:
            there = ", ".join(repr(name) for name, stream in self.streams.items() if stream.kind == kind) or "none"
            self._check_head()
            raise KeyError(f"no {kind} {name!r} is in {self.path}; there is {there}")
        return name

    def _check_head(self) -> None:
        if self._reader is not None:
            self._reader.check_head()

    def source(self, *, loop: bool = True) -> "RecordedSource":
        """Return its first video as a source for a :class:`~synopticon_rtc.Broadcaster`, in real time.

        Args:
            loop: Whether it begins again at its end.
        """
        return RecordedSource(self.path, loop=loop)


class RecordedSource:
    """Plays the first video of a recording. It is its own detector, which gives each frame the faces recorded with it.

    ``source = Recording("talk.mkv").source(); Broadcaster(url, source, faces=source)``

    Args:
        path: Of the file.
        loop: Whether it begins again at its end.

    Attributes:
        name: What looked for the faces when it was recorded.
        hint: What it shows.
    """

    def __init__(self, path: Path, *, loop: bool = True) -> None:
        self.path = path
        self.loop = loop
        recording = Recording(path)
        video = next((stream for stream in recording.streams.values() if stream.kind == "video"), None)
        if video is None:
            raise SourceError(f"there is no video in {path}, but only sound")
        self.name = video.detector
        self._stream = video.name
        self.hint: Hint = "screen" if video.hint == "screen" else "camera"

    async def __aiter__(self) -> AsyncGenerator[av.VideoFrame, None]:
        """Give its frames when they are due."""
        frames = 0
        while True:
            async with (
                Recording(self.path, paced=True) as recording,
                contextlib.aclosing(recording.moments(self._stream)) as moments,
            ):
                try:
                    async for moment in moments:
                        frames += 1
                        moment.frame.opaque = moment.faces if moment.detected else None
                        yield moment.frame
                except RecordingError as error:
                    raise SourceError(str(error)) from error
            if not frames:  # it was cut off there, and would be read again and again
                raise SourceError(f"there is no frame in {self.path}")
            if not self.loop:
                return

    async def detect(self, frame: av.VideoFrame) -> tuple[Face, ...]:
        """Return the faces that were recorded with a frame.

        Raises:
            FrameSkipped: It was not looked at.
        """
        faces = cast("tuple[Face, ...] | None", frame.opaque)
        if faces is None:
            raise FrameSkipped("the frame was not looked at when it was recorded")
        return faces


def find_recording(path: str) -> bool:
    """Whether there is a recording at a path."""
    try:
        with open_matroska(path) as file:
            return is_recording(file)
    except (FFmpegError, OSError):
        return False
