"""Sends one source of video, and the faces in it, to any number of receivers."""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import math
import random
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Self

import av
import msgspec

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.latest import Latest
from synopticon_rtc.basics.life import entered_before, not_open
from synopticon_rtc.basics.recent import Recent
from synopticon_rtc.errors import DetectorError, SignalingError, SourceError, SynopticonError
from synopticon_rtc.events import DetectorEvent, Events, PeerEvent, SourceEvent
from synopticon_rtc.faces import Detector, Face
from synopticon_rtc.faces.wire import PROTOCOL, FacesMessage, encode, encode_json
from synopticon_rtc.media import Codec, Converter, Picture, Source, as_source, frames_of
from synopticon_rtc.media.encoder import FRAME_RATES, check_codec, check_range
from synopticon_rtc.peers import control
from synopticon_rtc.peers.control import Control, Report
from synopticon_rtc.peers.negotiator import Negotiator
from synopticon_rtc.receiving.pairing import Moment
from synopticon_rtc.rtc import Channel, IceServer, PeerConnection, Stats
from synopticon_rtc.rtc.budget import Budget
from synopticon_rtc.rtc.level import level_for
from synopticon_rtc.rtc.network import LocalNetwork
from synopticon_rtc.rtc.servers import check_servers
from synopticon_rtc.sending.cadence import Cadence
from synopticon_rtc.sending.detection import Detection
from synopticon_rtc.sending.ladder import BITRATES, Ladder, Layer
from synopticon_rtc.signaling.client import SignalingClient, as_client
from synopticon_rtc.signaling.handshake import BroadcasterHandshake, CreateAnswer, CreateOffer, Notify
from synopticon_rtc.signaling.messages import Candidate

logger = logging.getLogger(__name__)

ACCEPT = {"control": [control.PROTOCOL], "ice": ["more"]}
FACES_BUFFERED = 2048  # bytes: a handful of messages of one face
COPY_AFTER = 0.01  # seconds until faces are sent once more where the link loses packets: what is lost is not asked for
LOSSY = 10.0  # seconds for which it is taken to lose packets after it lost one
CLOCK_RATE = 90_000  # of RTP video (RFC 7741, RFC 6184)
ADAPT_INTERVAL = 0.25  # seconds
SILENCE = 3.0  # seconds without a frame after which it is told
PREPARED = 1 / 2, 2  # keyframes made for who has but asked for an offer, a second and at once, while others watch
JSON_INTERVAL = 1 / 12  # seconds: what the pages that read JSON were made for


@dataclass(frozen=True, slots=True)
class _Captured:
    """A frame of the source, which is only read, and when it was captured: by RTP, and in seconds since 1970."""

    frame: av.VideoFrame
    rtp_timestamp: int
    time: float

    def message(self, faces: tuple[Face, ...], *, detected: bool) -> FacesMessage:
        frame = self.frame
        return FacesMessage(faces, frame.width, frame.height, self.rtp_timestamp, self.time, detected)


@dataclass(slots=True, eq=False)
class _Watcher:
    """A receiver that wants faces, and how."""

    faces: Channel
    binary: bool
    connection: PeerConnection
    due: float = 0.0
    lossy_until: float = 0.0

    def loses(self, now: float) -> bool:
        """Whether packets were lost on the way of late, by what the receiver reports of its video."""
        if any(sender.loss for sender in self.connection.senders):
            self.lossy_until = now + LOSSY
        return now < self.lossy_until


