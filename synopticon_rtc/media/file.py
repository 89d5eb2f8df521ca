"""Video from a file or a URL."""

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream

from synopticon_rtc.basics.seldom import Seldom
from synopticon_rtc.errors import SourceError, without_password
from synopticon_rtc.media.pacing import checked_bounds, checked_fps, taken
from synopticon_rtc.media.presentation import Presentation
from synopticon_rtc.media.soundtrack import Soundtrack, Timeline

_STDIN = "pipe:0"
_TIMEOUT = 10.0  # seconds that a server may be silent
_AT_ONCE = 0.01  # seconds in which FFmpeg gives what it has already
_LONGEST_STEP = 60.0  # seconds between two frames where the film does not say how long it is; more is a fault in it
_DEFAULT_RATE = 30
_CLOCK_RATE = 90_000  # of the times of pictures
_MOST_THREADS = 4  # that decode a film
_LATE = 0.1  # seconds after which a frame is late, and not shown
_STALE = 0.5  # seconds after which a late frame is shown all the same, as there was no other
_BEHIND = 1.0  # seconds late from which on it matters whether the decoder catches up,
_PATIENCE = 1.0  # which is looked at as often, in seconds
_DAMAGE_EVERY = 10.0  # seconds between two lines of the log that tell of damage
_ROUNDING = 1e-3  # seconds by which timestamps may be rounded
_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds between attempts to reach a source again, the last one for good
_SEGMENTED = {"hls", "dash"}  # live as well, but they come in lumps, so that only their timestamps tell the pace

log = logging.getLogger(__name__)


