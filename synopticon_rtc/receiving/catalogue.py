"""What a receiver knows of the streams of its broadcaster."""

from collections.abc import Callable, Sequence

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.events import Events, StreamEvent, StreamState
from synopticon_rtc.peers.published import KINDS, MAX_STREAMS, Published
from synopticon_rtc.receiving.peer import Peer
from synopticon_rtc.receiving.received import ReceivedStream
from synopticon_rtc.receiving.sound import SoundStream
from synopticon_rtc.receiving.stream import Stream

KEPT = 4 * MAX_STREAMS
"""Streams whose totals are kept, also while they are not published."""
_WORDS: dict[StreamState, str] = {
    "published": "the broadcaster publishes it",
    "unpublished": "the broadcaster publishes it no more",
    "muted": "the broadcaster sends nothing of it for now",
    "unmuted": "the broadcaster sends it again",
    "replaced": "the broadcaster has given it another source",
}


class Catalogue:
    """Keeps a stream for each that the broadcaster publishes, and tells of changes.

    Args:
        first: What the first offer of a connection carries, whatever its name.
        takes: Names of the streams that are wanted, None for all.
        video: Whether video is received, else faces alone.
        make: Makes the stream of a connection that feeds what an application holds.
        faults: What counts errors that nobody foresaw.

    Attributes:
        streams: What is published, by name.
        events: When streams come, go and change.
    """

    def __init__(
        self,
        first: ReceivedStream,
        takes: Sequence[str] | None,
        *,
        video: bool,
        make: Callable[[Peer, ReceivedStream], Stream | SoundStream],
        faults: Faults,
    ) -> None:
        self.streams: dict[str, ReceivedStream] = {}
        self.events: Events[StreamEvent] = Events(faults=faults)
        self._first = first
        self._takes = takes
        self._video = video
        self._make = make
        self._kept: dict[str, ReceivedStream] = {}  # with their totals, by name, also while they are not published
        self._peer: Peer | None = None  # whose streams they are

    def update(self, peer: Peer, published: Sequence[Published]) -> None:
        """Take what the broadcaster tells of its streams."""
        if self._peer is not None and self._peer is not peer:
            self.forget(self._peer, "another connection has taken its place")
        self._peer, peer.listed = peer, True
        listed = {stream.name: stream for stream in published if stream.kind in KINDS}
        for name in [name for name in self.streams if name not in listed]:
            self._remove(peer, name)
        for name, stream in listed.items():
            handle = self.streams.get(name)
            before = (handle.muted, handle.replaced) if handle is not None else None
            if handle is None:
                handle = self._add(peer, stream)
            handle.describe(stream, peer.session)
            self._connect(peer, handle, stream)
            if before is None:
                self._tell(peer, handle, "published")
            else:
                if stream.replaced != before[1]:
                    self._tell(peer, handle, "replaced")
                if stream.muted != before[0]:
                    self._tell(peer, handle, "muted" if stream.muted else "unmuted")

    def forget(self, peer: Peer, reason: str) -> None:
        """Know of nothing any more that came over a connection: it has ended."""
        if peer is not self._peer:
            return
        self._peer = None
        for name in list(self.streams):
            self._remove(peer, name, reason)

    def takes(self, stream: Published) -> bool:
        """Whether a stream is wanted, and can be received."""
        return stream.kind in KINDS and (self._takes is None or stream.name in self._takes)

    def _add(self, peer: Peer, stream: Published) -> ReceivedStream:
        """Find what the application holds of a stream that is news."""
        if self._is_first(peer, stream):
            handle = self._first
            if not peer.first.closed:
                peer.streams[stream.name] = peer.first
                if stream.faces:
                    peer.first.expect_faces()
        else:
            handle = self._kept.get(stream.name) or ReceivedStream(video=self._video)
            self._kept = {name: kept for name, kept in self._kept.items() if kept is not handle}
            self._kept[stream.name] = handle  # the newest is last
            while len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
        self.streams[stream.name] = handle
        return handle

    def _is_first(self, peer: Peer, stream: Published) -> bool:
        """Whether a stream is what the first offer carries, or has come again under its name."""
        if self._first in self.streams.values() or not self.takes(stream) or stream.kind != "video":
            return False
        if peer.first.closed:
            return stream.name == self._first.name
        if not self._video:
            return stream.faces
        return stream.mid is not None and stream.mid == next(iter(peer.connection.received), stream.mid)

    def _connect(self, peer: Peer, handle: ReceivedStream, stream: Published) -> None:
        """Have what comes of a stream go to where it belongs."""
        if not self.takes(stream) or (stream.mid is None and (self._video or stream.kind == "audio")):
            return
        if stream.name not in peer.streams:
            made = peer.streams[stream.name] = self._make(peer, handle)
            if stream.faces and isinstance(made, Stream):
                made.expect_faces()
        if stream.mid is not None:
            peer.sections[stream.mid] = peer.streams[stream.name]

    def _remove(self, peer: Peer, name: str, reason: str = _WORDS["unpublished"]) -> None:
        handle = self.streams.pop(name)
        handle.end()
        if stream := peer.streams.pop(name, None):
            stream.close()
            peer.sections = {mid: other for mid, other in peer.sections.items() if other is not stream}
        self.events.emit(StreamEvent(name, handle.kind, "unpublished", reason, peer.session))

    def _tell(self, peer: Peer, handle: ReceivedStream, state: StreamState) -> None:
        self.events.emit(StreamEvent(handle.name, handle.kind, state, _WORDS[state], peer.session))
