"""Everybody who broadcasts in a room, as they come and go: a receiver each, and the moments of all in their order."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Self, TypeAlias, Unpack, overload

import av

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.life import Leaving, Life, entered_before, not_open
from synopticon_rtc.engines import as_signaling
from synopticon_rtc.errors import SignalingError
from synopticon_rtc.events import Events, ParticipantEvent, StateEvent
from synopticon_rtc.faces import Detector
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.receiver import Receiver
from synopticon_rtc.receiving.iterations import ENCODED_WAIT
from synopticon_rtc.receiving.merge import Merge
from synopticon_rtc.receiving.options import Options
from synopticon_rtc.receiving.pairing import F
from synopticon_rtc.rtc import EncodedVideoFrame
from synopticon_rtc.signaling.entry import Token
from synopticon_rtc.signaling.messages import AnyMessage, Ice, Offer, PeerLeft, Requirements
from synopticon_rtc.signaling.session import Signaling

logger = logging.getLogger(__name__)

AWAY = 10.0
"""Seconds for which a participant may be gone and come back as the same one."""
MOST = 100
"""Participants at once."""
WITHIN = 0.1
"""Seconds that a moment waits at most for those before it."""
AT_ONCE = 16
"""Participants that are connected to at a time: with all of a crowd, no handshake would be done in time."""
EARLY = 32
"""Messages of a participant that are kept until its receiver has started."""
LINGER = 0.02
"""Seconds in which moments whose turn has come give way to none, so that all that come in a burst are taken."""


class Participant(Generic[F]):
    """Somebody who broadcasts in a room.

    Attributes:
        receiver: What receives what this one broadcasts. It goes on when the participant comes back, and it is closed,
            with which iterations over it end, when the participant has left.
        state: What became of the connection last.
        beside: What entering that gave which the room was asked to make beside each receiver; None without.
    """

    def __init__(self, receiver: Receiver[F]) -> None:
        self.receiver = receiver
        self.beside: Any = None
        self.state = StateEvent("seeking", "")
        receiver.events.subscribe(self._changed)

    def __repr__(self) -> str:
        return f"<Participant {self.name or self.session!r}, {self.state.state}>"

    @property
    def name(self) -> str:
        """What the participant is called: by the token, or else by its own word; empty for one that gave no name."""
        return self.receiver.origin.name

    @property
    def session(self) -> str:
        """The participant's signaling session, which is another one after a return as another process or page."""
        return self.receiver.origin.session

    @property
    def is_here(self) -> bool:
        """Whether it is connected now; else it may come back."""
        return self.state.state == "connected"

    def _changed(self, event: StateEvent) -> None:
        self.state = event


@dataclass(frozen=True, slots=True, eq=False)
class ParticipantMoment(Generic[F]):
    """A moment of somebody in a room.

    Attributes:
        participant: Whose it is.
        moment: It.
        captured: When its frame was captured, seconds since the epoch by the clock of this machine; None where the
            broadcaster did not tell, or not yet.
        late: Whether one that was captured later was given out before it.
        error: By how many seconds ``captured`` is wrong at most; None where that is None.
    """

    participant: Participant[F]
    moment: Moment[F]
    captured: float | None
    late: bool
    error: float | None


Beside: TypeAlias = Callable[[Participant[F]], AbstractAsyncContextManager[object]]


@dataclass(slots=True, eq=False)
class _Place(Generic[F]):
    """Of a participant, or of whoever is looked for."""

    participant: Participant[F]
    came: list[Offer | Ice] = field(default_factory=list)  # of the one it is for, until its receiver takes them
    found: bool = False
    latest: tuple[float, float] = float("-inf"), 0.0  # when its last moment was captured, and how wrong that may be
    limit: asyncio.Timeout | None = None  # ends it once it has been gone for too long; None while it does not run
    task: asyncio.Task[None] | None = None  # what runs it; None once it is ending
    reason: str = "its receiver was closed"  # why it ends

    def end(self) -> None:
        """End it, once: whoever cancels what is ending leaves things half done."""
        task, self.task = self.task, None
        if task is not None:
            task.cancel()

    @property
    def is_ending(self) -> bool:
        """Whether nothing changes any more that it ends."""
        return self.task is None or (self.limit is not None and self.limit.expired())

    @property
    def is_looking(self) -> bool:
        """Whether it takes whoever has no place yet."""
        return not self.found and not self.came and self.participant.state.state == "seeking"


