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

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.detecting.cadence import check_faces_fps
from synopticon_rtc.detecting.detection import check_detector, name_of
from synopticon_rtc.detecting.search import FaceSearch
from synopticon_rtc.errors import DetectorError, SourceError, SynopticonError
from synopticon_rtc.faces import Detector, Face
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.faces.wire import FacesMessage
from synopticon_rtc.media import Codec, Converter, Picture, Source, as_source
from synopticon_rtc.media.codecs import OWN, codec_of, why_not
from synopticon_rtc.media.encoder import FRAME_RATES, check_range
from synopticon_rtc.media.picture import even
from synopticon_rtc.peers.control import Report
from synopticon_rtc.peers.faces_channel import WrittenFaces
from synopticon_rtc.peers.published import MAX_DETECTOR
from synopticon_rtc.rtc import EncodedVideoFrame
from synopticon_rtc.sending.capture import Capture, Captured
from synopticon_rtc.sending.ladder import RUNGS, Ladder, count_rungs
from synopticon_rtc.sending.stats import BroadcasterStats
from synopticon_rtc.sending.video import SentVideo
from synopticon_rtc.sending.watcher import Watcher

logger = logging.getLogger(__name__)


class Stream(SentVideo):
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

    Raises:
        SourceError: The source is none, or names a file that is not there.
        ValueError: There is no codec, or an unknown one, or a figure is out of range.
        TypeError: ``detector`` is none.
    """

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
        check_range("fps", fps, *FRAME_RATES, "frames a second")
        check_faces_fps(faces_fps)
        check_detector(detector)
        self._capture = Capture(as_source(source), faults := faults or Faults())
        super().__init__(self._capture.hint, codecs=codecs, bitrate=bitrate, fps=fps, faults=faults)
        self._detector = detector
        self._search = (
            FaceSearch(detector, fps=fps, most=faces_fps, tell=self._tell, faults=faults)
            if detector is not None
            else None
        )
        self.source_events = self._capture.events
        if self._search is not None:
            self.detector_events = self._search.events
        self._encoders: dict[Codec, str] = {}  # those that are not this package's own choice
        if encoder is not None:
            codec = codec_of(encoder, self._codecs)
            self._codecs = (codec, *(other for other in self._codecs if other != codec))
            if self.hint != "screen":  # which is not encoded at a bit rate, but at a quality
                self._encoders[codec] = encoder
        self._converter = Converter()
        self._unsent: Picture | None = None  # the newest frame, if nobody has encoded it
        self._started = asyncio.Event()  # when the first frame is there, or will not come

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

    async def replace(self, source: object) -> None:
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

    def _adapt_at(self, now: float) -> None:
        self._capture.watch(now)
        super()._adapt_at(now)

    def _end(self, error: BaseException | None) -> None:
        self._started.set()
        super()._end(error)

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

    def _captured(self, frame: EncodedVideoFrame) -> float | None:
        return self._capture.time(frame.rtp_timestamp)

    def prepare(self, codec: Codec) -> None:
        """Have a keyframe ready when a peer is, also of a frame that has been there for a while."""
        super().prepare(codec)
        if self._unsent is not None:
            self.ladder(codec).encode(self._unsent, joining=True)
            self._unsent = None

    def _count_layers(self) -> int:
        """Return how many layers there are: those of a screen differ in nothing that an engine could choose by."""
        return 1 if self.hint == "screen" else count_rungs(RUNGS, self._totals.width, self._totals.height)

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
        frame, detected = captured.frame, faces is not None
        faces = faces or ()
        if detected:
            self._count_faces(len(faces))
        message = FacesMessage(faces, frame.width, frame.height, captured.rtp_timestamp, captured.time, detected)
        self._send_faces(WrittenFaces(message))
        if detected:
            self.faces.emit(Moment(frame, faces, True, captured.time, captured.rtp_timestamp, 0.0))

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

    def mute(self) -> None:
        """Send nothing, until :meth:`unmute`."""
        self.muted = True
        self._unsent = None

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

    def report(self, watcher: Watcher, name: str | None = None) -> Report | None:
        """Say what part we have in the delay of a peer's frames, None before the first."""
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