@dataclass(slots=True)
class BroadcasterStats:
    """Totals since the start.

    Attributes:
        frames: Frames that the source gave.
        encoded: Frames that were encoded.
        detected: Frames in which faces were looked for.
        faces: Faces found in the last of them.
        faces_messages: Faces messages sent, counted once however many receivers there were.
        frames_with_faces: Frames in which at least one face was found.
        bytes: Bytes of encoded video, counted once however many receivers there were.
        width: Width of the last frame, pixels.
        height: Height of the last frame, pixels.
        peers: Receivers connected now.
        fps: Frames that the source gives in a second, now.
        seconds: From the first frame to the last.
        faces_fps: In how many of them faces are looked for.
        detection: Seconds from the capture of a frame until its faces are found, None while none are looked for.
        faults: Errors that nobody foresaw, of this package, the detector or a callback, with those of the signaling
            client; each cost a message, a frame or a peer, and is in the log.
    """

    frames: int = 0
    encoded: int = 0
    detected: int = 0
    faces: int = 0
    faces_messages: int = 0
    frames_with_faces: int = 0
    bytes: int = 0
    width: int = 0
    height: int = 0
    peers: int = 0
    fps: float = 0.0
    seconds: float = 0.0
    faces_fps: float = 0.0
    detection: float | None = None
    faults: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStats(Stats):
    """What was sent to one receiver.

    Attributes:
        codec: Of its video, None before the first frame.
        scale: How many times smaller a side than the source its video is, 1, 2 or 4.
        encode_ms: Milliseconds to encode one frame of it, a moving average.
    """

    codec: Codec | None
    scale: int | None
    encode_ms: float