class Room(Generic[F]):
    """Receives everybody who broadcasts in a room: an async iteration of :class:`~synopticon_rtc.Participant`.

    The iteration gives those who are there, and then each who comes, and does not end before the room is left. All
    share one session of the signaling server. Who goes, and comes back within 10 seconds by the same name, goes on as
    the same participant; ``events`` tells of everything. There are 100 at most.

    Use it as an async context manager, or await :meth:`start` and in the end :meth:`aclose`, once.

    Args:
        signaling: The address of a Synopticon signaling server, or a client that is shared with others.
        room: The room to be in, where ``signaling`` is an address; empty for that of all who name none.
        token: What the server wants to see, likewise, as :class:`~synopticon_rtc.SignalingClient` takes it.
        video: As for :class:`~synopticon_rtc.Receiver`.
        decode: As for :class:`~synopticon_rtc.Receiver`.
        detector: Makes what finds faces in the video of one participant who sends none, as ``detector`` of a
            :class:`~synopticon_rtc.Receiver` does: ``FaceLandmarker``, or a function that returns one with options. It
            is called for each participant, and for whoever will come next, as a detector that follows faces from frame
            to frame cannot be shared among people.
        beside: Makes what each participant has beside its receiver, such as a :class:`~synopticon_rtc.Recorder` of
            that: an async context manager. It is entered before the receiver looks for somebody, for whoever will come
            next too, and left after the receiver was closed.
        options: What else each :class:`~synopticon_rtc.Receiver` is made with.

    Attributes:
        signaling: The client by which it finds the participants.
        events: Who comes and goes. Iterations over them end when the room is left.

    Raises:
        ValueError: An option is out of range, as for :class:`~synopticon_rtc.Receiver`.
        TypeError: ``signaling`` is a client, and there is a ``room`` or a ``token`` too, or an option is of a wrong
            kind.
    """

    @overload
    def __init__(
        self: "Room[av.VideoFrame]",
        signaling: str | Signaling,
        *,
        room: str = "",
        token: Token | None = None,
        video: Literal[True] = True,
        decode: Literal[True] = True,
        detector: Callable[[], Detector] | None = None,
        beside: Beside[av.VideoFrame] | None = None,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: "Room[EncodedVideoFrame]",
        signaling: str | Signaling,
        *,
        room: str = "",
        token: Token | None = None,
        video: Literal[True] = True,
        decode: Literal[False],
        beside: Beside[EncodedVideoFrame] | None = None,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: "Room[None]",
        signaling: str | Signaling,
        *,
        room: str = "",
        token: Token | None = None,
        video: Literal[False],
        decode: bool = True,
        beside: Beside[None] | None = None,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: "Room[av.VideoFrame | EncodedVideoFrame | None]",
        signaling: str | Signaling,
        *,
        room: str = "",
        token: Token | None = None,
        video: bool = True,
        decode: bool = True,
        detector: Callable[[], Detector] | None = None,
        beside: Beside[av.VideoFrame | EncodedVideoFrame | None] | None = None,
        **options: Unpack[Options],
    ) -> None: ...
    def __init__(
        self,
        signaling: str | Signaling,
        *,
        room: str = "",
        token: Token | None = None,
        video: bool = True,
        decode: bool = True,
        detector: Callable[[], Detector] | None = None,
        beside: Beside[Any] | None = None,
        **options: Unpack[Options],
    ) -> None:
        if detector is not None and not callable(detector):
            raise TypeError(
                "detector must be what makes one for each participant, such as FaceLandmarker "
                f"or lambda: FaceLandmarker(max_faces=2), not {detector!r:.100}"
            )
        self.signaling = as_signaling(signaling, room=room, token=token)
        self.events: Events[ParticipantEvent] = Events()
        self._make: Callable[[], Receiver[Any]] = lambda: Receiver(
            self.signaling, video=video, decode=decode, detector=None if detector is None else detector(), **options
        )
        self._made: list[Receiver[Any]] = [self._make()]  # at once, as it refuses what it cannot be made with
        self._network = self._made[0].network
        self._beside = beside or (lambda _: contextlib.nullcontext())
        self._builds_on = video and not decode  # whether moments build on one another
        self._places: list[_Place[F]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._merges: list[_Merged[F]] = []  # one an iteration over moments
        self._news: list[asyncio.Event] = []  # one an iteration over participants
        self._life = Life(self._over)
        self._refused: SignalingError | None = None
        self._full = False
        self._left = False
        self._exit = contextlib.AsyncExitStack()
        self._leaving = Leaving(self._close)

    async def start(self) -> Self:
        """Start looking for participants; does not wait for any. :meth:`aclose` ends that.

        Raises:
            RuntimeError: It was entered before.
        """
        if self._life.begun:
            raise entered_before(self)
        self._life.begun = True
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.signaling)
            door = _Door(self._offered, self._came)
            self.signaling.listen(door)
            stack.callback(self.signaling.leave, door)
            stack.push_async_callback(self._leave)
            self._look()
            if self._leaving.begun:
                raise not_open(self)
            self._exit = stack.pop_all()
        return self

    async def aclose(self) -> None:
        """Say goodbye to everybody, and close; a second call waits for the first.

        Cancelled meanwhile, it does all of that before it raises.

        Raises:
            RuntimeError: What is beside a receiver asked for it, for whose end it waits.
        """
        if asyncio.current_task() in self._tasks:
            raise RuntimeError("what is beside a receiver cannot close the room, which waits for its end: use a task")
        if self._life.begun:
            await self._leaving.wait()

    async def __aenter__(self) -> Self:
        """Do as :meth:`start`."""
        return await self.start()

    async def __aexit__(self, *exception: object) -> None:
        """Do as :meth:`aclose`."""
        await self.aclose()

    @property
    def participants(self) -> tuple[Participant[F], ...]:
        """Who is here, or has been gone for less than 10 seconds, in the order in which they were found."""
        return tuple(place.participant for place in self._places if place.found)

    async def wait_closed(self) -> None:
        """Wait until the room is left.

        Raises:
            SignalingError: The server refuses for good, and no participant is connected any more.
            RuntimeError: It was not started.
        """
        if not self._life.begun:
            raise not_open(self)
        await self._life.wait()

    async def __aiter__(self) -> AsyncIterator[Participant[F]]:
        """Iterate over the participants who are there, and then over each who comes; raises as :meth:`wait_closed`."""
        self._check_open()
        given: set[Participant[F]] = set()
        news = asyncio.Event()
        self._news.append(news)
        try:
            while not self._life.over:
                news.clear()
                for participant in self.participants:
                    if participant not in given:
                        given.add(participant)
                        yield participant
                given.intersection_update(self.participants)
                await news.wait()
        finally:
            self._news.remove(news)
        await self._life.wait()

    async def moments(self, *, within: float = WITHIN) -> AsyncIterator[ParticipantMoment[F]]:
        """Iterate over the moments of everybody, of the first video of each, in the order in which they were captured.

        A moment is given out once everybody who is here has given one that was captured later, so that none can come
        that goes before it, and after ``within`` seconds at the latest. So moments are in order as long as the delays
        of participants differ by less than that. What comes after its place was passed is given out at once, and
        marked as ``late``. The moments of one participant keep their order; those whose capture time is not known take
        the time at which they came.

        A consumer that is slower than they come gets the newest moment of each participant, or with ``decode=False``
        all, as the iteration over a receiver does. Any number of these iterations run beside one another.

        Args:
            within: Seconds that a moment is held back at most. 0 gives out each as it comes.

        Raises:
            ValueError: ``within`` is negative.
            SignalingError: As for :meth:`wait_closed`.
        """
        if not within >= 0:
            raise ValueError(f"within must be 0 or more, not {within}")
        self._check_open()
        merged: _Merged[F] = _Merged(within, builds_on=self._builds_on)
        for participant in self.participants:
            if participant.is_here:
                merged.join(participant)
        self._merges.append(merged)
        if self._life.over:
            merged.close()
        try:
            while (moment := await merged.get()) is not None:
                yield moment
        finally:
            self._merges.remove(merged)
            merged.close()
        await self._life.wait()

    def _check_open(self) -> None:
        if not self._life.begun or self._left:
            raise not_open(self)

    async def _close(self) -> None:
        await self._exit.aclose()

    async def _leave(self) -> None:
        self._left = True
        self._life.end()
        for place in self._places:
            place.end()
        while self._tasks:
            await asyncio.wait(self._tasks)
        self.events.close()

    def _over(self, _: BaseException | None) -> None:
        for news in self._news:
            news.set()
        for merged in self._merges:
            merged.close()

    # Whoever comes

    def _look(self) -> None:
        """See to it that one looks for whoever has no place yet: the oldest, which knows whom it tried in vain."""
        looking = [place for place in self._places if place.is_looking]
        for more in looking[1:]:
            more.end()
        if looking or self._life.over or self._refused is not None:
            return
        was_full, self._full = self._full, self._is_full
        if self._full:
            if not was_full:
                logger.warning("there are %d participants: others have to wait until one is gone", MOST)
            return
        if not self._is_busy:
            self._add([])

    @property
    def _is_busy(self) -> bool:
        return sum(not (place.found or place.is_looking) for place in self._places) >= AT_ONCE

    @property
    def _is_full(self) -> bool:
        return len(self._places) >= MOST

    def _away(self) -> set[str]:
        """The names of those who may come back to their places."""
        away = (place.participant for place in self._places if place.found and not place.participant.is_here)
        return {participant.name for participant in away} - {""}

    def _offered(self, offer: Offer) -> bool:
        """Have a receiver of its own take an offer that those who look have left, as they have found others."""
        is_taken = offer.source_session in self.signaling.claimed
        if is_taken or self._is_full or self._is_busy or self._life.over or self._refused is not None:
            return False
        self._add([offer])
        return True

    def _came(self) -> Iterator[list[Offer | Ice]]:
        """Give what has come of those whose receivers have not started yet."""
        return (place.came for place in self._places if place.came)

    def _add(self, came: list[Offer | Ice]) -> None:
        """Have one more receiver, for whom ``came`` is of, or else for whoever comes."""
        try:
            receiver = self._made.pop() if self._made else self._make()
            receiver.network = self._network
            receiver.expect(came, self._away)
            place: _Place[F] = _Place(Participant(receiver), came)
            receiver.events.subscribe(functools.partial(self._changed, place))
            beside = self._beside(place.participant)
        except Exception as error:
            self._life.end(error)
            raise
        self._places.append(place)
        place.task = asyncio.create_task(self._follow(place, beside), name="participant")
        self._tasks.add(place.task)
        place.task.add_done_callback(functools.partial(self._ended, place))

    async def _follow(self, place: _Place[F], beside: AbstractAsyncContextManager[object]) -> None:
        """Receive one participant, until it has been gone for a while."""
        async with beside as place.participant.beside, place.participant.receiver as receiver:
            try:
                await self._receive(place, receiver)
            except TimeoutError:
                place.reason = f"not back within {AWAY:g} s"
            finally:
                place.task = None

    async def _receive(self, place: _Place[F], receiver: Receiver[F]) -> None:
        """Give its moments to all iterations. Raises :class:`TimeoutError` when it has been gone for a while."""
        try:
            async with asyncio.timeout(None) as place.limit:
                async for moment in receiver.moments():
                    if self._merges:
                        self._give(place, moment)
        finally:
            place.limit = None

    def _give(self, place: _Place[F], moment: Moment[F]) -> None:
        when = self._reckon(place, moment)
        for merged in self._merges:
            merged.put(place.participant, moment, when)

    def _reckon(self, place: _Place[F], moment: Moment[F]) -> tuple[float, float] | None:
        """Return when a moment was captured by our clock, and by how much that may be wrong; None where it is not told.

        The clocks are compared anew while moments come. What is then known better puts none before an earlier one of
        the same participant.
        """
        offset, error = place.participant.receiver.clock_offset, place.participant.receiver.clock_error
        if moment.captured is None or offset is None or error is None:
            return None
        captured = min(moment.captured - offset, clock.now())
        latest, its_error = place.latest
        place.latest = (captured, error) if captured >= latest else (latest, max(error, its_error))
        return place.latest

    def _changed(self, place: _Place[F], event: StateEvent) -> None:
        """Take the news of a connection."""
        participant = place.participant
        if place.is_ending:
            pass  # who comes back in the very moment in which it is given up is found anew
        elif event.state == "connected":
            self._connected(place)
        elif place.found and place.limit is not None and place.limit.when() is None:
            place.limit.reschedule(asyncio.get_running_loop().time() + AWAY)
            for merged in self._merges:
                merged.leave(participant)
            self._tell("away", event.reason, participant)
        self._look()

    def _connected(self, place: _Place[F]) -> None:
        participant = place.participant
        participant.receiver.stay()
        if place.limit is not None:
            place.limit.reschedule(None)
        for merged in self._merges:
            merged.join(participant)
        if place.found:
            self._tell("returned", participant.state.reason, participant)
        else:
            place.found = True
            self._tell("joined", participant.state.reason, participant)
            for news in self._news:
                news.set()

    def _ended(self, place: _Place[F], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._places.remove(place)
        if place.found:
            for merged in self._merges:
                merged.leave(place.participant)
            self._tell("left", place.reason if not self._left else "the room was left", place.participant)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, SignalingError):
            self._refused = error
        elif error is not None:
            self._life.end(error)
        if self._refused is not None and not self._places:
            self._life.end(self._refused)
        self._look()

    def _tell(
        self, state: Literal["joined", "away", "returned", "left"], reason: str, participant: Participant[F]
    ) -> None:
        self.events.emit(ParticipantEvent(state, reason, participant.name, participant.session))


