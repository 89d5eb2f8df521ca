"""Records every broadcaster of a room, each in files of its own."""

import asyncio
import contextlib
import functools
import itertools
import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from synopticon_rtc.errors import SignalingError
from synopticon_rtc.events import Events, RecordingEvent, StateEvent
from synopticon_rtc.receiver import Receiver
from synopticon_rtc.recording.names import Names
from synopticon_rtc.recording.recorder import Recorder
from synopticon_rtc.rtc import EncodedVideoFrame
from synopticon_rtc.signaling import SignalingClient

logger = logging.getLogger(__name__)

AWAY = 10.0
"""Seconds for which a broadcaster may be gone before its recording is complete."""
MOST = 100
"""Broadcasters that are recorded at once."""
ROOM = 100_000_000
"""Octets that must be free on a disk that was full before something is written again."""
PAUSES = (5.0, 10.0, 20.0, 60.0)
"""Seconds before it is tried again where nothing could be written; the last goes on."""


@dataclass(slots=True, eq=False)
class Reel:
    """A broadcaster that is recorded, or the one that is looked for.

    Attributes:
        receiver: What receives it.
        recorder: What writes it; another one after a disk was full.
        state: What became of the connection last.
        found: Whether it has been there.
        path: Of the newest file, empty before there is one.
        before: Frames that earlier recorders of it have written.
        failed: Set when nothing more can be written.
        limit: What ends it once it has been gone for too long; None while it does not run.
        task: What runs it; None once it is ending.
    """

    receiver: Receiver[EncodedVideoFrame]
    recorder: Recorder
    state: StateEvent = field(default_factory=lambda: StateEvent("seeking", ""))
    found: bool = False
    path: str = ""
    before: int = 0
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    limit: asyncio.Timeout | None = None
    task: asyncio.Task[None] | None = None

    def end(self) -> None:
        """Complete it, once: whoever cancels what is ending leaves things half done."""
        task, self.task = self.task, None
        if task is not None:
            task.cancel()

    @property
    def is_looking(self) -> bool:
        """Whether it takes whoever is not recorded yet."""
        return not self.found and self.state.state == "seeking"

    @property
    def frames(self) -> int:
        """That were written."""
        return self.before + self.recorder.stats.frames


@dataclass(frozen=True, slots=True)
class Taped:
    """What happened to a file of the recording of a broadcaster.

    Attributes:
        name: The broadcaster's, empty where it gave none.
        session: The broadcaster's.
        file: What happened.
    """

    name: str
    session: str
    file: RecordingEvent


