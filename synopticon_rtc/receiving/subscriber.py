"""What a receiver takes of what its broadcaster publishes, and how it comes to it."""

import asyncio
import functools
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.text import NAME, visible
from synopticon_rtc.engines import Engine
from synopticon_rtc.errors import SynopticonError
from synopticon_rtc.events import Events, StreamEvent, StreamState
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.peers.published import (
    KINDS,
    MAX_STREAMS,
    FullOffer,
    Limit,
    NewAnswer,
    NewOffer,
    Published,
    Refusal,
    Relays,
    Streams,
    Told,
    check_name,
)
from synopticon_rtc.receiving.behind import Behind
from synopticon_rtc.receiving.finder import Finder, Look
from synopticon_rtc.receiving.iterations import Iterations
from synopticon_rtc.receiving.latency import Latency
from synopticon_rtc.receiving.pairing import Sync
from synopticon_rtc.receiving.peer import CHANGES, Peer
from synopticon_rtc.receiving.received import ReceivedStream
from synopticon_rtc.receiving.sound import AudioMoment, SoundStream
from synopticon_rtc.receiving.stream import Stream
from synopticon_rtc.receiving.taps import Taps
from synopticon_rtc.rtc import EncodedVideoFrame
from synopticon_rtc.signaling.messages import Offer

logger = logging.getLogger(__name__)

REASON = 512  # characters of what a broadcaster is told of an offer that cannot be used
KEPT = 4 * MAX_STREAMS
"""Streams whose totals are kept, also while they are not published."""
_WORDS: dict[StreamState, str] = {
    "published": "the broadcaster publishes it",
    "unpublished": "the broadcaster publishes it no more",
    "muted": "the broadcaster sends nothing of it for now",
    "unmuted": "the broadcaster sends it again",
    "replaced": "the broadcaster has given it another source",
}


