"""Work that goes on in a thread while what follows is got ready."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Worker:
    """A thread that does one job after the other, of which at most one waits for those who give it.

    A job that fails is the last: whoever gives the next, or ends the work, gets its error.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._last: Future[None] | None = None

    async def do(self, job: Callable[[], None]) -> None:
        """Begin a job once the one before is done. Raises what that one raised."""
        if self._last is not None:
            await asyncio.shield(asyncio.wrap_future(self._last))
        self._last = self._thread.submit(job)

    async def end(self, job: Callable[[], None], abandon: Callable[[], None]) -> None:
        """Do the last job once all are done, and wait for it; it goes on if nobody waits any more.

        Args:
            job: The last.
            abandon: Done if that one, or the one before, has failed.

        Raises:
            Exception: What failed.
        """
        before = self._last

        def last() -> None:
            try:
                if before is not None:
                    before.result()  # there already, as one thread does all
                job()
            except BaseException:
                abandon()
                raise

        ended = self._thread.submit(last)
        self._thread.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(ended))
