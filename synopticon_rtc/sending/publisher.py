"""What a broadcaster publishes, and how each of its receivers comes to it."""

import asyncio
import dataclasses
import functools
import logging
import math
from collections.abc import Awaitable, Callable, Iterator

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.text import NAME, visible
from synopticon_rtc.errors import SynopticonError
from synopticon_rtc.events import Events, StreamEvent, StreamState
from synopticon_rtc.faces.wire import PROTOCOL as FACES
from synopticon_rtc.peers import published
from synopticon_rtc.peers.control import Report
from synopticon_rtc.peers.faces_beside import INSIDE, FacesBeside, FacesBoth
from synopticon_rtc.peers.faces_channel import FacesChannel
from synopticon_rtc.peers.published import (
    MAX_STREAMS,
    Limit,
    NewAnswer,
    NewOffer,
    Published,
    Refusal,
    Streams,
    Told,
    check_name,
)
from synopticon_rtc.peers.tap import Tap
from synopticon_rtc.rtc import FanoutSender
from synopticon_rtc.sending.beside import Beside
from synopticon_rtc.sending.peer import Peer
from synopticon_rtc.sending.published import PublishedStream
from synopticon_rtc.sending.sent import Sent
from synopticon_rtc.sending.stats import PeerStats
from synopticon_rtc.sending.video import SentVideo
from synopticon_rtc.sending.watcher import Watcher
from synopticon_rtc.signaling.messages import Offer

logger = logging.getLogger(__name__)

ANSWER_WITHIN = 5.0  # seconds after which a peer that has not answered is taken to refuse what it was offered
_WORDS = {
    "published": "it is sent to all that take it",
    "muted": "nothing is sent of it for now",
    "unmuted": "it is sent again",
    "replaced": "it has another source",
}


