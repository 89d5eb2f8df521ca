"""The layers of a video that comes encoded, with whoever sends them in the place of encoders."""

import functools
from collections.abc import Callable
from typing import Protocol

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.media import Codec, Hint, Picture
from synopticon_rtc.rtc import EncodedVideoFrame
from synopticon_rtc.rtc.bitstream import picture_size
from synopticon_rtc.rtc.capture_time import NTP_EPOCH
from synopticon_rtc.sending.ladder import Ladder, count_rungs

SILENCE = 1.0
"""Seconds without a frame after which it is no wonder that nobody is sent any."""


class EncodedFeed:
    """A layer that comes encoded, in the place of an encoder: what is wanted of that is asked of whoever sends it.

    Args:
        codec: What it is encoded with.
        bitrate: With which it comes as long as nobody asks for less, bit/s.
        request_keyframe: Asks for a keyframe.
        limit: Asks for another bit rate, bit/s.

    Attributes:
        codec: As it was given.
        bitrate: What was asked for last, bit/s.
        frames: Frames that came.
        keyframes: Keyframes among them.
        heard: When the last of them did, by the loop's clock.
    """

    encode_ms = wait_ms = 0.0
    is_busy = False

    def __init__(
        self, codec: Codec, bitrate: int, request_keyframe: Callable[[], None], limit: Callable[[int], None]
    ) -> None:
        self.codec: Codec = codec
        self.bitrate = bitrate
        self.frames = self.keyframes = 0
        self.heard = clock.monotonic()
        self._request_keyframe = request_keyframe
        self._limit = limit

    @property
    def is_idle(self) -> bool:
        """Whether none has come for a while."""
        return clock.monotonic() > self.heard + SILENCE

    def encode(self, frame: Picture) -> None:
        """Do nothing: what comes is encoded."""

    def request_keyframe(self) -> None:
        """Have a keyframe come soon."""
        self._request_keyframe()

    def set_bitrate(self, bitrate: int) -> None:
        """Ask for another bit rate, bit/s."""
        if bitrate != self.bitrate:
            self.bitrate = bitrate
            self._limit(bitrate)

    async def aclose(self) -> None:
        """Do nothing: whoever sends it has to end it."""


class VideoOrigin(Protocol):
    """Where a video comes from."""

    def request_keyframe(self, layer: int) -> None:
        """Have a keyframe of a layer come soon: somebody watches it, or is about to.

        Args:
            layer: 0 for that in full size; those above it, which are asked for only where there may be more than one,
                are smaller, and need not come before.
        """

    def limit(self, layer: int, bitrate: int) -> None:
        """Have a layer come with another bit rate, bit/s, as far as that can be had."""


class EncodedLadder(Ladder):
    """The layers of a video that come encoded.

    Args:
        codec: What they are encoded with.
        bitrate: Of the top layer, bit/s.
        fps: The frame rate.
        hint: What it shows.
        layers: The most that there may be.
        origin: Where they come from.
        on_packet: Called with the size of each frame in bytes.
        faults: What counts errors that nobody foresaw.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        bitrate: int,
        fps: float,
        hint: str,
        layers: int,
        origin: VideoOrigin,
        on_packet: Callable[[int], None],
        faults: Faults,
    ) -> None:
        shown: Hint = "screen" if hint == "screen" else "camera"
        super().__init__(codec, bitrate=bitrate, fps=fps, origin=0, hint=shown, on_packet=on_packet, faults=faults)
        self._most = layers
        self._feeds: dict[int, EncodedFeed] = {}
        self._from = origin

    def put(self, frame: EncodedVideoFrame, captured: float | None, index: int, ahead: float) -> None:
        """Send a frame of a layer to those who watch that."""
        layer, feed = self._layer(index), self._feeds[index]
        feed.frames += 1
        feed.keyframes += frame.keyframe
        feed.heard = clock.monotonic()
        if index == 0:
            self._count += 1
            if (size := picture_size(frame)) is not None:
                self._rungs = min(self._most, count_rungs(self._planned, *size))
        self._on_packet(len(frame.data))
        layer.stream.ahead = int(ahead * 2**32)
        layer.stream.send_encoded(
            frame.data,
            frame.rtp_timestamp,
            keyframe=frame.keyframe,
            captured=None if captured is None else int((captured + NTP_EPOCH) * 2**32),
        )
        if index == 0 and self._taps:
            self._tell(frame)

    def bitrate_of(self, index: int) -> int:
        """Return the bit rate of a layer that is asked for, bit/s; 0 where nobody watches it."""
        if index not in self._feeds or not self._layers[index].stream.viewers:
            return 0
        return self._feeds[index].bitrate

    def _make(self, index: int) -> EncodedFeed:
        self._feeds[index] = EncodedFeed(
            self._codec,
            self._nominal(index),
            functools.partial(self._from.request_keyframe, index),
            functools.partial(self._from.limit, index),
        )
        return self._feeds[index]
