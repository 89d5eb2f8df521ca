"""Records every broadcaster of a room, each in files of its own."""

import asyncio
import functools
import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from synopticon_rtc.events import Events, RecordingEvent, StateEvent
from synopticon_rtc.recording.names import Names
from synopticon_rtc.recording.recorder import Recorder
from synopticon_rtc.room import Participant, Room
from synopticon_rtc.rtc import EncodedVideoFrame
from synopticon_rtc.signaling.session import Signaling

FREE = 100_000_000
"""Octets that must be free on a disk that was full before something is written again."""
PAUSES = (5.0, 10.0, 20.0, 60.0)
"""Seconds before it is tried again where nothing could be written; the last goes on."""


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


class Reel:
    """The recording of a broadcaster, or of the one that is looked for: an async context manager.

    Where nothing can be written, as a disk is full, it is tried again after a while, and once there is room.

    Args:
        participant: Who is recorded.
        names: Gives the path of each file.
        told: Called with what happens to files.
        segment: Seconds after which a recording goes on in another file, None for never.
        max_size: Octets after which it does, None for never.

    Attributes:
        participant: Who is recorded.
        recorder: What writes it; another one after a disk was full.
        path: Of the newest file, empty before there is one.
    """

    def __init__(
        self,
        participant: Participant[EncodedVideoFrame],
        names: Names,
        *,
        told: Callable[[Taped], object],
        segment: float | None = None,
        max_size: int | None = None,
    ) -> None:
        self.participant = participant
        self._names = names
        self._told = told
        self._make = functools.partial(Recorder, names, participant.receiver, segment=segment, max_size=max_size)
        self.recorder = self._make()
        self.path = ""
        self._before = 0  # frames that earlier recorders have written
        self._failed = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start recording."""
        await self._start()
        self._writing = asyncio.create_task(self._keep_writing())
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Complete the recording."""
        assert self._writing is not None  # noqa: S101 - tells the type checkers
        self._writing.cancel()
        await asyncio.wait([self._writing])
        await self.recorder.aclose()
        if not self._writing.cancelled():
            self._writing.result()

    @property
    def frames(self) -> int:
        """That were written."""
        return self._before + self.recorder.stats.frames

    async def _start(self) -> None:
        self._failed.clear()
        self.recorder.events.subscribe(self._taped)
        await self.recorder.start()

    async def _keep_writing(self) -> None:
        """Go on with another recorder where one has failed, once there is room."""
        for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
            await self._failed.wait()
            await self.recorder.aclose()
            await asyncio.sleep(pause)
            while await asyncio.to_thread(_is_full, self._names.folder):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(pause)
            self._before = self.frames
            self.recorder = self._make()
            await self._start()

    def _taped(self, event: RecordingEvent) -> None:
        if event.state == "begun":
            self.path = event.path
        elif event.state == "failed":
            self._failed.set()
        self._told(Taped(self.participant.name, self.participant.session, event))


class RoomRecorder:
    """Records every broadcaster that comes: a room, with a recording beside each receiver.

    Use it as an async context manager.

    Args:
        signaling: The client that all share.
        names: Gives the path of each file.
        segment: Seconds after which a recording goes on in another file, None for never.
        max_size: Octets after which it does, None for never.
        options: What else receivers are made with.

    Attributes:
        room: Those that are recorded.
        events: What happens to files.
        states: What happens to connections with those that were found.
    """

    def __init__(
        self,
        signaling: Signaling,
        names: Names,
        *,
        segment: float | None = None,
        max_size: int | None = None,
        **options: Any,  # noqa: ANN401 - those of receivers, but for their max_size
    ) -> None:
        self.events: Events[Taped] = Events()
        self.states: Events[StateEvent] = Events()
        self._reel = functools.partial(Reel, names=names, told=self.events.emit, segment=segment, max_size=max_size)
        self.room = Room(signaling, decode=False, beside=self._record, **options)

    async def __aenter__(self) -> Self:
        """Begin to look for broadcasters."""
        await self.room.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Complete all recordings."""
        await self.room.aclose()

    @property
    def reels(self) -> list[Reel]:
        """Of all who are recorded now."""
        return [participant.beside for participant in self.room.participants]

    async def wait(self) -> None:
        """Wait for what ends it.

        Raises:
            SignalingError: The server refuses for good, and nobody is recorded any more.
        """
        await self.room.wait_closed()

    def _record(self, participant: Participant[EncodedVideoFrame]) -> Reel:
        participant.receiver.events.subscribe(functools.partial(self._changed, participant))
        return self._reel(participant)

    def _changed(self, participant: Participant[EncodedVideoFrame], event: StateEvent) -> None:
        if participant in self.room.participants:
            self.states.emit(event)


def _is_full(folder: Path) -> bool:
    """Whether the disk has no room; what cannot be asked may have some."""
    try:
        return shutil.disk_usage(folder).free < FREE
    except OSError:
        return False
