"""A file as the end that receives it has it: an offer first, and once that was accepted, what comes of it."""

import asyncio
import contextlib
import functools
import math
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.text import visible
from synopticon_rtc.errors import ConnectionLost, FileError, SynopticonError
from synopticon_rtc.files import wire
from synopticon_rtc.files.disk import BLOCK, Part
from synopticon_rtc.files.names import safe
from synopticon_rtc.files.transfer import FileTransfer, check_rate
from synopticon_rtc.files.wire import Accepted, Begun, Cancelled, Done, Ended, Limit, Offered
from synopticon_rtc.rtc import Channel

if TYPE_CHECKING:
    from synopticon_rtc.files.hub import FileHub

GATHER = 0.05
"""Seconds in which what comes is gathered before it is written, unless that is a block."""
STALLED = 60.0
"""Seconds in which nothing comes, after which it is given up."""
LEAST = 10_000
"""Bytes that come at least within :data:`SPAN`, of one that is not whole: else it holds its place for nothing."""
SPAN = 600.0
"""Seconds."""
LIVE_RATE = 8_000_000.0
"""Bytes a second that are taken at most where video or sound goes over a connection of the same hub."""
BEGINNING = 600.0
"""The same until anything does: the other end looks first through what is here already."""


class FileOffer:
    """A file that somebody wants to send. Nothing of it comes before it is accepted.

    Attributes:
        name: What it is called there, made safe to be used here.
        folder: The folders that it comes with, the outermost first, made safe too.
        size: Bytes, as the other end says; more are not taken.
        modified: When it was changed last, seconds since the epoch, as the other end says; None where it does not.
        session: The signaling session of whoever offers it.
    """

    def __init__(self, incoming: "Incoming", offered: Offered, session: str) -> None:
        self.name = safe(offered.name)
        self.folder = tuple(safe(each) for each in offered.folder)
        self.size = offered.size
        self.modified = offered.modified
        self.session = session
        self._incoming = incoming

    async def accept(
        self, folder: str | os.PathLike[str], *, overwrite: bool = False, rate: float | None = None
    ) -> FileTransfer:
        """Have it sent, to go into this folder, within those that it comes with.

        It is written to a file that ends with ``.part``, and gets its name once all of it is there and its SHA-256 is
        right. What is there already of an earlier attempt is not sent again. Where there is another file of its name,
        it gets a number.

        Args:
            folder: Where it goes; made where it is not there.
            overwrite: Whether a file of its name gives way to it instead.
            rate: Bytes a second that it takes at most after the first 1.5 MiB, None for all that nobody else needs.

        Raises:
            ValueError: The rate is less than 1000.
            FileError: It cannot be written there, there is no room, it is withdrawn, or was accepted or rejected.
        """
        check_rate(rate)
        return await self._incoming.accept(Path(folder), overwrite=overwrite, rate=rate)

    def reject(self, reason: str = "") -> None:
        """Refuse it, and say why. An offer that is no more is none to refuse."""
        self._incoming.refuse(reason or "it is not wanted")


