"""Parts that become one file, each as soon as it is there."""

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue

from synopticon_rtc.errors import TableError

Join = Callable[[Iterable[Path], Path], None]
"""Makes one file of parts that come one by one, and moves it into its place; raises OSError where it cannot."""


class _GivenUpError(Exception):
    pass


class Joining:
    """Joins the parts of a file in a thread. Nothing is in its place until all of them are in it.

    Args:
        join: What makes it.
        path: Its place.
    """

    def __init__(self, join: Join, path: Path) -> None:
        self._path = path
        self._coming: SimpleQueue[Path | _GivenUpError | None] = SimpleQueue()
        thread = ThreadPoolExecutor(1, "joining")
        self._joined = thread.submit(self._work, join)
        thread.shutdown(wait=False)

    def add(self, part: Path) -> None:
        """Let the next part be joined, which is whole.

        Raises:
            TableError: One before could not be.
        """
        self._coming.put(part)
        if self._joined.done():
            self._check()

    def finish(self) -> None:
        """Wait until all of them are joined; this blocks.

        Raises:
            TableError: They cannot be.
        """
        self._coming.put(None)
        self._check()

    def give_up(self) -> None:
        """Leave nothing of it, unless it is finished; this blocks."""
        self._coming.put(_GivenUpError())
        wait([self._joined])

    def _check(self) -> None:
        try:
            self._joined.result()
        except OSError as error:
            raise TableError(f"{self._path} cannot be written: {error.strerror or error}") from error

    def _work(self, join: Join) -> None:
        first = self._next()  # before there is a part, there is no file
        if first is not None:
            join(itertools.chain([first], iter(self._next, None)), self._path)

    def _next(self) -> Path | None:
        """Wait for the next part; None after the last."""
        coming = self._coming.get()
        if isinstance(coming, _GivenUpError):
            raise coming
        return coming
