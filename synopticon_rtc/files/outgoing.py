"""A file as the end that sends it has it."""

import asyncio
import functools
import secrets
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.text import visible
from synopticon_rtc.errors import ConnectionLost, FileError, SynopticonError
from synopticon_rtc.files import wire
from synopticon_rtc.files.disk import BLOCK, Source
from synopticon_rtc.files.transfer import FileTransfer
from synopticon_rtc.files.wire import Accepted, Begun, Cancelled, Done, Ended, Limit, Offered
from synopticon_rtc.rtc import Channel

if TYPE_CHECKING:
    from synopticon_rtc.files.hub import FileHub

AHEAD = 2 * BLOCK
"""Bytes that are read before they are sent."""
STALLED = 60.0
"""Seconds in which nothing moves, after which it is given up."""
KEEPING = 600.0
"""Seconds in which the other end must have it safe on its disk, once all of it is there."""
SAVED = 0.1
"""Seconds for which a rate that was not used up may be made up for."""


class Outgoing:
    """One file that is sent over one connection.

    Args:
        transfer: What the application holds of it.
        open_channel: Opens the channel for it, by its label.
        wake: Has it asked for its :meth:`next` piece, now that there may be one.
        hub: Runs what may block.
        rate: Bytes a second that it takes at most, None for all that there is room for.
    """

    def __init__(
        self,
        transfer: FileTransfer,
        open_channel: Callable[[str], Channel],
        wake: Callable[["Outgoing"], None],
        hub: "FileHub",
        *,
        rate: float | None,
    ) -> None:
        self.transfer = transfer
        self.channel: Channel | None = None
        self._open_channel = open_channel
        self._wake = wake
        self._hub = hub
        self._rate = rate
        self._due = 0.0  # when the rate allows the next piece
        self._blocks: deque[memoryview] = deque()  # read, and not sent yet
        self._ahead = 0  # bytes in these
        self._at = 0  # what is sent next
        self._limit = 0
        self._answer: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        self._moved = asyncio.Event()
        self._told_all = False
        self._done = False
        self._task: asyncio.Task[None] | None = None
        transfer.on_cancel = self.cancel

    def start(self, slots: asyncio.Semaphore) -> asyncio.Task[None]:
        """Send it as soon as there is a slot."""
        self._task = asyncio.create_task(self._run(slots), name=f"sending {self.transfer.name}")
        return self._task

    # What it sends

    def next(self, most: int) -> bytes | None:
        """Take the next piece, of so many bytes at most; None where there is none, or no more may be sent for now."""
        if not self._blocks or self._limit <= self._at:
            return None
        now = clock.monotonic()
        if self._rate is not None and now < self._due:
            asyncio.get_running_loop().call_at(self._due, self._wake, self)
            return None
        block = self._blocks[0]
        piece = bytes(block[: min(most, self._limit - self._at)])
        if len(piece) == len(block):
            self._blocks.popleft()
        else:
            self._blocks[0] = block[len(piece) :]
        self._at += len(piece)
        self._ahead -= len(piece)
        self.transfer.moved += len(piece)
        if self._rate is not None:
            self._due = max(self._due, now - SAVED) + len(piece) / self._rate
        if self._ahead <= AHEAD - BLOCK:
            self._moved.set()
        return piece

    async def _run(self, slots: asyncio.Semaphore) -> None:
        try:
            async with slots:
                await self._send()
        except SynopticonError as error:
            self._end(error, str(error))
        except msgspec.MsgspecError:
            self._end(FileError(f"{self.transfer.name}: the other end breaks the protocol of files"), "broken")
        finally:
            self._end(ConnectionLost(f"{self.transfer.name} is sent no more"), "")

    async def _send(self) -> None:
        transfer = self.transfer
        assert transfer.path is not None  # noqa: S101 - it is sent from there
        source = await self._hub.opened(functools.partial(Source, transfer.path), Source.close)
        try:
            transfer.size = source.size
            self.channel = self._open_channel(secrets.token_hex(8))
            self.channel.on_message = self._received
            self.channel.on_close = self._channel_closed
            offer = Offered(transfer.name, source.size, source.modified, list(transfer.folder))
            self.channel.on_open = lambda: self._say(offer)
            if self.channel.is_open:
                self._say(offer)
            accepted = await self._answer
            look = functools.partial(source.matches, accepted.at, accepted.sha256, lambda: transfer.is_over)
            goes_on = await self._hub.in_thread(look)
            self._at = accepted.at if goes_on else 0
            self._limit = self._at + wire.WINDOW
            self._say(Begun(self._at))
            transfer.came(self._at)
            await self._read_all(source)
            await self._until(lambda: not self._blocks)
            digest = await self._hub.in_thread(source.end)
            self._told_all = True
            self._say(Ended(digest))
            await self._until(lambda: self._done, KEEPING)
            transfer.came(transfer.size)
            transfer.end()
            self.channel.close()
        finally:
            self._hub.spawn(self._hub.in_thread(source.close))

    async def _read_all(self, source: Source) -> None:
        left = self.transfer.size - self._at
        while left:
            await self._until(lambda: self._ahead <= AHEAD - BLOCK)
            count = min(left, BLOCK)
            block = await self._hub.in_thread(functools.partial(source.read, count))
            left -= count
            self._blocks.append(memoryview(block))
            self._ahead += count
            self._wake(self)

    async def _until(self, condition: Callable[[], bool], seconds: float = STALLED) -> None:
        """Wait for something, as long as anything moves.

        Raises:
            FileError: Nothing does.
        """
        while not condition():
            before = self._at, self._limit
            self._moved.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._moved.wait()
            except TimeoutError:
                if before == (self._at, self._limit):
                    raise FileError(f"{self.transfer.name}: the other end has said nothing for {seconds:g} s") from None

    # What the other end says

    def _say(self, message: wire.Said) -> None:
        if self.channel is not None:
            self.channel.send(wire.written(message))

    def _received(self, data: str | bytes) -> None:
        try:
            if isinstance(data, bytes):
                raise msgspec.ValidationError
            self._take(wire.read(data))
        except msgspec.MsgspecError:
            self._end(FileError(f"{self.transfer.name}: the other end breaks the protocol of files"), "broken rules")

    def _take(self, message: wire.Said) -> None:
        match message:
            case Accepted() if not self._answer.done():
                self._answer.set_result(message)
            case Limit(octets) if self._limit:
                self._limit = max(self._limit, octets)
                self.transfer.came(max(min(octets - wire.WINDOW, self._at), 0))
                self._wake(self)
            case Done() if self._told_all:
                self._done = True
            case Cancelled(reason):
                self._end(FileError(f"{self.transfer.name} is not taken: {visible(reason) or 'no reason was given'}"))
            case _:
                raise msgspec.ValidationError
        self._moved.set()

    def _channel_closed(self) -> None:
        if not self._done:
            self._end(ConnectionLost(f"{self.transfer.name}: the channel was closed"))

    # The end

    def cancel(self, reason: str) -> None:
        """Send no more, and tell the other end why."""
        words = f": {reason}" if reason else ""
        self._end(FileError(f"{self.transfer.name} was cancelled{words}"), reason or "cancelled")

    def lose(self) -> None:
        """Take note that the connection is gone."""
        self._end(ConnectionLost(f"{self.transfer.name}: the connection is gone; sent again, it goes on where it was"))

    def _end(self, error: SynopticonError, told: str | None = None) -> None:
        """End it, and tell the other end, where there are words for that."""
        if self.transfer.is_over:
            return
        self.transfer.end(error)
        self._blocks.clear()
        if self.channel is not None:
            self.channel.on_message = self.channel.on_close = self.channel.on_open = None
            if told is not None:
                self._say(Cancelled(told[: wire.MAX_REASON]))
            self.channel.close()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
