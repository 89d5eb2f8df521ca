"""Messages of an application: named channels both ways, of text and bytes, that hold up nothing else.

A name has a data channel of its own (:mod:`~synopticon_rtc.peers.fragments` has what goes over it), which whoever uses
the name first opens. Both may do so at once: then each sends on its own.
"""

import asyncio
import functools
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated

import msgspec

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.text import is_unicode
from synopticon_rtc.errors import ConnectionLost, InvalidMessage
from synopticon_rtc.peers.fragments import (
    MAX_LATEST,
    MAX_MESSAGE,
    OVERHEAD,
    WINDOW,
    Data,
    Incoming,
    LatestIncoming,
    LatestOutgoing,
    Outgoing,
)
from synopticon_rtc.rtc import Channel, PeerConnection

logger = logging.getLogger(__name__)

PROTOCOL = "messages/1"
LATEST = "messages-latest/1"
MAX_NAME = 64
"""Bytes of a name, in UTF-8."""
MAX_NAMES = 16
"""Names on one connection, whoever uses them; one that has messages of both kinds counts twice."""


@dataclass(frozen=True, slots=True)
class Message:
    """What the application at the other end has sent.

    Attributes:
        data: Text or bytes, as it was sent.
        session: The signaling session of who sent it.
        channel: The name of the channel.
        received: When it was there as a whole, seconds since the epoch.
        latest: Whether it was sent as one of which only the newest counts.
    """

    data: Data
    session: str
    channel: str
    received: float
    latest: bool = False


class _Limit(msgspec.Struct, tag="limit"):
    octets: Annotated[int, msgspec.Meta(ge=0, le=2**53)]


_limits = msgspec.json.Decoder(_Limit)


