"""Sends video, the faces in it, and further streams, to any number of receivers."""

import contextlib
import dataclasses
import functools
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Self

import msgspec

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.life import Life, entered_before, not_open
from synopticon_rtc.basics.text import check_text
from synopticon_rtc.engines import Engine, as_engine, as_signaling
from synopticon_rtc.errors import SignalingError, SynopticonError
from synopticon_rtc.events import DetectorEvent, Events, PeerEvent, SourceEvent, StreamEvent
from synopticon_rtc.faces import Detector
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.files import wire
from synopticon_rtc.files.hub import FileHub
from synopticon_rtc.files.incoming import FileOffer
from synopticon_rtc.files.transfer import FileTransfer
from synopticon_rtc.media import AnySound, Codec, Source
from synopticon_rtc.peers import control, messages, published
from synopticon_rtc.peers.control import Control, Report
from synopticon_rtc.peers.messages import Message, MessageHub
from synopticon_rtc.peers.negotiator import Negotiator
from synopticon_rtc.peers.published import Relays, Told
from synopticon_rtc.peers.tap import Origin, Tap
from synopticon_rtc.rtc import Channel, IceServer, PeerConnection
from synopticon_rtc.rtc.network import LocalNetwork
from synopticon_rtc.rtc.servers import check_servers
from synopticon_rtc.sending.admission import Admit, Visitor
from synopticon_rtc.sending.encoded import EncodedSoundStream, EncodedStream
from synopticon_rtc.sending.peer import Peer
from synopticon_rtc.sending.published import PublishedStream
from synopticon_rtc.sending.publisher import Publisher
from synopticon_rtc.sending.sent import Sent
from synopticon_rtc.sending.sound import SoundStream
from synopticon_rtc.sending.stats import BroadcasterStats, PeerStats
from synopticon_rtc.sending.stream import Stream
from synopticon_rtc.sending.upstream import Upstream
from synopticon_rtc.signaling.actions import Ask, CreateAnswer, CreateOffer, Notify
from synopticon_rtc.signaling.broadcaster_handshake import BroadcasterHandshake
from synopticon_rtc.signaling.messages import Candidate, one_line
from synopticon_rtc.signaling.session import Signaling
from synopticon_rtc.tracing import Trace

ACCEPT = {
    "control": [control.PROTOCOL],
    "ice": ["more"],
    "messages": [messages.PROTOCOL, messages.LATEST],
    "files": [wire.PROTOCOL],
}
BITRATE = 1_500_000
FPS = 30.0
FLUSH = 1.0  # seconds for the last messages to arrive