class RoomRecorder:
    """Records every broadcaster that comes, each by a receiver of its own; all share one signaling session.

    There is always one receiver that looks for whoever is not recorded yet. A broadcaster that goes and comes back
    within :data:`AWAY` seconds, by the same name, goes on in its recording. Where nothing can be written, as a disk is
    full, it is tried again after a while, and once there is room.

    Use it as an async context manager.

    Args:
        signaling: The client that all share.
        names: Gives the path of each file.
        segment: Seconds after which a recording goes on in another file, None for never.
        max_size: Octets after which it does, None for never.
        options: What else receivers are made with.

    Attributes:
        reels: Those that are recorded, and whoever is looked for.
        events: What happens to files.
        states: What happens to connections with those that were found.
    """

    def __init__(
        self,
        signaling: SignalingClient,
        names: Names,
        *,
        segment: float | None = None,
        max_size: int | None = None,
        **options: Any,  # noqa: ANN401 - those of receivers
    ) -> None:
        self.reels: list[Reel] = []
        self.events: Events[Taped] = Events()
        self.states: Events[StateEvent] = Events()
        self._signaling = signaling
        self._names = names
        self._options = options
        self._segment = segment
        self._max_size = max_size
        self._tasks: set[asyncio.Task[None]] = set()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._refused: SignalingError | None = None
        self._full = False

    async def __aenter__(self) -> Self:
        self._look()
        await self._signaling.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Complete all recordings."""
        self._over.cancel()
        for reel in self.reels:
            reel.end()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._signaling.__aexit__(*exception)

    async def wait(self) -> None:
        """Wait for what ends it.

        Raises:
            SignalingError: The server refuses for good, and nobody is recorded any more.
        """
        await asyncio.shield(self._over)

    def _look(self) -> None:
        """See to it that one looks for whoever is not recorded yet: the oldest, which knows whom it tried in vain."""
        looking = [reel for reel in self.reels if reel.is_looking]
        for more in looking[1:]:
            more.end()
        if looking or self._over.done() or self._refused is not None:
            return
        was_full, self._full = self._full, len(self.reels) >= MOST
        if self._full:
            if not was_full:
                logger.warning("%d broadcasters are recorded at once: others have to wait until one is gone", MOST)
            return
        receiver = Receiver(self._signaling, decode=False, **self._options)
        reel = Reel(receiver, self._recorder(receiver))
        self.reels.append(reel)
        receiver.events.subscribe(functools.partial(self._changed, reel))
        reel.task = asyncio.create_task(self._record(reel), name="recording")
        self._tasks.add(reel.task)
        reel.task.add_done_callback(functools.partial(self._ended, reel))

    def _changed(self, reel: Reel, event: StateEvent) -> None:
        """Take the news of a connection."""
        reel.state = event
        if event.state == "connected":
            reel.found = True
            reel.receiver.stay()
        if reel.limit is not None and reel.found:
            if event.state == "connected":
                reel.limit.reschedule(None)
            elif reel.limit.when() is None:
                reel.limit.reschedule(asyncio.get_running_loop().time() + AWAY)
        if reel.found:
            self.states.emit(event)
        self._look()

    def _ended(self, reel: Reel, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.reels.remove(reel)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, SignalingError):
            self._refused = error
        elif error is not None and not self._over.done():
            self._over.set_exception(error)
        if self._refused is not None and not self.reels and not self._over.done():
            self._over.set_exception(self._refused)
        self._look()

    async def _record(self, reel: Reel) -> None:
        """Record one broadcaster, until it has been gone for a while."""
        await self._start(reel)
        writing = asyncio.create_task(self._keep_writing(reel))
        try:
            async with reel.receiver as receiver:
                with contextlib.suppress(TimeoutError):
                    await self._receive(reel, receiver)
        finally:
            reel.task = None
            writing.cancel()
            await asyncio.wait([writing])
            await reel.recorder.aclose()
        if not writing.cancelled():
            writing.result()

    async def _receive(self, reel: Reel, receiver: Receiver[EncodedVideoFrame]) -> None:
        """Receive a broadcaster. Raises :class:`TimeoutError` when it has been gone for a while."""
        try:
            async with asyncio.timeout(None) as reel.limit:
                async for _ in receiver:  # what nobody takes would have keyframes asked for
                    pass
        finally:
            reel.limit = None

    def _recorder(self, receiver: Receiver[EncodedVideoFrame]) -> Recorder:
        return Recorder(self._names, receiver, segment=self._segment, max_size=self._max_size)

    async def _start(self, reel: Reel) -> None:
        reel.failed.clear()
        reel.recorder.events.subscribe(functools.partial(self._taped, reel))
        await reel.recorder.start()

    async def _keep_writing(self, reel: Reel) -> None:
        """Go on with another recorder where one has failed, once there is room."""
        for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
            await reel.failed.wait()
            await reel.recorder.aclose()
            await asyncio.sleep(pause)
            while await asyncio.to_thread(_is_full, self._names.folder):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(pause)
            reel.before = reel.frames
            reel.recorder = self._recorder(reel.receiver)
            await self._start(reel)

    def _taped(self, reel: Reel, event: RecordingEvent) -> None:
        if event.state == "begun":
            reel.path = event.path
        elif event.state == "failed":
            reel.failed.set()
        origin = reel.receiver.origin
        self.events.emit(Taped(origin.name, origin.session, event))


def _is_full(folder: Path) -> bool:
    """Whether the disk has no room; what cannot be asked may have some."""
    try:
        return shutil.disk_usage(folder).free < ROOM
    except OSError:
        return False
