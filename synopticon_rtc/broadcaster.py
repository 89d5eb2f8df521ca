"""Sends one source of video, and the faces in it, to any number of receivers."""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import random
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import av
import msgspec
from av.stream import Stream

from synopticon_rtc import control
from synopticon_rtc.control import Control
from synopticon_rtc.errors import SourceError
from synopticon_rtc.events import Events, PeerEvent
from synopticon_rtc.faces import Detector, Face, Tracker
from synopticon_rtc.faces.wire import FacesMessage, encode, encode_json
from synopticon_rtc.latest import Latest
from synopticon_rtc.media import Codec, FrameSource, SharedEncoder
from synopticon_rtc.negotiator import Negotiator
from synopticon_rtc.rtc import Channel, IceServer, PeerConnection, VideoStream
from synopticon_rtc.signaling.client import SignalingClient
from synopticon_rtc.signaling.handshake import BroadcasterHandshake, CreateAnswer, CreateOffer, Notify
from synopticon_rtc.signaling.messages import Candidate

logger = logging.getLogger(__name__)

ACCEPT = {"control": [control.PROTOCOL], "ice": ["more"]}
FACES_PROTOCOL = "faces/1"
FACES_BUFFERED = 2048  # bytes: a handful of messages of one face
CLOCK_RATE = 90_000  # of RTP video (RFC 7741, RFC 6184)
TIME_BASE = Fraction(1, CLOCK_RATE)
JSON_INTERVAL = 1 / 12  # seconds: what the pages that read JSON were made for


@dataclass(slots=True, eq=False)
class _Watcher:
    """A receiver that wants faces, and how."""

    faces: Channel
    binary: bool
    due: float = 0.0


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