class _Door:
    """Keeps the offers that come while nobody is free to take them, and what follows each.

    All who broadcast answer the one who looks for somebody, and each makes few offers a second to one session: so what
    is let go is missed for seconds.

    Args:
        offered: Given each offer that nobody took; says whether it is kept.
        kept: Gives what is kept of each, the offer first, which is emptied once it is taken.
    """

    requirements = Requirements(role=(), tell=())

    def __init__(self, offered: Callable[[Offer], bool], kept: Callable[[], Iterator[list[Offer | Ice]]]) -> None:
        self._offered = offered
        self._kept = kept

    def opened(self, _: str) -> None:
        """Forget all: they know us by another session."""
        for came in self._kept():
            came.clear()

    def received(self, message: AnyMessage) -> bool:
        """Take what comes of those whose offers are kept."""
        match message:
            case PeerLeft(session=session):
                self._forget(session)
                return False
            case Offer() | Ice():
                return self._follows(message)
            case _:
                return False

    def unclaimed(self, message: AnyMessage) -> bool:
        """Keep an offer that nobody took."""
        return isinstance(message, Offer) and not message.is_turned and self._offered(message)

    def failed(self, error: SignalingError) -> None:
        """Leave that to the receivers."""

    def _of(self, session: str) -> list[Offer | Ice]:
        return next((came for came in self._kept() if came[0].source_session == session), [])

    def _forget(self, session: str) -> None:
        self._of(session).clear()

    def _follows(self, message: Offer | Ice) -> bool:
        came = self._of(message.source_session)
        if not came:
            return False
        if isinstance(message, Offer):
            came[:] = [message]  # the same once more, or the one that counts now
        elif message.bye is not None:
            came.clear()
        elif len(came) < EARLY:
            came.append(message)
        return True


