"""Receives the frames and faces of one broadcaster."""

import asyncio
import dataclasses
import functools
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Self, TypedDict, Unpack, get_args, overload

import av
import msgspec

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.latest import Latest, Unbroken
from synopticon_rtc.basics.life import entered_before, not_open
from synopticon_rtc.basics.text import NAME, WORDS, visible
from synopticon_rtc.errors import ConnectionLost, InvalidFaces, NobodyAnswered, SignalingError
from synopticon_rtc.events import Events, StateEvent
from synopticon_rtc.faces.wire import PROTOCOL, decode, decode_json
from synopticon_rtc.peers import control
from synopticon_rtc.peers.control import Control
from synopticon_rtc.peers.negotiator import Negotiator
from synopticon_rtc.receiving.latency import Delays, Latency
from synopticon_rtc.receiving.pairing import F, Moment, Pairing, Sync, Unpaired
from synopticon_rtc.receiving.playout import Playout
from synopticon_rtc.rtc import MAX_SIZE, Channel, EncodedVideoFrame, IceServer, PeerConnection, VideoTrack
from synopticon_rtc.rtc.network import LocalNetwork
from synopticon_rtc.rtc.servers import check_servers
from synopticon_rtc.signaling.client import SignalingClient, as_client
from synopticon_rtc.signaling.handshake import CreateAnswer, CreateOffer, Notify, ReceiverHandshake
from synopticon_rtc.signaling.messages import Candidate

logger = logging.getLogger(__name__)

ACCEPT = {"faces": [PROTOCOL, "json"], "control": [control.PROTOCOL], "ice": ["more"]}
ENCODED_WAIT = 1.0  # seconds that encoded frames wait for a slow consumer, before it misses all up to a keyframe
BURST = 0.02  # seconds: frames without faces come out together with the one before them that waited for its own


@dataclass(slots=True)
class ReceiverStats:
    """Totals since the start, over all connections.

    Attributes:
        frames: Frames decoded, or received where they are not decoded.
        too_large: Frames left out because they were larger than ``max_size``.
        faces_messages: Faces messages received, with the copies that are sent where packets get lost.
        invalid_faces: Messages that were dropped, as they are no faces messages.
        frames_with_faces: Frames given out with at least one face.
        faces_late: Frames given out without their faces, which came after them; more ``faces_wait`` gets them.
        faces: Faces in the last frame given out.
        width: Width of the last frame, pixels; without video, of the one that the last faces were found in; 0 where
            frames are not decoded.
        height: Its height, likewise.
        first_frame: Seconds from the first discovery sent to the first frame, or the first faces where there is no
            video; None before it.
        delay: Seconds from the capture of a frame to its being given out, by clocks aligned over the control channel,
            the mean of two seconds; None where the broadcaster is none of this package.
        delays: The parts of it.
        faults: Errors that nobody foresaw, of this package or a callback, with those of the signaling client; each cost
            a message, a frame or a connection, and is in the log.
    """

    frames: int = 0
    too_large: int = 0
    faces_messages: int = 0
    invalid_faces: int = 0
    frames_with_faces: int = 0
    faces_late: int = 0
    faces: int = 0
    width: int = 0
    height: int = 0
    first_frame: float | None = None
    delay: float | None = None
    delays: Delays = dataclasses.field(default_factory=Delays)
    faults: int = 0


class _Feed:
    """What comes in over one peer connection."""

    def __init__(
        self, session: str, pairing: Pairing[Any], playout: Playout[Moment[Any]] | None, latency: Latency
    ) -> None:
        self.session = session
        self.pairing = pairing
        self.playout = playout
        self.latency = latency
        self.times: dict[int, tuple[float, float]] = {}  # by RTP timestamp, when a frame arrived and was decoded
        self.connection: PeerConnection | None = None
        self.control: Control | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self.closed = False
        self.told = False  # that faces come too late

    @property
    def too_large(self) -> int:
        return 0 if self.connection is None else self.connection.stats().frames_too_large

    def age(self, moment: Moment[Any]) -> float | None:
        offset = self.control.offset if self.control else None
        return None if moment.captured is None or offset is None else clock.now() + offset - moment.captured

    def close(self) -> None:
        self.closed = True  # the connection says goodbye meanwhile, and more may come in
        if self.control is not None:
            self.control.close()
        if self.timer is not None:
            self.timer.cancel()
        if self.task is not None:
            self.task.cancel()


