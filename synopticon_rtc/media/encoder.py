"""One encoder for all receivers of a source."""

import asyncio
import contextlib
import functools
import logging
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from numbers import Real
from types import TracebackType
from typing import NamedTuple, Self

import av
import av.error
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media.codecs import FOLLOWS, OWN, Codec, check_codec, opened
from synopticon_rtc.media.picture import TIME_BASE, Converter, Picture, copied, even
from synopticon_rtc.media.pictures import Pictures
from synopticon_rtc.media.source import Hint
from synopticon_rtc.media.stillness import Stillness, same

logger = logging.getLogger(__name__)

_KEYFRAME_WINDOW = 27_000  # 300 ms of TIME_BASE
# The other half of the cores detects faces, and two threads on two busy cores are slower than one.
_THREADS = max(1, min(4, (os.cpu_count() or 1) // 2))
BITRATES = 1000, 1_000_000_000
"""The lowest and the highest bit rate that both encoders can be opened with, bit/s."""
FRAME_RATES = 0.01, 1000.0


def check_range(name: str, value: float, least: float, most: float, unit: str) -> None:
    """Raise ValueError for an option that is out of its range, or not a number."""
    if not (isinstance(value, Real) and least <= value <= most):
        raise ValueError(f"{name} must be positive, from {least:,} to {most:,} {unit}, not {value!r}")


class _Encoded(NamedTuple):
    """What came of a frame.

    Attributes:
        packets: None where there was nothing to do, as it shows what the one before did.
        begun: When its encoding began, by ``time.perf_counter``.
        seconds: How long that took.
        changed: Whether it shows something else than the one before.
    """

    packets: "list[av.Packet[Stream]] | None"
    begun: float
    seconds: float
    changed: bool


class SharedEncoder:
    """Encodes each frame once, in a thread of its own, for any number of receivers.

    The newest frame wins: while one is encoded, one may wait, and gives way to the next that comes. Must be made on a
    running event loop; all methods are called there, and so is ``on_packet``.

    Of a camera each frame is encoded, as well as the bit rate allows. A screen has always the same quality, in which
    text is sharp. Its frames wait for the one before them to be sent at the bit rate, and one that shows nothing new is
    encoded a few times more, and from then on only now and then, as a sign of life.

    Args:
        codec: ``"vp8"`` or ``"h264"`` (constrained baseline, Annex B, parameter sets before each keyframe).
        bitrate: Target in bits per second.
        fps: The expected frame rate, for rate control; the timestamps of the frames overrule it.
        scale: How many times smaller than the frames the encoded pictures are, on each side.
        hint: Whether they are of a camera or of a screen.
        encoder: FFmpeg's name of an encoder of the codec that is to do it; where it fails, this package's own goes on.
        on_packet: Called with each encoded frame; ``pts`` is that of the frame, in 1/90000 s.

    Raises:
        ValueError: An unknown codec, or a bitrate, fps or scale that no encoder can be opened with.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        bitrate: int = 1_500_000,
        fps: float = 30,
        scale: int = 1,
        hint: Hint = "camera",
        encoder: str = "",
        on_packet: Callable[["av.Packet[Stream]"], None],
    ) -> None:
        check_codec(codec)
        check_range("bitrate", bitrate, *BITRATES, "bit/s")
        check_range("fps", fps, *FRAME_RATES, "frames a second")
        if scale <= 0:
            raise ValueError(f"scale must be above 0, not {scale}")
        self.codec: Codec = codec
        self.frames = 0
        """Frames encoded."""
        self.dropped = 0
        """Frames that gave way to a newer one before they were encoded."""
        self.keyframes = 0
        """Keyframes among the frames encoded."""
        self.wait_ms = 0.0
        """Milliseconds from the taking of a frame to the begin of its encoding, a moving average."""
        self.encode_ms = 0.0
        """Milliseconds to convert and encode a frame, a moving average."""
        self._fps = Fraction(fps).limit_denominator(1001)
        self._on_packet = on_packet
        self._bitrate = bitrate
        self._scale = scale
        self._hint: Hint = hint
        self._converter = Converter()
        self._waiting: Picture | None = None
        self._stillness = Stillness(bitrate) if hint == "screen" else None
        self._shown: Picture | None = None  # of a screen, what was encoded last
        self._stays = False  # whether the newest frame shows the same
        self._came = (0, 0.0)  # the presentation time of the newest frame, and when it came
        self._last: int | None = None  # the presentation time of what was encoded last
        self._closing = False
        self._wake = asyncio.Event()
        self._keyframe_wanted = False
        self._last_keyframe: int | None = None
        # Only the thread touches these five once it runs.
        self._encoder = encoder or OWN[codec]
        self._context: VideoCodecContext | None = None
        self._reformatter = VideoReformatter()
        self._pictures = Pictures()
        self._ceiling = 0  # the bitrate at which the context was opened
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{codec}-encoder")
        # It allocates what encoders take, in a heap of its own as glibc has it: large pieces, and nothing between them.
        self._opener = ThreadPoolExecutor(1, thread_name_prefix=f"{codec}-opener")
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"{codec} encoder")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def bitrate(self) -> int:
        """The target in bits per second."""
        return self._bitrate

    @property
    def is_busy(self) -> bool:
        """Whether frames wait until the last has been sent at the bit rate; never with a camera."""
        return self._stillness is not None and asyncio.get_running_loop().time() < self._stillness.free

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to encode, since what is shown stays as it is; never with a camera."""
        return self._stays and not self.is_busy

    def encode(self, frame: av.VideoFrame | Picture) -> None:
        """Take ``frame`` to be encoded next; never blocks.

        Args:
            frame: Any size and pixel format, both may change from frame to frame; an odd side loses one pixel. ``pts``
                is in 1/90000 s and increases; ``time_base`` says so. The frame is only read: it may be shared, and a
                :class:`~synopticon_rtc.media.Picture` of it is converted once for all encoders.

        Raises:
            SourceError: The encoder failed at an earlier frame and has stopped.
        """
        if self._task.cancelled() and not self._closing:
            raise SourceError(f"the {self.codec} encoder was cancelled")
        if self._task.done():
            self._task.result()
            raise RuntimeError("the encoder is closed")
        self.dropped += self._waiting is not None and self._waiting is not frame
        self._waiting = picture = frame if isinstance(frame, Picture) else Picture(frame, self._converter)
        if self._stillness is not None and picture.pts is not None and picture.pts > self._came[0]:
            self._came = picture.pts, asyncio.get_running_loop().time()
        self._wake.set()

    def request_keyframe(self) -> None:
        """Make the next frame a keyframe, or the first frame 300 ms after the last keyframe, whichever is later.

        A screen that stays as it is does not wait for the next frame.
        """
        self._keyframe_wanted = True
        self._wake.set()

    def set_bitrate(self, bitrate: int) -> None:
        """Aim at ``bitrate`` bits per second from the next frame on.

        H.264 follows without a keyframe up to the rate at which it was opened. Beyond that, and in VP8 always, the
        encoder is opened anew, which costs a keyframe and therefore waits as a requested one does. A screen follows at
        once, by the rate of its frames.
        """
        check_range("bitrate", bitrate, *BITRATES, "bit/s")
        self._bitrate = bitrate
        if self._stillness is not None:
            self._stillness.bitrate = bitrate
            self._wake.set()

    async def aclose(self) -> None:
        """Stop after the frame in hand, and end the thread. No packet comes any more."""
        self._closing = True
        self._wake.set()
        try:
            await asyncio.wait([self._task])
        finally:
            self._thread.shutdown(wait=False)  # idle by now, or cancelled: then it ends with the frame in hand
            self._opener.shutdown(wait=False)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while (picture := await self._next()) is not None:
            pts = self._time_of(picture, loop.time())
            keyframe_allowed = self._keyframe_allowed(pts)
            again = self._stillness is None or loop.time() >= self._stillness.again
            work = functools.partial(
                self._encode,
                picture,
                pts,
                shown=self._shown,
                again=again or (self._keyframe_wanted and keyframe_allowed),
                bitrate=self._bitrate,
                keyframe_allowed=keyframe_allowed,
                keyframe_wanted=self._keyframe_wanted,
            )
            packets, begun, seconds, changed = await loop.run_in_executor(self._thread, work)
            self._stays = not changed
            if packets is None:
                continue
            share = 0.1 if self.frames else 1
            if changed:
                self.wait_ms += ((begun - picture.made) * 1e3 - self.wait_ms) * share
            self.encode_ms += (seconds * 1e3 - self.encode_ms) * share
            self.frames += 1
            self._last = pts
            keyframe = False
            for packet in packets:
                if packet.is_keyframe:
                    keyframe = True
                    self.keyframes += 1
                    self._last_keyframe = packet.pts
                    self._keyframe_wanted = False  # who asked while it was in the making gets it too
                if not self._closing:
                    self._on_packet(packet)
            if self._stillness is not None:
                self._shown = picture if changed else self._shown
                octets = sum(packet.size for packet in packets)
                self._stillness.encoded(loop.time(), octets, changed=changed or keyframe)

    async def _next(self) -> Picture | None:
        """Wait for a picture that is to be looked at; return None in the end."""
        loop = asyncio.get_running_loop()
        while not self._closing:
            due = self._due(loop.time())
            if due <= loop.time():
                picture, self._waiting = self._waiting or self._shown, None
                return picture
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due if due < math.inf else None):
                    await self._wake.wait()
        return None

    def _due(self, now: float) -> float:
        """Return when there will be something to do, if nothing comes before that: ``inf`` for never."""
        stillness = self._stillness
        if stillness is None or self._waiting is not None:
            return math.inf if self._waiting is None else now if stillness is None else stillness.free
        if self._shown is None:
            return math.inf
        due = math.inf if stillness.settled else stillness.again
        if self._keyframe_wanted:
            ticks = 0 if self._last_keyframe is None else self._last_keyframe + _KEYFRAME_WINDOW - self._ticks(now)
            due = min(due, max(stillness.free, now + ticks / TIME_BASE.denominator))
        return due

    def _time_of(self, picture: Picture, now: float) -> int | None:
        """Return the presentation time of a picture, which is now where it was shown before: none goes back."""
        if self._stillness is None or picture.pts is None or self._last is None or picture.pts > self._last:
            return picture.pts
        return max(self._last + 1, self._ticks(now))

    def _ticks(self, now: float) -> int:
        """Return what the presentation time of a frame that comes now would be."""
        pts, came = self._came
        return pts + round((now - came) * TIME_BASE.denominator)

    def _keyframe_allowed(self, pts: int | None) -> bool:
        """Tell whether the last keyframe is 300 ms ago (or in the future, where the timestamps started anew)."""
        if self._last_keyframe is None or pts is None:
            return True
        return not 0 <= pts - self._last_keyframe < _KEYFRAME_WINDOW

    def _encode(
        self,
        picture: Picture,
        pts: int | None,
        *,
        shown: Picture | None,
        again: bool,
        bitrate: int,
        keyframe_allowed: bool,
        keyframe_wanted: bool,
    ) -> _Encoded:
        """Convert and encode ``picture``, in the thread, unless it was ``shown`` and not to be encoded ``again``."""
        started = time.perf_counter()
        changed = shown is None or not same(picture.frame, shown.frame)
        if shown is not None and not changed:
            if not again:
                return _Encoded(None, started, 0.0, changed)
            picture = shown  # which has been converted
        frame = picture.frame
        width, height = even(frame.width // self._scale), even(frame.height // self._scale)
        work = functools.partial(
            self._packets, picture, width, height, pts, bitrate, wanted=keyframe_wanted, allowed=keyframe_allowed
        )
        try:
            try:
                packets = work()
            except av.error.FFmpegError as error:
                if self._encoder == OWN[self.codec]:
                    raise
                logger.warning("%s encodes from now on: %s failed (%s)", OWN[self.codec], self._encoder, error.strerror)
                self._encoder, self._context = OWN[self.codec], None
                packets = work()
        except av.error.FFmpegError as error:
            raise SourceError(
                f"the {self.codec} encoder cannot encode a {frame.width}x{frame.height} {frame.format.name} frame: "
                f"{error.strerror}; choose another size"
            ) from error
        return _Encoded(packets, started, time.perf_counter() - started, changed)

    def _packets(
        self, picture: Picture, width: int, height: int, pts: int | None, bitrate: int, *, wanted: bool, allowed: bool
    ) -> "list[av.Packet[Stream]]":
        """Encode ``picture``, with the encoder opened or set up anew where that is due."""
        context = self._opened(width, height, bitrate, keyframe_allowed=allowed)
        frame = self._prepared(picture.planar(), width, height, pts, str(context.pix_fmt), keyframe=wanted and allowed)
        return context.encode(frame)

    def _prepared(
        self, shared: av.VideoFrame, width: int, height: int, pts: int | None, pixels: str, *, keyframe: bool
    ) -> av.VideoFrame:
        """Return ``shared`` as this encoder takes it, marked if it is to be a keyframe; the shared one stays."""
        if (shared.width, shared.height, shared.format.name) != (width, height, pixels):
            own = self._reformatter.reformat(shared, width, height, pixels, threads=1)
        elif keyframe or pts != shared.pts:
            own = copied(shared, self._pictures)
        else:
            return shared
        own.pts, own.time_base = pts, shared.time_base
        own.pict_type = PictureType.I if keyframe else PictureType.NONE
        return own

    def _opened(self, width: int, height: int, bitrate: int, *, keyframe_allowed: bool) -> VideoCodecContext:
        """Return the context for a picture: as it is, at another bitrate, or opened anew."""
        context = self._context
        if context is not None and (context.width, context.height) == (width, height):
            if self._hint == "screen":
                return context
            if self._encoder in FOLLOWS and bitrate <= self._ceiling:
                context.bit_rate = bitrate
            if context.bit_rate == bitrate or not keyframe_allowed:
                return context
        # The old one goes first, so that the new one takes its place in memory: 42 MB for 1280x720 in VP8.
        self._context = context = None
        context = self._opener.submit(
            opened,
            self.codec,
            width,
            height,
            encoder=self._encoder,
            hint=self._hint,
            bitrate=bitrate,
            fps=self._fps,
            threads=_THREADS,
        ).result()
        self._context, self._ceiling = context, bitrate
        return context
