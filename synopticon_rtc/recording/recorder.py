"""Records what a receiver gets, or what a broadcaster sends, as it was encoded."""

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.life import entered_before
from synopticon_rtc.basics.version import __version__
from synopticon_rtc.errors import RecordingError
from synopticon_rtc.events import Events, RecordingEvent
from synopticon_rtc.faces.wire import FacesMessage
from synopticon_rtc.peers.tap import Tappable, Tapped
from synopticon_rtc.recording.tape import Naming, Tape
from synopticon_rtc.recording.writer import check_free, file_format
from synopticon_rtc.rtc import EncodedSound, EncodedVideoFrame

logger = logging.getLogger(__name__)

MOST_WAITING = 64_000_000
"""Octets that wait for a slow disk; what comes then is left out, up to a keyframe."""
FACE = 20_000
"""Octets that a face takes which is not written yet."""
TICK = 0.1
"""Seconds between two looks at what is due."""


@dataclass(frozen=True, slots=True)
class RecorderStats:
    """What was recorded.

    Attributes:
        frames: That were written, of all videos.
        octets: That were written.
        left_out: Frames and packets of sound that were left out, as the disk was too slow for them.
    """

    frames: int
    octets: int
    left_out: int


class Recorder:
    """Writes all streams of a receiver or a broadcaster to a file: video and sound as they were sent, faces beside.

    Use it as an async context manager, or await :meth:`start` and in the end :meth:`aclose`, once. What it writes can
    be read up to the last second, whatever happens to the process. When a file cannot hold what comes next (a further
    stream, another codec, a broadcaster with another clock), it goes on in another one, as ``events`` tells:
    ``talk-2.mkv`` after ``talk.mkv``. A disk that is full ends the recording, and nothing else.

    Args:
        path: Of the file, which must not be there yet: ``.mkv``, or ``.webm`` for VP8 alone. Or a function that gives
            the path of each file, by the origin of the streams and by when it begins (UTC); it may block.
        of: The :class:`~synopticon_rtc.Receiver` or :class:`~synopticon_rtc.Broadcaster`. It need not be open yet.
        segment: Seconds after which the recording goes on in another file, None for never.
        max_size: Octets after which it does, None for never.

    Attributes:
        events: When files are begun and complete, and when nothing more can be recorded.
        failure: Why nothing more is recorded; None while all is well.

    Raises:
        RecordingError: The path has another ending.
        ValueError: ``segment`` or ``max_size`` is not positive.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Naming,
        of: Tappable,
        *,
        segment: float | None = None,
        max_size: int | None = None,
    ) -> None:
        self._path = None if callable(path) else Path(path)
        if self._path is not None:
            file_format(self._path)
        for name, value in (("segment", segment), ("max_size", max_size)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be more than 0, not {value}")
        self.events: Events[RecordingEvent] = Events()
        self.failure: RecordingError | None = None
        self._of = of
        self._faults = Faults()
        self._tape = Tape(
            path if callable(path) else _following(Path(path)),
            published=lambda: of.tapped,
            origin=lambda: of.origin,
            wish=lambda: self._on_loop(of.request_keyframe),
            tell=lambda event: self._on_loop(self.events.emit, event),
            segment=segment,
            most=max_size,
            tags={"WRITTEN_BY": f"synopticon-rtc {__version__}"},
        )
        self._work: queue.SimpleQueue[tuple[int, Callable[[], None]] | None] = queue.SimpleQueue()
        self._waiting = 0  # octets that wait for the thread
        self._left_out = 0
        self._behind = False  # whether the disk is too slow
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._done = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._untap: Callable[[], None] = lambda: None

    async def start(self) -> Self:
        """Start recording what comes from now on.

        Raises:
            RecordingError: The file is there already, or its folder cannot be written to.
            RuntimeError: It was entered before.
        """
        if self._loop is not None:
            raise entered_before(self)
        self._loop = asyncio.get_running_loop()
        if self._path is not None:
            await asyncio.to_thread(_check, self._path)
        self._untap = self._of.tap(self)
        self._thread.start()
        self._tick()
        return self

    async def aclose(self) -> None:
        """Complete the file; a second call waits for the first."""
        if self._loop is None or not self._thread.ident:
            return
        self._end()
        await asyncio.shield(self._done.wait())
        if not self._tape.files and self.failure is None and self._path is not None:
            logger.warning("%s was not written: nothing came that could be recorded", self._path)
        self.events.close()

    async def __aenter__(self) -> Self:
        """Do as :meth:`start`."""
        return await self.start()

    async def __aexit__(self, *exception: object) -> None:
        """Do as :meth:`aclose`."""
        await self.aclose()

    @property
    def stats(self) -> RecorderStats:
        """Totals since the start."""
        return RecorderStats(self._tape.frames, self._tape.octets, self._left_out)

    @property
    def _place(self) -> str:
        """Where it records, for people."""
        return str(self._tape.path or self._path or "a recording")

    # What comes, on the event loop

    def video(self, stream: Tapped, frame: EncodedVideoFrame, captured: float | None) -> None:
        """Take a frame."""
        self._put(len(frame.data), functools.partial(self._tape.video, stream, frame, captured, clock.now()))

    def faces(self, stream: Tapped, message: FacesMessage, written: bytes | None) -> None:
        """Take what was found in a frame."""
        octets = len(written) if written is not None else FACE * len(message.faces)
        self._put(octets, functools.partial(self._tape.faces, stream, message, written, clock.now()))

    def sound(self, stream: Tapped, packet: EncodedSound) -> None:
        """Take a packet of sound."""
        self._put(len(packet.data), functools.partial(self._tape.sound, stream, packet, clock.now()))

    def _put(self, octets: int, work: Callable[[], None]) -> None:
        if self._behind and self._waiting < MOST_WAITING / 2:
            self._behind = False
            self._work.put((0, self._tape.skip))
        if self._behind or self._waiting + octets > MOST_WAITING:
            if not self._behind:
                logger.warning("%s: the disk is too slow, and what comes now is left out", self._place)
            self._behind = True
            self._left_out += 1
            return
        self._waiting += octets
        self._work.put((octets, work))

    def _tick(self) -> None:
        self._work.put((0, functools.partial(self._tape.tick, clock.now())))
        self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _end(self) -> None:
        """Take nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        untap, self._untap = self._untap, lambda: None
        untap()
        self._work.put(None)

    def _written(self, octets: int) -> None:
        self._waiting -= octets

    def _failed(self, error: RecordingError) -> None:
        self.failure = error
        logger.error("nothing more is recorded: %s", error)
        self.events.emit(RecordingEvent("failed", self._place, str(error)))
        self._end()

    # What is written, in a thread

    def _run(self) -> None:
        try:
            while (piece := self._work.get()) is not None:
                octets, work = piece
                work()
                if octets:
                    self._on_loop(self._written, octets)
            self._tape.close()
        except RecordingError as error:
            self._on_loop(self._failed, error)
            with contextlib.suppress(RecordingError):  # what was written shall be complete
                self._tape.close("nothing more can be written")
        except Exception:  # noqa: BLE001 - it is noted
            self._faults.note("the recording has ended")
            self._on_loop(self._failed, RecordingError(f"{self._place}: a fault of synopticon_rtc, see the log"))
        finally:
            self._on_loop(self._done.set)

    def _on_loop(self, call: Callable[..., object], *arguments: object) -> None:
        assert self._loop is not None  # noqa: S101 - it has started
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody listens any more
            self._loop.call_soon_threadsafe(call, *arguments)


def _following(path: Path) -> Naming:
    """Name one file after another: talk.mkv, talk-2.mkv, talk-3.mkv."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    names = itertools.chain([path], (following for following in numbered if not following.exists()))
    return lambda _origin, _begun: next(names)


def _check(path: Path) -> None:
    """Find out before anything comes whether a file can be written."""
    check_free(path)
    folder = path.parent
    if not folder.is_dir():
        raise RecordingError(f"{path} cannot be written: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise RecordingError(f"{path} cannot be written: {folder} is read-only for this user")
