"""A file on its way, as an application holds it, at either end."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from synopticon_rtc.basics import clock
from synopticon_rtc.errors import SynopticonError

WINDOW = 3.0
"""Seconds over which the rate is taken."""
SAMPLE = 0.1
"""Seconds from one sample of it to the next, and from one progress that is told to the next."""
LEAST_RATE = 1000
"""Bytes a second: a packet takes about as long."""


@dataclass(frozen=True, slots=True)
class FileProgress:
    """How far a file has come.

    Attributes:
        octets: Bytes that are on the disk of the receiving end, as far as this end knows.
        size: Bytes of the file.
        rate: Bytes a second, over the last three seconds.
        left: Seconds that the rest takes at this rate; None while nobody can tell.
    """

    octets: int
    size: int
    rate: float
    left: float | None


class FileTransfer:
    """A file that is sent or received. Iterate over it for its progress, or await :meth:`wait`, or both.

    An iteration gives the newest :class:`FileProgress` about ten times a second, ends when the file is there, and
    raises what :meth:`wait` raises.

    Attributes:
        name: Of the file.
        folder: The folders that it is sent with, the outermost first; empty for one that is sent by itself.
        size: Bytes.
        session: The signaling session of the other end.
        sent: Whether it is sent, and not received.
        path: Where it is read from; or where it is, once it was received, and None before.
        moved: Bytes that were sent or received over this connection, those before a resume left out.
    """

    def __init__(
        self, name: str, folder: tuple[str, ...], size: int, session: str, *, path: Path | None, sent: bool
    ) -> None:
        self.name = name
        self.folder = folder
        self.size = size
        self.session = session
        self.sent = sent
        self.path = path
        self.moved = 0
        self.on_cancel: Callable[[str], None] | None = None
        """Called when it is cancelled here, with the reason."""
        self._octets = 0
        self._samples: deque[tuple[float, int]] = deque()
        self._error: SynopticonError | None = None
        self._ended = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def progress(self) -> FileProgress:
        """How far it has come."""
        rate = self._rate()
        left = (self.size - self._octets) / rate if rate else None
        return FileProgress(self._octets, self.size, rate, left)

    @property
    def is_over(self) -> bool:
        """Whether it is there, or never will be."""
        return self._ended.is_set()

    @property
    def error(self) -> SynopticonError | None:
        """Why it is not there; None while it is on its way, and when it is there."""
        return self._error

    async def wait(self) -> None:
        """Wait until the file is at the receiving end, under its name, and its hash is right.

        Raises:
            FileError: It was refused or cancelled, cannot be read or written, or is not what was sent.
            ConnectionLost: The connection is gone. Sent once more, it goes on where it was.
        """
        await self._ended.wait()
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> AsyncIterator[FileProgress]:
        """Give the progress, until it is over."""
        while not self._ended.is_set():
            yield self.progress
            self._changed.clear()
            await self._changed.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAMPLE):
                    await self._ended.wait()
        if self._error is not None:
            raise self._error
        yield self.progress

    def cancel(self, reason: str = "") -> None:
        """End it, and tell the other end why. What has come of it stays there, to go on from."""
        if not self.is_over and self.on_cancel is not None:
            self.on_cancel(reason)

    # For who moves it

    def came(self, octets: int) -> None:
        """Note how much of it is there."""
        now = clock.monotonic()
        if not self._samples:
            self._samples.append((now, octets))
        elif octets > self._octets and now - self._samples[-1][0] >= SAMPLE:
            self._samples.append((now, octets))
            while self._samples[0][0] < now - WINDOW:
                self._samples.popleft()
        self._octets = octets
        self._changed.set()

    def end(self, error: SynopticonError | None = None) -> None:
        """Note that it is over."""
        if not self.is_over:
            self._error = error
            self._ended.set()
            self._changed.set()

    def _rate(self) -> float:
        if len(self._samples) < 2:  # noqa: PLR2004 - a rate is of two
            return 0.0
        begin, before = self._samples[0]
        return (self._octets - before) / max(clock.monotonic() - begin, SAMPLE)


def check_rate(rate: float | None) -> None:
    """Refuse a rate that is none.

    Raises:
        ValueError: It is less than 1000 bytes a second.
    """
    if rate is not None and not rate >= LEAST_RATE:
        raise ValueError(f"a rate is {LEAST_RATE} bytes a second or more, not {rate}")
