"""Those who iterate over the moments of a receiver."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from synopticon_rtc.basics.latest import Latest, Unbroken
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.receiving.received import ReceivedStream
from synopticon_rtc.receiving.sound import AudioMoment

T = TypeVar("T")

SOUND_WAIT = 1.0  # seconds that sound waits for a slow consumer, before the oldest gives way
ENCODED_WAIT = 1.0  # seconds that encoded frames wait for a slow consumer, before it misses all up to a keyframe
BURST = 0.02  # seconds: frames without faces come out together with the one before them that waited for its own
STILL = 3.0  # seconds without a frame in which a screen may just be as it was: signs of life come every 2.5 s


def sound_queue() -> Latest[AudioMoment | None]:
    """Make the queue of an iteration over sound."""
    return Latest(SOUND_WAIT)


def video_queue(*, encoded: bool) -> Latest[Moment[Any] | None]:
    """Make the queue of an iteration over a video, whose frames build on one another where they are encoded."""
    return Unbroken(ENCODED_WAIT, _stands_alone) if encoded else Latest(BURST)


def _stands_alone(moment: Moment[Any] | None) -> bool:
    return moment is None or moment.frame.keyframe


@dataclass(slots=True, eq=False)
class Iteration(Generic[T]):
    """One over the moments of a stream.

    Attributes:
        name: Of the stream, None for the first.
        queue: The moments that wait, and None at the end.
        is_read: Whether anybody takes them.
    """

    name: str | None
    queue: Latest[T | None]
    is_read: bool = False


class Iterations(Generic[T]):
    """Gives the moments of one kind to all who iterate over them, each of whom has a queue.

    Args:
        make: Makes a queue.
        find: Gives the stream of a name, or the first one without a name; None where there is none.
        check: Raises where nobody may iterate.
        timeout: Seconds to wait for a moment, None for ever.
        overdue: Makes the error for a moment that has not come, of the stream of this name, which is that one if any.
    """

    def __init__(
        self,
        make: Callable[[], Latest[T | None]],
        *,
        find: Callable[[str | None], ReceivedStream | None],
        check: Callable[[], None],
        timeout: float | None,
        overdue: Callable[[str | None, ReceivedStream | None], Exception],
    ) -> None:
        self._make = make
        self._find = find
        self._check = check
        self._timeout = timeout
        self._overdue = overdue
        self._all: list[Iteration[T]] = []
        self._ended = False
        self._error: Exception | None = None  # for which they have

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._all)

    def begin(self, name: str | None = None) -> Iteration[T]:
        """Keep moments from now on for one who may take them."""
        iteration = Iteration(name, self._make())
        self._all.append(iteration)
        if self._ended:
            iteration.queue.put(None)
        return iteration

    async def over(self, name: str | None) -> AsyncIterator[T]:
        """Iterate over the moments of a stream, or of the first one without a name."""
        self._check()
        iteration = self.begin(name)
        iteration.is_read = True
        try:
            while (moment := await self.next(iteration)) is not None:
                yield moment
        finally:
            self._all.remove(iteration)

    async def next(self, iteration: Iteration[T]) -> T | None:
        """Wait for the next moment; None is the end."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        due = None if self._timeout is None else asked + self._timeout
        while True:
            try:
                async with asyncio.timeout_at(due):
                    moment = await iteration.queue.get()
                break
            except TimeoutError:
                stream = self._find(iteration.name)
                if stream is not None and stream.hint == "screen" and due is not None and due < asked + STILL:
                    due = asked + STILL
                elif stream is not None and stream.muted:  # it is as the broadcaster wants it
                    due = loop.time() + (self._timeout or 0)
                else:
                    raise self._overdue(iteration.name, stream) from None
        if moment is None:
            iteration.queue.put(None)
            if self._error is not None:
                raise self._error
        return moment

    def put(self, handle: ReceivedStream, moment: T) -> bool:
        """Give a moment of a stream to all who want it; returns whether any of them missed one."""
        missed = [each.queue.put(moment) and each.is_read for each in self._over(handle)]
        return any(missed)

    def wants(self, handle: ReceivedStream) -> bool:
        """Whether anybody wants the moments of a stream."""
        return bool(self._over(handle))

    def end(self, error: Exception | None) -> None:
        """End all, also those to come, with an error if there is one."""
        self._ended, self._error = True, error
        for each in self._all:
            each.queue.put(None)

    def _over(self, handle: ReceivedStream) -> list[Iteration[T]]:
        is_first = handle is self._find(None)
        return [each for each in self._all if each.name == handle.name or (each.name is None and is_first)]