class Broadcaster:
    """Sends one source of video, and the faces in it, to every receiver that asks.

    Use it as an async context manager, or await :meth:`start` and in the end :meth:`aclose`, once; it serves until it
    is left, or until the source ends. Faces are looked for while a receiver wants them, or while somebody subscribes to
    :attr:`faces` or iterates over it.

    Args:
        signaling: The address of a Synopticon signaling server, or a client that is shared with others.
        source: Where frames come from: a :class:`FrameSource` such as ``Camera(0)``; a path or address, as the command
            line takes it; the number of a camera; or an iterator of frames or images, asked in a thread.
        faces: What finds faces in them, None to send video alone.
        name: A name for people, by which receivers can ask for this broadcaster.
        codecs: The codecs to offer, the preferred one first. VP8 is always offered, since every browser takes it.
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

    Attributes:
        events: What happens to receivers. Iterations over them end when the broadcaster does; :meth:`wait_closed` then
            tells why.
        source_events: When the source falls silent, and when it is heard again.
        detector_events: What happens to the detector: a frame on which it fails counts as one that was not looked at,
            and when it has failed for five seconds, faces are looked for no more, while the video goes on.
        faces: The moments in which faces were looked for, for this application. The frames are as the source gave them,
            and only to be read. An iteration that is slower gets the newest each time, and ends as those of events do.

    Raises:
        SourceError: The source is none, or names a file that is not there.
        ValueError: There is no codec, or an unknown one, or ``bitrate``, ``fps`` or ``faces_fps`` is out of range;
            ``udp_ports`` is no range, or an address or interface is not there.
        TypeError: ``signaling`` is neither an address nor a client, ``faces`` no detector, ``name`` no text, or
            something else is among the ICE servers.
    """

    def __init__(
        self,
        signaling: str | SignalingClient,
        source: Source,
        *,
        faces: Detector | None = None,
        name: str = "",
        codecs: Sequence[Codec] = ("vp8", "h264"),
        bitrate: int = 1_500_000,
        fps: float = 30,
        faces_fps: float | None = None,
        ice_servers: Sequence[IceServer] = (),
        relay_only: bool = False,
        udp_ports: tuple[int, int] | None = None,
        announce: Sequence[str] = (),
        interfaces: Sequence[str] = (),
    ) -> None:
        _check(codecs, bitrate, fps, faces_fps, ice_servers)
        _check_detector(faces)
        if not isinstance(name, str):
            raise TypeError(f"name must be a text, not {name!r:.100}")
        self.signaling = as_client(signaling)
        self.name = name
        self._faults = faults = Faults()
        self.events: Events[PeerEvent] = Events(faults=faults)
        self.source_events: Events[SourceEvent] = Events(faults=faults)
        self.detector_events: Events[DetectorEvent] = Events(faults=faults)
        self.faces: Events[Moment] = Events(kept=1, faults=faults)
        self._source = as_source(source)
        self._detector = faces
        self._codecs: Sequence[Codec] = tuple(codecs)
        self._bitrate = int(bitrate)
        self._fps = fps
        self._ice_servers = ice_servers
        self._relay_only = relay_only
        self._network = LocalNetwork(udp_ports, announce, interfaces)
        self._negotiator = Negotiator(
            self.signaling,
            BroadcasterHandshake(name=name, accept=ACCEPT, timestamp=lambda: time.time_ns() // 1_000_000),
            open_peer=self._open_peer,
            close_peer=self._close_peer,
            notify=self._notify,
            failed=self._lose_signaling,
            faults=self._faults,
        )
        self._joining: dict[int, Codec] = {}  # the codec that a link not yet connected will most likely take
        self._unsent: Picture | None = None  # the newest frame, if nobody has encoded it
        self._connections: dict[int, tuple[str, PeerConnection]] = {}
        self._watchers: dict[int, _Watcher] = {}
        self._controls: dict[int, Control] = {}
        self._connected: dict[str, None] = {}  # in the order in which they came
        self._signaling_lost: SignalingError | None = None
        self._origin = random.getrandbits(32)  # of RTP timestamps, the same for all receivers
        self._ladders: dict[Codec, Ladder] = {}
        self._prepared = Budget(*PREPARED)
        self._newest: Latest[_Captured] = Latest()
        self._came = 0.0  # when the newest frame came
        self._silent = False  # whether no frame has come for a while
        self._blind = False  # whether the detector was given up
        self._entered = False
        self._leaving = False
        self._exit = contextlib.AsyncExitStack()
        self._cadence = Cadence(fps, faces_fps)
        self._detection = Recent()
        self._captured: tuple[int, float] | None = None  # RTP timestamp and capture time of the newest frame
        self._stats = BroadcasterStats()

    async def start(self) -> Self:
        """Start capturing and answering; returns when the first frame is there. :meth:`aclose` ends it.

        Raises:
            SourceError: The source gives no frame.
            ModelError: The face model cannot be had.
            RuntimeError: It was entered before.
        """
        if self._entered:
            raise entered_before(self)
        self._entered = True
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._started = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._finish)
            if isinstance(self._detector, contextlib.AbstractAsyncContextManager):
                await stack.enter_async_context(self._detector)
            stack.push_async_callback(self._close_ladders)
            self._run(stack, self._capture(), SourceError("the source was cancelled from within"))
            await self._started.wait()
            if self._closed.done():
                await self._closed
            if self._detector is not None:
                cancelled = DetectorError("the detector was cancelled from within")
                self._run(stack, self._detect(self._detector), cancelled)
            self._run(stack, self._adapt(), SynopticonError("the layers are adapted no more"))
            await stack.enter_async_context(self._negotiator)
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

    @property
    def stats(self) -> BroadcasterStats:
        """Totals since the start."""
        now = time.monotonic()
        return dataclasses.replace(
            self._stats,
            encoded=sum(ladder.frames for ladder in self._ladders.values()),
            peers=len(self._connected),
            fps=self._cadence.frame_rate(now),
            faces_fps=self._cadence.rate(now),
            detection=self._detection.mean(now),
            faults=self._faults.count + self.signaling.faults,
        )

    def peer_stats(self) -> dict[str, PeerStats]:
        """Return what was sent to each receiver that is connected, by session."""
        found = {}
        for session, connection in self._connections.values():
            if session in self._connected:
                layer = self._layer_of(connection)
                found[session] = PeerStats(
                    **dataclasses.asdict(connection.stats()),
                    codec=layer.encoder.codec if layer else None,
                    scale=layer.scale if layer else None,
                    encode_ms=layer.encoder.encode_ms if layer else 0.0,
                )
        return found

    @property
    def peers(self) -> tuple[str, ...]:
        """The sessions of the receivers that are connected."""
        return tuple(self._connected)

    async def wait_closed(self) -> None:
        """Wait until the source ends or the broadcaster is closed.

        Raises:
            SourceError: The source gives no more frames.
            SignalingError: The signaling server refuses for good, and no receiver is connected any more.
            RuntimeError: It was not started.
        """
        if not self._entered:
            raise not_open(self)
        await asyncio.shield(self._closed)

    # Frames and faces

    async def _capture(self) -> None:
        last = -1
        begun = self._loop.time()
        first: float | None = None
        converter = Converter()
        async with contextlib.aclosing(frames_of(self._source)) as frames:
            async for frame in frames:
                captured = clock.now()
                self._note_frame()
                now = self._loop.time()
                last = max(last + 1, round((now - begun) * CLOCK_RATE))
                self._unsent = picture = Picture(frame, converter, last)
                stats = self._stats
                stats.frames += 1
                first = now if first is None else first
                stats.seconds = now - first
                stats.width, stats.height = frame.width, frame.height
                for codec, ladder in self._ladders.items():
                    if ladder.encode(picture, joining=codec in self._joining.values()):
                        self._unsent = None
                timestamp = (self._origin + last) % 2**32
                self._captured = timestamp, captured
                self._look_for_faces(_Captured(frame, timestamp, captured))
                self._started.set()

    def _note_frame(self) -> None:
        self._came = self._loop.time()
        if self._silent:
            self._silent = False
            self.source_events.emit(SourceEvent("flowing", "frames come again"))

    def _watch_source(self) -> None:
        """Tell where frames come no more."""
        if not self._silent and self._loop.time() - self._came > SILENCE:
            self._silent = True
            self.source_events.emit(SourceEvent("silent", f"no frame has come for {SILENCE:g} s"))

    def _look_for_faces(self, captured: _Captured) -> None:
        """Give a frame to the detector, or tell at once that it will not get it."""
        picked = self._cadence.pick(time.monotonic()) and not self._blind
        if self._detector is None or not (self._watchers or self.faces.heard):
            return
        skipped = self._newest.put(captured) if picked else [captured]
        for each in skipped:
            self._send_faces(each.message((), detected=False))

    async def _detect(self, detector: Detector) -> None:
        detection = Detection(detector, self._faults)
        while not self._blind:
            captured = await self._newest.get()
            self._cadence.begin(time.monotonic())
            try:
                faces = await detection.look(captured.frame, self._loop.time())
            except DetectorError as error:
                self._end_detection(error)
                faces = None
            now = time.monotonic()
            self._cadence.end(now)
            if faces is None:
                self._send_faces(captured.message((), detected=False))
                continue
            self._detection.add(now, clock.now() - captured.time)
            stats = self._stats
            stats.detected += 1
            stats.faces = len(faces)
            stats.frames_with_faces += bool(faces)
            stats.faces_messages += bool(self._watchers)
            self._send_faces(captured.message(faces, detected=True))
            self.faces.emit(Moment(captured.frame, faces, True, captured.time, captured.rtp_timestamp, 0.0))
        await asyncio.Event().wait()  # for the end of the broadcaster

    def _end_detection(self, error: DetectorError) -> None:
        """Go on without faces: a detector that fails is no reason to end the video."""
        logger.error("%s", error)
        self._blind = True
        self.detector_events.emit(DetectorEvent("ended", str(error)))

    def _send_faces(self, message: FacesMessage) -> None:
        binary: bytes | None = None
        text: str | None = None
        now = self._loop.time()
        for watcher in self._watchers.values():
            if not watcher.faces.is_open:
                continue
            if watcher.binary:
                binary = binary or encode(message)
                watcher.faces.send(binary)
                if watcher.loses(now):
                    self._loop.call_later(COPY_AFTER, watcher.faces.send, binary)
            elif message.detected and now >= watcher.due:
                watcher.due = max(watcher.due, now - JSON_INTERVAL) + JSON_INTERVAL  # on average, at any frame rate
                text = text or encode_json(message)
                watcher.faces.send(text)

    def _ladder(self, codec: Codec) -> Ladder:
        """Give the layers of a codec, and start their encoder if this is the first peer to want them."""
        if codec not in self._ladders:
            self._ladders[codec] = Ladder(
                codec,
                bitrate=self._bitrate,
                fps=self._fps,
                origin=self._origin,
                on_packet=self._count_bytes,
                faults=self._faults,
            )
        return self._ladders[codec]

    def _layer_of(self, connection: PeerConnection) -> Layer | None:
        """Return what a receiver is sent, None while that is nothing."""
        layers = (ladder.layer_of(sender) for ladder in self._ladders.values() for sender in connection.senders)
        return next((layer for layer in layers if layer is not None), None)

    def _count_bytes(self, size: int) -> None:
        self._stats.bytes += size

    async def _adapt(self) -> None:
        """Give every receiver what its link bears."""
        while True:
            await asyncio.sleep(ADAPT_INTERVAL)
            self._watch_source()
            senders = [sender for _, connection in self._connections.values() for sender in connection.senders]
            for ladder in self._ladders.values():
                self._faults.call(ladder.adapt, senders, time.monotonic())

    async def _close_ladders(self) -> None:
        for ladder in self._ladders.values():
            await ladder.aclose()

    # Peers

    def _open_peer(self, action: CreateOffer | CreateAnswer) -> PeerConnection:
        try:
            return self._equip(action)
        except Exception:
            self._close_peer(action.link)  # whatever was begun for it
            raise

    def _equip(self, action: CreateOffer | CreateAnswer) -> PeerConnection:
        """Make a peer connection with all that goes over it."""
        link = action.link
        asked = action.asked
        if asked.refuses("video") and self._detector is None and not asked.accepts("control", control.PROTOCOL):
            raise SynopticonError("a receiver wants faces alone, and none are looked for here")
        connection = PeerConnection(
            ice_servers=self._ice_servers or self._negotiator.ice_servers(),
            relay_only=self._relay_only,
            network=self._network,
            on_candidate=lambda candidate: self._negotiator.gathered(link, msgspec.convert(candidate, Candidate)),
            on_state=functools.partial(self._changed, link),
            faults=self._faults,
        )
        if not asked.refuses("video"):
            level = level_for(self._stats.width, self._stats.height, self._fps, self._bitrate)
            connection.add_video(lambda codec: self._ladder(codec).top, self._codecs, level=level)
            self._prepare(link)
        if self._detector is not None:
            binary = asked.accepts("faces", PROTOCOL)
            channel = connection.add_channel(
                "faces" if binary else "faceData",
                protocol=PROTOCOL if binary else "",
                ordered=False,
                max_retransmits=0,
                max_buffered=FACES_BUFFERED if binary else 0,  # what waits for long is stale by the time that it goes
            )
            self._watchers[link] = _Watcher(channel, binary, connection)
        if asked.accepts("control", control.PROTOCOL):
            channel = connection.add_channel(control.LABEL, protocol=control.PROTOCOL)
            self._controls[link] = Control(
                channel,
                gone=functools.partial(self._negotiator.lost, link),
                report=functools.partial(self._report, connection),
            )
        self._connections[link] = action.session, connection
        return connection

    def _report(self, connection: PeerConnection) -> Report | None:
        """Say what part we have in the delay of a receiver's frames."""
        if self._captured is None:
            return None
        timestamp, captured = self._captured
        layer = self._layer_of(connection)
        detection = self._detection.mean(time.monotonic())
        return Report(
            timestamp,
            captured * 1000,
            capture=layer.encoder.wait_ms if layer else None,
            encoding=layer.encoder.encode_ms if layer else None,
            detection=None if detection is None else detection * 1000,
        )

    def _prepare(self, link: int) -> None:
        """Have a keyframe ready when the peer is: its handshake takes as long as the encoding.

        While others watch, who pay for it, those who ask again and again get theirs once they are connected.
        """
        codec = self._joining[link] = self._codecs[0]
        ladder = self._ladder(codec)
        if not ladder.top.viewers or self._prepared.take(self._loop.time()):
            ladder.top.request_keyframe()
        if self._unsent is not None:
            ladder.encode(self._unsent, joining=True)
            self._unsent = None

    def _changed(self, link: int, state: str) -> None:
        if state == "connected":
            self._joining.pop(link, None)
        self._negotiator.changed(link, state)

    def _close_peer(self, link: int) -> None:
        self._joining.pop(link, None)
        self._connections.pop(link, None)
        self._watchers.pop(link, None)
        if link in self._controls:
            self._controls.pop(link).close()

    def _notify(self, change: Notify) -> None:
        if change.state == "connected":
            self._connected[change.session] = None
        else:
            self._connected.pop(change.session, None)
        self.events.emit(PeerEvent(change.session, change.state, change.reason))
        if self._signaling_lost is not None:
            self._lose_signaling(self._signaling_lost)

    def _lose_signaling(self, error: SignalingError) -> None:
        """Nobody can join any more but those who have answered: end with the last receiver."""
        self._signaling_lost = error
        if all(link.phase not in ("connecting", "connected") for link in self._negotiator.handshake.links.values()):
            self._fail(error)

    # Ending

    def _run(
        self, stack: contextlib.AsyncExitStack, work: Coroutine[None, None, None], cancelled: SynopticonError
    ) -> None:
        """Run a part until the stack unwinds; if it ends before, so does the broadcaster.

        Args:
            stack: Ends it.
            work: The part.
            cancelled: What it means if the part is cancelled by anybody else.
        """
        task = asyncio.create_task(work)
        task.add_done_callback(functools.partial(self._ended, cancelled))
        stack.push_async_callback(self._stop, task)

    async def _stop(self, task: asyncio.Task[None]) -> None:
        self._leaving = True
        task.cancel()
        await asyncio.wait([task])

    def _ended(self, cancelled: SynopticonError, task: asyncio.Task[None]) -> None:
        error = cancelled if task.cancelled() else task.exception()
        if task.cancelled() and self._leaving:
            self._finish()
        elif error is not None:
            self._fail(error)
        elif not self._started.is_set():
            self._fail(SourceError("the source ended before its first frame"))
        else:
            self._finish()

    def _fail(self, error: BaseException) -> None:
        if not self._closed.done():
            self._closed.set_exception(error)
            self._closed.exception()  # told to whoever waits; no warning where nobody does
        self._started.set()
        self._finish()

    def _finish(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        self.events.close()
        self.source_events.close()
        self.detector_events.close()
        self.faces.close()


def _check(
    codecs: Sequence[Codec], bitrate: float, fps: float, faces_fps: float | None, ice_servers: Sequence[IceServer]
) -> None:
    """Refuse options with which every receiver would fail."""
    if isinstance(codecs, str) or not codecs:
        raise ValueError(f"codecs must name at least one, like ('vp8', 'h264'), not {codecs!r}")
    for codec in codecs:
        check_codec(codec)
    check_range("bitrate", bitrate, *BITRATES, "bit/s")
    check_range("fps", fps, *FRAME_RATES, "frames a second")
    if faces_fps is not None and not (isinstance(faces_fps, Real) and 0 < faces_fps < math.inf):
        raise ValueError(f"faces_fps must be above 0, or None for no limit, not {faces_fps}")
    check_servers(ice_servers)


def _check_detector(detector: object) -> None:
    """Refuse what cannot find a face."""
    if isinstance(detector, type):
        raise TypeError(f"faces must be a detector, not the class of one: give {detector.__name__}()")
    if detector is not None and not isinstance(detector, Detector):
        raise TypeError(f"faces must be a detector, an object with `async def detect(frame)`, not {detector!r:.100}")
