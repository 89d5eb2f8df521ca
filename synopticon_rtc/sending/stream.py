"""A stream as its sender sees it: one source, its video in layers, its faces, and who watches."""

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import cast

import av

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.life import Life
from synopticon_rtc.detecting.cadence import check_faces_fps
from synopticon_rtc.detecting.detection import check_detector, name_of
from synopticon_rtc.detecting.search import FaceSearch
from synopticon_rtc.errors import DetectorError, SourceError, SynopticonError
from synopticon_rtc.events import DetectorEvent, Events, SourceEvent
from synopticon_rtc.faces import Detector, Face
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.faces.wire import FacesMessage
from synopticon_rtc.media import AnySound, Codec, Converter, Picture, Source, as_source
from synopticon_rtc.media.codecs import OWN, check_codec, codec_of, why_not
from synopticon_rtc.media.encoder import FRAME_RATES, check_range
from synopticon_rtc.media.picture import even
from synopticon_rtc.peers.control import Report
from synopticon_rtc.peers.faces_channel import FacesChannel, WrittenFaces
from synopticon_rtc.peers.published import MAX_DETECTOR, Kind
from synopticon_rtc.peers.tap import Tap, Tapped
from synopticon_rtc.rtc import EncodedVideoFrame, FanoutSender, PeerConnection, Sender, VideoStream
from synopticon_rtc.rtc.budget import Budget
from synopticon_rtc.rtc.level import level_for
from synopticon_rtc.sending.capture import Capture, Captured
from synopticon_rtc.sending.ladder import BITRATES, Ladder, Layer
from synopticon_rtc.sending.stats import BroadcasterStats, PeerStats
from synopticon_rtc.sending.watcher import Watcher

logger = logging.getLogger(__name__)

ADAPT_INTERVAL = 0.25  # seconds
PREPARED = 1 / 2, 2  # keyframes made for who has but asked for an offer, a second and at once, while others watch