class VideoFile:
    """A file or a URL in any format that FFmpeg reads.

    Films are played in real time by their own timestamps, and turned, scaled and coloured as they are meant to be seen.
    What is late is left out. Of a live source, such as a network camera, each frame is given the moment it comes;
    where one breaks off it is asked for again, until it is back.

    Args:
        path_or_url: A path, an address such as ``https://...`` or ``rtsp://...``, or ``-`` for standard input.
        loop: Whether a film begins again at the end, without a gap; standard input and other pipes cannot.
        size: The width and height, in pixels, within which the picture is scaled down, its proportions kept.
        fps: Frames a second at the most; those beyond are left out.
        format: FFmpeg's name of the format, where it cannot be told from what is read.
        options: FFmpeg's options for the format or protocol, such as ``{"rtsp_transport": "tcp"}``.

    Raises:
        SourceError: There is no such file, or no such rate or size. While iterating: it is no video, has no video
            stream, cannot be reached, or is a film that breaks off.
    """

    def __init__(
        self,
        path_or_url: str | os.PathLike[str],
        *,
        loop: bool = True,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        format: str | None = None,  # noqa: A002 - PyAV's name
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.loop = loop
        self.size = None if size is None else checked_bounds(size)
        self.fps = None if fps is None else checked_fps(fps)
        self.format = format
        self.options = dict(options or {})
        self._address, self.name = _address(os.fspath(path_or_url))
        self._timeline = Timeline()

    @property
    def sound(self) -> Soundtrack:
        """Its sound, a source of its own: in step with the pictures while those are played.

        Raises:
            SourceError: While iterating: there is none, or it cannot be had, as of live sources and of pipes.
        """
        return Soundtrack(self._open_sound, self._timeline, loop=self.loop)

    @property
    def length(self) -> int | None:
        """About how many pictures a film has, as it says itself; None where it does not.

        Raises:
            SourceError: It cannot be opened, or has no picture.
        """
        with self._open() as container:
            stream = container.streams.video[0]
            rate = stream.average_rate or _DEFAULT_RATE
            return stream.frames or round((container.duration or 0) / av.time_base * rate) or None

    def pictures(self) -> Generator[av.VideoFrame, None, None]:
        """Give every picture of a film as soon as it is asked for, each with its own time, once through.

        ``frame.time`` is seconds from the beginning of the film, as players show it. None is left out, whatever ``fps``
        says, but those that are damaged. This blocks: it is for a thread.

        Raises:
            SourceError: It cannot be opened, is no film, or holds no picture.
        """
        with self._open() as container:
            if _is_live(container, self._address):
                raise SourceError(f"{self.name} is live, and has no end; give a film")
            stream = self._decoding(container)
            clock = _Clock(None)
            clock.go_on(container, stream, 0.0)
            first = None
            for frame in self._presented(container, stream, _Haste(stream)):
                if first is None:
                    first = max(0.0, (frame.time or 0.0) - (container.start_time or 0) / av.time_base)
                due = -clock.take(frame, 0.0, live=False)
                frame.pts, frame.time_base = round((first + due) * _CLOCK_RATE), Fraction(1, _CLOCK_RATE)
                frame.pict_type = PictureType.NONE  # an encoder would take it for an order
                yield frame
            if first is None:
                raise SourceError(f"there is not one picture in {self.name}; {_advice(self._address)}")

    def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        return taken(self._play)

    def _play(self, put: Callable[[av.VideoFrame], None], stop: threading.Event) -> None:
        clock = _Clock(self.fps, self._timeline)
        try:
            self._play_on(clock, put, stop)
        finally:
            self._timeline.place = None

    def _play_on(self, clock: "_Clock", put: Callable[[av.VideoFrame], None], stop: threading.Event) -> None:
        attempts = 0
        while not stop.is_set():
            played = clock.frames
            try:
                for frame in self._pictures(clock, stop):
                    if attempts:
                        log.info("%s is back", self.name)
                        attempts = 0
                    put(frame)
            except SourceError as error:
                if not (clock.frames and _is_remote(self._address)):
                    raise
                attempts += 1
                level = logging.WARNING if clock.frames > played or attempts == 1 else logging.DEBUG
                log.log(level, "%s; it is asked for again until it is back", error)
                stop.wait(_PAUSES[min(attempts, len(_PAUSES)) - 1])
            else:
                if not self.loop or _is_pipe(self._address):
                    return
                clock.repeat()

    def _pictures(self, clock: "_Clock", stop: threading.Event) -> Iterator[av.VideoFrame]:
        """Open it, and give each picture when it is due, up to the end of a film.

        Raises:
            SourceError: It cannot be opened, holds no picture, or broke off.
        """
        before = clock.frames
        with self._open() as container:
            live = _is_live(container, self._address)
            stream = container.streams.video[0] if live else self._decoding(container)
            if not live:
                clock.go_on(container, stream, time.monotonic())
            haste = _Haste(stream)
            for frame in self._presented(container, stream, haste):
                now = time.monotonic()
                late = clock.take(frame, now, live=live)
                haste.note(late, now)
                if stop.wait(max(0.0, -late)):
                    return
                if clock.shows(late, max(now, now - late)):
                    frame.pict_type = PictureType.NONE  # an encoder would take it for an order
                    yield frame
            if clock.frames == before:
                raise SourceError(f"there is not one picture in {self.name}; {_advice(self._address)}")
            if live and not _is_pipe(self._address):
                raise SourceError(f"{self.name} ends")

    @staticmethod
    def _decoding(container: InputContainer) -> VideoStream:
        """Return the pictures of a film, decoded by threads: those keep some back, which a live source must not."""
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = min(_MOST_THREADS, os.cpu_count() or 1)
        return stream

    def _presented(self, container: InputContainer, stream: VideoStream, haste: "_Haste") -> Iterator[av.VideoFrame]:
        """Give its pictures as they are meant to be seen."""
        presentation = Presentation(self.size)
        aspect, begun = stream.sample_aspect_ratio, stream.codec_context.sample_aspect_ratio
        for frame in self._decoded(container, stream, haste):
            current = stream.codec_context.sample_aspect_ratio  # television changes it from one programme to the next
            yield from presentation.take(frame, aspect if current == begun else current)
        yield from presentation.flush()

    def _decoded(self, container: InputContainer, stream: VideoStream, haste: "_Haste") -> Iterator[av.VideoFrame]:
        """Decode what can be decoded; a damaged picture is missing, and the others are there."""
        packets = container.demux(stream)
        damaged = Seldom(_DAMAGE_EVERY)
        old = False  # FFmpeg gives up a source that is silent, and first gives what it had kept back
        while True:
            asked = time.monotonic()
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError) as error:
                trouble = f"{self.name} breaks off: {_reason(error)}"
                if _is_remote(self._address):
                    raise SourceError(trouble) from None
                log.warning("%s; what came before is all there is of it", trouble)
                return
            if packet is None:
                return
            waited = time.monotonic() - asked
            old = _is_remote(self._address) and (waited >= _TIMEOUT or (old and waited < _AT_ONCE))
            if old or haste.skips(packet):
                continue
            try:
                yield from stream.decode(packet)
            except (av.error.FFmpegError, OSError):
                if (more := damaged.take()) is not None:
                    log.warning("a picture of %s is damaged and left out (%d more since)", self.name, more)

    def _open_sound(self) -> InputContainer:
        if _is_pipe(self._address):
            raise SourceError(f"the sound of {self.name} cannot be had, as it can be read but once; give a file")
        container = self._open(sound=True)
        if _is_live(container, self._address):
            container.close()
            raise SourceError(f"the sound of {self.name} cannot be had, as it is live; give a film, or a microphone")
        return container

    def _open(self, *, sound: bool = False) -> InputContainer:
        # The errors of FFmpeg hold the whole address, so none is named as a cause.
        try:
            container = av.open(self._address, format=self.format, options=self.options, timeout=_TIMEOUT)
        except av.error.InvalidDataError:
            raise SourceError(f"{self.name} is no video that FFmpeg can read; try another file") from None
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = _reason(error)
            raise SourceError(f"cannot open {self.name}: {reason}; check the path or the address") from None
        trouble = None
        if container.format.name == "tty":  # FFmpeg draws any text
            trouble = "is no video that FFmpeg can read"
        elif sound and not container.streams.audio:
            trouble = "has no sound"
        elif not sound and not container.streams.video:
            trouble = "has no video stream"
        if trouble is not None:
            container.close()
            raise SourceError(f"{self.name} {trouble}; try another file")
        return container