class _Merged(Generic[F]):
    """The moments of everybody, for one iteration.

    Args:
        within: Seconds that a moment is held back at most.
        builds_on: Whether moments build on one another, so that all are to be taken.
    """

    def __init__(self, within: float, *, builds_on: bool) -> None:
        self._merge: Merge[Participant[F], tuple[Moment[F], tuple[float, float] | None]] = Merge(
            within,
            linger=ENCODED_WAIT if builds_on else LINGER,
            stands_alone=(lambda item: _is_keyframe(item[0])) if builds_on else None,
            missed=(lambda participant: participant.receiver.request_keyframe()) if builds_on else (lambda _: None),
        )
        self._filled = asyncio.Event()
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None

    def join(self, participant: Participant[F]) -> None:
        """Wait for the moments of a participant."""
        self._merge.join(participant)

    def leave(self, participant: Participant[F]) -> None:
        """Wait for them no more."""
        self._merge.leave(participant, clock.now())
        self._go_on()

    def put(self, participant: Participant[F], moment: Moment[F], when: tuple[float, float] | None) -> None:
        """Take a moment, with when it was captured and by how much that may be wrong; None where it is not known."""
        now = clock.now()
        self._merge.put(participant, now if when is None else when[0], (moment, when), now)
        self._go_on()

    async def get(self) -> ParticipantMoment[F] | None:
        """Wait for the next moment; None once it is closed."""
        while not self._merge.is_ready:
            if self._closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        _, participant, (moment, when), late = self._merge.take()
        captured, error = when or (None, None)
        return ParticipantMoment(participant, moment, captured, late, error)

    def close(self) -> None:
        """Give out what is there, and end."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._merge.tick(float("inf"))
        self._filled.set()

    def _tick(self) -> None:
        self._timer = None
        self._merge.tick(clock.now())
        self._go_on()

    def _go_on(self) -> None:
        """Wake whoever takes moments, and see to it that what waits will have its turn."""
        if self._merge.is_ready:
            self._filled.set()
        if self._timer is None and not self._closed and (due := self._merge.next_tick()) < float("inf"):
            self._timer = asyncio.get_running_loop().call_later(due - clock.now(), self._tick)


def _is_keyframe(moment: Moment[Any]) -> bool:
    return isinstance(moment.frame, EncodedVideoFrame) and moment.frame.keyframe
