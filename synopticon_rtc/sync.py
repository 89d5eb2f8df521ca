"""The same for those who have no event loop: ``with sync.Receiver(url) as receiver: for moment in receiver: ...``.

Each object here has an event loop in a thread of its own, in which the object of the same name lives that the package
itself has: arguments, attributes and errors are those, and documented there. What is awaited there blocks here, and
``close`` is what ``aclose`` is there. Any thread may use any of it. Callbacks are called in the thread of the event
loop, which they must not hold up: in them, everything can be read, and nothing waited for.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Self, TypeVar, Unpack, cast, overload

import av

from synopticon_rtc import broadcaster as broadcasters
from synopticon_rtc import receiver as receivers
from synopticon_rtc import room as rooms
from synopticon_rtc.basics.life import entered_before, not_open
from synopticon_rtc.basics.loop import LoopThread
from synopticon_rtc.errors import NobodyAnswered, SynopticonError
from synopticon_rtc.events import DetectorEvent, ParticipantEvent, PeerEvent, SourceEvent, StateEvent, StreamEvent
from synopticon_rtc.events import Events as AsyncEvents
from synopticon_rtc.faces import Detector
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.files import incoming, transfer
from synopticon_rtc.files.transfer import FileProgress
from synopticon_rtc.peers.messages import Message
from synopticon_rtc.peers.published import Kind
from synopticon_rtc.receiving import received
from synopticon_rtc.receiving.options import Options, ReceiverOptions
from synopticon_rtc.receiving.pairing import F
from synopticon_rtc.receiving.sound import AudioMoment
from synopticon_rtc.receiving.stats import ReceiverStats
from synopticon_rtc.rtc import EncodedVideoFrame
from synopticon_rtc.sending import published
from synopticon_rtc.sending.stats import BroadcasterStats
from synopticon_rtc.signaling.entry import Token
from synopticon_rtc.signaling.session import Signaling

__all__ = [
    "Broadcaster",
    "Events",
    "FileOffer",
    "FileTransfer",
    "Participant",
    "ParticipantMoment",
    "ParticipantReceiver",
    "PublishedStream",
    "ReceivedStream",
    "Receiver",
    "Room",
]

A = TypeVar("A")
E = TypeVar("E")
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=broadcasters.Broadcaster | receivers.Receiver[Any] | rooms.Room[Any])
T = TypeVar("T")


class Events(Generic[E]):
    """Events as a callback or as an iteration that waits for them, any number of both; see :class:`AsyncEvents`."""

    def __init__(self, thread: LoopThread, events: AsyncEvents[E]) -> None:
        self._thread = thread
        self._events = events

    def subscribe(self, callback: Callable[[E], object]) -> Callable[[], None]:
        """Call ``callback`` with every event from now on, in the thread of the event loop; returns what ends that."""
        end = self._thread.call(self._events.subscribe, callback)
        return lambda: self._thread.call(end)

    def __iter__(self) -> Iterator[E]:
        return self._thread.iterate(aiter(self._events))


class _Blocking(Generic[A]):
    """Does with an object what is to be done in the thread of its event loop."""

    _thread: LoopThread
    _it: A


class _Read(Generic[T]):
    """The attribute of the same name, read in the thread."""

    def __set_name__(self, _: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, _: type) -> Self: ...
    @overload
    def __get__(self, instance: _Blocking[Any], _: type) -> T: ...
    def __get__(self, instance: _Blocking[Any] | None, _: type) -> Self | T:
        if instance is None:
            return self
        value: T = instance._thread.call(getattr, instance._it, self._name)  # noqa: SLF001 - it is of its class
        return value


class _Told(Generic[E]):
    """The events of the same name."""

    def __set_name__(self, _: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, _: type) -> Self: ...
    @overload
    def __get__(self, instance: _Blocking[Any], _: type) -> Events[E]: ...
    def __get__(self, instance: _Blocking[Any] | None, _: type) -> Self | Events[E]:
        if instance is None:
            return self
        return Events(instance._thread, getattr(instance._it, self._name))  # noqa: SLF001 - as above


def _calls(method: Callable[Concatenate[A, P], T]) -> Callable[Concatenate[_Blocking[A], P], T]:
    """Make the method that calls another one in the thread."""

    @functools.wraps(method)
    def call(self: _Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._thread.call(method, self._it, *args, **kwargs)

    return call


def _waits(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Blocking[A], P], T]:
    """Make the method that waits for what another one returns."""

    @functools.wraps(method)
    def wait(self: _Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._thread.run(method(self._it, *args, **kwargs))

    return wait


def _makes(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]], handle: Callable[[LoopThread, T], R]
) -> Callable[Concatenate[_Blocking[A], P], R]:
    """Make the method that waits for what another one returns, and gives its handle."""

    @functools.wraps(method)
    def make(self: _Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return handle(self._thread, self._thread.run(method(self._it, *args, **kwargs)))

    return make


def _takes(
    _: Callable[Concatenate[Any, P], object],
) -> Callable[[Callable[..., R]], Callable[Concatenate[Any, P], R]]:
    """Give a method the arguments of another one."""
    return lambda method: method


class _Handle(_Blocking[A]):
    """What lives in the thread of the one that it belongs to, such as a stream. Two of the same are equal."""

    def __init__(self, thread: LoopThread, it: A) -> None:
        self._thread, self._it = thread, it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Handle) and other._it is self._it

    def __hash__(self) -> int:
        return hash(self._it)


class ReceivedStream(_Handle[received.ReceivedStream]):
    """See :class:`synopticon_rtc.ReceivedStream`."""

    name = _Read[str]()
    kind = _Read[Kind]()
    hint = _Read[str]()
    detector = _Read[str]()
    muted = _Read[bool]()
    session = _Read[str]()
    bitrate = _Read[int]()
    replaced = _Read[int]()
    stats = _Read[ReceiverStats]()
    snapshot = _calls(received.ReceivedStream.snapshot)


class FileTransfer(_Handle[transfer.FileTransfer]):
    """See :class:`synopticon_rtc.FileTransfer`: an iteration of its progress that waits for each."""

    name = _Read[str]()
    folder = _Read[tuple[str, ...]]()
    size = _Read[int]()
    session = _Read[str]()
    sent = _Read[bool]()
    path = _Read[Path | None]()
    moved = _Read[int]()
    progress = _Read[FileProgress]()
    is_over = _Read[bool]()
    error = _Read[SynopticonError | None]()
    wait = _waits(transfer.FileTransfer.wait)
    cancel = _calls(transfer.FileTransfer.cancel)

    def __iter__(self) -> Iterator[FileProgress]:
        return self._thread.iterate(aiter(self._it))


def _each(thread: LoopThread, transfers: list[transfer.FileTransfer]) -> list[FileTransfer]:
    return [FileTransfer(thread, each) for each in transfers]


class FileOffer(_Handle[incoming.FileOffer]):
    """See :class:`synopticon_rtc.FileOffer`."""

    name = _Read[str]()
    folder = _Read[tuple[str, ...]]()
    size = _Read[int]()
    modified = _Read[float | None]()
    session = _Read[str]()
    reject = _calls(incoming.FileOffer.reject)
    accept = _makes(incoming.FileOffer.accept, FileTransfer)


class PublishedStream(_Handle[published.PublishedStream]):
    """See :class:`synopticon_rtc.PublishedStream`."""

    name = _Read[str]()
    kind = _Read[Kind]()
    hint = _Read[str]()
    detector = _Read[str]()
    muted = _Read[bool]()
    stats = _Read[BroadcasterStats]()
    source_events = _Told[SourceEvent]()
    detector_events = _Told[DetectorEvent]()
    faces = _Told[Moment]()
    mute = _calls(published.PublishedStream.mute)
    unmute = _calls(published.PublishedStream.unmute)
    replace = _waits(published.PublishedStream.replace)
    unpublish = _waits(published.PublishedStream.unpublish)
    request_keyframe = _calls(published.PublishedStream.request_keyframe)
    snapshot = _calls(published.PublishedStream.snapshot)

    @property
    def bitrate(self) -> int:
        """Bit/s; it can be set at any time."""
        return self._thread.call(lambda: self._it.bitrate)

    @bitrate.setter
    def bitrate(self, bitrate: int) -> None:
        self._thread.call(setattr, self._it, "bitrate", bitrate)


class _Session(_Blocking[S]):
    """One that is started and closed, with a thread of its own."""

    def __init__(self, it: S) -> None:
        self._thread = LoopThread(f"synopticon {type(self).__name__.lower()}", functools.partial(not_open, self))
        self._it = it

    def start(self) -> Self:
        """Do as the async form; :meth:`close` ends it."""
        if self._thread.begun:
            raise entered_before(self)
        try:
            self._thread.start()
            self._thread.run(self._it.start())
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Say goodbye and end; a second call does nothing. Iterations end, and whatever else is waited for fails."""
        self._thread.stop(self._it.aclose())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