class Broadcaster:
    """Sends a source of video, and the faces in it, to every receiver that asks; further streams by :meth:`publish`.

    Use it as an async context manager, or await :meth:`start` and in the end :meth:`aclose`, once; it serves until it
    is left, or until the source ends. Faces are looked for while a receiver wants them, or while somebody subscribes to
    :attr:`faces` or iterates over it.

    Args:
        signaling: The address of a Synopticon signaling server, or a client that is shared with others.
        source: Where frames come from: a :class:`FrameSource` such as ``Camera(0)``; a path or address, as the command
            line takes it; the number of a camera; or an iterator of frames or images, asked in a thread. None where
            all that there is will be published.
        faces: What finds faces in them, None to send video alone.
        audio: Where sound comes from, such as ``Microphone()``, the same ``VideoFile`` as the source for its own sound,
            or an async iterator of ``av.AudioFrame``; it is sent to those who know of several streams, as the
            stream ``microphone``. Without it nothing is recorded.
        publish_to: The addresses of engines that carry all to more receivers than this machine's uplink does. One that
            is not there, or lets nobody in, is tried again, and disturbs nobody else.
        name: A name for people, by which receivers can ask for this broadcaster.
        admit: An async function that tells of each receiver that asks, a :class:`Visitor`, whether it may watch; None
            for all that the signaling server lets in. Each session is asked about once. Until the function has
            answered, however long that takes, that receiver is sent nothing, and so learns no address of ours; others
            are served meanwhile. One that the function says no to, or fails at, is told so, and is not served.
        codecs: The codecs to offer, the preferred one first. VP8 is always offered, since every browser takes it.
        encoder: FFmpeg's name of an encoder of one of these codecs, such as ``h264_nvenc``; that codec is then offered
            first. It is tried at the start, and where it cannot be used, the log says why in one line, and this
            package's own encoder takes its place. A screen is always encoded by that. None for its own.
        bitrate: Of the video, bit/s, at least 10,000.
        fps: The frame rate for which the encoder plans its bit rate.
        faces_fps: In how many frames a second faces are looked for at most; None for as many as the detector manages.
            The video keeps its own rate, and the frames that were left out are told from those without a face.
        ice_servers: STUN and TURN servers to ask for candidates. None is asked but these or, lacking these, those
            that the signaling server names.
        relay_only: Connect through TURN servers alone, so that peers do not learn each other's addresses.
        udp_ports: The lowest and the highest UDP port on which to be reached, for a firewall; the same twice to have
            one port for all peers; None for any.
        announce: Addresses at which this machine is reached from outside on the same ports, such as the public one of a
            cloud machine; peers are told them in the place of its own.
        interfaces: Names of network interfaces, and addresses, to use alone; none for all.
        trace: A file in which what happens to each receiver is written down, for a report of a bad call.
        upstream: Whose streams are passed on, where they are another broadcaster's: as a :class:`Relay` does.

    Attributes:
        signaling: The client by which receivers find it.
        name: As it was given.
        streams: What is published, by name, in the order in which it was. The source of the constructor is ``camera``,
            or what else its ``hint`` says.
        stream_events: When streams are published and end, are muted or replaced, and when a receiver refuses one.
        network: What of this machine's network it uses. Before it is started, that of a receiver may take its place:
            both then share one port where they have but one.
        events: What happens to receivers. Iterations over them end when the broadcaster does; :meth:`wait_closed` then
            tells why.
        source_events: When the source falls silent, and when it is heard again.
        detector_events: What happens to the detector: a frame on which it fails counts as one that was not looked at,
            and when it has failed for five seconds, faces are looked for no more, while the video goes on.
        faces: The moments in which faces were looked for, for this application. The frames are as the source gave them,
            and only to be read. An iteration that is slower gets the newest each time, and ends as those of events do.

    Raises:
        SourceError: The source is none, or names a file that is not there.
        InvalidURL: What ``publish_to`` names is no address of an engine, or ``signaling`` none at all.
        ValueError: There is no codec, or an unknown one, or no such encoder of them; ``bitrate``, ``fps`` or
            ``faces_fps`` is out of range; ``udp_ports`` is no range, or an address or interface is not there; or
            ``name`` is no text that UTF-8 can write.
        TypeError: ``signaling`` is neither an address nor a client, ``faces`` no detector, ``name`` no text, ``admit``
            no function, or something else is among the ICE servers.
    """

    def __init__(
        self,
        signaling: str | Signaling,
        source: Source | None = None,
        *,
        faces: Detector | None = None,
        audio: AnySound | None = None,
        publish_to: Sequence[str | Engine] = (),
        name: str = "",
        admit: Admit | None = None,
        codecs: Sequence[Codec] = ("vp8", "h264"),
        encoder: str | None = None,
        bitrate: int = BITRATE,
        fps: float = FPS,
        faces_fps: float | None = None,
        ice_servers: Sequence[IceServer] = (),
        relay_only: bool = False,
        udp_ports: tuple[int, int] | None = None,
        announce: Sequence[str] = (),
        interfaces: Sequence[str] = (),
        trace: str | os.PathLike[str] | None = None,
        upstream: Upstream | None = None,
    ) -> None:
        check_text("name", name)
        if admit is not None and not callable(admit):
            raise TypeError(f"admit must be an async function, not {admit!r:.100}")
        if isinstance(publish_to, str):
            raise TypeError("publish_to takes addresses in a list, like ['janus+ws://localhost:8188/1234']")
        check_servers(ice_servers)
        self._faults = Faults()
        self._stream: Stream | None = None
        if source is not None:
            self._stream = Stream(
                source,
                faces,
                codecs=codecs,
                encoder=encoder,
                bitrate=bitrate,
                fps=fps,
                faces_fps=faces_fps,
                faults=self._faults,
            )
        self._sound = None if audio is None else SoundStream(audio, faults=self._faults)
        self.signaling = as_signaling(signaling)
        self.name = name
        self.events: Events[PeerEvent] = Events(faults=self._faults)
        self.source_events: Events[SourceEvent] = Events() if self._stream is None else self._stream.source_events
        self.detector_events: Events[DetectorEvent] = Events() if self._stream is None else self._stream.detector_events
        self.faces: Events[Moment] = Events() if self._stream is None else self._stream.faces
        self._ice_servers = ice_servers
        self._relay_only = relay_only
        self.network = LocalNetwork(udp_ports, announce, interfaces)
        self._trace = Trace(trace, "broadcaster")
        self._admit = admit
        self._upstream = upstream
        links = itertools.count(1)
        self._handshake = self._make_handshake(links, asks=admit is not None and not isinstance(self.signaling, Engine))
        self._negotiator = self._negotiate(self.signaling, self._handshake, self._lose_signaling)
        self._negotiators: dict[Signaling, Negotiator] = {self.signaling: self._negotiator}
        for engine in map(as_engine, publish_to):
            failed = functools.partial(self._lose_engine, engine)
            self._negotiators[engine] = self._negotiate(engine, self._make_handshake(links), failed)
        self._publisher = Publisher(self._do, self._renew, self._faults)
        self.streams: Mapping[str, PublishedStream] = MappingProxyType(self._publisher.streams)
        self.stream_events: Events[StreamEvent] = self._publisher.events
        self._hub = MessageHub()
        self._files = FileHub()
        self._peers: dict[int, Peer] = {}  # by link
        self._signaling_lost: SignalingError | None = None
        self._life = Life(self._end)
        self._exit = contextlib.AsyncExitStack()

    async def start(self) -> Self:
        """Start capturing and answering; returns when the first frame is there. :meth:`aclose` ends it.

        Raises:
            SourceError: The source gives no frame.
            ModelError: The face model cannot be had.
            RuntimeError: It was entered before.
        """
        if self._life.begun:
            raise entered_before(self)
        self._life.begun = True
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._life.end)
            stack.callback(self._hub.close)
            stack.push_async_callback(self._files.aclose)
            await stack.enter_async_context(self._trace)
            stack.push_async_callback(self._publisher.aclose)
            if self._stream is not None:
                await self._publisher.publish(self._stream.hint, self._stream, self._life.end)
            if self._sound is not None:
                await self._publisher.publish(self._sound.hint, self._sound)
            for negotiator in self._negotiators.values():
                await stack.enter_async_context(negotiator)
            stack.push_async_callback(self._hub.flush, FLUSH)
            self._exit = stack.pop_all()
        return self

    async def aclose(self) -> None:
        """Say goodbye to the receivers and end; a second call does nothing."""
        await self._exit.aclose()

    async def __aenter__(self) -> Self:
        """Do as :meth:`start`."""
        return await self.start()

    async def __aexit__(self, *exception: object) -> None:
        """Do as :meth:`aclose`."""
        await self.aclose()

    async def publish(
        self,
        name: str,
        source: Source | EncodedStream | None = None,
        *,
        audio: AnySound | EncodedSoundStream | None = None,
        faces: Detector | None = None,
        codecs: Sequence[Codec] = ("vp8", "h264"),
        encoder: str | None = None,
        bitrate: int | None = None,
        fps: float = FPS,
        faces_fps: float | None = None,
    ) -> PublishedStream:
        """Send one more stream to all receivers that know of several, now and to come; returns when it has begun.

        It ends with its source, or by :meth:`PublishedStream.unpublish`; everything else goes on.

        Args:
            name: A name for it of at most 64 characters, by which receivers know it.
            source: Where the frames of a video come from, as for the constructor; or a video that comes encoded.
            audio: Where sound comes from instead; or one that comes encoded.
            faces: What finds faces in the video, None for none. It is one of its own, given to no other stream.
            codecs: The codecs to offer for the video, the preferred one first.
            encoder: FFmpeg's name of an encoder of one of them, as for the constructor.
            bitrate: Bit/s; None for 1,500,000 for video, and what suits speech for sound.
            fps: The frame rate for which the video's encoder plans its bit rate.
            faces_fps: In how many frames a second faces are looked for at most.

        Raises:
            SourceError: The source is none, or gives nothing.
            ModelError: The face model cannot be had.
            ValueError: There is a stream of that name, or the most that there can be, or a figure is out of range.
            TypeError: ``faces`` is no detector, or there is not one source.
            RuntimeError: The broadcaster is not open.
        """
        if not self._life.begun or self._life.over:
            raise not_open(self)
        if (source is None) == (audio is None):
            raise TypeError("publish takes one source: of a video, or with audio= of sound")
        stream: Sent
        if isinstance(source, EncodedStream):
            stream = source
        elif isinstance(audio, EncodedSoundStream):
            stream = audio
        elif audio is not None:
            stream = SoundStream(audio, bitrate, self._faults)
        else:
            assert source is not None  # noqa: S101 - one of both is there
            rate = BITRATE if bitrate is None else bitrate
            stream = Stream(
                source,
                faces,
                codecs=codecs,
                encoder=encoder,
                bitrate=rate,
                fps=fps,
                faces_fps=faces_fps,
                faults=self._faults,
            )
        return await self._publisher.publish(name, stream)

    async def send(
        self, name: str, data: bytes | str, *, to: str | None = None, latest: bool = False
    ) -> frozenset[str]:
        """Send a message of the application to one receiver, or to all; returns when it is on its way.

        To one, it waits for room: at most 256 KiB of a name wait to be sent. To all, it waits until one of them has
        room, and those who have none miss it, so that a slow one holds up nobody else.

        Args:
            name: The channel that it goes on, 1 to 64 bytes of UTF-8; both ends just use the name.
            data: Text or bytes, at most 1 MiB, or 16 KiB with ``latest``.
            to: The session of the receiver, or its name; None for all.
            latest: Whether only the newest message of this name counts: those that wait give way to it, and what is
                lost on the way is not sent again.

        Returns:
            The sessions of those who miss it.

        Raises:
            ConnectionLost: That receiver is not connected, or goes meanwhile.
            ValueError: The name or the message is too long, there are too many names, or several receivers are called
                ``to``.
            TypeError: It is neither text nor bytes.
        """
        return await self._hub.send(name, data, to=None if to is None else self._session_of(to), latest=latest)

    def messages(self, name: str) -> AsyncIterator[Message]:
        """Iterate over the messages that receivers send on a channel of this name, until the broadcaster is closed.

        Who is slower than a receiver holds up what that receiver sends on this name, and nothing else.
        """
        return self._hub.messages(name)

    def hear_names(self, take: Callable[[str], None]) -> None:
        """Have a function called with the name of each message that comes and that nobody iterates over yet."""
        self._hub.unasked = take

    async def send_file(
        self,
        path: str | os.PathLike[str],
        *,
        to: str,
        folder: Sequence[str] = (),
        rate: float | None = None,
    ) -> FileTransfer:
        """Offer a file to a receiver, and send it once that is accepted; returns at once with what tells of it.

        Faces, video, sound and messages go before it. One that was sent in part before goes on from there.

        Args:
            path: Of the file.
            to: The session of the receiver, or its name.
            folder: The folders that it is to be in there, the outermost first.
            rate: Bytes a second that it takes at most, None for all that nobody else needs.

        Raises:
            FileError: It cannot be read.
            ConnectionLost: That receiver is not connected, or takes no files.
            ValueError: The rate is less than 1000, or several receivers are called ``to``.
        """
        return await self._files.send(path, self._session_of(to), folder=tuple(folder), rate=rate)

    async def send_folder(
        self, path: str | os.PathLike[str], *, to: str, rate: float | None = None
    ) -> list[FileTransfer]:
        """Offer all files of a folder, and of those within it, one after the other, as :meth:`send_file` does.

        Links are left out. It raises what :meth:`send_file` raises, and where there are more than 10,000 files.
        """
        return await self._files.send_folder(path, self._session_of(to), rate=rate)

    @property
    def files(self) -> AsyncIterator[FileOffer]:
        """An iteration over the files that receivers offer, each given out once, until the broadcaster is closed.

        Nothing of them comes before ``await offer.accept(folder)``. Where nobody iterates, they are refused.
        """
        return self._files.offers()

    def send_away(self, session: str, reason: str = "") -> None:
        """Let a receiver go, tell it so, and serve its signaling session no more.

        A receiver that starts anew, such as a page that is loaded again, has a new session, and is a stranger:
        ``admit`` is asked about it. The signaling server's tokens are what keeps somebody out for good.

        Args:
            session: Of the receiver, which may be one that has not asked yet.
            reason: Why, in words for people, who are shown it.

        Raises:
            RuntimeError: The broadcaster is not open.
        """
        if not self._life.begun or self._life.over:
            raise not_open(self)
        self._negotiator.perform(self._handshake.send_away(session, reason))

    @property
    def origin(self) -> Origin:
        """Who this is."""
        return Origin(self.name, self.signaling.session or "", 0.0)

    @property
    def tapped(self) -> Sequence[PublishedStream]:
        """The streams that are published."""
        return list(self.streams.values())

    def tap(self, tap: Tap) -> Callable[[], None]:
        """Tell somebody of all that is encoded, before anything is lost on the way, until what is returned is called.

        It is encoded for them alone if need be, and has the full bit rate whatever links of receivers bear.
        """
        return self._publisher.tap(tap)

    def request_keyframe(self) -> None:
        """Have a keyframe of each video come soon: for one who joins a recording."""
        for stream in self.streams.values():
            stream.request_keyframe()

    async def wait_closed(self) -> None:
        """Wait until the source ends or the broadcaster is closed.

        Raises:
            SourceError: The source gives no more frames.
            SignalingError: The signaling server refuses for good, and no receiver is connected any more.
            RuntimeError: It was not started.
        """
        if not self._life.begun:
            raise not_open(self)
        await self._life.wait()

    @property
    def stats(self) -> BroadcasterStats:
        """Totals of its first source since the start; those of every stream are at :attr:`streams`."""
        faults = self._faults.count + self.signaling.faults
        totals = BroadcasterStats() if self._stream is None else self._stream.stats()
        return dataclasses.replace(totals, peers=len(self._connected), faults=faults)

    def peer_stats(self) -> dict[str, PeerStats]:
        """Return what was sent to each receiver that is connected, by session: size and codec of the first video."""
        return {peer.session: self._publisher.peer_stats(peer) for peer in self._connected}

    @property
    def peers(self) -> tuple[str, ...]:
        """The sessions of the receivers that are connected."""
        return tuple(peer.session for peer in self._connected)

    def _session_of(self, to: str) -> str:
        """Return whom a session or a name means: nobody takes the place of a session by calling itself so.

        Raises:
            ValueError: It means several.
        """
        connected = self._connected
        if any(peer.session == to for peer in connected):
            return to
        called = dict.fromkeys(peer.session for peer in connected if peer.name and peer.name == one_line(to))
        if len(called) > 1:
            raise ValueError(f"several receivers are called {to}: name the session of one: {', '.join(called)}")
        return next(iter(called), to)

    @property
    def recorders(self) -> tuple[str, ...]:
        """The sessions of the receivers that record what they are sent, and say so, as those of this package do."""
        return tuple(peer.session for peer in self._peers.values() if peer.recording)

    @property
    def _connected(self) -> list[Peer]:
        """Those who are connected, in the order in which they came."""
        return [peer for peer in self._peers.values() if peer.connected]

    def _end(self, _: BaseException | None) -> None:
        self.events.close()
        self._publisher.end()

    # What the negotiators ask

    def _make_handshake(self, links: Iterator[int], *, asks: bool = False) -> BroadcasterHandshake:
        timestamp = lambda: time.time_ns() // 1_000_000  # noqa: E731 - it is one
        return BroadcasterHandshake(name=self.name, accept=ACCEPT, timestamp=timestamp, asks=asks, ids=links)

    def _negotiate(
        self, way: Signaling, handshake: BroadcasterHandshake, failed: Callable[[SignalingError], None]
    ) -> Negotiator:
        """Answer those who come one way: by signaling, or an engine."""
        return Negotiator(
            way,
            handshake,
            open_peer=functools.partial(self._open_peer, way),
            close_peer=self._close_peer,
            notify=self._notify,
            failed=failed,
            admit=self._may_watch,
            trace=self._trace,
            faults=self._faults,
        )

    def _do(self, link: int, step: Callable[[], Awaitable[None]]) -> None:
        for negotiator in self._negotiators.values():
            negotiator.do(link, step)

    def _renew(self, link: int) -> None:
        for negotiator in self._negotiators.values():
            negotiator.lost(link, "what is published has changed")

    def _lose_engine(self, engine: Engine, error: SignalingError) -> None:
        """An engine is not tried again: all else goes on without it."""
        self.events.emit(PeerEvent(engine.url, "refused", str(error)))

    async def _may_watch(self, ask: Ask) -> bool:
        return self._admit is None or await self._admit(Visitor(ask.session, ask.name))

    def _open_peer(self, way: Signaling, action: CreateOffer | CreateAnswer) -> PeerConnection:
        """Make a peer connection with all that goes over it, for one that came this way."""
        link, asked, negotiator = action.link, action.asked, self._negotiators[way]
        if asked.refuses("video") and not self._publisher.has_faces and not asked.accepts("control", control.PROTOCOL):
            raise SynopticonError("a receiver wants faces alone, and none are looked for here")
        if not self.streams and not asked.accepts("control", control.PROTOCOL):
            raise SynopticonError("nothing is published yet")
        connection = PeerConnection(
            ice_servers=self._ice_servers or negotiator.ice_servers(),
            relay_only=self._relay_only,
            network=self.network,
            note=self._trace.of(action.session),
            on_candidate=lambda candidate: negotiator.gathered(link, msgspec.convert(candidate, Candidate)),
            on_state=functools.partial(self._changed, link, negotiator),
            on_channel=functools.partial(self._add_channel, link),
            offer_capture_time=asked.accepts("streams", published.PROTOCOL),
            faults=self._faults,
        )
        engine = way if isinstance(way, Engine) else None
        peer = Peer(link, action.session, asked, connection, one_line(asked.name), engine=engine)
        with contextlib.ExitStack() as undo:
            undo.callback(self._publisher.leave, peer)
            self._publisher.join(peer)
            if asked.accepts("control", control.PROTOCOL):
                peer.control = Control(
                    connection.add_channel(control.LABEL, protocol=control.PROTOCOL),
                    gone=functools.partial(negotiator.lost, link),
                    opened=functools.partial(self._opened, peer),
                    reports=functools.partial(self._reports, peer),
                    told=functools.partial(self._publisher.told, peer),
                    records=self._is_recorded,
                    recording=functools.partial(self._recorded, peer),
                    time=(lambda: (clock.now(), 0.0)) if self._upstream is None else self._upstream.time,
                )
            undo.pop_all()
        if asked.accepts("messages", messages.PROTOCOL):
            peer.messages = self._hub.join(connection, action.session)
        if asked.accepts("files", wire.PROTOCOL):
            peer.files = self._files.join(connection, action.session)
        self._peers[link] = peer
        if peer.engine is not None:
            peer.engine.published = functools.partial(self._publisher.listed, peer)
        return connection

    def _changed(self, link: int, negotiator: Negotiator, state: str) -> None:
        """Take the news of a peer connection."""
        peer = self._peers.get(link)
        if peer is not None and state == "connected" and not peer.connected:
            peer.connected = True
            self._publisher.connected(peer)
            self._peers[link] = self._peers.pop(link)  # those who are connected stand in the order in which they came
        negotiator.changed(link, state)

    def _add_channel(self, link: int, channel: Channel) -> None:
        peer = self._peers.get(link)
        for kind in () if peer is None else (peer.messages, peer.files):
            if kind is not None and kind.adopt(channel):
                return
        channel.close()

    def _close_peer(self, link: int) -> None:
        peer = self._peers.pop(link)
        if peer.messages is not None:
            peer.messages.close()
        if peer.files is not None:
            peer.files.close()
        self._publisher.leave(peer)
        if peer.control is not None:
            peer.control.close()

    def _opened(self, peer: Peer) -> None:
        """Tell a peer what there is, and whose it is."""
        if self._upstream is not None and peer.control is not None:
            peer.control.tell(Relays(list(self._upstream.relays)))
        self._publisher.opened(peer)

    def _reports(self, peer: Peer) -> Iterator[Report | Told]:
        if self._upstream is not None:
            yield Relays(list(self._upstream.relays))
        yield from self._publisher.reports(peer)

    def _is_recorded(self) -> bool:
        upstream = self._upstream is not None and self._upstream.recorded
        return self._publisher.is_tapped or bool(self.recorders) or upstream

    def _recorded(self, peer: Peer, recording: bool) -> None:  # noqa: FBT001 - what a callback is given
        peer.recording = recording
        if recording:
            self.events.emit(PeerEvent(peer.session, "recording", "it records what it is sent", peer.name))
        else:
            self.events.emit(PeerEvent(peer.session, "recording_ended", "it records no more", peer.name))

    def _notify(self, change: Notify) -> None:
        self.events.emit(PeerEvent(change.session, change.state, change.reason, change.name))
        if self._signaling_lost is not None:
            self._lose_signaling(self._signaling_lost)

    def _lose_signaling(self, error: SignalingError) -> None:
        """Nobody can join any more but those who have answered: end with the last receiver."""
        self._signaling_lost = error
        if all(link.phase not in ("connecting", "connected") for link in self._handshake.links.values()):
            self._life.end(error)
