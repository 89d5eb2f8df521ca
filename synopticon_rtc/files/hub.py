"""All files of a broadcaster or a receiver, with all its peers."""

import asyncio
import functools
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.opening import open_in_thread
from synopticon_rtc.errors import ConnectionLost, FileError
from synopticon_rtc.files.disk import files_in
from synopticon_rtc.files.incoming import FileOffer, Incoming
from synopticon_rtc.files.outgoing import Outgoing
from synopticon_rtc.files.transfer import FileTransfer, check_rate
from synopticon_rtc.files.wire import MAX_DEPTH, MAX_NAME, PROTOCOL, Cancelled, written
from synopticon_rtc.rtc import Channel, PeerConnection
from synopticon_rtc.rtc.budget import Budget

logger = logging.getLogger(__name__)

AT_ONCE = 8
"""Files that go one way over one connection at the same time; others wait for their turn."""
AT_ONCE_OFFERED = AT_ONCE + 4
"""The same where they are offered to us: what ends here may not have ended there yet."""
CLOSE_WITHIN = 5.0
"""Seconds that what was received may take to be written, when all is closed."""
MAX_FILES = 10_000
"""Files of a folder."""
REFUSED = 1, 100
"""How many offers of a peer may be refused: a second, and at once. Beyond that, its offers are heard no more."""
UNASKED = 10.0
"""Seconds that an offer waits for somebody to ask for offers at all."""
BURST = 16
"""Pieces that are sent in one turn of the event loop."""
REST = 1.0
"""How many times as long as a burst has taken the event loop is left to what is live, where anything is. A burst takes
longer where processors have more to do than they can: then all the more is left."""
THREADS = 4

T = TypeVar("T")


class FileLink:
    """The files between us and one peer. :class:`FileHub` makes them.

    Args:
        connection: Over which they go.
        session: The peer's signaling session.
        hub: Of which it is a part.

    Attributes:
        session: As it was given.
    """

    def __init__(self, connection: PeerConnection, session: str, hub: "FileHub") -> None:
        self.session = session
        self._connection = connection
        self._hub = hub
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._outgoing: set[Outgoing] = set()
        self._incoming: list[Incoming] = []
        self._turns: deque[Outgoing] = deque()  # those that may have something to send
        self._refusals = Budget(*REFUSED)
        self._deaf = False
        self._goes_on = False  # by a timer that is set
        self._closed = False

    # Sending

    def send(self, path: Path, folder: tuple[str, ...], size: int, rate: float | None) -> FileTransfer:
        """Send a file, as soon as there is a slot for it.

        Raises:
            ConnectionLost: The connection is closed.
        """
        if self._closed:
            raise ConnectionLost("the connection is closed: no file can be sent over it")
        transfer = FileTransfer(_text(path.name), folder, size, self.session, path=path, sent=True)
        outgoing = Outgoing(transfer, self._open, self._wake, self._hub, rate=rate)
        self._outgoing.add(outgoing)
        self._hub.keep(outgoing.start(self._slots)).add_done_callback(lambda _: self._outgoing.discard(outgoing))
        return transfer

    def _open(self, label: str) -> Channel:
        channel = self._connection.add_channel(label, protocol=PROTOCOL)
        channel.make_patient(self._pump)
        return channel

    def _wake(self, outgoing: Outgoing) -> None:
        """Give a file its turn."""
        if outgoing not in self._turns:
            self._turns.append(outgoing)
        self._pump()

    def _pump(self) -> None:
        """Send what there is room for, unless it is the turn of all else."""
        begun = clock.monotonic()
        if begun < self._hub.rests_until:
            self._go_on()
        elif self._send_some():
            self._hub.rest(begun, clock.monotonic())
            self._go_on()

    def _send_some(self) -> bool:
        """Send a piece of each file in turn, up to a burst; True where there may be more."""
        sent = 0
        while self._turns and not self._closed:
            outgoing = self._turns[0]
            channel = outgoing.channel
            if channel is None or not channel.is_open:
                self._turns.popleft()
                continue
            piece = channel.piece
            if channel.room < piece:
                return False
            if sent == BURST:
                return True
            self._turns.popleft()  # until it is woken, unless it has sent something
            data = outgoing.next(piece)
            if data is not None:
                if not channel.send(data):
                    outgoing.lose()
                    continue
                sent += 1
                self._turns.append(outgoing)
        return False

    def _go_on(self) -> None:
        if not self._goes_on and self._turns:
            self._goes_on = True
            asyncio.get_running_loop().call_at(self._hub.rests_until, self._went_on)

    def _went_on(self) -> None:
        self._goes_on = False
        self._pump()

    # Receiving

    def adopt(self, channel: Channel) -> bool:
        """Take a channel that the peer has opened, if it is for a file."""
        if channel.protocol != PROTOCOL:
            return False
        self._incoming = [incoming for incoming in self._incoming if not incoming.is_over]
        if self._closed or self._deaf or len(self._incoming) >= AT_ONCE_OFFERED:
            self._note_refusal()
            channel.send(written(Cancelled("too many files are offered")))
            channel.close()
        else:
            self._incoming.append(Incoming(channel, self.session, self._hub, self._note_refusal))
        return True

    def _note_refusal(self) -> None:
        if not self._deaf and not self._refusals.take(clock.monotonic()):
            self._deaf = True
            logger.warning("peer %s offers one file after the other that is refused: it is heard no more", self.session)
            for incoming in self._incoming:
                incoming.refuse("too many files were offered")

    @property
    def receiving(self) -> list[Incoming]:
        """What is received now."""
        return [incoming for incoming in self._incoming if not incoming.is_over]

    @property
    def is_live(self) -> bool:
        """Whether pictures or sound go over the same connection."""
        return self._connection.has_media

    # The end

    def close(self) -> None:
        """Send and take no more; what has come stays, to go on from."""
        if self._closed:
            return
        self._closed = True
        self._turns.clear()
        for outgoing in tuple(self._outgoing):
            outgoing.lose()
        for incoming in self._incoming:
            incoming.lose()
        self._hub.leave(self)


