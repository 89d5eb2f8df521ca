"""Decoding video in a thread."""

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import av
import av.error
from aiortc.codecs import get_decoder
from aiortc.codecs.base import Decoder as Codec
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from synopticon_rtc.rtc.assembly import EncodedVideoFrame
from synopticon_rtc.rtc.stream import CLOCK_RATE

logger = logging.getLogger(__name__)

BACKLOG_LIMIT = 0.3
"""Seconds of frames that may wait to be decoded; each needs the one before it, so none can be left out alone."""


@dataclass(frozen=True, slots=True)
class Received:
    """A decoded frame."""

    frame: av.VideoFrame
    """Its ``pts`` is the RTP timestamp, its ``time_base`` 1/90000 s."""
    rtp_timestamp: int
    """As it was on the wire, 0 to 2**32 - 1."""
    arrived: float
    """When the frame's last packet came, in seconds of :func:`time.monotonic`."""


class Decoder:
    """Decodes the frames of one track, in order, in a thread of its own.

    Args:
        on_frame: Called on the event loop with each decoded frame.
        on_error: Called on the event loop when a frame cannot be decoded; what follows it is of no use up to the next
            keyframe.
    """

    def __init__(self, *, on_frame: Callable[[Received], None], on_error: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._queue: deque[EncodedVideoFrame] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._closed = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="video-decoder", daemon=True)
        self._thread.start()

    def put(self, frame: EncodedVideoFrame) -> bool:
        """Have a frame decoded.

        Returns:
            False when the decoder is so far behind that it was thrown away with all that waited: the next one must be
            a keyframe. Where one waits already, that is gone on with instead.
        """
        with self._changed:
            self._queue.append(frame)
            if frame.arrived - self._queue[0].arrived > BACKLOG_LIMIT:
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
        name, codec = "", None
        while (frame := self._wait()) is not None:
            if codec is None or frame.codec != name:
                name, codec = frame.codec, _codec(frame.codec)
            self._decode(codec, frame)
        self._call(self._closed.set)

    def _skip(self) -> None:
        """Go on with the newest keyframe that waits."""
        waiting = len(self._queue)
        at = next((at for at in range(waiting - 1, 0, -1) if self._queue[at].keyframe), waiting)
        for _ in range(at):
            self._queue.popleft()

    def _wait(self) -> EncodedVideoFrame | None:
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            return None if self._closing else self._queue.popleft()

    def _decode(self, codec: Codec, encoded: EncodedVideoFrame) -> None:
        try:
            frames = codec.decode(JitterFrame(encoded.data, encoded.rtp_timestamp))
        except av.error.FFmpegError as error:
            logger.debug("a frame cannot be decoded: %s", error)
            self._call(self._on_error)
            return
        for frame in frames:
            if isinstance(frame, av.VideoFrame):
                self._call(self._on_frame, Received(frame, (frame.pts or 0) & 0xFFFFFFFF, encoded.arrived))

    def _call(self, callback: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone
            self._loop.call_soon_threadsafe(callback, *args)


def _codec(name: str) -> Codec:
    return get_decoder(RTCRtpCodecParameters(mimeType=f"video/{name}", clockRate=CLOCK_RATE))
