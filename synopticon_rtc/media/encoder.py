"""One encoder for all receivers of a source."""

import asyncio
import functools
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from numbers import Real
from types import TracebackType
from typing import Literal, Self, get_args

import av
import av.error
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media.picture import TIME_BASE, Converter, Picture, copied, even

Codec = Literal["vp8", "h264"]

_ENCODERS: dict[Codec, Literal["libvpx", "libx264"]] = {"vp8": "libvpx", "h264": "libx264"}
_KEYFRAME_WINDOW = 27_000  # 300 ms of TIME_BASE
_LONGEST_KEYFRAME_INTERVAL = 3000  # frames; all but these are asked for
# The other half of the cores detects faces, and two threads on two busy cores are slower than one.
_THREADS = max(1, min(4, (os.cpu_count() or 1) // 2))
BITRATES = 1000, 1_000_000_000
"""The lowest and the highest bit rate that both encoders can be opened with, bit/s."""
FRAME_RATES = 0.01, 1000.0


def check_codec(codec: str) -> None:
    """Raise ValueError for a codec that there is not."""
    if codec not in get_args(Codec):
        raise ValueError(f"no such codec: {codec!r}; there are {', '.join(_ENCODERS)}")


def check_range(name: str, value: float, least: float, most: float, unit: str) -> None:
    """Raise ValueError for an option that is out of its range, or not a number."""
    if not (isinstance(value, Real) and least <= value <= most):
        raise ValueError(f"{name} must be positive, from {least:,} to {most:,} {unit}, not {value!r}")


class SharedEncoder:
    """Encodes each frame once, in a thread of its own, for any number of receivers.

    The newest frame wins: while one is encoded, one may wait, and gives way to the next that comes. Must be made on a
    running event loop; all methods are called there, and so is ``on_packet``.

    Args:
        codec: ``"vp8"`` or ``"h264"`` (constrained baseline, Annex B, parameter sets before each keyframe).
        bitrate: Target in bits per second.
        fps: The expected frame rate, for rate control; the timestamps of the frames overrule it.
        scale: How many times smaller than the frames the encoded pictures are, on each side.
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
        self._converter = Converter()
        self._waiting: Picture | None = None
        self._closing = False
        self._wake = asyncio.Event()
        self._keyframe_wanted = False
        self._last_keyframe: int | None = None
        # Only the thread touches these three once it runs.
        self._context: VideoCodecContext | None = None
        self._reformatter = VideoReformatter()
        self._ceiling = 0  # the bitrate at which the context was opened
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{codec}-encoder")
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
        self.dropped += self._waiting is not None
        self._waiting = frame if isinstance(frame, Picture) else Picture(frame, self._converter)
        self._wake.set()

    def request_keyframe(self) -> None:
        """Make the next frame a keyframe, or the first frame 300 ms after the last keyframe, whichever is later."""
        self._keyframe_wanted = True

    def set_bitrate(self, bitrate: int) -> None:
        """Aim at ``bitrate`` bits per second from the next frame on.

        H.264 follows without a keyframe up to the rate at which it was opened. Beyond that, and in VP8 always, the
        encoder is opened anew, which costs a keyframe and therefore waits as a requested one does.
        """
        check_range("bitrate", bitrate, *BITRATES, "bit/s")
        self._bitrate = bitrate

    async def aclose(self) -> None:
        """Stop after the frame in hand, and end the thread. No packet comes any more."""
        self._closing = True
        self._wake.set()
        try:
            await asyncio.wait([self._task])
        finally:
            self._thread.shutdown(wait=False)  # idle by now, or cancelled: then it ends with the frame in hand

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            picture, self._waiting = self._waiting, None
            if self._closing or picture is None:
                return
            work = functools.partial(
                self._encode,
                picture,
                bitrate=self._bitrate,
                keyframe_allowed=self._keyframe_allowed(picture.pts),
                keyframe_wanted=self._keyframe_wanted,
            )
            packets, begun, seconds = await loop.run_in_executor(self._thread, work)
            share = 0.1 if self.frames else 1
            self.wait_ms += ((begun - picture.made) * 1e3 - self.wait_ms) * share
            self.encode_ms += (seconds * 1e3 - self.encode_ms) * share
            self.frames += 1
            for packet in packets:
                if packet.is_keyframe:
                    self.keyframes += 1
                    self._last_keyframe = packet.pts
                    self._keyframe_wanted = False  # who asked while it was in the making gets it too
                if not self._closing:
                    self._on_packet(packet)

    def _keyframe_allowed(self, pts: int | None) -> bool:
        """Tell whether the last keyframe is 300 ms ago (or in the future, where the timestamps started anew)."""
        if self._last_keyframe is None or pts is None:
            return True
        return not 0 <= pts - self._last_keyframe < _KEYFRAME_WINDOW

    def _encode(
        self, picture: Picture, *, bitrate: int, keyframe_allowed: bool, keyframe_wanted: bool
    ) -> tuple[list["av.Packet[Stream]"], float, float]:
        """Convert and encode ``picture``, in the thread; return what came out, when it began, and how long it took."""
        started = time.perf_counter()
        frame = picture.frame
        width, height = even(frame.width // self._scale), even(frame.height // self._scale)
        try:
            context = self._opened(width, height, bitrate, keyframe_allowed=keyframe_allowed)
            keyframe = keyframe_wanted and keyframe_allowed
            packets = context.encode(self._prepared(picture.planar(), width, height, keyframe=keyframe))
        except av.error.FFmpegError as error:
            raise SourceError(
                f"the {self.codec} encoder cannot encode a {frame.width}x{frame.height} {frame.format.name} frame: "
                f"{error.strerror}; choose another size"
            ) from error
        return packets, started, time.perf_counter() - started

    def _prepared(self, shared: av.VideoFrame, width: int, height: int, *, keyframe: bool) -> av.VideoFrame:
        """Return ``shared`` in the size of this encoder, marked if it is to be a keyframe; the shared one stays."""
        if (shared.width, shared.height) != (width, height):
            own = self._reformatter.reformat(shared, width, height, threads=1)
        elif keyframe:
            own = copied(shared)
            own.pts, own.time_base = shared.pts, shared.time_base
        else:
            return shared
        own.pict_type = PictureType.I if keyframe else PictureType.NONE
        return own

    def _opened(self, width: int, height: int, bitrate: int, *, keyframe_allowed: bool) -> VideoCodecContext:
        """Return the context for a picture: as it is, at another bitrate, or opened anew."""
        context = self._context
        if context is not None and (context.width, context.height) == (width, height):
            if self.codec == "h264" and bitrate <= self._ceiling:
                context.bit_rate = bitrate
            if context.bit_rate == bitrate or not keyframe_allowed:
                return context
        # The old one goes first, so that the new one takes its place in memory: 42 MB for 1280x720 in VP8.
        self._context = context = None
        context = opened(self.codec, width, height, bitrate=bitrate, fps=self._fps, threads=_THREADS)
        self._context, self._ceiling = context, bitrate
        return context


def opened(
    codec: Codec,
    width: int,
    height: int,
    changed: Mapping[str, str] | None = None,
    *,
    bitrate: int,
    fps: Fraction,
    threads: int,
) -> VideoCodecContext:
    """Open FFmpeg's encoder as this package sets it up, but for what is ``changed`` of its options."""
    context = av.CodecContext.create(_ENCODERS[codec], "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = TIME_BASE, fps
    context.bit_rate = bitrate
    context.gop_size = _LONGEST_KEYFRAME_INTERVAL
    context.thread_count = threads
    if codec == "vp8":
        context.qmin, context.qmax = 2, 56
    context.options = _options(codec, bitrate) | dict(changed or {})
    context.open()
    return context


def _options(codec: Codec, bitrate: int) -> dict[str, str]:
    """Return the options for FFmpeg's encoder; ``benchmarks/encoding.py`` holds them against others."""
    if codec == "vp8":
        return {
            "deadline": "realtime",
            "cpu-used": "-14",  # up to two fifths less time than -6, for at most 0.8 dB; beyond it quality falls off
            "noise-sensitivity": "0",
            "static-thresh": "0",
            "error-resilient": "default",
            "lag-in-frames": "0",
            "keyint_min": str(_LONGEST_KEYFRAME_INTERVAL),  # no keyframe at a cut of its own accord
            "minrate": str(bitrate),  # minrate = maxrate = bit_rate is constant bitrate,
            "maxrate": str(bitrate),
            "bufsize": str(bitrate),  # over one second
            "overshoot-pct": "15",
            "undershoot-pct": "100",
        }
    return {
        "preset": "superfast",
        "subq": "0",  # these three together: a third faster, for 1.8 dB of a clean picture and none of a noisy one
        "aq-mode": "none",
        "partitions": "none",
        "tune": "zerolatency",
        "profile": "baseline",
        "forced-idr": "1",
        "sc_threshold": "0",  # no keyframe at a cut of its own accord
        "maxrate": str(bitrate),  # opened so, the bitrate can be changed while it runs
        "bufsize": str(bitrate // 2),
    }
