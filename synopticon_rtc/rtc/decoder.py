"""Decoding video in a thread."""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import av
import av.error
from av.video.codeccontext import VideoCodecContext

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.rtc.assembly import EncodedVideoFrame
from synopticon_rtc.rtc.stream import CLOCK_RATE, Codec

logger = logging.getLogger(__name__)

_DECODERS = {"vp8": "libvpx", "h264": "h264"}
_ALIGNMENT = 64
"""By how much FFmpeg may round sizes up before it compares them with a limit."""

BACKLOG_LIMIT = 0.3
"""Seconds of frames that may wait to be decoded, beyond what a keyframe takes, which is what starting anew costs; each
frame needs the one before it, so none can be left out alone."""
MOST_SILENT = 32
"""Frames in a row of which a decoder makes none to show: twice as many as it may hold back to put them in order."""
LONGEST_KEYFRAME = 2.0
"""Seconds that a keyframe counts for there, at the most."""


@dataclass(frozen=True, slots=True)
class Received:
    """A decoded frame."""

    frame: av.VideoFrame
    """Its ``pts`` is the RTP timestamp, its ``time_base`` 1/90000 s."""
    rtp_timestamp: int
    """As it was on the wire, 0 to 2**32 - 1."""
    arrived: float
    """When the frame's last packet came, in seconds of :func:`.clock.monotonic`."""
    captured: float | None = None
    """When it was captured, seconds since the epoch on the sender's clock; None where its RTP did not tell (yet)."""


class Decoder:
    """Decodes the frames of one track, in order, in a thread of its own.

    Args:
        max_size: Width and height of the largest frames, in pixels; larger ones are errors.
        on_frame: Called on the event loop with each decoded frame.
        on_error: Called on the event loop when a frame cannot be decoded, with whether that lasts: what follows is
            of no use up to the next keyframe. It does not where a keyframe has been put since.
        on_silent: Called on the event loop when many frames were decoded and none is to be shown: they began with no
            keyframe, or refresh the picture bit by bit.
        faults: What counts errors that nobody foresaw.
    """

    def __init__(
        self,
        *,
        max_size: tuple[int, int],
        on_frame: Callable[[Received], None],
        on_error: Callable[[bool], None],
        on_silent: Callable[[], None],
        faults: Faults | None = None,
    ) -> None:
        self._pixels = (max_size[0] + _ALIGNMENT) * (max_size[1] + _ALIGNMENT)
        self._on_frame = on_frame
        self._on_error = on_error
        self._on_silent = on_silent
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[int, EncodedVideoFrame]] = deque()
        self._count = 0
        self._keyframe = 0  # the count at the last keyframe that was put
        self._keyframe_seconds = 0.0  # what the last keyframe took to decode
        self._keyframe_since: float | None = None  # since when one is in work
        self._changed = threading.Condition()
        self._closing = False
        self._closed = asyncio.Event()
        self._faults = faults or Faults()
        self._thread = threading.Thread(target=self._run, name="video-decoder", daemon=True)
        self._thread.start()

    def put(self, frame: EncodedVideoFrame) -> bool:
        """Have a frame decoded.

        Returns:
            False when the decoder is so far behind that it was thrown away with all that waited: the next one must be
            a keyframe. Where one waits already, that is gone on with instead.
        """
        with self._changed:
            self._count += 1
            if frame.keyframe:
                self._keyframe = self._count
            self._queue.append((self._count, frame))
            if frame.arrived - self._queue[0][1].arrived > BACKLOG_LIMIT + self._keyframe_time():
                self._skip()
            self._changed.notify()
            return bool(self._queue)

    def stop(self) -> None:
        """Stop after the frame in work."""
        with self._changed:
            self._closing = True
            self._queue.clear()
            self._changed.notify()

    async def wait_stopped(self) -> None:
        """Wait until the thread is done."""
        await self._closed.wait()

    def _run(self) -> None:
        name, codec, silent = "", None, 0
        try:
            while (item := self._wait()) is not None:
                count, frame = item
                try:
                    if codec is None or frame.codec != name:
                        name, codec = frame.codec, self._open(frame.codec)
                    if frame.keyframe:
                        self._keyframe_since = time.monotonic()
                    silent = 0 if self._decode(codec, frame) else silent + 1
                    if self._keyframe_since is not None:
                        self._keyframe_seconds = time.monotonic() - self._keyframe_since
                    if silent > MOST_SILENT:
                        silent = 0
                        self._call(self._on_silent)
                except av.error.FFmpegError as error:
                    logger.debug("a frame cannot be decoded: %s", error)
                    self._call(self._fail, count)
                except Exception:  # noqa: BLE001 - it is noted, and the video goes on with the next keyframe
                    self._faults.note("decoding failed")
                    codec = None
                    self._call(self._fail, count)
                self._keyframe_since = None
        finally:
            self._call(self._closed.set)

    def _open(self, name: Codec) -> VideoCodecContext:
        codec = av.CodecContext.create(_DECODERS[name], "r")
        assert isinstance(codec, VideoCodecContext)  # noqa: S101 - tells the type checkers
        codec.options = {"max_pixels": str(self._pixels)}
        return codec

    def _fail(self, count: int) -> None:
        self._on_error(count >= self._keyframe)

    def _keyframe_time(self) -> float:
        since = self._keyframe_since
        return min(self._keyframe_seconds if since is None else time.monotonic() - since, LONGEST_KEYFRAME)

    def _skip(self) -> None:
        """Go on with the newest keyframe that waits."""
        waiting = len(self._queue)
        at = next((at for at in range(waiting - 1, 0, -1) if self._queue[at][1].keyframe), waiting)
        for _ in range(at):
            self._queue.popleft()

    def _wait(self) -> tuple[int, EncodedVideoFrame] | None:
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            return None if self._closing else self._queue.popleft()

    def _decode(self, codec: VideoCodecContext, encoded: EncodedVideoFrame) -> bool:
        """Decode a frame, and return whether that gave any to show."""
        packet = av.Packet(encoded.data)
        packet.pts = encoded.rtp_timestamp
        packet.time_base = Fraction(1, CLOCK_RATE)
        frames = codec.decode(packet)
        for frame in frames:
            timestamp = (frame.pts or 0) & 0xFFFFFFFF
            self._call(self._on_frame, Received(frame, timestamp, encoded.arrived, encoded.captured))
        return bool(frames)

    def _call(self, callback: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone
            self._loop.call_soon_threadsafe(callback, *args)
