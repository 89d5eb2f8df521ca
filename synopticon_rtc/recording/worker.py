"""Work that goes on in a thread while what follows is got ready."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Worker:
    """A thread that does one job after the other, of which at most one waits for those who give it.

    A job that fails is the last: whoever gives the next, or waits for the end, gets its error.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._last: asyncio.Future[None] | None = None

    async def do(self, job: Callable[[], None]) -> None:
        """Begin a job once the one before is done. Raises what that one raised."""
        await self.done()
        self._last = asyncio.get_running_loop().run_in_executor(self._thread, job)

    async def done(self) -> None:
        """Wait until all is done, and go on with it if nobody waits any more. Raises what the last job raised."""
        if self._last is not None:
            await asyncio.shield(self._last)

    def end(self) -> None:
        """Let the thread end once all is done."""
        self._thread.shutdown(wait=False)
