"""Receives the streams of one broadcaster, frames paired with their faces."""

import asyncio
import contextlib
import dataclasses
import functools
import itertools
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from numbers import Real
from types import MappingProxyType
from typing import Any, Generic, Literal, Self, TypeAlias, TypedDict, TypeVar, Unpack, get_args, overload

import av
import msgspec

from synopticon_rtc import tracing
from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.latest import Latest, Unbroken
from synopticon_rtc.basics.life import entered_before, not_open
from synopticon_rtc.basics.text import NAME, visible
from synopticon_rtc.engines import Engine, as_signaling
from synopticon_rtc.errors import ConnectionLost, NobodyAnswered, SignalingError, SynopticonError
from synopticon_rtc.events import DetectorEvent, Events, StateEvent, StreamEvent
from synopticon_rtc.faces import Detector
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.faces.wire import PROTOCOL, FacesMessage
from synopticon_rtc.files import wire
from synopticon_rtc.files.hub import FileHub
from synopticon_rtc.files.incoming import FileOffer
from synopticon_rtc.files.transfer import FileTransfer
from synopticon_rtc.peers import control, faces_beside, messages, published
from synopticon_rtc.peers.control import Control, Report
from synopticon_rtc.peers.messages import Message, MessageHub
from synopticon_rtc.peers.negotiator import Negotiator
from synopticon_rtc.peers.published import (
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
from synopticon_rtc.peers.tap import Origin, Tap
from synopticon_rtc.receiving import finder
from synopticon_rtc.receiving.behind import Behind
from synopticon_rtc.receiving.catalogue import Catalogue
from synopticon_rtc.receiving.finder import Finder, Look
from synopticon_rtc.receiving.latency import Latency
from synopticon_rtc.receiving.overdue import What, overdue
from synopticon_rtc.receiving.pairing import F, Sync
from synopticon_rtc.receiving.peer import CHANGES, Peer
from synopticon_rtc.receiving.received import ReceivedStream
from synopticon_rtc.receiving.sound import AudioMoment, SoundStream
from synopticon_rtc.receiving.stats import ReceiverStats
from synopticon_rtc.receiving.stream import Stream
from synopticon_rtc.rtc import (
    MAX_SIZE,
    AudioTrack,
    Channel,
    EncodedSound,
    EncodedVideoFrame,
    IceServer,
    PeerConnection,
    VideoTrack,
)
from synopticon_rtc.rtc.network import LocalNetwork
from synopticon_rtc.rtc.servers import check_servers
from synopticon_rtc.signaling.actions import CreateAnswer, CreateOffer, Notify
from synopticon_rtc.signaling.messages import Candidate, Ice, Offer
from synopticon_rtc.signaling.receiver_handshake import ReceiverHandshake
from synopticon_rtc.signaling.session import Signaling
from synopticon_rtc.tracing import Trace

logger = logging.getLogger(__name__)

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
REASON = 512  # characters of what a broadcaster is told of an offer that cannot be used
SOUND_WAIT = 1.0  # seconds that sound waits for a slow consumer, before the oldest gives way
ENCODED_WAIT = 1.0  # seconds that encoded frames wait for a slow consumer, before it misses all up to a keyframe
FACES_OF = "faces:"
"""What the label of a channel begins with that is for the faces of the stream that it names."""
STILL = 3.0  # seconds without a frame in which a screen may just be as it was: signs of life come every 2.5 s
BURST = 0.02  # seconds: frames without faces come out together with the one before them that waited for its own


def _stands_alone(moment: Moment[Any] | None) -> bool:
    return moment is None or moment.frame.keyframe


T = TypeVar("T")
Queue: TypeAlias = Latest[Moment[F] | None]
"""Of an iteration, whose end is None."""


class Options(TypedDict, total=False):
    """What does not change the type of the frames, and may be the same for several receivers."""

    name: str
    streams: Sequence[str] | None
    sync: Sync
    faces_wait: float | None
    faces_fps: float | None
    return_faces: bool
    jitter_ms: float
    max_size: tuple[int, int]
    ice_servers: Sequence[IceServer]
    relay_only: bool
    udp_ports: tuple[int, int] | None
    announce: Sequence[str]
    interfaces: Sequence[str]


class ReceiverOptions(Options, total=False):
    """What does not change the type of the frames."""

    broadcaster: str | None
    detector: Detector | None
    timeout: float | None
    trace: str | os.PathLike[str] | None


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
            there.
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
        _check_streams(streams)
        _check(broadcaster, name, sync, jitter_ms, faces_wait, timeout, max_size, ice_servers)
        finder.check(detector, faces_fps=faces_fps, return_faces=return_faces, video=video, decode=decode)
        self.signaling = as_signaling(signaling)
        self._faults = Faults()
        self.events: Events[StateEvent] = Events(faults=self._faults)
        self._broadcaster = broadcaster
        self._taken = tuple(streams or ())
        self._what: What = "video" if video else "faces"
        self._video = video
        self._decode = decode
        self._sync: Sync = sync
        self._faces_wait = FACES_WAIT if faces_wait is None else faces_wait
        self._jitter = jitter_ms / 1000
        self._max_size = max_size
        self._timeout = timeout
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
        self._negotiator = Negotiator(
            self.signaling,
            self._handshake,
            open_peer=self._open_peer,
            close_peer=self._close_peer,
            notify=self._notify,
            failed=self._fail,
            choose=self._choose,
            trace=self._trace,
            faults=self._faults,
        )
        self._listeners: list[tuple[str | None, Latest[AudioMoment | None]]] = []  # iterations over sound
        self._hub = MessageHub()
        self._files = FileHub()
        self._peers: dict[int, Peer] = {}  # by link
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
        self._catalogue = Catalogue(self._first, streams, video=video, make=self._make_stream, faults=self._faults)
        self.streams: Mapping[str, ReceivedStream] = MappingProxyType(self._catalogue.streams)
        self.stream_events: Events[StreamEvent] = self._catalogue.events
        self._moments = self._make_queue()
        self._is_read = False  # whether anybody iterates over the receiver itself
        self._queues: dict[str | None, list[Queue[F]]] = {}  # of further iterations, by the name of their stream
        self._taps: list[Tap] = []
        self._recordings = 0  # taps that record
        self._behind: list[Callable[[], bool]] = []  # of the others, what tells whether what they pass on is recorded
        self._limits: dict[str, int] = {}  # bit/s that are wanted at most, by the name of the video
        self._playing: set[asyncio.Task[None]] = set()  # one a stream whose frames are decoded
        self._known = "", ""  # session and name of the broadcaster that it had last
        self._entered = False
        self._exit = contextlib.AsyncExitStack()
        self._leaving: asyncio.Task[None] | None = None
        self._failure: SignalingError | None = None
        self._first_sought: float | None = None  # when the first discovery was sent, by the loop's clock
        self._totals = self._first.totals

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
            self._exit = stack.pop_all()
        return self

    async def aclose(self) -> None:
        """Say goodbye and close; a second call waits for the first.

        Cancelled meanwhile, it does all of that before it raises.
        """
        if not self._entered:
            return
        leaving = self._leaving = self._leaving or asyncio.create_task(self._leave(), name="leaving")
        cancelled: asyncio.CancelledError | None = None
        while not leaving.done():
            try:
                await asyncio.wait([leaving])
            except asyncio.CancelledError as error:
                cancelled = error
        leaving.result()
        if cancelled is not None:
            raise cancelled

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
        if not self._entered or self._leaving is not None:
            raise not_open(self)
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
        if not self._is_read:
            self._is_read = True
            if not self._decode:
                self.request_keyframe()  # the one that it had to begin with may have given way
        moment = await self._next(self._moments, None, self._what)
        if moment is None:
            raise StopAsyncIteration
        return moment

    async def moments(self, name: str | None = None) -> AsyncIterator[Moment[F]]:
        """Iterate over the moments of one stream, by its name, also before it is published and after it came again.

        Without a name they are those of the first video, which the iteration over the receiver itself is over, too.
        Any number of such iterations run beside one another, and beside that of the receiver itself. Each gets the
        newest moment each time, or with ``decode=False`` every one, as that does, and raises what that raises.
        """
        if not self._entered or self._leaving is not None:
            raise not_open(self)
        queue = self._make_queue()
        self._queues.setdefault(name, []).append(queue)
        if self._is_refused:
            queue.put(None)
        try:
            while (moment := await self._next(queue, name, self._what)) is not None:
                yield moment
        finally:
            self._queues[name].remove(queue)
            if not self._queues[name]:
                del self._queues[name]

    def _make_queue(self) -> "Queue[F]":
        return Unbroken(ENCODED_WAIT, _stands_alone) if self._video and not self._decode else Latest(BURST)

    async def audio(self, name: str | None = None) -> AsyncIterator[AudioMoment]:
        """Iterate over the sound of a stream, by its name; without one over the first that there is.

        Each moment follows the one before. While somebody iterates, the sound and the first video come out in step:
        the faster of both waits for the other, for 0.2 s at most. Who is more than a second behind misses the oldest.
        Such iterations raise what that over the receiver itself raises.
        """
        if not self._entered or self._leaving is not None:
            raise not_open(self)
        queue: Latest[AudioMoment | None] = Latest(SOUND_WAIT)
        self._listeners.append((name, queue))
        if self._is_refused:
            queue.put(None)
        try:
            while (moment := await self._next(queue, name, "sound")) is not None:
                yield moment
        finally:
            self._listeners.remove((name, queue))

    async def _next(self, queue: Latest[T | None], name: str | None, what: What) -> T | None:
        """Wait for the next moment of an iteration; None is its end."""
        asked = asyncio.get_running_loop().time()
        due = None if self._timeout is None else asked + self._timeout
        while True:
            try:
                async with asyncio.timeout_at(due):
                    moment = await queue.get()
                break
            except TimeoutError:
                stream = self._named(name, what)
                if stream is not None and stream.hint == "screen" and due is not None and due < asked + STILL:
                    due = asked + STILL
                elif stream is not None and stream.muted:  # it is as the broadcaster wants it
                    due = asyncio.get_running_loop().time() + (self._timeout or 0)
                else:
                    raise self._overdue(name, what, stream) from None
        if moment is None:
            queue.put(None)
            if self._failure is not None:
                raise self._failure
        return moment

    def _overdue(self, name: str | None, what: What, stream: ReceivedStream | None) -> NobodyAnswered | ConnectionLost:
        return overdue(
            self.signaling,
            self._handshake,
            broadcaster=self._broadcaster,
            what=what,
            begun=stream is not None and stream.totals.frames + stream.totals.faces_messages > 0,
            timeout=self._timeout or 0,
            missing=[wanted for wanted in ((name,) if name else self._taken) if wanted not in self.streams],
        )

    def _named(self, name: str | None, what: What) -> ReceivedStream | None:
        """Return the stream that an iteration is over, None where there is none."""
        if name is not None:
            return self.streams.get(name)
        if what != "sound":
            return self._first
        return next((stream for stream in self.streams.values() if stream.kind == "audio"), None)

    def _end_iterations(self) -> None:
        for queue in [self._moments, *itertools.chain.from_iterable(self._queues.values())]:
            queue.put(None)
        for _, sounds in self._listeners:
            sounds.put(None)

    @property
    def stats(self) -> ReceiverStats:
        """Totals of the first video since the start, over all connections; those of each stream are at its handle."""
        return dataclasses.replace(
            self._first.stats,
            too_large=self._totals.too_large + sum(peer.too_large for peer in self._peers.values()),
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
        check_name(name)
        if bitrate is None:
            self._limits.pop(name, None)
        elif 0 < bitrate < 2**31:
            self._limits[name] = bitrate
        else:
            raise ValueError(f"bitrate must be above 0, and is told in 31 bits, not {bitrate}")
        for peer in self._peers.values():
            if peer.control is not None and peer.control.is_open:
                peer.control.tell(Limit(name, bitrate))
            self._choose_layer(peer, name)

    def _choose_layers(self, peer: Peer) -> None:
        for name in self._limits:
            self._choose_layer(peer, name)

    def _choose_layer(self, peer: Peer, name: str) -> None:
        """Have an engine send the layer of a video that is wanted."""
        layer = peer.behind and peer.behind.layer(name, self._limits.get(name, math.inf))
        if layer and isinstance(self.signaling, Engine):
            self.signaling.choose(peer.session, *layer)

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
        self._taps.append(tap)
        if recorded is not None:
            self._behind.append(recorded)
            return functools.partial(self._untap, tap, recorded)
        self._recordings += 1
        self._tell_of_recordings()
        return functools.partial(self._untap, tap)

    def _untap(self, tap: Tap, recorded: Callable[[], bool] | None = None) -> None:
        self._taps.remove(tap)
        if recorded is not None:
            self._behind.remove(recorded)
            return
        self._recordings -= 1
        self._tell_of_recordings()

    def _is_recorded(self) -> bool:
        return self._recordings > 0 or any(recorded() for recorded in self._behind)

    def _tell_of_recordings(self) -> None:
        """Tell the signaling server whether what comes is recorded; the broadcaster is told with the next ping."""
        before = self._handshake.requirements
        self._handshake.record(self._recordings > 0)
        if self._handshake.requirements != before and self._entered and self._leaving is None:
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
            on_channel=functools.partial(self._add_channel, link),
            on_video=functools.partial(self._play, link) if self._video and self._decode else None,
            on_audio=functools.partial(self._listen, link),
            tap_video=functools.partial(self._tap_video, link),
            tap_sound=functools.partial(self._tap_sound, link),
            on_encoded=functools.partial(self._take_encoded, link) if self._video and not self._decode else None,
            max_size=self._max_size,
            faults=self._faults,
        )
        peer = Peer(action.session, connection, self._faults, action.asked.accepts("return", PROTOCOL))
        peer.first = self._make_video(peer, self._first)
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
            self._take_from_engine(peer, action.asked)
        return connection

    def _take_from_engine(self, peer: Peer, offer: FullOffer) -> None:
        """Take all that a broadcaster publishes from an engine, which carries it."""

        def find(name: str) -> Stream | None:
            stream = peer.streams.get(name)
            return stream if isinstance(stream, Stream) else None

        def listed(streams: list[Published]) -> None:
            self._catalogue.update(peer, streams)
            self._choose_layers(peer)

        peer.behind = Behind(find, listed, offer)
        self._catalogue.update(peer, offer.streams)

    def _choose(self, offer: Offer) -> list[str] | None:
        """Say what to receive of an offer: of an engine's all that is wanted, as there will be no other."""
        if not isinstance(offer, FullOffer):
            return None
        return [stream.mid for stream in offer.streams if stream.mid is not None and self._catalogue.takes(stream)]

    def _changed(self, link: int, state: str) -> None:
        """Take the news of a peer connection."""
        peer = self._peers.get(link)
        if state == "connected" and peer is not None and peer.behind is not None:
            peer.behind.open(peer.connection)
            self._choose_layers(peer)
        elif state == "connected" and peer is not None and peer.is_whole:  # whoever sends can tell of no streams
            self._catalogue.update(peer, peer.all_there_is())
        self._negotiator.changed(link, state)

    def _make_stream(self, peer: Peer, handle: ReceivedStream) -> Stream | SoundStream:
        """Make what receives a stream over one connection."""
        return self._make_video(peer, handle) if handle.kind == "video" else self._make_sound(peer, handle)

    def _make_video(self, peer: Peer, handle: ReceivedStream) -> Stream:
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
            give=lambda moment: self._give_out(peer, stream, handle, latency, moment),
            lips=peer.lips if is_first else None,
            told=functools.partial(self._tap_faces, handle),
        )
        stream.offset = lambda: peer.offset
        if self._finder is not None:
            stream.look = Look(self._finder, peer, handle, stream, functools.partial(self._wants_faces, handle))
        return stream

    def _wants_faces(self, handle: ReceivedStream) -> bool:
        """Whether anybody wants the faces of a video that are looked for here."""
        if handle is self._first or handle.name in self._queues:
            return True
        returned = self._finder is not None and self._finder.returns
        return handle.hint != "screen" and (returned or bool(self._taps))

    def _make_sound(self, peer: Peer, handle: ReceivedStream) -> SoundStream:
        stream = SoundStream(give=functools.partial(self._give_sound, handle), lips=peer.lips)
        stream.offset = lambda: peer.offset
        return stream

    def _close_peer(self, link: int) -> None:
        peer = self._peers.pop(link)
        peer.close()
        self._catalogue.forget(peer, "the connection has ended")
        self._totals.too_large += peer.too_large
        self.signaling.claimed.discard(peer.session)

    def _add_channel(self, link: int, channel: Channel) -> None:
        peer = self._peers.get(link)
        if peer is None:
            return  # it says goodbye
        if channel.protocol == control.PROTOCOL:
            if peer.control is None:
                peer.control = Control(
                    channel,
                    gone=functools.partial(self._negotiator.lost, link),
                    reported=functools.partial(self._reported, peer),
                    told=functools.partial(self._told, link, peer),
                    records=self._is_recorded,
                )
        elif any(kind is not None and kind.adopt(channel) for kind in (peer.messages, peer.files)):
            pass
        elif channel.protocol == PROTOCOL and channel.label.startswith(FACES_OF):
            channel.on_message = functools.partial(self._take_faces, peer, channel.label.removeprefix(FACES_OF))
        else:  # pages call it what they like, and have others: what comes on it tells whether it is for faces
            if channel.protocol == PROTOCOL:
                peer.first.expect_faces()
            channel.on_message = peer.first.message

    def _take_faces(self, peer: Peer, name: str, data: str | bytes) -> None:
        if isinstance(stream := peer.streams.get(name), Stream):
            stream.message(data)

    def _take_encoded(self, link: int, mid: str, frame: EncodedVideoFrame) -> None:
        if peer := self._peers.get(link):
            peer.encoded(mid, frame)

    def _tap_video(self, link: int, mid: str, frame: EncodedVideoFrame) -> None:
        peer = self._peers.get(link)
        if peer is not None and peer.behind is not None:
            peer.behind.frame(mid, frame)
        if peer is not None and isinstance(stream := peer.at(mid), Stream):
            if frame.codec == "h264" and (stream.inside or not stream.has_faces):
                for data in faces_beside.read(frame):
                    stream.take_inside(data)
            for tap in self._taps.copy():
                tap.video(self._handle(peer, stream), frame, stream.captured(frame.rtp_timestamp))

    def _tap_sound(self, link: int, mid: str, packet: EncodedSound) -> None:
        peer = self._peers.get(link)
        if self._taps and peer is not None and isinstance(stream := peer.at(mid), SoundStream):
            for tap in self._taps.copy():
                tap.sound(self._handle(peer, stream), packet)

    def _tap_faces(self, handle: ReceivedStream, message: FacesMessage, data: str | bytes | None) -> None:
        for tap in self._taps.copy():
            self._faults.call(tap.faces, handle, message, data if isinstance(data, bytes) else None)

    def _handle(self, peer: Peer, stream: Stream | SoundStream) -> ReceivedStream:
        """Return what an application holds of a stream."""
        name = next((name for name, other in peer.streams.items() if other is stream), None)
        return self._first if name is None else self.streams[name]

    def _play(self, link: int, track: VideoTrack) -> None:
        if peer := self._peers.get(link):
            self._keep(peer.play(track))

    def _listen(self, link: int, track: AudioTrack) -> None:
        if peer := self._peers.get(link):
            track.wanted = lambda: bool(self._listeners)  # else it would hold up the picture, too
            self._keep(peer.listen(track))

    def _keep(self, task: asyncio.Task[None]) -> None:
        """Wait for a task at the end."""
        self._playing.add(task)
        task.add_done_callback(self._playing.discard)

    # What the broadcaster tells

    def _reported(self, peer: Peer, report: Report) -> None:
        stream = peer.first if report.stream is None else peer.streams.get(report.stream)
        if isinstance(stream, Stream):
            stream.reported(report)

    def _told(self, link: int, peer: Peer, message: Told) -> None:
        if isinstance(message, NewOffer) and message.number > peer.number:
            peer.number, peer.offer = message.number, message
        elif isinstance(message, Relays):
            peer.relays = tuple(message.relays)
            return
        elif not isinstance(message, Streams):
            return
        is_waiting, peer.news = peer.news is not None, message.streams
        if not is_waiting:
            self._negotiator.do(link, functools.partial(self._follow, peer))

    async def _follow(self, peer: Peer) -> None:
        """Take note of what the broadcaster has told last, and answer its newest offer."""
        while not peer.changes.take(clock.monotonic()):  # noqa: ASYNC110 - time alone gives more
            await asyncio.sleep(1 / CHANGES[0])
        listed, peer.news = peer.news or [], None
        self._catalogue.update(peer, listed)
        if peer.control is not None:
            for name, bitrate in self._limits.items():
                peer.control.tell(Limit(name, bitrate))
        offer, peer.offer = peer.offer, None
        if offer is None or peer.control is None:
            return
        taken = [stream.mid for stream in offer.streams if stream.mid is not None and self._catalogue.takes(stream)]
        reply: Told
        try:
            reply = NewAnswer(offer.number, await peer.connection.answer(offer.sdp, taken))
        except SynopticonError as error:
            logger.warning("an offer of peer %s is not taken: %s", visible(peer.session, NAME), error)
            reply = Refusal(offer.number, str(error)[:REASON])
        peer.control.tell(reply)

    def _note_first(self, now: float) -> None:
        if self._totals.first_frame is None and self._first_sought is not None:
            self._totals.first_frame = now - self._first_sought

    def _give_out(
        self, peer: Peer, stream: Stream, handle: ReceivedStream, latency: Latency, moment: Moment[Any]
    ) -> None:
        handle.given(moment, latency)
        is_first = handle is self._first
        queues = [*self._queues.get(handle.name, ()), *(self._queues.get(None, ()) if is_first else ())]
        missed = any([queue.put(moment) for queue in queues])  # noqa: C419 - each is to have it
        if is_first and self._moments.put(moment):
            missed |= self._is_read
        if missed and isinstance(moment.frame, EncodedVideoFrame):
            peer.connection.request_keyframe(peer.section(stream))

    def _give_sound(self, handle: ReceivedStream, moment: AudioMoment) -> None:
        handle.totals.frames += 1
        is_first = handle is self._named(None, "sound")
        for name, queue in self._listeners:
            if name == handle.name or (name is None and is_first):
                queue.put(moment)

    def _notify(self, change: Notify) -> None:
        if self._first_sought is None and self.signaling.session is not None:
            self._first_sought = asyncio.get_running_loop().time()
        if change.state == "seeking" and self._failure is not None:
            self._end_iterations()
        link = self._handshake.link
        if link is not None:
            self._known = link.session, link.name
        name = self._known[1] if change.session == self._known[0] else ""
        self.events.emit(StateEvent(change.state, change.reason, change.session, name))

    def _fail(self, error: SignalingError) -> None:
        self._failure = error
        if self._is_refused:
            self._end_iterations()

    @property
    def _is_refused(self) -> bool:
        """Whether nobody can be received any more; media play on without signaling, until they end."""
        return self._failure is not None and self._handshake.link is None


