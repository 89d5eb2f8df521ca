"""Receives the streams of one broadcaster, frames paired with their faces."""

import asyncio
import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Concatenate, Generic, Literal, ParamSpec, Self, Unpack, overload

import av
import msgspec

from synopticon_rtc import tracing
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.life import Leaving, entered_before, not_open
from synopticon_rtc.engines import Engine, as_signaling
from synopticon_rtc.errors import ConnectionLost, NobodyAnswered, SignalingError
from synopticon_rtc.events import DetectorEvent, Events, StateEvent, StreamEvent
from synopticon_rtc.faces import Detector
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.faces.wire import PROTOCOL
from synopticon_rtc.files import wire
from synopticon_rtc.files.hub import FileHub
from synopticon_rtc.files.incoming import FileOffer
from synopticon_rtc.files.transfer import FileTransfer
from synopticon_rtc.peers import control, messages, published
from synopticon_rtc.peers.control import Control
from synopticon_rtc.peers.messages import Message, MessageHub
from synopticon_rtc.peers.negotiator import Negotiator
from synopticon_rtc.peers.published import FullOffer
from synopticon_rtc.peers.tap import Origin, Tap
from synopticon_rtc.receiving import finder, options
from synopticon_rtc.receiving.finder import Finder
from synopticon_rtc.receiving.iterations import Iterations, sound_queue, video_queue
from synopticon_rtc.receiving.options import ReceiverOptions
from synopticon_rtc.receiving.overdue import What, overdue
from synopticon_rtc.receiving.pairing import F, Sync
from synopticon_rtc.receiving.peer import Peer
from synopticon_rtc.receiving.received import ReceivedStream
from synopticon_rtc.receiving.sound import AudioMoment
from synopticon_rtc.receiving.stats import ReceiverStats
from synopticon_rtc.receiving.subscriber import Subscriber
from synopticon_rtc.receiving.taps import Taps
from synopticon_rtc.rtc import MAX_SIZE, AudioTrack, Channel, EncodedVideoFrame, IceServer, PeerConnection, VideoTrack
from synopticon_rtc.rtc.network import LocalNetwork
from synopticon_rtc.signaling.actions import CreateAnswer, CreateOffer, Notify
from synopticon_rtc.signaling.messages import Candidate, Ice, Offer
from synopticon_rtc.signaling.receiver_handshake import ReceiverHandshake
from synopticon_rtc.signaling.session import Signaling
from synopticon_rtc.tracing import Trace

ACCEPT = {
    "faces": [PROTOCOL, "json"],
    "control": [control.PROTOCOL],
    "ice": ["more"],
    "streams": [published.PROTOCOL],
    "messages": [messages.PROTOCOL, messages.LATEST],
    "files": [wire.PROTOCOL],
}
FACES_WAIT = 0.05  # seconds, where nobody says how long
FLUSH = 1.0  # seconds for the last messages to arrive

P = ParamSpec("P")