class Publisher:
    """Keeps streams by name, and sees to it that each peer is sent those that it takes.

    A peer's first offer carries one video at most; whoever knows of further streams is offered them over the control
    channel. Whatever changes, it is the same step: give what is new a media section, describe the connection, and send
    it from the answer on.

    Args:
        do: Takes a step on the connection of a link after those that wait: :meth:`.Negotiator.do`.
        renew: Ends the connection of a link, in whose place another one comes.
        faults: What counts errors that nobody foresaw.

    Attributes:
        streams: What is published, by name, in the order in which it was.
        events: When streams come, go and change.
    """

    def __init__(
        self, do: Callable[[int, Callable[[], Awaitable[None]]], None], renew: Callable[[int], None], faults: Faults
    ) -> None:
        self.streams: dict[str, PublishedStream] = {}
        self.events: Events[StreamEvent] = Events(faults=faults)
        self._do = do
        self._renew = renew
        self._streams: dict[str, Sent] = {}  # also those that are about to be published
        self._peers: list[Peer] = []
        self._taps: dict[Tap, dict[str, Callable[[], None]]] = {}  # what ends each, by the name of its stream
        self._ending: set[asyncio.Task[None]] = set()
        self._over = False  # whether streams end as all does

    @property
    def has_faces(self) -> bool:
        """Whether faces are looked for in any stream."""
        return any(stream.has_faces for stream in self._streams.values())

    # Streams

    async def publish(
        self, name: str, stream: Sent, on_end: Callable[[BaseException | None], None] | None = None
    ) -> PublishedStream:
        """Start a stream, and send it to all that take it.

        Args:
            name: By which it is known from now on.
            stream: It was not started yet.
            on_end: Called when its source ends; without it the stream is then published no more.

        Raises:
            ValueError: There is a stream of that name, or the most that there can be, or the name is too long.
            SourceError: The source gives no frame.
            ModelError: The face model cannot be had.
            SynopticonError: All streams end meanwhile.
        """
        self._check(name)
        self._streams[name] = stream
        try:
            await stream.start(functools.partial(self._ended, name, stream, on_end))
        except BaseException:
            self._streams.pop(name, None)
            raise
        if self._over:
            await stream.aclose()
            raise SynopticonError(f"stream {name!r} is not published: everything ends")
        handle = PublishedStream(name, stream, changed=self._changed, retell=self._tell_all, unpublish=self._unpublish)
        self.streams[name] = handle
        for tap, ends in self._taps.items():
            ends[name] = handle.tap(tap)
        self._changed(handle, "published")
        return handle

    def _check(self, name: object) -> None:
        check_name(name)
        if name in self._streams:
            raise ValueError(f"there is a stream {name!r} already: unpublish it first, or replace its source")
        if len(self._streams) >= MAX_STREAMS:
            raise ValueError(f"there are {MAX_STREAMS} streams already, and that is the most")

    async def _unpublish(self, handle: PublishedStream, reason: str = "it is sent no more") -> None:
        name = handle.name
        if self.streams.get(name) is not handle:
            return
        del self.streams[name]
        for ends in self._taps.values():
            ends.pop(name)()
        stream = self._streams.pop(name)
        for peer in self._peers:
            if watcher := peer.watchers.pop(name, None):
                stream.remove(watcher)
                _release(peer, watcher)
            peer.first = None if peer.first == name else peer.first
            self._tell(peer)
        self.events.emit(StreamEvent(name, handle.kind, "unpublished", reason))
        await stream.aclose()

    def _ended(
        self,
        name: str,
        stream: Sent,
        on_end: Callable[[BaseException | None], None] | None,
        error: BaseException | None,
    ) -> None:
        """Publish a stream no more whose source has ended."""
        handle = self.streams.get(name)
        if self._over or handle is None or self._streams.get(name) is not stream:
            return  # it was not published yet, or is no more
        if on_end is not None:
            on_end(error)
            return
        if error is not None:
            logger.warning("stream %s: %s", visible(name, NAME), error)
        task = asyncio.create_task(self._unpublish(handle, str(error or "its source has ended")))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _changed(self, handle: PublishedStream, state: StreamState) -> None:
        """Tell everybody of a stream that came or changed."""
        self._tell_all()
        self.events.emit(StreamEvent(handle.name, handle.kind, state, _WORDS[state]))

    def _tell_all(self) -> None:
        for peer in self._peers:
            self._tell(peer)

    def end(self) -> None:
        """End iterations over events and faces."""
        self._over = True
        self.events.close()
        for stream in self._streams.values():
            stream.end()

    async def aclose(self) -> None:
        """Stop all streams."""
        self._over = True
        streams, self._streams = list(self._streams.values()), {}
        self.streams.clear()
        await asyncio.gather(*(stream.aclose() for stream in streams), *self._ending)

    # Those who record

    @property
    def is_tapped(self) -> bool:
        """Whether somebody is told of all that is encoded."""
        return bool(self._taps)

    def tap(self, tap: Tap) -> Callable[[], None]:
        """Tell somebody of all that is encoded, also of streams to come, until what is returned is called."""
        self._taps[tap] = {handle.name: handle.tap(tap) for handle in self.streams.values()}
        return functools.partial(self._untap, tap)

    def _untap(self, tap: Tap) -> None:
        for end in self._taps.pop(tap, {}).values():
            end()

    # Peers

    def join(self, peer: Peer) -> None:
        """Give a new peer what its first description carries; to be called before it is described.

        That is the first video that it takes; for an engine all, and for one that has made an offer the first sound,
        too, as nothing is added later.
        """
        self._peers.append(peer)
        if peer.engine is not None and peer.engine.faces == "channel":
            peer.beside = Beside(peer.connection, functools.partial(self._told_beside, peer))
        wanted = list(self._wanted(peer))
        peer.first = next((name for name in wanted if self._streams[name].kind == "video"), None)
        first = {peer.first}
        if isinstance(peer.asked, Offer):
            first.add(next((name for name in wanted if self._streams[name].kind == "audio"), None))
        for name in wanted:
            if name in first or peer.engine is not None:
                self._add(peer, name, "faces")
        if peer.beside is not None:
            peer.beside.open()  # after the videos, whose transport it takes

    def connected(self, peer: Peer) -> None:
        """Take note that a peer has agreed to its first offer."""
        for watcher in peer.watchers.values():
            watcher.settle()

    def opened(self, peer: Peer) -> None:
        """Tell a peer of all that there is, now that its control channel is open."""
        self._tell(peer)

    def leave(self, peer: Peer) -> None:
        """Send a peer nothing more."""
        self._peers.remove(peer)
        for name, watcher in peer.watchers.items():
            self._streams[name].remove(watcher)
        if peer.overdue is not None:
            peer.overdue.cancel()
        if peer.beside is not None:
            peer.beside.close()

    def told(self, peer: Peer, message: Told) -> None:
        """Take what a peer answers; what is no answer to the newest offer is none."""
        match message:
            case NewAnswer(number=number) if number == peer.number:
                self._do(peer.link, functools.partial(self._agree, peer, message))
            case Refusal(number=number, reason=reason) if number == peer.number:
                self._refuse(peer, reason)
            case Limit(stream=name, bitrate=bitrate):
                self._limit(peer, name, bitrate)
            case _:
                pass

    def _limit(self, peer: Peer, name: str, bitrate: int | None) -> None:
        watcher = peer.watchers.get(name)
        if watcher is not None and isinstance(watcher.sender, FanoutSender):
            watcher.sender.wanted = math.inf if bitrate is None else bitrate

    def reports(self, peer: Peer) -> Iterator[Report]:
        """Say what part we have in the delay of each video that a peer is sent."""
        for name, watcher in peer.watchers.items():
            report = self._streams[name].report(watcher, None if name == peer.first else name)
            if report is not None:
                yield report

    def _told_beside(self, peer: Peer) -> Iterator[Told | Report]:
        """Say to all whom an engine carries our streams to what there is, and what is known of each video."""
        yield Streams(self.listed(peer))
        for name, watcher in peer.watchers.items():
            stream = self._streams[name]
            if stream.kind == "video" and (report := stream.report(watcher, name)) is not None:
                yield report

    def peer_stats(self, peer: Peer) -> PeerStats:
        """Return what was sent to a peer, in what size and codec the first video."""
        for name, stream in self._streams.items():
            if isinstance(stream, SentVideo):
                return stream.peer_stats(peer.connection, peer.watchers.get(name))
        return PeerStats(**dataclasses.asdict(peer.connection.stats()), codec=None, scale=None, encode_ms=0.0)

    def _wanted(self, peer: Peer) -> Iterator[str]:
        """Give the names of what a peer takes and is not sent."""
        several = peer.asked.accepts("streams", published.PROTOCOL)
        video = not peer.asked.refuses("video")
        for name in self.streams:
            if name in peer.watchers or (several and not peer.asked.takes(name)):
                continue
            stream = self._streams[name]
            if video or stream.kind == "audio" or stream.has_faces:
                yield name

    def _add(self, peer: Peer, name: str, faces: str) -> None:
        stream = self._streams[name]
        spare = next((sender for sender in peer.spare if sender.kind == stream.kind and stream.suits(sender)), None)
        if spare is not None:
            peer.spare.remove(spare)
        asked = peer.asked
        inside = asked.accepts("faces", INSIDE)
        watcher = peer.watchers[name] = stream.add(
            peer.connection, video=not asked.refuses("video"), sender=spare, codec="h264" if inside else None
        )
        if peer.engine is not None and peer.engine.simulcast and isinstance(stream, SentVideo):
            stream.add_layers(watcher)
        if peer.beside is not None:
            if isinstance(watcher.sender, FanoutSender):
                watcher.faces = peer.beside.add(name, watcher.sender, faces=stream.has_faces)
        elif stream.has_faces and (peer.engine is None or inside):
            ways: list[FacesBeside | FacesChannel] = []
            if inside and isinstance(watcher.sender, FanoutSender):
                ways.append(FacesBeside(watcher.sender))
            if asked.accepts("faces", FACES) or not inside:
                ways.append(FacesChannel(peer.connection, binary=asked.accepts("faces", FACES), label=faces))
            watcher.faces = ways[0] if len(ways) == 1 else FacesBoth(*ways)

    def _tell(self, peer: Peer) -> None:
        """Bring a peer up to date, once its control channel is open; an engine by another connection."""
        if peer.engine is not None:
            if any(self._wanted(peer)):
                self._renew(peer.link)
        elif peer.control is not None and peer.control.is_open and peer.asked.accepts("streams", published.PROTOCOL):
            self._do(peer.link, functools.partial(self._bring, peer))

    async def _bring(self, peer: Peer) -> None:
        """Tell a peer what is published, with an offer where that is more than it is sent."""
        assert peer.control is not None  # noqa: S101 - else it is not told
        new = list(self._wanted(peer))
        for name in new:
            self._add(peer, name, f"faces:{name}")
        if not any(peer.watchers[name].sender for name in new):
            peer.control.tell(Streams(self.listed(peer)))
            return
        peer.number += 1
        try:
            sdp = await peer.connection.offer()
        except SynopticonError as error:
            self._refuse(peer, str(error))
            return
        peer.control.tell(NewOffer(peer.number, sdp, self.listed(peer)))
        if peer.overdue is not None:
            peer.overdue.cancel()
        late = f"no answer came within {ANSWER_WITHIN:g} s"
        peer.overdue = asyncio.get_running_loop().call_later(ANSWER_WITHIN, self._refuse, peer, late)

    def listed(self, peer: Peer) -> list[Published]:
        """List what is published, with the sections that it is sent to a peer on."""
        found = []
        for name, handle in self.streams.items():
            stream, watcher = self._streams[name], peer.watchers.get(name)
            mid = peer.connection.section(watcher.sender) if watcher and watcher.sender else None
            found.append(
                Published(
                    name,
                    handle.kind,
                    handle.hint,
                    mid,
                    muted=stream.muted,
                    faces=stream.has_faces,
                    replaced=stream.replaced,
                    detector=handle.detector,
                    bitrate=stream.bitrate,
                    layers=stream.layers(watcher),
                )
            )
        return found

    async def _agree(self, peer: Peer, answer: NewAnswer) -> None:
        if answer.number != peer.number:
            return  # it was offered something else meanwhile
        try:
            await peer.connection.set_answer(answer.sdp)
        except SynopticonError as error:
            self._refuse(peer, str(error))
            return
        for name, watcher in peer.watchers.items():
            if watcher.sender is not None and peer.connection.takes(watcher.sender):
                self._streams[name].agree(watcher)
        self._refuse(peer, "the receiver does not take it")

    def _refuse(self, peer: Peer, reason: str) -> None:
        """Send a peer nothing of what it has not agreed to."""
        if peer.overdue is not None:
            peer.overdue.cancel()
        for name, watcher in peer.watchers.items():
            if watcher.asked:
                watcher.settle()
                self.events.emit(StreamEvent(name, self.streams[name].kind, "refused", reason, peer.session))


def _release(peer: Peer, watcher: Watcher) -> None:
    """Keep the media section of a stream that is published no more for another one."""
    if watcher.sender is not None:
        watcher.sender.leave()
        peer.spare.append(watcher.sender)
    if watcher.faces is not None:
        watcher.faces.close()