class Stream:
    """Sends one source of video, and the faces in it, to those who watch. It ends when its source does.

    Args:
        source: Where frames come from.
        detector: What finds faces in them, None to send video alone.
        codecs: The codecs to offer, the preferred one first.
        bitrate: Of the video, bit/s.
        fps: The frame rate for which the encoder plans its bit rate.
        faces_fps: In how many frames a second faces are looked for at most; None for as many as the detector manages.
        encoder: FFmpeg's name of an encoder of one of the codecs, which is offered first; None for this package's own.
        faults: What counts errors that nobody foresaw.

    Attributes:
        source_events: When the source falls silent, and when it is heard again.
        detector_events: What happens to the detector.
        faces: The moments in which faces were looked for.
        watchers: Those who are sent the stream, connected or about to be.
        hint: What it shows: ``camera``, ``screen``, or what else its source says of itself.
        muted: Whether nothing is sent of it for now; its source goes on.
        replaced: How often its source was replaced by another.

    Raises:
        SourceError: The source is none, or names a file that is not there.
        ValueError: There is no codec, or an unknown one, or a figure is out of range.
        TypeError: ``detector`` is none.
    """

    kind: Kind = "video"

    def __init__(
        self,
        source: Source,
        detector: Detector | None,
        *,
        codecs: Sequence[Codec],
        bitrate: int,
        fps: float,
        faces_fps: float | None,
        encoder: str | None = None,
        faults: Faults | None = None,
    ) -> None:
        _check(codecs, bitrate, fps, faces_fps)
        check_detector(detector)
        self._faults = faults = faults or Faults()
        self._capture = Capture(as_source(source), faults)
        self.hint: str = self._capture.hint
        self._detector = detector
        self._search = (
            FaceSearch(detector, fps=fps, most=faces_fps, tell=self._tell, faults=faults)
            if detector is not None
            else None
        )
        self.source_events: Events[SourceEvent] = self._capture.events
        self.detector_events: Events[DetectorEvent] = self._search.events if self._search else Events()
        self.faces: Events[Moment] = Events(kept=1, faults=faults)
        self.watchers: list[Watcher] = []
        self.muted = False
        self.replaced = 0
        self._codecs: Sequence[Codec] = tuple(codecs)
        self._encoders: dict[Codec, str] = {}  # those that are not this package's own choice
        if encoder is not None:
            codec = codec_of(encoder, self._codecs)
            self._codecs = (codec, *(other for other in self._codecs if other != codec))
            if self.hint != "screen":  # which is not encoded at a bit rate, but at a quality
                self._encoders[codec] = encoder
        self._bitrate = int(bitrate)
        self._fps = fps
        self._converter = Converter()
        self._ladders: dict[Codec, Ladder] = {}
        self._taps: list[Callable[[WrittenFaces], None]] = []
        self._unsent: Picture | None = None  # the newest frame, if nobody has encoded it
        self._prepared = Budget(*PREPARED)
        self._totals = BroadcasterStats()
        self._life = Life(self._end)
        self._on_end: Callable[[BaseException | None], None] = lambda _: None
        self._now: Callable[[], float] = clock.monotonic  # the loop's clock, from the start on
        self._started = asyncio.Event()  # when the first frame is there, or will not come
        self._exit = contextlib.AsyncExitStack()

    # Its life

    async def start(self, on_end: Callable[[BaseException | None], None]) -> None:
        """Start capturing; returns when the first frame is there. It can be done only once.

        Args:
            on_end: Called once, when the stream ends, with the error that was the reason, or None.

        Raises:
            SourceError: The source gives no frame.
            ModelError: The face model cannot be had.
        """
        self._on_end = on_end
        self._now = asyncio.get_running_loop().time
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._life.end)
            if isinstance(self._detector, contextlib.AbstractAsyncContextManager):
                await stack.enter_async_context(self._detector)
            stack.push_async_callback(self._close_ladders)
            self._life.run(stack, self._play(), SourceError("the source was cancelled from within"))
            await self._started.wait()
            if self._life.over:
                await self._life.wait()
            await self._try_encoders()
            if self._search is not None:
                cancelled = DetectorError("the detector was cancelled from within")
                self._life.run(stack, self._search.run(), cancelled)
            self._life.run(stack, self._adapt(), SynopticonError("the layers are adapted no more"))
            self._exit = stack.pop_all()

    async def _try_encoders(self) -> None:
        """Find out before anybody watches whether an encoder that was named can be used on this machine."""
        width, height = even(self._totals.width), even(self._totals.height)
        fps = Fraction(self._fps).limit_denominator(1001)
        for codec, name in list(self._encoders.items()):
            attempt = functools.partial(why_not, name, codec, width, height, bitrate=self._bitrate, fps=fps)
            if reason := await asyncio.to_thread(attempt):
                del self._encoders[codec]
                logger.warning("%s cannot be used here, and %s encodes in its place: %s", name, OWN[codec], reason)

    def end(self) -> None:
        """End iterations over its events and faces; what runs is stopped by :meth:`aclose`."""
        self._life.end()

    async def aclose(self) -> None:
        """Stop capturing and looking for faces, and stop the encoders; a second call does nothing."""
        await self._exit.aclose()

    async def replace(self, source: Source | AnySound) -> None:
        """Go on with another source, once it has given a frame; times and receivers stay.

        Raises:
            SourceError: The source is none, or gives no frame; then that before it goes on.
        """
        await self._capture.replace(as_source(cast("Source", source)))  # sound is found out by its first piece
        self.replaced += 1

    async def _play(self) -> None:
        await self._capture.run(self._take)
        if not self._started.is_set():
            raise SourceError("the source ended before its first frame")

    async def _adapt(self) -> None:
        """Give every watcher what its link bears."""
        while True:
            await asyncio.sleep(ADAPT_INTERVAL)
            now = self._now()
            self._capture.watch(now)
            senders = [watcher.sender for watcher in self.watchers if isinstance(watcher.sender, FanoutSender)]
            for ladder in self._ladders.values():
                self._faults.call(ladder.adapt, senders, now)

    async def _close_ladders(self) -> None:
        for ladder in self._ladders.values():
            await ladder.aclose()

    def _end(self, error: BaseException | None) -> None:
        self._started.set()
        self.source_events.close()
        self.detector_events.close()
        self.faces.close()
        self._on_end(error)

    # Who watches

    @property
    def has_faces(self) -> bool:
        """Whether faces are looked for."""
        return self._search is not None

    @property
    def detector_name(self) -> str:
        """What looks for faces, by its ``name`` or else its class; empty where nobody does."""
        if self._detector is None:
            return ""
        return name_of(self._detector)[:MAX_DETECTOR]

    def add(
        self,
        connection: PeerConnection,
        *,
        video: bool,
        binary: bool,
        sender: Sender | None = None,
        faces: str = "faces",
    ) -> Watcher:
        """Send the stream to one more peer; to be called before the connection is described.

        Args:
            connection: Over which it goes.
            video: Whether the peer takes the video.
            binary: Whether it reads faces in the format of this package, else in JSON.
            sender: One of the connection that sent another stream, and is to send this one once the peer has agreed;
                None for a media section of its own.
            faces: The label of the channel for the faces.
        """
        watcher = Watcher(connection, sender, inherited=sender is not None)
        if video:
            if sender is None:
                totals = self._totals
                level = level_for(totals.width, totals.height, self._fps, self._bitrate)
                watcher.sender = connection.add_video(self._top, self._codecs, level=level)
            watcher.joining = self._codecs[0]
            self.prepare(watcher.joining)
        if self.has_faces:
            watcher.faces = FacesChannel(connection, binary=binary, label=faces)
        self.watchers.append(watcher)
        return watcher

    def agree(self, watcher: Watcher) -> None:
        """Send a peer what it has agreed to take."""
        watcher.settle()
        if watcher.inherited and isinstance(watcher.sender, FanoutSender):
            watcher.inherited = False
            watcher.sender.begin(self._top)

    def remove(self, watcher: Watcher) -> None:
        """Look after a peer no more."""
        self.watchers.remove(watcher)

    def request_keyframe(self) -> None:
        """Have a keyframe come soon, in each codec that is watched."""
        for ladder in self._ladders.values():
            ladder.top.request_keyframe()

    def tap(self, tapped: Tapped, tap: Tap) -> Callable[[], None]:
        """Tell somebody of each frame in full size, and of its faces, until what is returned is called.

        Args:
            tapped: What the stream is called meanwhile.
            tap: Who is told.
        """
        watched = (ladder for ladder in self._ladders.values() if ladder.top.viewers)
        ladder = next(watched, None) or self.ladder(self._codecs[0])

        def encoded(frame: EncodedVideoFrame) -> None:
            tap.video(tapped, frame, self._capture.time(frame.rtp_timestamp))

        def found(written: WrittenFaces) -> None:
            tap.faces(tapped, written.message, written.binary)

        with contextlib.ExitStack() as stack:
            stack.callback(ladder.tap(encoded))
            self._taps.append(found)
            stack.callback(self._taps.remove, found)
            return stack.pop_all().close

    def _top(self, codec: Codec) -> VideoStream:
        return self.ladder(codec).top

    def prepare(self, codec: Codec) -> None:
        """Have a keyframe ready when a peer is: its handshake takes as long as the encoding.

        While others watch, who pay for it, those who ask again and again get theirs once they are connected.
        """
        ladder = self.ladder(codec)
        if not ladder.top.viewers or self._prepared.take(self._now()):
            ladder.top.request_keyframe()
        if self._unsent is not None:
            ladder.encode(self._unsent, joining=True)
            self._unsent = None

    # Frames and faces

    def _take(self, captured: Captured, now: float) -> None:
        """Send a frame that has just come, and have faces looked for in it."""
        self._totals.width, self._totals.height = captured.frame.width, captured.frame.height
        self._started.set()
        if self.muted:
            return
        self._unsent = picture = Picture(captured.frame, self._converter, captured.ticks)
        for codec, ladder in self._ladders.items():
            joining = any(watcher.joining == codec for watcher in self.watchers)
            if ladder.encode(picture, joining=joining):
                self._unsent = None
        if self._search is not None:
            self._search.offer(captured, now, wanted=self._faces_are_sent or self.faces.heard)

    def _tell(self, captured: Captured, faces: tuple[Face, ...] | None) -> None:
        """Tell everybody what was found in a frame, or that it was not looked at."""
        frame = captured.frame
        detected = faces is not None
        faces = faces or ()
        if detected:
            totals = self._totals
            totals.detected += 1
            totals.faces = len(faces)
            totals.frames_with_faces += bool(faces)
            totals.faces_messages += self._faces_are_sent
        written = WrittenFaces(
            FacesMessage(faces, frame.width, frame.height, captured.rtp_timestamp, captured.time, detected)
        )
        now = self._now()
        for tap in self._taps.copy():
            self._faults.call(tap, written)
        for watcher in self.watchers:
            if watcher.faces is not None:
                watcher.faces.send(written, now)
        if detected:
            self.faces.emit(Moment(frame, faces, True, captured.time, captured.rtp_timestamp, 0.0))

    @property
    def _faces_are_sent(self) -> bool:
        return bool(self._taps) or any(watcher.faces is not None for watcher in self.watchers)

    def ladder(self, codec: Codec) -> Ladder:
        """Give the layers of a codec, and start their encoder if this is the first peer to want them."""
        if codec not in self._ladders:
            self._ladders[codec] = Ladder(
                codec,
                bitrate=self._bitrate,
                fps=self._fps,
                origin=self._capture.origin,
                began=self._capture.began,
                hint=self._capture.hint,
                encoder=self._encoders.get(codec, ""),
                on_packet=self._count_bytes,
                faults=self._faults,
            )
        return self._ladders[codec]

    def _layer_of(self, watcher: Watcher) -> Layer | None:
        """Return what a peer is sent, None while that is nothing."""
        sender = watcher.sender
        layers = (ladder.layer_of(sender) for ladder in self._ladders.values() if isinstance(sender, FanoutSender))
        return next((layer for layer in layers if layer is not None), None)

    def _count_bytes(self, size: int) -> None:
        self._totals.bytes += size

    def mute(self) -> None:
        """Send nothing, until :meth:`unmute`."""
        self.muted = True
        self._unsent = None

    def unmute(self) -> None:
        """Send again."""
        self.muted = False

    @property
    def bitrate(self) -> int:
        """Of the video in full size, bit/s; what a link bears less of is sent smaller."""
        return self._bitrate

    @bitrate.setter
    def bitrate(self, bitrate: int) -> None:
        check_range("bitrate", bitrate, *BITRATES, "bit/s")
        self._bitrate = int(bitrate)
        for ladder in self._ladders.values():
            ladder.set_bitrate(self._bitrate)

    def snapshot(self) -> av.VideoFrame | None:
        """Return the newest frame of the source, which is only to be read; None before the first."""
        return None if self._capture.newest is None else self._capture.newest.frame

    # Figures

    def stats(self) -> BroadcasterStats:
        """Return totals since the start; whoever has the peers counts them."""
        now = self._now()
        return dataclasses.replace(
            self._totals,
            frames=self._capture.count,
            seconds=self._capture.seconds,
            fps=self._capture.rate(now),
            encoded=sum(ladder.frames for ladder in self._ladders.values()),
            faces_fps=self._search.rate(now) if self._search else 0.0,
            detection=self._search.delay(now) if self._search else None,
        )

    def peer_stats(self, connection: PeerConnection, watcher: Watcher | None) -> PeerStats:
        """Return what was sent to a peer over its connection, and in what size and codec this stream, if it is."""
        layer = self._layer_of(watcher) if watcher is not None else None
        return PeerStats(
            **dataclasses.asdict(connection.stats()),
            codec=layer.encoder.codec if layer else None,
            scale=layer.scale if layer else None,
            encode_ms=layer.encoder.encode_ms if layer else 0.0,
        )

    def report(self, watcher: Watcher, name: str | None = None) -> Report | None:
        """Say what part we have in the delay of a peer's frames, None before the first.

        Args:
            watcher: The peer.
            name: What the peer is told this stream by; None for that of the first offer.
        """
        newest = self._capture.newest
        if newest is None:
            return None
        layer = self._layer_of(watcher)
        detection = self._search.delay(self._now()) if self._search else None
        return Report(
            newest.rtp_timestamp,
            newest.time * 1000,
            capture=layer.encoder.wait_ms if layer else None,
            encoding=layer.encoder.encode_ms if layer else None,
            detection=None if detection is None else detection * 1000,
            stream=name,
        )


def _check(codecs: Sequence[Codec], bitrate: float, fps: float, faces_fps: float | None) -> None:
    """Refuse options with which every receiver would fail."""
    if isinstance(codecs, str) or not codecs:
        raise ValueError(f"codecs must name at least one, like ('vp8', 'h264'), not {codecs!r}")
    for codec in codecs:
        check_codec(codec)
    check_range("bitrate", bitrate, *BITRATES, "bit/s")
    check_range("fps", fps, *FRAME_RATES, "frames a second")
    check_faces_fps(faces_fps)