class Broadcaster:
    """Sends one source of video, and the faces in it, to every receiver that asks.

    Use it as an async context manager; it serves until it is left, or until the source ends.

    Args:
        signaling: The address of a Synopticon signaling server, or a client that is shared with others.
        source: Where frames come from.
        faces: What finds faces in them, None to send video alone.
        name: A name for people, by which receivers can ask for this broadcaster.
        codecs: The codecs to offer, the preferred one first. VP8 is always offered, since every browser takes it.
        bitrate: Of the video, bit/s.
        fps: The frame rate for which the encoder plans its bit rate.
        ice_servers: STUN and TURN servers to ask for candidates. None is asked but these or, lacking these, those
            that the signaling server names.
        relay_only: Connect through TURN servers alone, so that peers do not learn each other's addresses.
    """

    def __init__(
        self,
        signaling: str | SignalingClient,
        source: FrameSource,
        *,
        faces: Detector | None = None,
        name: str = "",
        codecs: Sequence[Codec] = ("vp8", "h264"),
        bitrate: int = 1_500_000,
        fps: float = 30,
        ice_servers: Sequence[IceServer] = (),
        relay_only: bool = False,
    ) -> None:
        self.signaling = SignalingClient(signaling) if isinstance(signaling, str) else signaling
        self.name = name
        self.events: Events[PeerEvent] = Events()
        self._source = source
        self._detector = faces
        self._codecs: Sequence[Codec] = codecs
        self._bitrate = bitrate
        self._fps = fps
        self._ice_servers = ice_servers
        self._relay_only = relay_only
        self._negotiator = Negotiator(
            self.signaling,
            BroadcasterHandshake(name=name, accept=ACCEPT, timestamp=lambda: time.time_ns() // 1_000_000),
            open_peer=self._open_peer,
            close_peer=self._close_peer,
            notify=self._notify,
            failed=self._fail,
        )
        self._joining: dict[int, Codec] = {}  # the codec that a link not yet connected will most likely take
        self._unsent: av.VideoFrame | None = None  # the newest frame, if nobody has encoded it
        self._watchers: dict[int, _Watcher] = {}
        self._controls: dict[int, Control] = {}
        self._connected: dict[str, None] = {}  # in the order in which they came
        self._origin = random.getrandbits(32)  # of RTP timestamps, the same for all receivers
        self._encoders: dict[Codec, tuple[SharedEncoder, VideoStream]] = {}
        self._newest: Latest[tuple[av.VideoFrame, float]] = Latest()
        self._stats = BroadcasterStats()

    async def __aenter__(self) -> Self:
        """Start capturing and answering; returns when the first frame is there.

        Raises:
            SourceError: The source gives no frame.
            ModelError: The face model cannot be had.
        """
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._started = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._finish)
            if isinstance(self._detector, contextlib.AbstractAsyncContextManager):
                await stack.enter_async_context(self._detector)
            stack.push_async_callback(self._close_encoders)
            self._run(stack, self._capture())
            await self._started.wait()
            if self._closed.done():
                await self._closed
            if self._detector is not None:
                self._run(stack, self._detect(self._detector))
            await stack.enter_async_context(self._negotiator)
            self._exit = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._exit.aclose()

    @property
    def stats(self) -> BroadcasterStats:
        """Totals since the start."""
        encoded = sum(encoder.frames for encoder, _ in self._encoders.values())
        return dataclasses.replace(self._stats, encoded=encoded, peers=len(self._connected))

    @property
    def peers(self) -> tuple[str, ...]:
        """The sessions of the receivers that are connected."""
        return tuple(self._connected)

    async def wait_closed(self) -> None:
        """Wait until the source ends or the broadcaster is closed.

        Raises:
            SourceError: The source gives no more frames.
            DetectorError: Faces cannot be looked for any more.
            SignalingError: The signaling server refuses for good.
        """
        await asyncio.shield(self._closed)

    # Frames and faces

    async def _capture(self) -> None:
        frames = aiter(self._source)
        last = -1
        begun = self._loop.time()
        try:
            async for frame in frames:
                captured = time.time()
                last = max(last + 1, round((self._loop.time() - begun) * CLOCK_RATE))
                frame.pts, frame.time_base = last, TIME_BASE
                self._unsent = frame
                stats = self._stats
                stats.frames += 1
                stats.width, stats.height = frame.width, frame.height
                for codec, (encoder, stream) in self._encoders.items():
                    if stream.viewers or codec in self._joining.values():
                        encoder.encode(frame)
                        self._unsent = None
                for skipped in self._newest.put((frame, captured)):
                    self._send_faces(self._message((), *skipped, detected=False))
                self._started.set()
        finally:
            if isinstance(frames, AsyncGenerator):
                await frames.aclose()

    async def _detect(self, detector: Detector) -> None:
        tracker = Tracker()
        while True:
            frame, captured = await self._newest.get()
            if not self._watchers:
                continue
            faces = tracker.track(await detector.detect(frame), self._loop.time())
            stats = self._stats
            stats.detected += 1
            stats.faces = len(faces)
            stats.frames_with_faces += bool(faces)
            stats.faces_messages += 1
            self._send_faces(self._message(faces, frame, captured))

    def _message(
        self, faces: tuple[Face, ...], frame: av.VideoFrame, captured: float, *, detected: bool = True
    ) -> FacesMessage:
        timestamp = (self._origin + (frame.pts or 0)) % 2**32
        return FacesMessage(faces, frame.width, frame.height, timestamp, captured, detected)

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
            elif message.detected and now >= watcher.due:
                watcher.due = now + JSON_INTERVAL
                text = text or encode_json(message)
                watcher.faces.send(text)

    def _stream(self, codec: Codec) -> VideoStream:
        """Give the one stream of a codec, and start its encoder if this is the first peer to want it."""
        if codec not in self._encoders:
            encoder = SharedEncoder(
                codec, bitrate=self._bitrate, fps=self._fps, on_packet=lambda packet: self._encoded(stream, packet)
            )
            stream = VideoStream(codec, timestamp_origin=self._origin, on_keyframe_request=encoder.request_keyframe)
            self._encoders[codec] = encoder, stream
        return self._encoders[codec][1]

    def _encoded(self, stream: VideoStream, packet: "av.Packet[Stream]") -> None:
        self._stats.bytes += packet.size
        stream.send(packet)

    async def _close_encoders(self) -> None:
        for encoder, _ in self._encoders.values():
            await encoder.aclose()

    # Peers

    def _open_peer(self, action: CreateOffer | CreateAnswer) -> PeerConnection:
        link = action.link
        connection = PeerConnection(
            ice_servers=self._ice_servers or self._negotiator.ice_servers(),
            relay_only=self._relay_only,
            on_candidate=lambda candidate: self._negotiator.gathered(link, msgspec.convert(candidate, Candidate)),
            on_state=functools.partial(self._changed, link),
        )
        connection.add_video(self._stream, self._codecs)
        self._prepare(link)
        if self._detector is not None:
            binary = action.asked.accepts("faces", FACES_PROTOCOL)
            channel = connection.add_channel(
                "faces" if binary else "faceData",
                protocol=FACES_PROTOCOL if binary else "",
                ordered=False,
                max_retransmits=0,
                max_buffered=FACES_BUFFERED if binary else 0,  # what waits for long is stale by the time that it goes
            )
            self._watchers[link] = _Watcher(channel, binary)
        if action.asked.accepts("control", control.PROTOCOL):
            channel = connection.add_channel(control.LABEL, protocol=control.PROTOCOL)
            self._controls[link] = Control(channel, gone=functools.partial(self._negotiator.lost, link))
        return connection

    def _prepare(self, link: int) -> None:
        """Have a keyframe ready when the peer is: its handshake takes as long as the encoding."""
        codec = self._joining[link] = self._codecs[0]
        stream = self._stream(codec)
        stream.request_keyframe()
        if self._unsent is not None:
            self._encoders[codec][0].encode(self._unsent)
            self._unsent = None

    def _changed(self, link: int, state: str) -> None:
        if state == "connected":
            self._joining.pop(link, None)
        self._negotiator.changed(link, state)

    def _close_peer(self, link: int) -> None:
        self._joining.pop(link, None)
        self._watchers.pop(link, None)
        if link in self._controls:
            self._controls.pop(link).close()

    def _notify(self, change: Notify) -> None:
        if change.state == "connected":
            self._connected[change.session] = None
        else:
            self._connected.pop(change.session, None)
        self.events.emit(PeerEvent(change.session, change.state, change.reason))

    # Ending

    def _run(self, stack: contextlib.AsyncExitStack, work: Coroutine[None, None, None]) -> None:
        """Run a part until the stack unwinds; if it ends before, so does the broadcaster."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        stack.push_async_callback(self._stop, task)

    @staticmethod
    async def _stop(task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.wait([task])

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
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

    def _finish(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        self.events.close()