class _Source:
    """A channel that messages come on, and how much of them was read.

    Attributes:
        channel: Which one.
        incoming: What puts them together.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.incoming = Incoming()
        self._read = 0

    def read(self, octets: int) -> None:
        """Note that a message was read, and let the peer send more."""
        self._read += octets
        self.tell()

    def tell(self) -> None:
        """Tell the peer how much it may send, where it is worth a word."""
        limit = self._read + WINDOW
        if limit - self.incoming.limit >= WINDOW // 4 and self.channel.send(_written(limit)):
            self.incoming.limit = limit


def _written(limit: int) -> str:
    return msgspec.json.encode(_Limit(limit)).decode()


@dataclass(slots=True, eq=False)
class _Entry:
    """A message in an inbox, and what is to be told when it is read."""

    message: Message  # the newest one, where only that counts
    peer: "Messages"  # of whom it is
    source: _Source | None  # None where only the newest counts
    octets: int  # that it counts for


class _Inbox:
    """Messages of one name, from all peers, in the order in which they came."""

    def __init__(self) -> None:
        self.asked = False  # for, by the application
        self.entries: deque[_Entry] = deque()
        self.changed = asyncio.Event()


class _Line:
    """One name on one connection.

    Attributes:
        channel: What we send on.
        ours: Whether we have opened it.
        out: What waits to be sent.
        sources: What messages come on: this channel, and the peer's where both ends have opened one.
        turn: Who waits for room has this, so that messages stay in order.
        closed: Whether the channel that we send on was closed.
    """

    def __init__(self, channel: Channel, *, ours: bool, latest: bool) -> None:
        self.channel = channel
        self.ours = ours
        self.out: Outgoing | LatestOutgoing = LatestOutgoing() if latest else Outgoing()
        self.sources: list[_Source] = []
        self.turn = asyncio.Lock()
        self.closed = False


class Messages:
    """The messages between us and one peer. :class:`MessageHub` makes them.

    Args:
        connection: Over which they go.
        session: The peer's signaling session.
        hub: What they come to.

    Attributes:
        session: As it was given.
        missed: Messages that were not sent, as too many waited before them.
        replaced: Messages that gave way to newer ones before they were sent, where only the newest counts.
    """

    def __init__(self, connection: PeerConnection, session: str, hub: "MessageHub") -> None:
        self.session = session
        self.missed = 0
        self.replaced = 0
        self._connection = connection
        self._hub = hub
        self._lines: dict[tuple[str, bool], _Line] = {}
        self._turns: deque[_Line] = deque()  # those that may have something to send
        self._newest: dict[str, _Entry] = {}  # unread messages of which only the newest counts
        self._progress = asyncio.Event()
        self._closed = False

    # Sending

    async def send(self, name: str, data: Data, *, latest: bool = False) -> None:
        """Send a message, as soon as there is room for it: at most 256 KiB of a name wait, or one message.

        Cancelled before, it sends nothing. Returning, it has not arrived yet (:meth:`flush`).

        Args:
            name: Of the channel, 1 to 64 bytes of UTF-8.
            data: Text or bytes: 1 MiB at most, 16 KiB if only the newest counts.
            latest: Whether only the newest message of this name counts. Then one that waits gives way to this, what is
                lost on the way is not sent again, and this never waits.

        Raises:
            ConnectionLost: The connection is closed, or the channel is.
            ValueError: The name or the message is too long, or there are too many names.
            TypeError: It is neither text nor bytes.
        """
        check(name, data, latest=latest)
        if latest:
            self.offer(name, data, latest=True)
            await asyncio.sleep(0)
            return
        line = self._line(name, latest=False)
        async with line.turn:
            while not self._put(line, data):
                await self._moved()
                if line.closed:
                    raise ConnectionLost(f"the channel {name!r} was closed")

    def offer(self, name: str, data: Data, *, latest: bool = False) -> bool:
        """Do as :meth:`send`, if there is room at once.

        Returns:
            Whether it is sent.
        """
        check(name, data, latest=latest)
        line = self._line(name, latest=latest)
        return not line.turn.locked() and self._put(line, data)

    async def flush(self) -> None:
        """Wait until the peer has all that was sent. Bound this by a time: a peer that reads nothing takes nothing.

        Raises:
            ConnectionLost: The connection is closed.
        """
        while any(line.out or line.channel.outstanding for line in self._lines.values()):
            await self._moved()

    async def _moved(self) -> None:
        self._progress.clear()
        await self._progress.wait()
        self._check_open()

    def _check_open(self) -> None:
        if self._closed or self._connection.state in ("failed", "closed"):
            raise ConnectionLost("the connection is closed: no message can be sent over it")

    def _put(self, line: _Line, data: Data) -> bool:
        self._check_open()
        octets, text = (data.encode(), True) if isinstance(data, str) else (data, False)
        put = line.out.put(octets, text=text)
        if isinstance(line.out, LatestOutgoing):
            self.replaced += put
            put = True
        self._wake(line)
        return put

    def _line(self, name: str, *, latest: bool) -> _Line:
        """Return a name to send on, and open a channel for it where there is none."""
        self._check_open()
        line = self._lines.get((name, latest))
        if line is None:
            if sum(line.ours for line in self._lines.values()) >= MAX_NAMES:
                raise ValueError(f"{name!r} would be one name too many: {MAX_NAMES} are in use on this connection")
            channel = self._connection.add_channel(
                name,
                protocol=LATEST if latest else PROTOCOL,
                ordered=not latest,
                max_retransmits=0 if latest else None,
            )
            line = self._lines[name, latest] = _Line(channel, ours=True, latest=latest)
            self._listen(name, line, channel)
        return line

    def _wake(self, line: _Line) -> None:
        """Give a name its turn, if it has something to send."""
        if line.out and line not in self._turns:
            self._turns.append(line)
        self._pump()

    def _pump(self) -> None:
        """Send what there is room for, a frame of each name in turn."""
        while self._turns and not self._closed:
            line = self._turns[0]
            piece = line.channel.piece
            if line.channel.is_open and line.channel.room < piece:
                break
            self._turns.popleft()  # until it is woken, unless it has sent something
            frame = line.out.next(piece) if line.channel.is_open else None
            if frame is not None:
                if not line.channel.send(frame):
                    self._refuse(line.channel, "it takes no frame of this length")
                self._turns.append(line)
        self._progress.set()
        self._hub.moved()

    # Receiving

    def adopt(self, channel: Channel) -> bool:
        """Take a channel that the peer has opened, if it is for messages."""
        if channel.protocol not in (PROTOCOL, LATEST):
            return False
        name, latest = channel.label, channel.protocol == LATEST
        line = self._lines.get((name, latest))
        theirs = sum(not line.ours for line in self._lines.values())
        if self._closed or not _is_name(name) or (line is None and theirs >= MAX_NAMES):
            channel.close()
            return True
        if line is None:
            line = self._lines[name, latest] = _Line(channel, ours=False, latest=latest)
        self._listen(name, line, channel)
        return True

    def asked(self, name: str) -> None:
        """Let the peer send all that there is room for, as somebody reads messages of this name."""
        line = self._lines.get((name, False))
        for source in line.sources if line is not None else ():
            source.tell()

    def _listen(self, name: str, line: _Line, channel: Channel) -> None:
        channel.make_patient(self._pump)
        channel.on_open = functools.partial(self._opened, name, line)
        channel.on_close = functools.partial(self._channel_closed, name, line, channel)
        if isinstance(line.out, LatestOutgoing):
            channel.on_message = functools.partial(self._received_latest, name, channel, LatestIncoming())
        else:
            source = _Source(channel)
            line.sources.append(source)
            channel.on_message = functools.partial(self._received, name, line, source)
        if channel.is_open:
            self._opened(name, line)

    def _opened(self, name: str, line: _Line) -> None:
        if self._hub.is_asked(name):
            for source in line.sources:
                source.tell()
        self._wake(line)

    def _received(self, name: str, line: _Line, source: _Source, data: Data) -> None:
        try:
            if isinstance(data, str):
                limit = _limits.decode(data).octets
                if source.channel is line.channel and isinstance(line.out, Outgoing):
                    line.out.limit = max(line.out.limit, limit)
                    self._wake(line)
            elif (message := source.incoming.take(data)) is not None:
                self._hub.put(_Entry(self._stamped(name, message), self, source, _cost(message)))
        except (InvalidMessage, msgspec.MsgspecError) as error:
            self._refuse(source.channel, error)

    def _received_latest(self, name: str, channel: Channel, incoming: LatestIncoming, data: Data) -> None:
        try:
            message = incoming.take(data) if isinstance(data, bytes) else None
        except InvalidMessage as error:
            self._refuse(channel, error)
            return
        if message is None:
            return
        stamped = self._stamped(name, message, latest=True)
        if (entry := self._newest.get(name)) is not None:
            entry.message, entry.octets = stamped, _cost(message)
        else:
            entry = self._newest[name] = _Entry(stamped, self, None, _cost(message))
            self._hub.put(entry)

    def read(self, entry: _Entry) -> None:
        """Note that a message was read."""
        if entry.source is None:
            del self._newest[entry.message.channel]
        else:
            entry.source.read(entry.octets)

    def _stamped(self, name: str, data: Data, *, latest: bool = False) -> Message:
        return Message(data, self.session, name, clock.now(), latest)

    def _refuse(self, channel: Channel, reason: object) -> None:
        """Hear no more of a channel on which the peer breaks the rules."""
        logger.debug("the channel %r of a peer is closed: %s", channel.label, reason)
        channel.on_message = None
        channel.close()

    def _channel_closed(self, name: str, line: _Line, channel: Channel) -> None:
        line.sources = [source for source in line.sources if source.channel is not channel]
        if channel is line.channel:
            line.closed = True
            self._lines.pop((name, isinstance(line.out, LatestOutgoing)), None)
            if line in self._turns:
                self._turns.remove(line)
            self._progress.set()

    # The end

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def close(self) -> None:
        """Send and take no more; what has come stays there to be read, up to 1 MiB of each name that is read."""
        if self._closed:
            return
        self._closed = True
        self._turns.clear()
        self._progress.set()
        self._hub.leave(self)


class MessageHub:
    """All messages of a broadcaster or a receiver.

    Attributes:
        dropped: Messages that came, and were let go of unread: their peer left, and nobody asked for them.
        unasked: Called with the name of each message that comes and that nobody has asked for yet.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self.unasked: Callable[[str], None] = lambda _: None
        self._peers: list[Messages] = []
        self._inboxes: dict[str, _Inbox] = {}
        self._room = asyncio.Event()
        self._closed = False

    def join(self, connection: PeerConnection, session: str) -> Messages:
        """Have messages with one more peer, one that accepts them. The end of that is :meth:`Messages.close`."""
        messages = Messages(connection, session, self)
        self._peers.append(messages)
        return messages

    @property
    def sessions(self) -> tuple[str, ...]:
        """Those that messages are sent to."""
        return tuple(peer.session for peer in self._peers)

    async def send(self, name: str, data: Data, *, to: str | None = None, latest: bool = False) -> frozenset[str]:
        """Send a message to one peer, as :meth:`Messages.send` does, or to all.

        To all, it waits until the first of them has room for it. Those who have none by then miss this message, so that
        no slow peer holds up the others; who must not miss any is sent it by itself.

        Args:
            name: Of the channel.
            data: Text or bytes.
            to: The session of the peer, None for all.
            latest: Whether only the newest message of this name counts.

        Returns:
            The sessions of those who miss it.

        Raises:
            ConnectionLost: The peer is not there, or goes meanwhile.
            ValueError: The name or the message is too long, or there are too many names.
            TypeError: It is neither text nor bytes.
        """
        check(name, data, latest=latest)
        if to is not None:
            # One who has come again may have two connections for a moment: the newest counts.
            peer = next((peer for peer in reversed(self._peers) if peer.session == to), None)
            if peer is None:
                raise ConnectionLost(f"{to} is not connected, or takes no messages")
            await peer.send(name, data, latest=latest)
            return frozenset()
        while True:
            peers = list(self._peers)
            missing = [peer for peer in peers if not _offered(peer, name, data, latest=latest)]
            if len(missing) < len(peers) or not peers:
                break
            self._room.clear()
            await self._room.wait()
        for peer in missing:
            peer.missed += 1
        await asyncio.sleep(0)  # whoever sends in a loop leaves others their turn
        return frozenset(peer.session for peer in missing)

    async def flush(self, seconds: float) -> None:
        """Wait until all peers have what was sent to them, or are gone, but for so many seconds at most.

        To be called before connections are closed, which throws away what has not arrived.
        """
        flushing = [asyncio.ensure_future(peer.flush()) for peer in self._peers]
        try:
            if flushing:
                await asyncio.wait(flushing, timeout=seconds)
        finally:
            for each in flushing:
                each.cancel()
            await asyncio.gather(*flushing, return_exceptions=True)

    def messages(self, name: str) -> AsyncIterator[Message]:
        """Iterate over the messages of one name, from all peers; each is given out once.

        Those that came before are given out too, up to 16 KiB of each peer. Who is slower than a peer holds up what
        that peer sends on this name: at most 1 MiB of it waits here. Where only the newest counts, there is one of each
        peer. The iteration ends with the broadcaster or receiver.
        """
        check(name, "")
        inbox = self._inbox(name)
        if not inbox.asked:
            inbox.asked = True
            for peer in self._peers:
                peer.asked(name)
        return self._read(inbox)

    async def _read(self, inbox: _Inbox) -> AsyncIterator[Message]:
        while inbox.entries or not self._closed:
            if not inbox.entries:
                inbox.changed.clear()
                await inbox.changed.wait()
                continue
            entry = inbox.entries.popleft()
            entry.peer.read(entry)
            yield entry.message

    def _inbox(self, name: str) -> _Inbox:
        return self._inboxes.setdefault(name, _Inbox())

    def is_asked(self, name: str) -> bool:
        """Whether the application reads messages of this name."""
        return name in self._inboxes and self._inboxes[name].asked

    def put(self, entry: _Entry) -> None:
        """Take a message that has come."""
        inbox = self._inbox(entry.message.channel)
        inbox.entries.append(entry)
        inbox.changed.set()
        if not inbox.asked:
            self.unasked(entry.message.channel)

    def moved(self) -> None:
        """Look again for room."""
        self._room.set()

    def leave(self, peer: Messages) -> None:
        """Have no more to do with a peer; what is unread of it is bounded, as it may come again under another name."""
        self._peers.remove(peer)
        for name, inbox in list(self._inboxes.items()):
            left = sum(entry.octets for entry in inbox.entries if entry.peer.is_closed)
            if not inbox.asked or left > WINDOW:
                kept = [entry for entry in inbox.entries if entry.peer is not peer]
                self.dropped += len(inbox.entries) - len(kept)
                inbox.entries = deque(kept)
            if not inbox.asked and not inbox.entries:
                del self._inboxes[name]
        self.moved()

    def close(self) -> None:
        """Let go of all peers, and end all iterations after what has come."""
        self._closed = True
        for peer in list(self._peers):
            peer.close()
        for inbox in self._inboxes.values():
            inbox.changed.set()


def _offered(peer: Messages, name: str, data: Data, *, latest: bool) -> bool:
    try:
        return peer.offer(name, data, latest=latest)
    except ConnectionLost:  # it is about to leave
        return False


def _cost(data: Data) -> int:
    return OVERHEAD + (len(data) if isinstance(data, bytes) else len(data.encode()))


def _is_name(name: str) -> bool:
    return is_unicode(name) and 0 < len(name.encode()) <= MAX_NAME


def check(name: str, data: object, *, latest: bool = False) -> None:
    """Refuse what cannot be sent.

    Raises:
        ValueError: The name is none, or the message is too long.
        TypeError: It is neither text nor bytes.
    """
    if not isinstance(name, str) or not _is_name(name):
        raise ValueError(f"a channel has a name of 1 to {MAX_NAME} bytes, not {name!r:.100}")
    if not isinstance(data, bytes | str):
        raise TypeError(f"a message is bytes or a str, not {data!r:.100}")
    most = MAX_LATEST if latest else MAX_MESSAGE
    if (octets := _cost(data) - OVERHEAD) > most:
        raise ValueError(f"a message of {octets} bytes is larger than {most}: send it in parts")
