"""What happens to connections, told to whoever wants to know."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.signaling.actions import State

E = TypeVar("E")

KEPT = 256

StreamState = Literal["published", "unpublished", "muted", "unmuted", "replaced", "refused"]


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """A receiver's connection with a broadcaster changed, or the receiver began or ended to record what it is sent.

    Attributes:
        session: The receiver's signaling session.
        state: ``connecting``, ``connected`` or ``closed``; ``refused``, where it is not admitted; ``recording`` or
            ``recording_ended``.
        reason: Why, in words for people.
        name: What the receiver calls itself, for which nobody vouches; empty where it gives no name.
    """

    session: str
    state: State | Literal["recording", "recording_ended"]
    reason: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class RecordingEvent:
    """A file of a recording was begun, or is complete; or nothing more can be recorded.

    Attributes:
        state: ``begun``, ``complete`` or ``failed``.
        path: Of the file.
        reason: Why, in words for people.
    """

    state: Literal["begun", "complete", "failed"]
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class SourceEvent:
    """A broadcaster's source fell silent, or is heard again; the log has the reason, where the source knows it.

    Attributes:
        state: ``silent`` or ``flowing``.
        reason: In words for people.
    """

    state: Literal["silent", "flowing"]
    reason: str


@dataclass(frozen=True, slots=True)
class DetectorEvent:
    """A broadcaster's detector changed.

    Attributes:
        state: ``ended``: it failed on frame after frame, and faces are looked for no more.
        reason: Why, in words for people.
    """

    state: Literal["ended"]
    reason: str


@dataclass(frozen=True, slots=True)
class StateEvent:
    """A receiver's own state changed.

    Attributes:
        state: ``seeking``, ``connecting``, ``connected``, ``interrupted``, ``closed``, or ``refused``: a broadcaster
            does not admit this receiver, which is seeking others from then on.
        reason: Why, in words for people.
        session: The broadcaster's signaling session, empty while there is none.
        name: The broadcaster's name, empty where it gave none.
    """

    state: State
    reason: str
    session: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class ParticipantEvent:
    """Somebody who broadcasts in a room came or went, as a :class:`~synopticon_rtc.Room` sees it.

    Attributes:
        state: ``joined``; ``away`` when the connection is gone, and ``returned`` when it is there again soon; ``left``
            when it is given up.
        reason: Why, in words for people.
        name: The participant's, empty where it gave none.
        session: The participant's signaling session; another one when it has returned as another process or page.
    """

    state: Literal["joined", "away", "returned", "left"]
    reason: str
    name: str
    session: str


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """A stream of a broadcaster came, went or changed, as either end sees it.

    Attributes:
        name: The name of the stream.
        kind: ``video`` or ``audio``.
        state: ``published``, ``unpublished``, ``muted``, ``unmuted``, ``replaced`` (by another source), or ``refused``
            (by one receiver).
        reason: Why, in words for people.
        session: The signaling session of the other end that it is about; empty at the broadcaster, where it is about
            all receivers.
    """

    name: str
    kind: Literal["video", "audio"]
    state: StreamState
    reason: str
    session: str = ""


class Events(Generic[E]):
    """Events as a callback or as an async iteration, any number of both.

    An iteration sees what happens from its start on, and ends when the object that the events are of is closed.

    Args:
        kept: How many events are kept for an iteration that lags behind; older ones give way.
        faults: What counts errors of callbacks.
    """

    def __init__(self, kept: int = KEPT, *, faults: Faults | None = None) -> None:
        self._kept = kept
        self._faults = faults or Faults()
        self._callbacks: list[Callable[[E], object]] = []
        self._iterations: list[tuple[deque[E], asyncio.Event]] = []
        self._closed = False

    @property
    def heard(self) -> bool:
        """Whether anybody is told."""
        return bool(self._callbacks or self._iterations)

    def subscribe(self, callback: Callable[[E], object]) -> Callable[[], None]:
        """Call ``callback`` with every event from now on; returns what ends that."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def emit(self, event: E) -> None:
        """Tell everybody."""
        for callback in list(self._callbacks):
            self._faults.call(callback, event)
        for waiting, filled in self._iterations:
            waiting.append(event)
            filled.set()

    def close(self) -> None:
        """End all iterations, after what they have not seen yet."""
        self._closed = True
        for _, filled in self._iterations:
            filled.set()

    async def __aiter__(self) -> AsyncIterator[E]:
        iteration: tuple[deque[E], asyncio.Event] = (deque(maxlen=self._kept), asyncio.Event())
        self._iterations.append(iteration)
        waiting, filled = iteration
        try:
            while waiting or not self._closed:
                await filled.wait()
                filled.clear()
                while waiting:
                    yield waiting.popleft()
        finally:
            self._iterations.remove(iteration)