class FileHub:
    """All files of a broadcaster or a receiver."""

    def __init__(self) -> None:
        self._links: list[FileLink] = []
        self._offers: deque[tuple[Incoming, FileOffer]] = deque()
        self._changed = asyncio.Event()
        self._readers = 0
        self.rests_until = 0.0
        """When files may be sent on."""
        self._threads: ThreadPoolExecutor | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def join(self, connection: PeerConnection, session: str) -> FileLink:
        """Have files with one more peer, one that takes them. The end of that is :meth:`FileLink.close`."""
        link = FileLink(connection, session, self)
        self._links.append(link)
        return link

    # Sending

    async def send(
        self, path: str | os.PathLike[str], to: str | None, *, folder: tuple[str, ...] = (), rate: float | None
    ) -> FileTransfer:
        """Send a file to a peer, by its session; None is the only one there can be.

        Raises:
            FileError: It cannot be read, or the peer takes no files.
            ConnectionLost: The peer is not connected.
        """
        check_rate(rate)
        link, file = self._link(to), Path(path)
        size = await self.in_thread(functools.partial(_size, file))
        return link.send(file, folder, size, rate)

    async def send_folder(
        self, path: str | os.PathLike[str], to: str | None, *, rate: float | None
    ) -> list[FileTransfer]:
        """Send all files of a folder.

        Raises:
            FileError: It cannot be read, has too much in it, or the peer takes no files.
            ConnectionLost: The peer is not connected.
        """
        check_rate(rate)
        link = self._link(to)
        found = await self.in_thread(functools.partial(_files, Path(path)))
        return [link.send(file, folder, size, rate) for file, folder, size in found]

    def _link(self, session: str | None) -> FileLink:
        # One who has come again may have two connections for a moment: the newest counts.
        link = next((link for link in reversed(self._links) if session in {None, link.session}), None)
        if link is None:
            who = session or "nobody"
            raise ConnectionLost(f"{who} is not connected, or takes no files" if session else "nobody takes files")
        return link

    # Receiving

    async def offers(self) -> AsyncIterator[FileOffer]:
        """Give what is offered, each once, until the broadcaster or receiver is closed."""
        self._readers += 1
        try:
            while not self._closed:
                if not self._offers:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                yield self._offers.popleft()[1]
        finally:
            self._readers -= 1
            for incoming, offer in self._offers if not self._readers else ():
                self._look_later(incoming, offer)

    def put(self, incoming: Incoming, offer: FileOffer) -> None:
        """Take an offer; one that nobody asks for is refused after a while."""
        self._offers.append((incoming, offer))
        self._changed.set()
        if not self._readers:
            self._look_later(incoming, offer)

    def _look_later(self, incoming: Incoming, offer: FileOffer) -> None:
        asyncio.get_running_loop().call_later(UNASKED, self._look, incoming, offer)

    def _look(self, incoming: Incoming, offer: FileOffer) -> None:
        if not self._readers and (incoming, offer) in self._offers:
            incoming.refuse("nobody takes files there")

    def withdraw(self, offer: FileOffer | None) -> None:
        """Forget an offer that nobody has seen."""
        for each in self._offers:
            if each[1] is offer:
                self._offers.remove(each)
                break

    @property
    def promised(self) -> int:
        """Bytes that files on their way will take of the disk."""
        return sum(incoming.promised for link in self._links for incoming in link.receiving)

    @property
    def is_live(self) -> bool:
        """Whether any peer has pictures or sound too."""
        return any(link.is_live for link in self._links)

    def rest(self, begun: float, now: float) -> None:
        """Send nothing for a while after a burst, to whichever peer, where anything is live."""
        if self.is_live:
            self.rests_until = now + (now - begun) * REST

    # Threads and tasks

    def in_thread(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run what may block."""
        return asyncio.get_running_loop().run_in_executor(self._executor, function)

    async def opened(self, opener: Callable[[], T], close: Callable[[T], object]) -> T:
        """Open something, which may block, and close it again if nobody waits for it any more."""
        return await open_in_thread(opener, close, self._executor)

    @property
    def _executor(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="files")
        return self._threads

    def spawn(self, work: Awaitable[T]) -> asyncio.Task[T]:
        """Do something beside, that is over when the hub is closed."""
        return self.keep(asyncio.create_task(_await(work)))

    def keep(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        """Wait for a task when the hub is closed."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def leave(self, link: FileLink) -> None:
        """Have no more to do with a peer."""
        self._links.remove(link)

    async def aclose(self) -> None:
        """Let go of all peers, write what has come, and end all iterations."""
        self._closed = True
        self._changed.set()
        for link in list(self._links):
            link.close()
        due = asyncio.get_running_loop().time() + CLOSE_WITHIN
        while self._tasks and (left := due - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        if self._threads is not None:
            self._threads.shutdown(wait=False)


async def _await(work: Awaitable[T]) -> T:
    return await work


def _size(path: Path) -> int:
    """Return how long a file is.

    Raises:
        FileError: It is none.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if path.is_dir():
        raise FileError(f"{path} is a folder: send_folder sends what is in it")
    return found.st_size


def _files(folder: Path) -> list[tuple[Path, tuple[str, ...], int]]:
    if not folder.is_dir():
        raise FileError(f"{folder} is no folder")
    found = files_in(folder, MAX_FILES)
    if any(len(within) > MAX_DEPTH for _, within, _ in found):
        raise FileError(f"{folder} has more than {MAX_DEPTH} folders within one another")
    return [(path, tuple(map(_text, within)), size) for path, within, size in found]


def _text(name: str) -> str:
    """Return a name of this system as JSON can have it."""
    return os.fsencode(name).decode(errors="replace")[:MAX_NAME]