def _address(text: str) -> tuple[str, str]:
    """Return what FFmpeg opens, and what people are shown.

    Raises:
        SourceError: There is no such file.
    """
    if text == "-":
        return _STDIN, "standard input"
    if Path(text).exists():
        return f"file:{text}", text  # FFmpeg takes what stands before a colon for a protocol
    if "://" not in text:
        raise SourceError(f"there is no file {text}; check the path")
    return text, without_password(text)


def _is_remote(address: str) -> bool:
    return "://" in address


def _is_pipe(address: str) -> bool:
    """Whether it can be read but once."""
    return address == _STDIN or Path(address.removeprefix("file:")).is_fifo()


def _advice(address: str) -> str:
    if _is_pipe(address):
        return "an MP4 film with its index at its end needs its path, or to be made with ffmpeg's -movflags +faststart"
    return "try another file"


def _is_live(container: InputContainer, address: str) -> bool:
    """Whether its pictures come when they are made, so that waiting for their time would only make them late."""
    if container.duration is not None or container.format.name in _SEGMENTED:
        return False
    return not Path(address.removeprefix("file:")).is_file()


def _reason(error: Exception) -> str:
    if isinstance(error, av.error.ExitError):  # PyAV's own, by which it ends what takes too long
        return f"nothing came for {_TIMEOUT:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class _Clock:
    """When the pictures of a film are due: as far from its begin as their timestamps say, through every repetition."""

    def __init__(self, fps: float | None, timeline: Timeline | None = None) -> None:
        self.frames = 0
        self._timeline = timeline or Timeline()
        self._repetitions = 0
        self._interval = 0.0 if fps is None else 1 / fps  # that is kept at least
        self._next = 0.0  # position from which on a picture is not one too many
        self._start = 0.0  # when the film began, by the monotonic clock
        self._position = 0.0  # seconds of film up to the newest picture, over all repetitions
        self._repetition = 0.0  # seconds of film before this repetition
        self._previous: float | None = None  # timestamp of the newest picture, seconds
        self._step = 1 / _DEFAULT_RATE  # seconds from one picture to the next, where its timestamps do not tell
        self._duration = 0.0
        self._shown = 0.0  # when a picture was last shown

    def go_on(self, container: InputContainer, stream: VideoStream, now: float) -> None:
        """Begin a film, or go on with it where it was lost."""
        self._step = float(1 / (stream.average_rate or _DEFAULT_RATE))
        self._duration = (container.duration or 0) / av.time_base
        if self._position > self._repetition:
            self._previous = None
            self._start = now - self._position
            with contextlib.suppress(av.error.FFmpegError, OSError):  # it begins anew
                container.seek(round((self._position - self._repetition) * av.time_base))

    def repeat(self) -> None:
        """Let the film begin again after its last picture."""
        self._position += self._step
        self._repetition = self._position
        self._repetitions += 1
        self._previous = None

    def take(self, frame: av.VideoFrame, now: float, *, live: bool) -> float:
        """Take the next picture, and return for how many seconds it has been due; less than 0 where it is early."""
        if not self.frames:
            self._start = now
        elif live:
            self._position = now - self._start
        elif self._previous is not None:
            longest = max(_LONGEST_STEP, self._duration - (self._position - self._repetition))
            step = self._step if frame.time is None else frame.time - self._previous
            self._position += step if 0 < step <= longest else self._step
        self._previous = frame.time if frame.time is not None else (self._previous or 0.0) + self._step
        self.frames += 1
        self._timeline.place = self._repetitions, self._start + self._position - self._previous
        return now - self._start - self._position

    def shows(self, late: float, now: float) -> bool:
        """Whether the picture that was taken is shown: not where it is one too many, or too late."""
        if self._position < self._next - _ROUNDING or (late > _LATE and now - self._shown < _STALE):
            return False
        self._next = max(self._next, self._position - self._interval) + self._interval
        self._shown = now
        return True


class _Haste:
    """Spares a decoder that is too slow what need not be shown."""

    def __init__(self, stream: VideoStream) -> None:
        self._stream = stream
        self._late = 0.0
        self._looked = (-math.inf, 0.0)  # when, and how late it was
        self._leaping = False  # to a picture that is not late, and needs none of those before it
        self._target: float | None = None  # its timestamp at the least, seconds

    def note(self, late: float, now: float) -> None:
        """Take note of how late the newest picture is, in seconds."""
        self._late = late
        if late > _LATE:
            self._stream.codec_context.skip_frame = "NONREF"
        elif late <= 0:
            self._stream.codec_context.skip_frame = "DEFAULT"
        looked, was = self._looked
        if now - looked >= _PATIENCE:
            self._leaping = self._leaping or (late > _BEHIND and late > was - _PATIENCE / 2)
            self._looked = now, late

    def skips(self, packet: "av.Packet[VideoStream]") -> bool:
        """Whether a packet is left out."""
        if not self._leaping or packet.pts is None or packet.time_base is None:
            return False
        at = float(packet.pts * packet.time_base)
        if self._target is None:
            self._target = at + self._late
        if not packet.is_keyframe or at < self._target:
            return True
        self._leaping, self._target = False, None
        return False
