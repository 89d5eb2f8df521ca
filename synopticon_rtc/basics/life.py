"""How long objects live that are started and closed, and what they say to those who use them outside of that."""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine


def entered_before(what: object) -> RuntimeError:
    """Make the error for one that can be entered only once."""
    kind, enter, _ = _ways(what)
    return RuntimeError(f"a {kind} can be entered only once: make another one for each `{enter}`")


def not_open(what: object) -> RuntimeError:
    """Make the error for one that was not entered yet, or was left."""
    kind, enter, start = _ways(what)
    starts = f", or after `{start}`" if hasattr(what, "start") else ""
    return RuntimeError(f"this {kind} is not open: use it inside `{enter} {kind}(...) as ...:`{starts}")


def _ways(what: object) -> tuple[str, str, str]:
    """Return what something is, and how it is entered and started."""
    kind = type(what).__name__
    return (kind, "async with", "await ....start()") if hasattr(what, "__aenter__") else (kind, "with", "....start()")


class Leaving:
    """What is done once, and all of it: whoever is cancelled meanwhile waits on, and who asks for it again waits too.

    Args:
        work: Does it.
    """

    def __init__(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether it was begun."""
        return self._task is not None

    async def wait(self) -> None:
        """Do it, or wait until it is done. Cancelled meanwhile, this raises only then."""
        task = self._task = self._task or asyncio.create_task(self._work(), name="leaving")
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
        task.result()
        if cancelled is not None:
            raise cancelled


class Life:
    """Lasts until somebody ends it, or until one of its parts ends.

    Args:
        on_end: Called once, at the end, with the error that was the reason, or None.

    Attributes:
        begun: Whether it was begun; nobody begins it twice.
        over: Whether it has ended.
    """

    def __init__(self, on_end: Callable[[BaseException | None], None]) -> None:
        self.begun = False
        self.over = False
        self._on_end = on_end
        self._error: BaseException | None = None
        self._ended = asyncio.Event()
        self._leaving = False  # whether parts are stopped, and their ends are no errors

    def run(
        self, stack: contextlib.AsyncExitStack, work: Coroutine[None, None, None], cancelled: BaseException
    ) -> None:
        """Run a part until the stack unwinds; if it ends before, so does this life.

        Args:
            stack: Ends the part.
            work: The part.
            cancelled: What it means if the part is cancelled by anybody else.
        """
        task = asyncio.create_task(work)
        task.add_done_callback(functools.partial(self._part_ended, cancelled))
        stack.push_async_callback(self._stop, task)

    def end(self, error: BaseException | None = None) -> None:
        """End it; only the first end counts."""
        if self.over:
            return
        self.over = True
        self._error = error
        self._ended.set()
        self._on_end(error)

    async def wait(self) -> None:
        """Wait for the end, and raise the error that was the reason, if there was one."""
        await self._ended.wait()
        if self._error is not None:
            raise self._error

    async def _stop(self, task: asyncio.Task[None]) -> None:
        self._leaving = True
        task.cancel()
        await asyncio.wait([task])

    def _part_ended(self, cancelled: BaseException, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self.end(task.exception())
        else:
            self.end(None if self._leaving else cancelled)
