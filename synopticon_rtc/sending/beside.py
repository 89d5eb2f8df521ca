"""What is sent through an engine beside the media: faces, and what receivers behind it must know of the frames."""

import asyncio
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator

import msgspec

from synopticon_rtc.peers import marked
from synopticon_rtc.peers.control import Report
from synopticon_rtc.peers.faces_channel import FacesChannel
from synopticon_rtc.peers.marked import Marked
from synopticon_rtc.peers.published import Told
from synopticon_rtc.rtc import Channel, FanoutSender, PeerConnection
from synopticon_rtc.rtc.fingerprint import fingerprint_of

MARK_INTERVAL = 0.25  # seconds
TELL_EVERY = 3  # of these, all else is told: nobody behind an engine can ask for it


class Beside:
    """Tells those behind an engine again and again what they cannot ask for.

    Args:
        connection: To the engine.
        told: Gives what is to be told of streams.
    """

    def __init__(self, connection: PeerConnection, told: Callable[[], Iterable[Told | Report]]) -> None:
        self._connection = connection
        self._told = told
        self._channel: Channel | None = None
        self._senders: dict[str, Iterator[FanoutSender]] = {}  # of each layer in turn
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begin to tell; to be called once the media are added, and before the connection is described."""
        self._channel = self._connection.add_channel(
            "streams", protocol=marked.PROTOCOL, ordered=False, max_retransmits=0
        )
        self._tick()

    def add(self, name: str, sender: FanoutSender, *, faces: bool) -> FacesChannel | None:
        """Mark frames of a video from now on, and return the way for its faces, if there are any."""
        self._senders[name] = itertools.cycle((sender, *sender.smaller))
        head = functools.partial(self._mark, name)
        if not faces:
            return None
        return FacesChannel(self._connection, binary=True, label=f"faces:{name}", head=head, twice=True)

    def close(self) -> None:
        """Tell nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _mark(self, name: str) -> bytes:
        """Write a mark of the frame of a stream that was sent last, in one layer after another."""
        sender = next(self._senders[name])
        frame = sender.latest
        if frame is None:
            return Marked(name, 0, 0).encode()
        return Marked(name, frame.timestamp, fingerprint_of(frame, sender.codec)).encode()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(MARK_INTERVAL, self._tick)
        channel = self._channel
        if channel is None or not channel.is_open:
            return
        for name in self._senders:
            channel.send(self._mark(name))
        if self._turn % TELL_EVERY == 0:
            for message in self._told():
                channel.send(msgspec.json.encode(message).decode())
        self._turn += 1