def _check_streams(streams: object) -> None:
    """Refuse names that no stream has."""
    if streams is None:
        return
    if isinstance(streams, str) or not isinstance(streams, Sequence) or not streams:
        raise ValueError(f"streams must be names, like ['camera', 'screen'], or None for all, not {streams!r:.100}")
    for name in streams:
        check_name(name)


def _check(
    broadcaster: object,
    name: object,
    sync: Sync,
    jitter_ms: float,
    faces_wait: float | None,
    timeout: float | None,
    max_size: tuple[int, int],
    ice_servers: Sequence[IceServer],
) -> None:
    """Refuse what no receiver can use."""
    if sync not in get_args(Sync):
        raise ValueError(f"sync must be one of {', '.join(get_args(Sync))}, not {sync!r}")
    for option, value in (("jitter_ms", jitter_ms), ("faces_wait", faces_wait), ("timeout", timeout)):
        if value is not None and not (isinstance(value, Real) and value >= 0):  # nor NaN
            raise ValueError(f"{option} must be 0 or more, not {value}")
    if not isinstance(broadcaster, str | None):
        raise TypeError(f"broadcaster must be a name or a session, not {broadcaster!r:.100}")
    if not isinstance(name, str):
        raise TypeError(f"name must be a text, not {name!r:.100}")
    check_servers(ice_servers)
    match max_size:
        case int(width), int(height) if min(width, height) >= 1:
            pass
        case _:
            raise ValueError(f"max_size must be a width and a height of 1 or more, not {max_size!r}")