class Incoming:
    """One file that is received over one connection.

    Args:
        channel: On which it comes.
        session: Of whoever sends it.
        hub: To which its offer is given.
        refused: Called when it was refused, by us or for breaking the rules.
    """

    def __init__(self, channel: Channel, session: str, hub: "FileHub", refused: Callable[[], None]) -> None:
        self._channel = channel
        self._session = session
        self._hub = hub
        self._refused = refused
        self._offer: FileOffer | None = None
        self._transfer: FileTransfer | None = None
        self._part: Part | None = None
        self._rate: float | None = None
        self._begin: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._begun = False
        self._digest = ""  # of the whole file, once the other end has told
        self._came = 0  # bytes of the file that are here
        self._limit = 0
        self._buffer = bytearray()  # those of them that are not written
        self._some = asyncio.Event()
        self._full = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.is_over = False
        channel.on_message = self._received
        channel.on_close = self._closed

    @property
    def promised(self) -> int:
        """Bytes that it will take of the disk."""
        return 0 if self._part is None or self._offer is None else max(0, self._offer.size - self._part.octets)

    @property
    def _most_a_second(self) -> float:
        return min(self._rate or math.inf, LIVE_RATE if self._hub.is_live else math.inf)

    # What the application says

    async def accept(self, folder: Path, *, overwrite: bool, rate: float | None) -> FileTransfer:
        """Have it sent."""
        offer = self._offer
        assert offer is not None  # noqa: S101 - by which it is accepted
        if self.is_over or self._transfer is not None:
            raise FileError(f"{offer.name} is offered no more")
        self._transfer = transfer = FileTransfer(
            offer.name, offer.folder, offer.size, self._session, path=None, sent=False
        )
        transfer.on_cancel = self._cancel
        make = functools.partial(
            Part,
            folder,
            offer.folder,
            offer.name,
            offer.size,
            offer.modified,
            overwrite=overwrite,
            promised=self._hub.promised,
            is_over=lambda: self.is_over,
        )
        making = self._hub.in_thread(make)
        try:
            part = await asyncio.shield(making)
        except FileError as error:
            self._end(error, "it cannot be stored there")
            raise
        except BaseException:  # whoever accepts it does not wait so long
            self._end(FileError(f"{offer.name} was not accepted in the end"), "it is not wanted any more")
            self._hub.spawn(self._drop(making))
            raise
        if self.is_over:
            self._hub.spawn(self._drop(making))
            raise FileError(f"{offer.name} is offered no more")
        self._part, self._rate = part, rate
        transfer.came(part.octets)
        self._say(Accepted(part.octets, part.digest))
        self._task = self._hub.keep(asyncio.create_task(self._run(transfer, part)))
        self._task.add_done_callback(lambda _: self._leave(part))  # also of one that never began
        return transfer

    async def _drop(self, making: asyncio.Future[Part]) -> None:
        with contextlib.suppress(FileError):  # of one that is not made to the end, as that may take long
            part = await making
            await self._hub.in_thread(part.close)

    def refuse(self, reason: str) -> None:
        """Do not have it sent."""
        if not self.is_over and self._transfer is None:
            self._refused()
            self._end(FileError("it was refused"), reason)

    def _cancel(self, reason: str) -> None:
        assert self._transfer is not None  # noqa: S101 - by which it is cancelled
        words = f": {reason}" if reason else ""
        self._end(FileError(f"{self._transfer.name} was cancelled{words}"), reason or "cancelled")

    # What comes

    def _received(self, data: str | bytes) -> None:
        try:
            if isinstance(data, bytes):
                self._take(data)
            else:
                self._hear(wire.read(data))
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            self._refused()
            self._end(FileError("the other end breaks the protocol of files"), "broken rules")

    def _hear(self, message: wire.Said) -> None:
        match message:
            case Offered() if self._offer is None:
                self._offer = FileOffer(self, message, self._session)
                self._hub.put(self, self._offer)
            case Begun(at) if self._part is not None and not self._begun and at in {0, self._part.octets}:
                self._begun = True
                self._begin.set_result(at)
                self._came, self._limit = at, at + wire.WINDOW
            case Ended(digest) if self._begun and not self._digest:
                self._digest = digest
                self._some.set()
                self._full.set()
            case Cancelled(reason):
                self._end(FileError(f"it was cancelled by the other end: {visible(reason) or 'no reason was given'}"))
            case _:
                raise msgspec.ValidationError

    def _take(self, data: bytes) -> None:
        self._came += len(data)
        if not self._begun or self._offer is None or self._came > min(self._limit, self._offer.size):
            raise msgspec.ValidationError  # more than was agreed
        self._buffer += data
        self._some.set()
        if len(self._buffer) >= BLOCK:
            self._full.set()

    async def _run(self, transfer: FileTransfer, part: Part) -> None:
        try:
            await _within(BEGINNING, self._begin, f"{transfer.name} has not begun for {BEGINNING:g} s")
            at = self._begin.result()
            await self._hub.in_thread(functools.partial(part.begin, at))
            transfer.came(at)
            await self._write_all(transfer, part)
            transfer.path = await self._hub.in_thread(functools.partial(part.finish, self._digest))
            transfer.end()
            self._say(Done())  # the other end closes the channel, once it knows
            self.is_over = True
        except SynopticonError as error:
            self._end(error, str(error))
        finally:
            self._end(ConnectionLost(f"{transfer.name} is received no more"), "")

    def _leave(self, part: Part) -> None:
        """Write what is left, to be sent no second time, and close."""
        self._hub.spawn(self._hub.in_thread(functools.partial(_leave, part, bytes(self._buffer))))

    async def _write_all(self, transfer: FileTransfer, part: Part) -> None:
        """Write what comes, up to the end.

        Raises:
            FileError: Next to nothing comes.
        """
        looked, had = clock.monotonic(), self._came
        while await self._write(transfer, part):
            now = clock.monotonic()
            if now >= looked + SPAN:
                if self._came - had < LEAST and not self._digest:
                    raise FileError(f"less than {LEAST} bytes have come of {transfer.name} in {SPAN:g} s")
                looked, had = now, self._came

    async def _write(self, transfer: FileTransfer, part: Part) -> bool:
        """Write what has come, as soon as it is worth it; False once all of it is written."""
        if not self._buffer and not self._digest:
            self._some.clear()
            await _within(STALLED, self._some.wait(), f"nothing has come of {transfer.name} for {STALLED:g} s")
        if len(self._buffer) < BLOCK and not self._digest:
            self._full.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHER):
                    await self._full.wait()
        if not self._buffer:
            return not self._digest
        rate = self._most_a_second
        most = int(min(BLOCK, rate))
        data, self._buffer = self._buffer[:most], self._buffer[most:]
        transfer.moved += len(data)
        await self._hub.in_thread(functools.partial(part.write, data))
        transfer.came(part.octets)
        await asyncio.sleep(len(data) / rate)
        limit = part.octets + wire.WINDOW
        if limit - self._limit >= wire.WINDOW // 8 or self._limit == self._came or self._rate is not None:
            self._limit = limit
            self._say(Limit(limit))
        return True

    def _say(self, message: wire.Said) -> None:
        self._channel.send(wire.written(message))

    # The end

    def _closed(self) -> None:
        self._end(ConnectionLost("the channel was closed"))

    def lose(self) -> None:
        """Take note that the connection is gone."""
        self._end(ConnectionLost("the connection is gone; offered again, it goes on where it was"))

    def _end(self, error: SynopticonError, told: str | None = None) -> None:
        """End it, and tell the other end, where there are words for that."""
        if self.is_over:
            return
        self.is_over = True
        self._hub.withdraw(self._offer)
        self._channel.on_message = self._channel.on_close = None
        if told is not None:
            self._say(Cancelled(told[: wire.MAX_REASON]))
        self._channel.close()
        if self._transfer is not None:
            self._transfer.end(error)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()


async def _within(seconds: float, something: Awaitable[object], late: str) -> None:
    """Wait for something.

    Raises:
        FileError: It takes too long.
    """
    try:
        async with asyncio.timeout(seconds):
            await something
    except TimeoutError:
        raise FileError(late) from None


def _leave(part: Part, rest: bytes) -> None:
    """Write what is left, to be sent no second time, and close."""
    with contextlib.suppress(FileError):
        part.write(rest)
    part.close()
