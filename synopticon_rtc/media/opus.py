"""One Opus encoder for all receivers of a sound."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, get_args

import av
import numpy as np
import numpy.typing as npt
from av.audio.codeccontext import AudioCodecContext

from synopticon_rtc.media.encoder import check_range
from synopticon_rtc.media.sound import BLOCK, RATE, Sound

Application = Literal["voip", "audio"]

BITRATES = 6_000, 510_000
"""The lowest and the highest bit rate of Opus, bit/s (RFC 7587 section 6.1)."""
_BITRATE_OF_CHANNEL: dict[Application, int] = {"voip": 32_000, "audio": 64_000}
LOSSES = 0, 5, 10, 20, 30
"""Shares of lost packets, in percent, that the encoder is set for."""
EASE_AFTER = 500
"""Blocks, 10 s, for which fewer packets must be lost before less is spent on them."""
QUIETEST = 127
"""The level of digital silence (RFC 6464 section 3), -dBov."""
SILENT = 1e-3
"""The loudest sample of a block that nobody hears: -60 dB of full scale."""
QUIET_BLOCKS = 10
"""Blocks of silence, 200 ms, after which no more are sent,"""
SIGN_OF_LIFE = 20
"""but for one in so many, 400 ms; libopus does the same."""
_TIME_BASE = Fraction(1, RATE)


@dataclass(frozen=True, slots=True)
class OpusPacket:
    """20 ms of sound, encoded."""

    data: bytes
    """What a decoder takes."""
    ticks: int
    """When its first sample is due, 1/48000 s since the encoder began; where that is more than 960 after the packet
    before, there is nothing to be heard between them."""
    captured: float
    """When that sample was captured, seconds since the epoch."""
    level: int
    """How loud it is, -dBov: 0 for the root mean square 1, 127 for silence (RFC 6464)."""


class OpusEncoder:
    """Encodes each block once, for any number of receivers; that takes a fifth of a millisecond, so it is done at once.

    Where receivers lose packets, each packet holds the sound of the one before once more, in worse quality: in-band FEC
    (RFC 6716 section 2.1.7). While there is silence, no packets are made but a sign of life now and then (DTX). FFmpeg
    has no option for libopus's own DTX, so silence is what nobody can hear, not the noise of a quiet room.

    Args:
        application: ``"voip"`` for speech, ``"audio"`` for music.
        bitrate: Target in bit/s; by default 32,000 a channel for speech, and 64,000 for music.

    Raises:
        ValueError: There is no such application, or Opus has no such bit rate.
    """

    def __init__(self, application: Application = "voip", bitrate: int | None = None) -> None:
        if application not in get_args(Application):
            raise ValueError(f"no such application: {application!r}; there are {', '.join(get_args(Application))}")
        if bitrate is not None:
            check_range("bitrate", bitrate, *BITRATES, "bit/s")
        self.application: Application = application
        self.bitrate = bitrate
        self.loss = 0
        """Lost packets that it is set for, percent."""
        self._context: AudioCodecContext | None = None
        self._layout = ""
        self._ticks = 0  # of the next block, where none is missing
        self._due = 0.0  # when that is captured
        self._eased = 0  # blocks since more packets were lost
        self._quiet = 0  # blocks since there was something to hear

    def set_bitrate(self, bitrate: int) -> None:
        """Aim at another bit rate, bit/s, from the next block on.

        Raises:
            ValueError: Opus has no such bit rate.
        """
        check_range("bitrate", bitrate, *BITRATES, "bit/s")
        self.bitrate = bitrate
        self._context = None

    def expect(self, losses: Sequence[float]) -> None:
        """Be ready for losses, from the next block on.

        Args:
            losses: The share of packets that each receiver has lost of late, 0 to 1.
        """
        most = max(losses, default=0.0) * 100
        fitting = next((loss for loss in LOSSES if loss >= most), LOSSES[-1])
        if fitting >= self.loss:
            self._eased = 0
        if fitting > self.loss or self._eased >= EASE_AFTER:
            self.loss = fitting
            self._eased = 0
            self._context = None

    def encode(self, block: Sound) -> OpusPacket | None:
        """Encode a block of :func:`.blocks_of`; None for silence.

        Between two blocks that do not follow one another the time goes on, and never back.
        """
        missing = block.captured - self._due
        if self._due and missing > BLOCK / RATE / 2:
            self._ticks += round(missing * RATE)
            self._context = None  # nothing of what was before goes into what comes now
        self._due = block.captured + BLOCK / RATE
        ticks, self._ticks = self._ticks, self._ticks + BLOCK
        self._eased += 1
        frame = block.frame
        frame.pts, frame.time_base = ticks, _TIME_BASE
        (packet,) = self._opened(frame.layout.name).encode(frame)
        samples = frame.to_ndarray()
        if self._is_silence(samples):
            return None
        # A decoder gives each sample later than it was put in, by what the encoder looks ahead.
        ahead = ticks - (packet.pts or 0)
        return OpusPacket(bytes(packet), ticks - ahead, block.captured - ahead / RATE, _level(samples))

    def _is_silence(self, samples: npt.NDArray[Any]) -> bool:
        """Whether a block is not sent."""
        self._quiet = self._quiet + 1 if np.abs(samples).max() < SILENT else 0
        return self._quiet > QUIET_BLOCKS and (self._quiet - QUIET_BLOCKS) % SIGN_OF_LIFE != 0

    def _opened(self, layout: str) -> AudioCodecContext:
        """Return the context, as it is or opened anew, which takes less than 0.1 ms and is not heard."""
        if self._context is not None and layout == self._layout:
            return self._context
        self._layout = layout
        context = av.CodecContext.create("libopus", "w")
        context.sample_rate, context.layout, context.format, context.time_base = RATE, layout, "flt", _TIME_BASE
        context.bit_rate = self.bitrate or _BITRATE_OF_CHANNEL[self.application] * (1 if layout == "mono" else 2)
        # PyAV sets options only when it opens.
        context.options = {
            "application": self.application,
            "frame_duration": str(BLOCK * 1000 // RATE),
            "fec": str(int(self.loss > 0)),
            "packet_loss": str(self.loss),
        }
        context.open()
        self._context = context
        return context


def _level(samples: npt.NDArray[Any]) -> int:
    """Return how loud a block is, -dBov."""
    mean = float(np.square(samples).mean())
    return round(min(max(-10 * math.log10(mean), 0), QUIETEST)) if mean > 0 else QUIETEST
