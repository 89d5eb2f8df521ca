"""An event loop whose clock jumps to whatever is due next, so that tests wait for nothing."""

import asyncio
import datetime as dt
import functools
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar
from unittest.mock import patch

import aiortc.clock
import aiortc.rtcsctptransport

from synopticon_rtc.rtc import EncodedVideoFrame, receiver
from synopticon_rtc.rtc.decoder import Decoder

BEGIN = 1000.0
"""What the clock of each loop begins at, s."""
STUCK = 5.0
"""Seconds of the machine's own after which nothing will come any more."""

P = ParamSpec("P")
T = TypeVar("T")


class TurnedLoop(asyncio.SelectorEventLoop):
    """An event loop that never sleeps: where nothing is ready, it is at once the time of the next timer.

    What is given to an executor runs at once and takes no time, so all goes the same way each time. Decoders are waited
    for. What other threads and real sockets do takes time that this clock does not show.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGIN
        self.decoders: list[AwaitedDecoder] = []
        self._clock_resolution = 1e-9  # timers are due when they say
        select = self._selector.select  # type: ignore[attr-defined]

        def turn(timeout: float | None) -> Any:
            if timeout is None:
                events = select(STUCK)
                if not events:
                    raise RuntimeError("everybody waits, and there is no timer left that could end it")
                return events
            if timeout > 0 and any(decoder.busy for decoder in self.decoders):
                return select(STUCK)
            self.now += max(timeout, 0.0)
            return select(0)

        self._selector.select = turn  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now

    def run_in_executor(  # type: ignore[override]
        self,
        executor: Executor | None,  # noqa: ARG002 - as it is called
        func: Callable[..., T],
        *args: Any,
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            done.set_exception(error)
        return done


class AwaitedDecoder(Decoder):
    """A decoder that a loop which is turned waits for, so that it takes no time.

    Attributes:
        busy: Whether the thread has something to do, or is about to end.
        ended: Whether it has.
    """

    busy = False
    ended = False

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        assert isinstance(self._loop, TurnedLoop)
        self._loop.decoders.append(self)

    def put(self, frame: EncodedVideoFrame) -> bool:
        with self._changed:
            self.busy = True
            return super().put(frame)

    def stop(self) -> None:
        with self._changed:
            self.busy = not self.ended
        super().stop()

    def _wait(self) -> tuple[int, EncodedVideoFrame] | None:
        with self._changed:
            if not self._queue and not self._closing:
                self._rest()
        return super()._wait()

    def _run(self) -> None:
        super()._run()
        with self._changed:
            self.ended = True
            self._rest()

    def _rest(self) -> None:
        self.busy = False
        self._call(lambda: None)  # which wakes the loop


class _Clock:
    """What stands in for the module ``time`` where aiortc reads it."""

    @staticmethod
    def time() -> float:
        return asyncio.get_running_loop().time()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def _datetime() -> dt.datetime:
    return dt.datetime.fromtimestamp(asyncio.get_running_loop().time(), dt.UTC)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run something on an event loop that is turned; aiortc reads the same clock."""
    with (
        patch.object(aiortc.clock, "current_datetime", _datetime),
        patch.object(aiortc.rtcsctptransport, "time", _Clock()),
        patch.object(receiver, "Decoder", AwaitedDecoder),
        asyncio.Runner(loop_factory=TurnedLoop) as runner,
    ):
        return runner.run(work)


def turned(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Have a test run on an event loop that is turned."""

    @functools.wraps(test)
    def play(*args: P.args, **kwargs: P.kwargs) -> T:
        return run(test(*args, **kwargs))

    return play


async def elapse(seconds: float) -> None:
    """Let time pass on the clock that is turned: nobody waits for it."""
    assert isinstance(asyncio.get_running_loop(), TurnedLoop), "this test would sleep: it needs @turned"
    await asyncio.sleep(seconds)