def _stands_alone(moment: Moment[Any] | None) -> bool:
    return moment is None or moment.frame.keyframe


class _Options(TypedDict, total=False):
    """What does not change the type of the frames."""

    broadcaster: str | None
    sync: Sync
    faces_wait: float
    jitter_ms: float
    max_size: tuple[int, int]
    timeout: float | None
    ice_servers: Sequence[IceServer]
    relay_only: bool
    udp_ports: tuple[int, int] | None
    announce: Sequence[str]
    interfaces: Sequence[str]


class Receiver(Generic[F]):
    """Receives the frames and faces of one broadcaster: an async iteration of :class:`~synopticon_rtc.Moment`.

    Use it as an async context manager, or await :meth:`start` and in the end :meth:`aclose`, once. A broadcaster that
    goes is looked for again, so the iteration does not end before the receiver is left; ``events`` tells of every
    change. A consumer that is slower than the video gets the newest moment each time.

    Args:
        signaling: The address of a Synopticon signaling server, or a client that is shared with others.
        broadcaster: The name or the signaling session of the broadcaster to receive, None for the first that answers.
        sync: ``exact`` gives every frame its own faces, for which it waits; ``latest`` waits for nothing and gives it
            the newest faces.
        faces_wait: Seconds that a frame waits for its faces at most. A broadcaster whose detector is slower than that
            needs more here, or ``latest``: when faces keep coming too late, frames wait no more, and have none.
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
        timeout: Seconds to wait for a moment before the iteration raises, None to wait for ever.
        ice_servers: STUN and TURN servers to ask for candidates. None is asked but these or, lacking these, those
            that the signaling server names.
        relay_only: Connect through TURN servers alone, so that peers do not learn each other's addresses.
        udp_ports: The lowest and the highest UDP port on which to be reached, for a firewall; the same twice to have
            one port for all peers; None for any.
        announce: Addresses at which this machine is reached from outside on the same ports, such as the public one of a
            cloud machine; peers are told them in the place of its own.
        interfaces: Names of network interfaces, and addresses, to use alone; none for all.

    Raises:
        ValueError: ``sync`` is unknown, ``jitter_ms``, ``faces_wait`` or ``timeout`` is negative, ``max_size`` is no
            size, ``udp_ports`` is no range, or an address or interface is not there.
        TypeError: ``signaling`` is neither an address nor a client, ``broadcaster`` no text, or something else is among
            the ICE servers.
    """

    @overload
    def __init__(
        self: "Receiver[av.VideoFrame]",
        signaling: str | SignalingClient,
        *,
        video: Literal[True] = True,
        decode: Literal[True] = True,
        **options: Unpack[_Options],
    ) -> None: ...
    @overload
    def __init__(
        self: "Receiver[EncodedVideoFrame]",
        signaling: str | SignalingClient,
        *,
        video: Literal[True] = True,
        decode: Literal[False],
        **options: Unpack[_Options],
    ) -> None: ...
    @overload
    def __init__(
        self: "Receiver[None]",
        signaling: str | SignalingClient,
        *,
        video: Literal[False],
        decode: bool = True,
        **options: Unpack[_Options],
    ) -> None: ...
    @overload
    def __init__(
        self: "Receiver[av.VideoFrame | EncodedVideoFrame | None]",
        signaling: str | SignalingClient,
        *,
        video: bool = True,
        decode: bool = True,
        **options: Unpack[_Options],
    ) -> None: ...
    def __init__(
        self,
        signaling: str | SignalingClient,
        *,
        broadcaster: str | None = None,
        sync: Sync = "exact",
        faces_wait: float = 0.05,
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
    ) -> None:
        self.signaling = as_client(signaling)
        self._faults = Faults()
        self.events: Events[StateEvent] = Events(faults=self._faults)
        self._broadcaster = broadcaster
        self._sync: Sync = sync
        self._faces_wait = faces_wait
        if sync not in get_args(Sync):
            raise ValueError(f"sync must be one of {', '.join(get_args(Sync))}, not {sync!r}")
        for option, value in (("jitter_ms", jitter_ms), ("faces_wait", faces_wait), ("timeout", timeout or 0)):
            if not value >= 0:  # nor NaN
                raise ValueError(f"{option} must be 0 or more, not {value}")
        if not isinstance(broadcaster, str | None):
            raise TypeError(f"broadcaster must be a name or a session, not {broadcaster!r:.100}")
        check_servers(ice_servers)
        if min(max_size) < 1:
            raise ValueError(f"max_size must be a width and a height of 1 or more, not {max_size}")
        self._jitter = jitter_ms / 1000
        self._max_size = max_size
        self._video = video
        self._decode = decode
        self._timeout = timeout
        self._ice_servers = ice_servers
        self._relay_only = relay_only
        self._network = LocalNetwork(udp_ports, announce, interfaces)
        self._handshake = ReceiverHandshake(
            want=broadcaster,
            taken=lambda: frozenset(self.signaling.claimed),
            accept=ACCEPT if video else ACCEPT | {"video": []},
            timestamp=lambda: time.time_ns() // 1_000_000,
        )
        self._negotiator = Negotiator(
            self.signaling,
            self._handshake,
            open_peer=self._open_peer,
            close_peer=self._close_peer,
            notify=self._notify,
            failed=self._fail,
            faults=self._faults,
        )
        self._feeds: dict[int, _Feed] = {}
        self._moments: Latest[Moment[F] | None] = (
            Unbroken(ENCODED_WAIT, _stands_alone) if video and not decode else Latest(BURST)
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: asyncio.Task[None] | None = None
        self._failure: SignalingError | None = None
        self._first_sought: float | None = None
        self._latency = Latency(video=video)
        self._stats = ReceiverStats()

    async def start(self) -> Self:
        """Start looking for the broadcaster; does not wait for it. :meth:`aclose` ends that.

        Raises:
            RuntimeError: It was entered before.
        """
        if self._entered:
            raise entered_before(self)
        self._loop = asyncio.get_running_loop()
        await self._negotiator.__aenter__()
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
            await self._negotiator.__aexit__(None, None, None)
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            self._moments.put(None)
            self.events.close()

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
        try:
            async with asyncio.timeout(self._timeout):
                moment = await self._moments.get()
        except TimeoutError:
            raise self._overdue() from None
        if moment is None:
            self._moments.put(None)
            if self._failure is not None:
                raise self._failure
            raise StopAsyncIteration
        return moment

    @property
    def _entered(self) -> bool:
        return hasattr(self, "_loop")

    @property
    def stats(self) -> ReceiverStats:
        """Totals since the start, over all connections."""
        too_large = self._stats.too_large + sum(feed.too_large for feed in self._feeds.values())
        return dataclasses.replace(
            self._stats,
            too_large=too_large,
            delay=self._latency.delay,
            delays=self._latency.delays,
            faults=self._faults.count + self.signaling.faults,
        )

    def age(self, moment: Moment[F]) -> float | None:
        """Return how long ago a moment was captured, in seconds, by clocks aligned over the control channel.

        None where the broadcaster is none of this package, or is gone.
        """
        feed = next(iter(self._feeds.values()), None)
        return None if feed is None else feed.age(moment)

    def request_keyframe(self) -> None:
        """Ask the broadcaster for a keyframe: for one who joins a recording or a relay with ``decode=False``."""
        for feed in self._feeds.values():
            if feed.connection is not None:
                feed.connection.request_keyframe()

    def _overdue(self) -> NobodyAnswered | ConnectionLost:
        within = f"within {self._timeout:g} s"
        link = self._handshake.link
        if self._stats.first_frame is not None:
            what, stands = ("frame", "the video stands still") if self._video else ("faces", "no more are found")
            return ConnectionLost(f"no {what} {within}: {stands if link else 'the broadcaster is gone'}")
        if self.signaling.session is None:
            return NobodyAnswered(
                f"the signaling server {self.signaling.url} was not there {within} ({self.signaling.reason}): "
                "is it running, and is the address right?"
            )
        if link is not None:
            what = "video" if self._video else "faces"
            return NobodyAnswered(f"{visible(link.name or link.session, NAME)} answered, but no {what} came {within}")
        heard = ", ".join(
            f"{visible(name, NAME) or 'unnamed'} ({visible(session, NAME)})"
            for session, name in self._handshake.heard.items()
        )
        if self._broadcaster is not None and heard:
            return NobodyAnswered(f"no broadcaster {self._broadcaster!r} answered {within}; there are: {heard}")
        whom = f"no broadcaster {self._broadcaster!r}" if self._broadcaster else "no broadcaster"
        if self._handshake.refusal:
            return NobodyAnswered(
                f"{whom} answered {within}: {self.signaling.url} says: {visible(self._handshake.refusal, WORDS)}"
            )
        return NobodyAnswered(f"{whom} answered {within} at {self.signaling.url}: is one running there?")

    # Peer connections

    def _open_peer(self, action: CreateOffer | CreateAnswer) -> PeerConnection:
        link = action.link
        pairing: Pairing[Any] = Pairing(self._sync, self._faces_wait) if self._video else Unpaired()
        playout: Playout[Moment[Any]] | None = Playout(self._jitter) if self._jitter else None
        feed = _Feed(action.session, pairing, playout, Latency(video=self._video))
        feed.connection = PeerConnection(
            ice_servers=self._ice_servers or self._negotiator.ice_servers(),
            relay_only=self._relay_only,
            network=self._network,
            on_candidate=lambda candidate: self._negotiator.gathered(link, msgspec.convert(candidate, Candidate)),
            on_state=functools.partial(self._negotiator.changed, link),
            on_reached=functools.partial(self._negotiator.reached, link),
            on_channel=functools.partial(self._add_channel, link, feed),
            on_video=functools.partial(self._add_video, feed) if self._video and self._decode else None,
            on_encoded=functools.partial(self._encoded, feed) if self._video and not self._decode else None,
            max_size=self._max_size,
            faults=self._faults,
        )
        self._feeds[link] = feed  # and now that nothing can go wrong any more, the broadcaster is ours
        self.signaling.claimed.add(action.session)
        return feed.connection

    def _close_peer(self, link: int) -> None:
        feed = self._feeds.pop(link)
        self._drain(feed)
        feed.close()
        self._stats.too_large += feed.too_large
        self.signaling.claimed.discard(feed.session)

    def _add_channel(self, link: int, feed: _Feed, channel: Channel) -> None:
        if feed.closed:
            return
        if channel.protocol == control.PROTOCOL:
            if feed.control is None:
                gone = functools.partial(self._negotiator.lost, link)
                feed.control = Control(channel, gone=gone, reported=feed.latency.reported)
        else:  # pages call it what they like, and have others: what comes on it tells whether it is for faces
            feed.pairing.expected |= channel.protocol == PROTOCOL
            channel.on_message = functools.partial(self._faces, feed)

    def _add_video(self, feed: _Feed, track: VideoTrack) -> None:
        if feed.task is None and not feed.closed:
            feed.task = asyncio.create_task(self._watch(feed, track), name="video")
            self._tasks.add(feed.task)
            feed.task.add_done_callback(self._tasks.discard)

    async def _watch(self, feed: _Feed, track: VideoTrack) -> None:
        async for received in track:
            self._stats.width, self._stats.height = received.frame.width, received.frame.height
            self._faults.call(self._frame, feed, received.frame, received.rtp_timestamp, received.arrived)

    def _encoded(self, feed: _Feed, frame: EncodedVideoFrame) -> None:
        self._frame(feed, frame, frame.rtp_timestamp, frame.arrived)

    def _frame(self, feed: _Feed, frame: av.VideoFrame | EncodedVideoFrame, timestamp: int, arrived: float) -> None:
        if feed.closed:
            return
        feed.times[timestamp] = arrived, time.monotonic()
        self._stats.frames += 1
        self._note_first()
        self._give(feed, feed.pairing.frame(frame, timestamp, self._loop.time()))

    def _note_first(self) -> None:
        if self._stats.first_frame is None and self._first_sought is not None:
            self._stats.first_frame = self._loop.time() - self._first_sought

    def _faces(self, feed: _Feed, data: str | bytes) -> None:
        if feed.closed:
            return
        try:
            message = decode_json(data) if isinstance(data, str) else decode(data)
        except InvalidFaces as error:
            self._stats.invalid_faces += 1
            logger.debug("%s", error)
            return
        self._stats.faces_messages += message.detected
        if not self._video:
            self._stats.width, self._stats.height = message.width, message.height
            self._note_first()
        late = feed.pairing.late
        self._give(feed, feed.pairing.message(message, self._loop.time()))
        self._stats.faces_late += feed.pairing.late - late
        if feed.pairing.in_vain and not feed.told:
            feed.told = True
            logger.warning(
                "faces come more than %g s after their frames, which are given out without them: "
                "a larger faces_wait gets them, or sync='latest'",
                self._faces_wait,
            )

    def _give(self, feed: _Feed, moments: Iterable[Moment[Any]]) -> None:
        if feed.playout is not None:
            moments = self._hold_back(feed.playout, moments)
        for moment in moments:
            self._give_out(feed, moment)
        if feed.timer is not None:
            feed.timer.cancel()
        due = min(feed.pairing.next_tick(), feed.playout.next_tick() if feed.playout else float("inf"))
        feed.timer = None if due == float("inf") else self._loop.call_at(due, self._tick, feed)

    def _hold_back(self, playout: Playout[Moment[Any]], moments: Iterable[Moment[Any]]) -> Iterator[Moment[Any]]:
        now = self._loop.time()
        for moment in moments:
            if moment.rtp_timestamp is None:
                yield from playout.tick(float("inf"))  # in order, though it has no time
                yield moment
            else:
                playout.put(moment, moment.rtp_timestamp, now)
        yield from playout.tick(now)

    def _give_out(self, feed: _Feed, moment: Moment[Any]) -> None:
        stats = self._stats
        stats.faces = len(moment.faces)
        stats.frames_with_faces += bool(moment.faces)
        timestamp = moment.rtp_timestamp
        if moment.captured is None and timestamp is not None:
            moment = dataclasses.replace(moment, captured=feed.latency.captured(timestamp))
        now = time.monotonic()
        arrived, decoded = feed.times.pop(timestamp, (now, now)) if timestamp is not None else (now, now)
        self._latency = feed.latency
        self._latency.add(now, delay=feed.age(moment), decoding=decoded - arrived, waiting=now - decoded)
        if self._moments.put(moment) and isinstance(moment.frame, EncodedVideoFrame):
            self.request_keyframe()

    def _drain(self, feed: _Feed) -> None:
        """Give out what waits for faces or for its time, neither of which will come."""
        self._give(feed, feed.pairing.tick(float("inf")))
        for moment in feed.playout.tick(float("inf")) if feed.playout else ():
            self._give_out(feed, moment)

    def _tick(self, feed: _Feed) -> None:
        self._give(feed, feed.pairing.tick(self._loop.time()))

    # News

    def _notify(self, change: Notify) -> None:
        if change.state == "seeking" and self._first_sought is None and self.signaling.session is not None:
            self._first_sought = self._loop.time()
        if change.state == "seeking" and self._failure is not None:
            self._moments.put(None)
        link = self._handshake.link
        name = link.name if link is not None and link.session == change.session else ""
        self.events.emit(StateEvent(change.state, change.reason, change.session, name))

    def _fail(self, error: SignalingError) -> None:
        self._failure = error
        if self._handshake.link is None:  # else media play on without signaling, until they end
            self._moments.put(None)