class _Receiving(_Blocking[receivers.Receiver[F]], Generic[F]):
    """What a receiver has, whoever started it."""

    signaling = _Read[Signaling]()
    stats = _Read[ReceiverStats]()
    events = _Told[StateEvent]()
    stream_events = _Told[StreamEvent]()
    detector_events = _Told[DetectorEvent]()
    clock_offset = _Read[float | None]()
    clock_error = _Read[float | None]()
    relays = _Read[tuple[str, ...]]()
    tells_time = _Read[bool]()
    recorded = _Read[bool]()
    send = _waits(receivers.Receiver.send)
    send_file = _makes(receivers.Receiver.send_file, FileTransfer)
    send_folder = _makes(receivers.Receiver.send_folder, _each)
    request_keyframe = _calls(receivers.Receiver.request_keyframe)
    limit = _calls(receivers.Receiver.limit)
    stay = _calls(receivers.Receiver.stay)

    def __iter__(self) -> Iterator[Moment[F]]:
        return self._thread.iterate(self._it)

    def read(self, timeout: float | None = None) -> Moment[F]:
        """Wait for the next moment.

        Args:
            timeout: Seconds to wait at most, None for as long as the receiver itself waits.

        Raises:
            TimeoutError: None came within that time.
        """
        return self._thread.run(self._read(timeout))

    async def _read(self, timeout: float | None) -> Moment[F]:  # noqa: ASYNC109 - who calls it cannot have one
        try:
            async with asyncio.timeout(timeout):
                moment = await anext(self._it, None)
        except NobodyAnswered:
            raise
        except TimeoutError:
            raise TimeoutError(f"no moment came within {timeout:g} s") from None
        if moment is None:
            raise not_open(self)
        return moment

    def moments(self, name: str) -> Iterator[Moment[F]]:
        """Iterate over the moments of one stream."""
        return self._thread.iterate(self._it.moments(name))

    def audio(self, name: str | None = None) -> Iterator[AudioMoment]:
        """Iterate over the sound of a stream."""
        return self._thread.iterate(self._it.audio(name))

    def messages(self, name: str) -> Iterator[Message]:
        """Iterate over the messages that the broadcaster sends on a channel of this name."""
        return self._thread.iterate(self._thread.call(self._it.messages, name))

    @property
    def files(self) -> Iterator[FileOffer]:
        """An iteration over the files that the broadcaster offers, each given out once, until the receiver is left."""
        for offer in self._thread.iterate(self._it.files):
            yield FileOffer(self._thread, offer)

    def age(self, moment: Moment[F]) -> float | None:
        """Return how long ago a moment was captured, in seconds, None where that is not known."""
        return self._thread.call(self._it.age, moment)

    @property
    def streams(self) -> Mapping[str, ReceivedStream]:
        """What the broadcaster publishes now, by name."""
        streams = self._thread.call(dict, self._it.streams)
        return {name: ReceivedStream(self._thread, stream) for name, stream in streams.items()}