class Subscriber:
    """Keeps a stream for each that the broadcaster publishes, and has what comes of it go to those who want it.

    What is published is told over the control channel, with offers that are answered here. From a page it is what its
    one offer carries, and from an engine all that the engine says.

    Args:
        first: What the first offer of a connection carries, whatever its name.
        takes: Names of the streams that are wanted, None for all.
        moments: Who iterates over videos.
        sounds: Who iterates over sound.
        taps: Who is told of all as it was encoded.
        finder: What looks for faces where a broadcaster sends none; None where nobody does.
        do: Takes a step on the connection of a link after those that wait: :meth:`.Negotiator.do`.
        engine: What carries the streams; None where broadcasters send them.
        faults: What counts errors that nobody foresaw.
        video: Whether video is received, else faces alone.
        sync: As for :class:`Stream`.
        faces_wait: As for the same.
        jitter: As for the same.

    Attributes:
        streams: What is published, by name.
        events: When streams come, go and change.
        sought: When the first broadcaster was asked for, by the loop's clock; None before.
    """

    def __init__(
        self,
        *,
        first: ReceivedStream,
        takes: Sequence[str] | None,
        moments: Iterations[Moment[Any]],
        sounds: Iterations[AudioMoment],
        taps: Taps,
        finder: Finder | None,
        do: Callable[[int, Callable[[], Awaitable[None]]], None],
        engine: Engine | None,
        faults: Faults,
        video: bool,
        sync: Sync,
        faces_wait: float,
        jitter: float,
    ) -> None:
        self.streams: dict[str, ReceivedStream] = {}
        self.events: Events[StreamEvent] = Events(faults=faults)
        self.sought: float | None = None
        self._first = first
        self._takes = takes
        self._moments = moments
        self._sounds = sounds
        self._taps = taps
        self._finder = finder
        self._do = do
        self._engine = engine
        self._video = video
        self._sync: Sync = sync
        self._faces_wait = faces_wait
        self._jitter = jitter
        self._kept: dict[str, ReceivedStream] = {}  # with their totals, by name, also while they are not published
        self._peer: Peer | None = None  # whose streams they are
        self._limits: dict[str, int] = {}  # bit/s that are wanted at most, by the name of the video

    # What is agreed on

    def choose(self, offer: Offer) -> list[str] | None:
        """Say what to receive of an offer: of an engine's all that is wanted, as there will be no other."""
        return self._taken(offer.streams) if isinstance(offer, FullOffer) else None

    def join(self, peer: Peer, offer: FullOffer) -> None:
        """Take all that a broadcaster publishes from an engine, which carries it."""

        def find(name: str) -> Stream | None:
            stream = peer.streams.get(name)
            return stream if isinstance(stream, Stream) else None

        def listed(streams: list[Published]) -> None:
            self._update(peer, streams)
            self._choose_layers(peer)

        peer.behind = Behind(find, listed, offer)
        self._update(peer, offer.streams)

    def connected(self, peer: Peer) -> None:
        """Take note that a connection is up."""
        if peer.behind is not None:
            peer.behind.open(peer.connection)
            self._choose_layers(peer)
        elif peer.is_whole:  # whoever sends can tell of no streams
            self._update(peer, peer.all_there_is())

    def told(self, peer: Peer, message: Told) -> None:
        """Take what a broadcaster tells over the control channel."""
        if isinstance(message, NewOffer) and message.number > peer.number:
            peer.number, peer.offer = message.number, message
        elif isinstance(message, Relays):
            peer.relays = tuple(message.relays)
            return
        elif not isinstance(message, Streams):
            return
        is_waiting, peer.news = peer.news is not None, message.streams
        if not is_waiting:
            self._do(peer.link, functools.partial(self._follow, peer))

    async def _follow(self, peer: Peer) -> None:
        """Take note of what the broadcaster has told last, and answer its newest offer."""
        while not peer.changes.take(clock.monotonic()):  # noqa: ASYNC110 - time alone gives more
            await asyncio.sleep(1 / CHANGES[0])
        listed, peer.news = peer.news or [], None
        self._update(peer, listed)
        if peer.control is not None:
            for name, bitrate in self._limits.items():
                peer.control.tell(Limit(name, bitrate))
        offer, peer.offer = peer.offer, None
        if offer is None or peer.control is None:
            return
        reply: Told
        try:
            reply = NewAnswer(offer.number, await peer.connection.answer(offer.sdp, self._taken(offer.streams)))
        except SynopticonError as error:
            logger.warning("an offer of peer %s is not taken: %s", visible(peer.session, NAME), error)
            reply = Refusal(offer.number, str(error)[:REASON])
        peer.control.tell(reply)

    def _taken(self, streams: Iterable[Published]) -> list[str]:
        """Return the media sections of the streams that are wanted."""
        return [stream.mid for stream in streams if stream.mid is not None and self._is_taken(stream)]

    def limit(self, peers: Iterable[Peer], name: str, bitrate: int | None) -> None:
        """Have a video come with fewer bits; with the arguments and errors of :meth:`.Receiver.limit`."""
        check_name(name)
        if bitrate is None:
            self._limits.pop(name, None)
        elif 0 < bitrate < 2**31:
            self._limits[name] = bitrate
        else:
            raise ValueError(f"bitrate must be above 0, and is told in 31 bits, not {bitrate}")
        for peer in peers:
            if peer.control is not None and peer.control.is_open:
                peer.control.tell(Limit(name, bitrate))
            self._choose_layer(peer, name)

    def _choose_layers(self, peer: Peer) -> None:
        for name in self._limits:
            self._choose_layer(peer, name)

    def _choose_layer(self, peer: Peer, name: str) -> None:
        """Have an engine send the layer of a video that is wanted."""
        layer = peer.behind and peer.behind.layer(name, self._limits.get(name, math.inf))
        if layer and self._engine is not None:
            self._engine.choose(peer.session, *layer)

    # What is published

    def _update(self, peer: Peer, published: Sequence[Published]) -> None:
        """Take what the broadcaster tells of its streams."""
        if self._peer is not None and self._peer is not peer:
            self.leave(self._peer, "another connection has taken its place")
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

    def leave(self, peer: Peer, reason: str) -> None:
        """Know of nothing any more that came over a connection: it has ended."""
        if peer is not self._peer:
            return
        self._peer = None
        for name in list(self.streams):
            self._remove(peer, name, reason)

    def _is_taken(self, stream: Published) -> bool:
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
        if self._first in self.streams.values() or not self._is_taken(stream) or stream.kind != "video":
            return False
        if peer.first.closed:
            return stream.name == self._first.name
        if not self._video:
            return stream.faces
        return stream.mid is not None and stream.mid == next(iter(peer.connection.received), stream.mid)

    def _connect(self, peer: Peer, handle: ReceivedStream, stream: Published) -> None:
        """Have what comes of a stream go to where it belongs."""
        if not self._is_taken(stream) or (stream.mid is None and (self._video or stream.kind == "audio")):
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

    # What comes

    def _make(self, peer: Peer, handle: ReceivedStream) -> Stream | SoundStream:
        return self.make_video(peer, handle) if handle.kind == "video" else self._make_sound(peer, handle)

    def make_video(self, peer: Peer, handle: ReceivedStream) -> Stream:
        """Make what receives a video over one connection."""
        is_first = handle is self._first
        latency = Latency(video=self._video)
        stream = Stream(
            video=self._video,
            sync=self._sync,
            faces_wait=self._faces_wait,
            jitter=self._jitter,
            totals=handle.totals,
            latency=latency,
            heard=self._note_first if is_first else lambda _: None,
            give=lambda moment: self._give(peer, stream, handle, latency, moment),
            lips=peer.lips if is_first else None,
            told=functools.partial(self._taps.faces, handle),
            tapped=functools.partial(self._taps.video, handle),
        )
        stream.offset = lambda: peer.offset
        if self._finder is not None:
            stream.look = Look(self._finder, peer, handle, stream, functools.partial(self._wants_faces, handle))
        return stream

    def _make_sound(self, peer: Peer, handle: ReceivedStream) -> SoundStream:
        stream = SoundStream(
            give=functools.partial(self._give_sound, handle),
            lips=peer.lips,
            tapped=functools.partial(self._taps.sound, handle),
        )
        stream.offset = lambda: peer.offset
        return stream

    def _wants_faces(self, handle: ReceivedStream) -> bool:
        """Whether anybody wants the faces of a video that are looked for here."""
        returned = self._finder is not None and self._finder.returns
        return self._moments.wants(handle) or (handle.hint != "screen" and (returned or bool(self._taps)))

    def _note_first(self, now: float) -> None:
        if self._first.totals.first_frame is None and self.sought is not None:
            self._first.totals.first_frame = now - self.sought

    def _give(self, peer: Peer, stream: Stream, handle: ReceivedStream, latency: Latency, moment: Moment[Any]) -> None:
        handle.given(moment, latency)
        if self._moments.put(handle, moment) and isinstance(moment.frame, EncodedVideoFrame):
            peer.connection.request_keyframe(peer.section(stream))

    def _give_sound(self, handle: ReceivedStream, moment: AudioMoment) -> None:
        handle.totals.frames += 1
        self._sounds.put(handle, moment)