class Receiver(Generic[F]):
    """Receives the frames and faces of one broadcaster: an async iteration of :class:`~synopticon_rtc.Moment`.

    The iteration is over the first video; further ones, where the broadcaster publishes some, come by :meth:`moments`.

    Use it as an async context manager, or await :meth:`start` and in the end :meth:`aclose`, once. A broadcaster that
    goes is looked for again, so the iteration does not end before the receiver is left; ``events`` tells of every
    change. A consumer that is slower than the video gets the newest moment each time.

    Args:
        signaling: The address of a Synopticon signaling server, or a client that is shared with others.
        broadcaster: The name or the signaling session of the broadcaster to receive, None for the first that answers.
        name: A name for people, which broadcasters are told, and by which they can address this receiver.
        streams: The names of the streams to take, None for all that the broadcaster publishes. What nobody takes is not
            sent, nor encoded, nor looked at. The first of them that is there is what the iteration is over.
        sync: ``exact`` gives every frame its own faces, for which it waits; ``latest`` waits for nothing and gives it
            the newest faces.
        faces_wait: Seconds that a frame waits for its faces at most. A detector that is slower than that needs more
            here, or ``latest``: when faces keep coming too late, frames wait no more, and have none. None for 0.05, or
            0.25 where this receiver looks for them itself.
        detector: What finds faces in videos whose broadcaster sends none, such as a page with a camera. It is used as a
            broadcaster uses its own. Further streams get another one of its kind where that follows faces from frame to
            frame, as a :class:`~synopticon_rtc.FaceLandmarker` does, and are looked at when somebody iterates over
            them; what is no screen also when it is recorded, or its faces go back.
        faces_fps: In how many frames a second of each it looks for faces at most, None for as many as it manages.
        return_faces: Whether what it finds goes back to broadcasters that ask for it, as pages do to draw it.
        jitter_ms: Milliseconds of delay that are traded for smoothness: each moment is held back for up to so long, and
            comes as long after the one before it as it was captured. 0 gives each out at once.
        video: Whether to take the video. Without it, every message of faces is a moment whose ``frame`` is None, and
            the broadcaster sends, and where nobody else watches encodes, no video.
        decode: Whether to decode the video. Else ``frame`` is an :class:`~synopticon_rtc.EncodedVideoFrame`, to be
            recorded or passed on: every one, as each builds on those before it. A consumer that is more than a second
            behind misses all up to a keyframe, which is asked for.
        max_size: Width and height of the largest video that is received, in pixels. What is larger is neither decoded
            nor given out, but logged once and counted in ``stats.too_large``: else a packet of 1 KB could claim a
            picture of 400 MB.
        timeout: Seconds to wait for a moment before the iteration raises, None to wait for ever. Of a screen it waits
            for 3 s at least, as none comes while nothing changes.
        ice_servers: STUN and TURN servers to ask for candidates. None is asked but these or, lacking these, those
            that the signaling server names.
        relay_only: Connect through TURN servers alone, so that peers do not learn each other's addresses.
        udp_ports: The lowest and the highest UDP port on which to be reached, for a firewall; the same twice to have
            one port for all peers; None for any.
        announce: Addresses at which this machine is reached from outside on the same ports, such as the public one of a
            cloud machine; peers are told them in the place of its own.
        interfaces: Names of network interfaces, and addresses, to use alone; none for all.
        trace: A file in which what happens to the connection is written down, for a report of a bad call.

    Attributes:
        signaling: The client by which it finds its broadcaster.
        network: What of this machine's network it uses. Before it is started, that of another receiver may take its
            place: both then share one port where they have but one.
        streams: What the broadcaster publishes, by name; empty while there is none, and where it is a page.
        detector_events: What happens to the detector.
        stream_events: When streams are published and end, are muted or replaced.
        events: What becomes of the connection. Iterations over them end when the receiver is left.

    Raises:
        ValueError: ``sync`` is unknown, ``streams`` names none or has a name that no stream can have, ``jitter_ms``,
            ``faces_wait`` or ``timeout`` is negative, ``faces_fps`` is not above 0, a ``detector`` has no decoded
            frames to look at, ``max_size`` is no size, ``udp_ports`` is no range, or an address or interface is not
            there, or a name is no text that UTF-8 can write.
        TypeError: ``signaling`` is neither an address nor a client, ``broadcaster`` or ``name`` no text, or something
            else is among the ICE servers.
    """

    @overload
    def __init__(
        self: "Receiver[av.VideoFrame]",
        signaling: str | Signaling,
        *,
        video: Literal[True] = True,
        decode: Literal[True] = True,
        **options: Unpack[ReceiverOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "Receiver[EncodedVideoFrame]",
        signaling: str | Signaling,
        *,
        video: Literal[True] = True,
        decode: Literal[False],
        **options: Unpack[ReceiverOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "Receiver[None]",
        signaling: str | Signaling,
        *,
        video: Literal[False],
        decode: bool = True,
        **options: Unpack[ReceiverOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "Receiver[av.VideoFrame | EncodedVideoFrame | None]",
        signaling: str | Signaling,
        *,
        video: bool = True,
        decode: bool = True,
        **options: Unpack[ReceiverOptions],
    ) -> None: ...
    def __init__(
        self,
        signaling: str | Signaling,
        *,
        broadcaster: str | None = None,
        name: str = "",
        streams: Sequence[str] | None = None,
        sync: Sync = "exact",
        faces_wait: float | None = None,
        detector: Detector | None = None,
        faces_fps: float | None = None,
        return_faces: bool = False,
        jitter_ms: float = 0,
        video: bool = True,
        decode: bool = True,
        max_size: tuple[int, int] = MAX_SIZE,
        timeout: float | None = None,
        ice_servers: Sequence[IceServer] = (),
        relay_only: bool = False,
        udp_ports: tuple[int, int] | None = None,
        announce: Sequence[str] = (),
        interfaces: Sequence[str] = (),
        trace: str | os.PathLike[str] | None = None,
    ) -> None:
        options.check(broadcaster, name, streams, sync, jitter_ms, faces_wait, timeout, max_size, ice_servers)
        finder.check(detector, faces_fps=faces_fps, return_faces=return_faces, video=video, decode=decode)
        self.signaling = as_signaling(signaling)
        self._faults = Faults()
        self.events: Events[StateEvent] = Events(faults=self._faults)
        self._broadcaster = broadcaster
        self._taken = tuple(streams or ())
        self._video = video
        self._decode = decode
        self._max_size = max_size
        self._timeout = timeout or 0
        self._ice_servers = ice_servers
        self._relay_only = relay_only
        self.network = LocalNetwork(udp_ports, announce, interfaces)
        self._trace = Trace(trace, "receiver")
        self._handshake = ReceiverHandshake(
            want=broadcaster,
            name=name,
            taken=lambda: frozenset(self.signaling.claimed),
            calls=self.signaling.calls,
            accept=ACCEPT | ({} if video else {"video": []}) | ({} if streams is None else {"take": list(streams)}),
            timestamp=lambda: time.time_ns() // 1_000_000,
        )
        self._first = ReceivedStream(video=video)
        self._finder: Finder | None = None
        self.detector_events: Events[DetectorEvent] = Events(faults=self._faults)
        if detector is not None:
            self._finder = Finder(
                detector,
                self._first,
                most=faces_fps,
                wait=finder.WAIT if faces_wait is None else faces_wait,
                returns=return_faces,
                faults=self._faults,
            )
            self.detector_events = self._finder.events
        self._taps = Taps(self._tell_of_recordings, self._faults)
        self._moments: Iterations[Moment[F]] = Iterations(
            functools.partial(video_queue, encoded=video and not decode),
            find=lambda name: self._first if name is None else self.streams.get(name),
            check=self._check_open,
            timeout=timeout,
            overdue=functools.partial(self._overdue, "video" if video else "faces"),
        )
        self._own = self._moments.begin()  # the iteration over the receiver itself
        self._sounds: Iterations[AudioMoment] = Iterations(
            sound_queue,
            find=self._sound,
            check=self._check_open,
            timeout=timeout,
            overdue=functools.partial(self._overdue, "sound"),
        )
        self._subscriber = Subscriber(
            first=self._first,
            takes=streams,
            moments=self._moments,
            sounds=self._sounds,
            taps=self._taps,
            finder=self._finder,
            do=lambda link, step: self._negotiator.do(link, step),  # noqa: PLW0108 - which comes below
            engine=self.signaling if isinstance(self.signaling, Engine) else None,
            faults=self._faults,
            video=video,
            sync=sync,
            faces_wait=FACES_WAIT if faces_wait is None else faces_wait,
            jitter=jitter_ms / 1000,
        )
        self.streams: Mapping[str, ReceivedStream] = MappingProxyType(self._subscriber.streams)
        self.stream_events: Events[StreamEvent] = self._subscriber.events
        self._negotiator = Negotiator(
            self.signaling,
            self._handshake,
            open_peer=self._open_peer,
            close_peer=self._close_peer,
            notify=self._notify,
            failed=self._fail,
            choose=self._subscriber.choose,
            trace=self._trace,
            faults=self._faults,
        )
        self._hub = MessageHub()
        self._files = FileHub()
        self._peers: dict[int, Peer] = {}  # by link
        self._playing: set[asyncio.Task[None]] = set()  # one a stream whose frames are decoded
        self._known = "", ""  # session and name of the broadcaster that it had last
        self._entered = False
        self._exit = contextlib.AsyncExitStack()
        self._leaving = Leaving(self._leave)
        self._failure: SignalingError | None = None

    async def start(self) -> Self:
        """Start looking for the broadcaster; does not wait for it. :meth:`aclose` ends that.

        Raises:
            ModelError: The face model of the detector cannot be had.
            RuntimeError: It was entered before.
        """
        if self._entered:
            raise entered_before(self)
        self._entered = True
        async with contextlib.AsyncExitStack() as stack:
            if self._finder is not None:
                await stack.enter_async_context(self._finder)
            await stack.enter_async_context(self._trace)
            self._trace.watch(self._write_figures)
            stack.push_async_callback(self._played)
            stack.push_async_callback(self._files.aclose)
            await stack.enter_async_context(self._negotiator)
            stack.push_async_callback(self._hub.flush, FLUSH)
            if self._leaving.begun:  # while the face model was loaded, say
                raise not_open(self)
            self._exit = stack.pop_all()
        return self

    async def aclose(self) -> None:
        """Say goodbye and close; a second call waits for the first.

        Cancelled meanwhile, it does all of that before it raises.
        """
        if not self._entered:
            return
        await self._leaving.wait()

    async def __aenter__(self) -> Self:
        """Do as :meth:`start`."""
        return await self.start()

    async def __aexit__(self, *exception: object) -> None:
        """Do as :meth:`aclose`."""
        await self.aclose()

    async def _leave(self) -> None:
        try:
            await self._exit.aclose()
        finally:
            self._end_iterations()
            self.events.close()
            self.detector_events.close()
            self.stream_events.close()
            self._hub.close()

    async def _played(self) -> None:
        """Wait for the tasks that take decoded frames."""
        if self._playing:
            await asyncio.wait(self._playing)

    def __aiter__(self) -> Self:
        """Begin to iterate. Raises :class:`RuntimeError` if the receiver was not started, or was left."""
        self._check_open()
        return self

    async def __anext__(self) -> Moment[F]:
        """Wait for the next moment.

        Raises:
            RuntimeError: The receiver was not started.
            NobodyAnswered: No first moment came within ``timeout``.
            ConnectionLost: No further moment came within ``timeout``.
            SignalingError: The signaling server refuses for good.
        """
        if not self._entered:
            raise not_open(self)
        if not self._own.is_read:
            self._own.is_read = True
            if not self._decode:
                self.request_keyframe()  # the one that it had to begin with may have given way
        moment = await self._moments.next(self._own)
        if moment is None:
            raise StopAsyncIteration
        return moment

    def moments(self, name: str | None = None) -> AsyncIterator[Moment[F]]:
        """Iterate over the moments of one stream, by its name, also before it is published and after it came again.

        Without a name they are those of the first video, which the iteration over the receiver itself is over, too.
        Any number of such iterations run beside one another, and beside that of the receiver itself. Each gets the
        newest moment each time, or with ``decode=False`` every one, as that does, and raises what that raises.
        """
        return self._moments.over(name)

    def audio(self, name: str | None = None) -> AsyncIterator[AudioMoment]:
        """Iterate over the sound of a stream, by its name; without one over the first that there is.

        Each moment follows the one before. While somebody iterates, the sound and the first video come out in step:
        the faster of both waits for the other, for 0.2 s at most. Who is more than a second behind misses the oldest.
        Such iterations raise what that over the receiver itself raises.
        """
        return self._sounds.over(name)

    def _check_open(self) -> None:
        if not self._entered or self._leaving.begun:
            raise not_open(self)

    def _overdue(self, what: What, name: str | None, stream: ReceivedStream | None) -> NobodyAnswered | ConnectionLost:
        return overdue(
            self.signaling,
            self._handshake,
            broadcaster=self._broadcaster,
            what=what,
            begun=stream is not None and stream.totals.frames + stream.totals.faces_messages > 0,
            timeout=self._timeout,
            missing=[wanted for wanted in ((name,) if name else self._taken) if wanted not in self.streams],
        )

    def _sound(self, name: str | None) -> ReceivedStream | None:
        """Return the sound of a name, or the first that there is."""
        if name is not None:
            return self.streams.get(name)
        return next((stream for stream in self.streams.values() if stream.kind == "audio"), None)

    def _end_iterations(self) -> None:
        self._moments.end(self._failure)
        self._sounds.end(self._failure)

    @property
    def stats(self) -> ReceiverStats:
        """Totals of the first video since the start, over all connections; those of each stream are at its handle."""
        return dataclasses.replace(
            self._first.stats,
            too_large=self._first.totals.too_large + sum(peer.too_large for peer in self._peers.values()),
            faults=self._faults.count + self.signaling.faults,
        )

    def _write_figures(self) -> None:
        stats = self.stats
        self._trace.write(
            tracing.Pairing(
                frames=stats.frames,
                frames_with_faces=stats.frames_with_faces,
                faces_messages=stats.faces_messages,
                faces_late=stats.faces_late,
                invalid_faces=stats.invalid_faces,
                delay=stats.delay,
            )
        )

    async def send(self, name: str, data: bytes | str, *, latest: bool = False) -> None:
        """Send a message of the application to the broadcaster; returns when it is on its way.

        It waits for room: at most 256 KiB of a name wait to be sent.

        Args:
            name: The channel that it goes on, 1 to 64 bytes of UTF-8; both ends just use the name.
            data: Text or bytes, at most 1 MiB, or 16 KiB with ``latest``.
            latest: Whether only the newest message of this name counts: those that wait give way to it, and what is
                lost on the way is not sent again.

        Raises:
            ConnectionLost: There is no broadcaster, it goes meanwhile, or it takes no messages.
            ValueError: The name or the message is too long, or there are too many names.
            TypeError: It is neither text nor bytes.
        """
        messages.check(name, data, latest=latest)
        peer = next((peer for peer in self._peers.values() if peer.messages is not None), None)
        if peer is None or peer.messages is None:
            raise ConnectionLost("no broadcaster is connected that takes messages")
        await peer.messages.send(name, data, latest=latest)

    def messages(self, name: str) -> AsyncIterator[Message]:
        """Iterate over the messages that the broadcaster sends on a channel of this name, until the receiver is left.

        Who is slower than the broadcaster holds up what it sends on this name, and nothing else.
        """
        return self._hub.messages(name)

    def hear_names(self, take: Callable[[str], None]) -> None:
        """Have a function called with the name of each message that comes and that nobody iterates over yet."""
        self._hub.unasked = take

    async def send_file(
        self,
        path: str | os.PathLike[str],
        *,
        to: str | None = None,
        folder: Sequence[str] = (),
        rate: float | None = None,
    ) -> FileTransfer:
        """Offer a file to the broadcaster, and send it once that is accepted; returns at once with what tells of it.

        Messages go before it, as does what comes. One that was sent in part before goes on from there.

        Args:
            path: Of the file.
            to: The session of the broadcaster, None for whichever is connected.
            folder: The folders that it is to be in there, the outermost first.
            rate: Bytes a second that it takes at most, None for all that nobody else needs.

        Raises:
            FileError: It cannot be read.
            ConnectionLost: No broadcaster is connected that takes files, or not this one.
            ValueError: The rate is less than 1000.
        """
        return await self._files.send(path, to, folder=tuple(folder), rate=rate)

    async def send_folder(
        self, path: str | os.PathLike[str], *, to: str | None = None, rate: float | None = None
    ) -> list[FileTransfer]:
        """Offer all files of a folder, and of those within it, one after the other, as :meth:`send_file` does.

        Links are left out. It raises what :meth:`send_file` raises, and where there are more than 10,000 files.
        """
        return await self._files.send_folder(path, to, rate=rate)

    @property
    def files(self) -> AsyncIterator[FileOffer]:
        """An iteration over the files that the broadcaster offers, each given out once, until the receiver is left.

        Nothing of them comes before ``await offer.accept(folder)``. Where nobody iterates, they are refused.
        """
        return self._files.offers()

    def age(self, moment: Moment[F]) -> float | None:
        """Return how long ago a moment was captured, in seconds, by clocks aligned over the control channel.

        None where the broadcaster is none of this package, or is gone, and in the first tenths of a second of a
        connection.
        """
        peer = next(iter(self._peers.values()), None)
        return None if peer is None else peer.first.age(moment)

    @property
    def clock_offset(self) -> float | None:
        """The broadcaster's clock minus ours, in seconds; None where it is not known.

        That is where the broadcaster is none of this package, or is gone, and in the first tenths of a second of a
        connection: frames may come before both have told each other what their clocks show.

        So ``moment.captured - receiver.clock_offset`` is when a moment was captured by the clock of this machine, in
        seconds since the epoch.
        """
        peer = next(iter(self._peers.values()), None)
        return None if peer is None else peer.offset

    @property
    def clock_error(self) -> float | None:
        """By how many seconds :attr:`clock_offset` is wrong at most, or None.

        That is half of a round trip, and 0.1 ms for each second since, by which clocks may have gone apart.

        Behind a relay, this counts up to the broadcaster itself.
        """
        peer = next(iter(self._peers.values()), None)
        return None if peer is None else peer.error

    @property
    def tells_time(self) -> bool:
        """Whether the broadcaster tells what its clock shows, now or in a moment: pages and engines do not."""
        return any(peer.control is not None for peer in self._peers.values())

    def request_keyframe(self, name: str | None = None) -> None:
        """Ask the broadcaster for a keyframe: for one who joins a recording or a relay with ``decode=False``.

        Args:
            name: Of the video; None for one of each.
        """
        for peer in self._peers.values():
            section = None if name is None else peer.section(peer.streams.get(name))
            if section is not None or name is None:
                peer.connection.request_keyframe(section)

    def limit(self, name: str, bitrate: int | None) -> None:
        """Have a video come with fewer bits, and so smaller, than the link bears: where it is shown small, say.

        From Janus it comes smaller if its broadcaster publishes it there in several sizes.

        Args:
            name: Of the video, also before it is published.
            bitrate: Of which it should come at most, bit/s; None for all that the link bears.

        Raises:
            ValueError: The bit rate is not above 0, or the name is none.
        """
        self._subscriber.limit(self._peers.values(), name, bitrate)

    @property
    def relays(self) -> tuple[str, ...]:
        """Who passes on what comes, from the broadcaster's end to ours; empty where it comes from itself."""
        return next((peer.relays for peer in self._peers.values()), ())

    @property
    def recorded(self) -> bool:
        """Whether the broadcaster says that anybody records what it sends."""
        return any(peer.control is not None and peer.control.is_recording for peer in self._peers.values())

    def refuse(self, session: str, reason: str) -> None:
        """Let a broadcaster go, and take it no more: another one is looked for.

        Args:
            session: Of the broadcaster.
            reason: Why, in words for people.
        """
        self._negotiator.perform(self._handshake.refuse(session, reason, asyncio.get_running_loop().time()))

    def expect(self, came: list[Offer | Ice], away: Callable[[], Collection[str]]) -> None:
        """Take the offer that came of somebody before this receiver was there, with what came after it, to begin with.

        A :class:`Room` does so, which hears of everybody.

        Args:
            came: The messages, which are taken out of it once the receiver has started and there is a session.
            away: Gives the names of those for whom others wait to come back: nobody of these is taken, unless the
                receiver looks for just that name.
        """
        self._handshake.expect(came, away)

    def stay(self) -> None:
        """Look for no other broadcaster from now on than the one that is received: by its name, where it has one."""
        self._handshake.stay()

    @property
    def origin(self) -> Origin:
        """Who is received now, or was received last."""
        session, name = self._known
        return Origin(name, session, next((peer.offset for peer in list(self._peers.values())), None))

    @property
    def tapped(self) -> Sequence[ReceivedStream]:
        """The streams that are published and taken."""
        streams = list(self.streams.values())
        return [stream for stream in streams if not self._taken or stream.name in self._taken]

    def tap(self, tap: Tap, recorded: Callable[[], bool] | None = None) -> Callable[[], None]:
        """Tell somebody of all that comes, as it was encoded, until what is returned is called.

        Meanwhile the broadcaster is told that it is recorded. A signaling server with tokens wants one that lets its
        bearer record; where it does not, the receiver ends as it does when the server refuses it.

        Args:
            tap: Who is told.
            recorded: Tells whether it is recorded further on, of somebody who passes it on and records nothing: then
                the broadcaster is told what that says, and the server nothing.
        """
        return self._taps.add(tap, recorded)

    def _tell_of_recordings(self) -> None:
        """Tell the signaling server whether what comes is recorded; the broadcaster is told with the next ping."""
        before = self._handshake.requirements
        self._handshake.record(self._taps.records)
        if self._handshake.requirements != before and self._entered and not self._leaving.begun:
            self.signaling.configure()

    # What the negotiator asks

    def _open_peer(self, action: CreateOffer | CreateAnswer) -> PeerConnection:
        link = action.link
        connection = PeerConnection(
            ice_servers=self._ice_servers or self._negotiator.ice_servers(),
            relay_only=self._relay_only,
            network=self.network,
            note=self._trace.of(action.session),
            on_candidate=lambda candidate: self._negotiator.gathered(link, msgspec.convert(candidate, Candidate)),
            on_state=functools.partial(self._changed, link),
            on_reached=functools.partial(self._negotiator.reached, link),
            on_channel=self._while_open(link, self._add_channel),
            on_video=self._while_open(link, self._play) if self._video and self._decode else None,
            on_audio=self._while_open(link, self._listen),
            tap_video=self._while_open(link, Peer.came),
            tap_sound=self._while_open(link, Peer.sounded),
            on_encoded=self._while_open(link, Peer.encoded) if self._video and not self._decode else None,
            max_size=self._max_size,
            faults=self._faults,
        )
        peer = Peer(link, action.session, connection, self._faults, action.asked.accepts("return", PROTOCOL))
        peer.first = self._subscriber.make_video(peer, self._first)
        if action.asked.accepts("messages", messages.PROTOCOL):
            peer.messages = self._hub.join(connection, action.session)
        if isinstance(action, CreateOffer):
            connection.receive()
            connection.add_channel("faces", protocol=PROTOCOL)  # which makes room for channels of the broadcaster
        peer.is_whole = isinstance(action, CreateOffer) or action.asked.is_whole
        if action.asked.accepts("files", wire.PROTOCOL):
            peer.files = self._files.join(connection, action.session)
        self._peers[link] = peer  # now that nothing can go wrong any more
        self.signaling.claimed.add(action.session)
        if isinstance(action.asked, FullOffer):
            self._subscriber.join(peer, action.asked)
        return connection

    def _while_open(self, link: int, take: Callable[Concatenate[Peer, P], object]) -> Callable[P, None]:
        """Have something of a connection taken until it is closed: while it says goodbye, more may come."""

        def taken(*args: P.args, **kwargs: P.kwargs) -> None:
            if (peer := self._peers.get(link)) is not None:
                take(peer, *args, **kwargs)

        return taken

    def _changed(self, link: int, state: str) -> None:
        """Take the news of a peer connection."""
        if state == "connected" and (peer := self._peers.get(link)) is not None:
            self._subscriber.connected(peer)
        self._negotiator.changed(link, state)

    def _close_peer(self, link: int) -> None:
        peer = self._peers.pop(link)
        peer.close()
        self._subscriber.leave(peer, "the connection has ended")
        self._first.totals.too_large += peer.too_large
        self.signaling.claimed.discard(peer.session)

    def _add_channel(self, peer: Peer, channel: Channel) -> None:
        if channel.protocol != control.PROTOCOL:
            peer.adopt(channel)
        elif peer.control is None:
            peer.control = Control(
                channel,
                gone=functools.partial(self._negotiator.lost, peer.link),
                reported=peer.reported,
                told=functools.partial(self._subscriber.told, peer),
                records=self._taps.is_recorded,
            )

    def _play(self, peer: Peer, track: VideoTrack) -> None:
        self._keep(peer.play(track))

    def _listen(self, peer: Peer, track: AudioTrack) -> None:
        track.wanted = lambda: bool(self._sounds)  # else it would hold up the picture, too
        self._keep(peer.listen(track))

    def _keep(self, task: asyncio.Task[None]) -> None:
        """Wait for a task at the end."""
        self._playing.add(task)
        task.add_done_callback(self._playing.discard)

    def _notify(self, change: Notify) -> None:
        if self._subscriber.sought is None and self.signaling.session is not None:
            self._subscriber.sought = asyncio.get_running_loop().time()
        if change.state == "seeking" and self._failure is not None:
            self._end_iterations()
        link = self._handshake.link
        if link is not None:
            self._known = link.session, link.name
        name = self._known[1] if change.session == self._known[0] else ""
        self.events.emit(StateEvent(change.state, change.reason, change.session, name))

    def _fail(self, error: SignalingError) -> None:
        self._failure = error
        if self._handshake.link is None:  # else media play on without signaling, until they end
            self._end_iterations()
