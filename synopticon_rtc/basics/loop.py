"""An event loop in a thread of its own, for those who have none."""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _Over(Exception):
    """The event loop is not there yet, or no more."""


class LoopThread:
    """Runs coroutines for any number of other threads, which wait for them.

    Args:
        name: Of the thread.
        not_open: Makes the error for who asks for something before the start, or after the end.
    """

    def __init__(self, name: str, not_open: Callable[[], RuntimeError]) -> None:
        self._not_open = not_open
        self._lock = threading.RLock()  # what comes in time for the loop is run or cancelled, never forgotten
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun = threading.Event()
        self._end = asyncio.Event()
        # What hangs in it does not hold up the end of the process.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._failure: BaseException | None = None  # why there is no event loop

    @property
    def begun(self) -> bool:
        """Whether it was started, once."""
        return self._thread.ident is not None

    def start(self) -> None:
        """Start the thread.

        Raises:
            OSError: There can be no event loop, as too many files are open.
        """
        self._thread.start()
        self._begun.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self, last: Coroutine[Any, Any, object]) -> None:
        """Run a last coroutine, cancel what still runs then, and wait for the end of the thread.

        It may be called again, and whatever came of the start.

        Raises:
            RuntimeError: This is that thread.
        """
        try:
            with contextlib.suppress(_Over):
                self._run(last)
        finally:
            if not self._is_here:
                with self._lock:
                    end = self._end.set
                    end() if self._loop is None else self._loop.call_soon_threadsafe(end)
                if self.begun:
                    self._thread.join()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, and wait for what it returns; what interrupts that, cancels it.

        Raises:
            RuntimeError: The thread was not started, or has ended, or this is that thread.
        """
        try:
            return self._run(work)
        except _Over:
            raise self._not_open() from None

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the thread; where that does not run, here."""

        async def work() -> T:
            return function(*args, **kwargs)

        if self._is_here:
            return function(*args, **kwargs)
        with contextlib.suppress(_Over):
            return self._run(work())
        return function(*args, **kwargs)

    def iterate(self, iteration: AsyncIterator[T]) -> Iterator[T]:
        """Iterate over what an async iteration gives; the end of the thread is its end.

        Raises:
            RuntimeError: The thread was not started, or has ended before the first item is asked for.
        """
        if self._loop is None:
            raise self._not_open()

        async def following() -> T:
            return await anext(iteration)

        try:
            while True:
                try:
                    item = self._run(following())
                except (StopAsyncIteration, _Over):
                    return
                yield item
        finally:
            if isinstance(iteration, AsyncGenerator):
                self._leave(iteration)

    @property
    def _is_here(self) -> bool:
        return threading.current_thread() is self._thread

    def _leave(self, iteration: AsyncGenerator[Any]) -> None:
        """End an iteration without waiting, as whoever collects garbage may be any thread."""

        async def leave() -> None:
            await iteration.aclose()

        with self._lock:
            if self._loop is not None:
                asyncio.run_coroutine_threadsafe(leave(), self._loop)

    def _work(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._live())
        except BaseException as error:
            if self._begun.is_set():  # a callback has ended it, as with sys.exit()
                raise
            self._failure = error
        finally:
            self._begun.set()

    async def _live(self) -> None:
        with self._lock:
            self._loop = asyncio.get_running_loop()
        self._begun.set()
        try:
            await self._end.wait()
        finally:
            with self._lock:
                self._loop = None

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._loop is None or self._is_here:
                work.close()
                if self._is_here:
                    raise RuntimeError("a callback cannot wait: what it would wait for is done in its own thread")
                raise _Over
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise _Over from None
        finally:
            future.cancel()