class Receiver(_Receiving[F], _Session[receivers.Receiver[F]], Generic[F]):
    """See :class:`synopticon_rtc.Receiver`: an iteration of moments that waits for each."""

    @overload
    def __init__(
        self: "Receiver[av.VideoFrame]",
        signaling: str | Signaling,
        *,
        video: Literal[True] = True,
        decode: Literal[True] = True,
        **options: Unpack[ReceiverOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "Receiver[EncodedVideoFrame]",
        signaling: str | Signaling,
        *,
        video: Literal[True] = True,
        decode: Literal[False],
        **options: Unpack[ReceiverOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "Receiver[None]",
        signaling: str | Signaling,
        *,
        video: Literal[False],
        decode: bool = True,
        **options: Unpack[ReceiverOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "Receiver[av.VideoFrame | EncodedVideoFrame | None]",
        signaling: str | Signaling,
        *,
        video: bool = True,
        decode: bool = True,
        **options: Unpack[ReceiverOptions],
    ) -> None: ...
    def __init__(self, signaling: str | Signaling, **options: Any) -> None:
        super().__init__(cast("receivers.Receiver[F]", receivers.Receiver(signaling, **options)))


class ParticipantReceiver(_Receiving[F], _Handle[receivers.Receiver[F]], Generic[F]):
    """What receives a participant of a :class:`Room`: a :class:`Receiver` that the room starts and closes."""


class Participant(_Handle[rooms.Participant[F]], Generic[F]):
    """See :class:`synopticon_rtc.Participant`."""

    name = _Read[str]()
    session = _Read[str]()
    state = _Read[StateEvent]()
    is_here = _Read[bool]()
    beside = _Read[Any]()

    def __repr__(self) -> str:
        return self._thread.call(repr, self._it)

    @property
    def receiver(self) -> ParticipantReceiver[F]:
        """What receives it. Iterations over it end when the participant has left."""
        return ParticipantReceiver(self._thread, self._it.receiver)


@dataclass(frozen=True, slots=True, eq=False)
class ParticipantMoment(Generic[F]):
    """A moment of somebody in a room.

    Attributes:
        participant: Whose it is.
        moment: It.
        captured: As for :class:`synopticon_rtc.ParticipantMoment`.
        late: As for the same.
        error: As for the same.
    """

    participant: Participant[F]
    moment: Moment[F]
    captured: float | None
    late: bool
    error: float | None


class RoomOptions(Options, total=False):
    """What does not change the type of the frames."""

    room: str
    token: Token | None
    detector: Callable[[], Detector] | None
    beside: rooms.Beside[Any] | None


class Room(_Session[rooms.Room[F]], Generic[F]):
    """See :class:`synopticon_rtc.Room`: an iteration of participants that waits for each."""

    @overload
    def __init__(
        self: "Room[av.VideoFrame]",
        signaling: str | Signaling,
        *,
        video: Literal[True] = True,
        decode: Literal[True] = True,
        **options: Unpack[RoomOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "Room[EncodedVideoFrame]",
        signaling: str | Signaling,
        *,
        video: Literal[True] = True,
        decode: Literal[False],
        **options: Unpack[RoomOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "Room[None]",
        signaling: str | Signaling,
        *,
        video: Literal[False],
        decode: bool = True,
        **options: Unpack[RoomOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "Room[av.VideoFrame | EncodedVideoFrame | None]",
        signaling: str | Signaling,
        *,
        video: bool = True,
        decode: bool = True,
        **options: Unpack[RoomOptions],
    ) -> None: ...
    def __init__(self, signaling: str | Signaling, **options: Any) -> None:
        super().__init__(cast("rooms.Room[F]", rooms.Room(signaling, **options)))

    signaling = _Read[Signaling]()
    events = _Told[ParticipantEvent]()
    wait_closed = _waits(rooms.Room.wait_closed)

    def __iter__(self) -> Iterator[Participant[F]]:
        for participant in self._thread.iterate(aiter(self._it)):
            yield Participant(self._thread, participant)

    @property
    def participants(self) -> tuple[Participant[F], ...]:
        """Who is here, or has been gone for less than 10 seconds."""
        participants = self._thread.call(lambda: self._it.participants)
        return tuple(Participant(self._thread, participant) for participant in participants)

    def moments(self, *, within: float = rooms.WITHIN) -> Iterator[ParticipantMoment[F]]:
        """Iterate over the moments of everybody, in the order in which they were captured.

        Args:
            within: Seconds that a moment is held back at most. 0 gives out each as it comes.

        Raises:
            ValueError: ``within`` is negative.
            SignalingError: The server refuses for good, and no participant is connected any more.
        """
        for seen in self._thread.iterate(self._it.moments(within=within)):
            person = Participant(self._thread, seen.participant)
            yield ParticipantMoment(person, seen.moment, seen.captured, seen.late, seen.error)


class Broadcaster(_Session[broadcasters.Broadcaster]):
    """See :class:`synopticon_rtc.Broadcaster`."""

    @_takes(broadcasters.Broadcaster.__init__)
    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - the line above tells
        super().__init__(broadcasters.Broadcaster(*arguments, **options))

    signaling = _Read[Signaling]()
    name = _Read[str]()
    stats = _Read[BroadcasterStats]()
    peers = _Read[tuple[str, ...]]()
    recorders = _Read[tuple[str, ...]]()
    events = _Told[PeerEvent]()
    stream_events = _Told[StreamEvent]()
    source_events = _Told[SourceEvent]()
    detector_events = _Told[DetectorEvent]()
    faces = _Told[Moment]()
    wait_closed = _waits(broadcasters.Broadcaster.wait_closed)
    publish = _makes(broadcasters.Broadcaster.publish, PublishedStream)
    send = _waits(broadcasters.Broadcaster.send)
    send_file = _makes(broadcasters.Broadcaster.send_file, FileTransfer)
    send_folder = _makes(broadcasters.Broadcaster.send_folder, _each)
    send_away = _calls(broadcasters.Broadcaster.send_away)
    peer_stats = _calls(broadcasters.Broadcaster.peer_stats)
    request_keyframe = _calls(broadcasters.Broadcaster.request_keyframe)

    @property
    def files(self) -> Iterator[FileOffer]:
        """An iteration over the files that receivers offer, each given out once, until the broadcaster is closed."""
        for offer in self._thread.iterate(self._it.files):
            yield FileOffer(self._thread, offer)

    def messages(self, name: str) -> Iterator[Message]:
        """Iterate over the messages that receivers send on a channel of this name."""
        return self._thread.iterate(self._thread.call(self._it.messages, name))

    @property
    def streams(self) -> Mapping[str, PublishedStream]:
        """What is published now, by name."""
        streams = self._thread.call(dict, self._it.streams)
        return {name: PublishedStream(self._thread, stream) for name, stream in streams.items()}
