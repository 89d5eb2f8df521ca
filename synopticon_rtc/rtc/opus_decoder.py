"""Decoding Opus, and making up what is lost.

FFmpeg cannot tell libopus that a packet is lost, so libopus is called itself: the one that PyAV brings, which is loaded
anyway, or else the system's. Where there is neither, FFmpeg decodes, and what is lost is the sound before, fading.
"""

import ctypes
import ctypes.util
import functools
import logging
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.audio.codeccontext import AudioCodecContext

from synopticon_rtc.rtc.opus_packet import LONGEST, RATE, duration

logger = logging.getLogger(__name__)

Samples = npt.NDArray[np.float32]
"""Samples of -1 to 1, of shape (n, channels)."""

FADE = 0.5
"""By how much the fallback is softer after each 20 ms that it makes up."""


class OpusDecoder(Protocol):
    """Decodes the packets of one source in order."""

    channels: int
    """Of what it gives, 1 or 2, whatever the packets have."""

    def decode(self, payload: bytes) -> Samples:
        """Decode a packet.

        Raises:
            ValueError: It cannot be decoded.
        """
        ...

    def recover(self, payload: bytes, count: int) -> Samples:
        """Make up ``count`` samples, a multiple of 120, before a packet, by what it holds of them, if it does.

        Raises:
            ValueError: The packet cannot be decoded.
        """
        ...

    def conceal(self, count: int) -> Samples:
        """Make up ``count`` samples, a multiple of 120, by what was before; they fade the more follow each other."""
        ...


def open_decoder(channels: int) -> OpusDecoder:
    """Return the best decoder that there is here."""
    library = find_library()
    return FadingDecoder(channels) if library is None else LibopusDecoder(library, channels)


@functools.cache
def find_library() -> ctypes.CDLL | None:
    """Find libopus; None, with a warning, where there is none that can be called."""
    for candidate in _candidates():
        try:
            return _declared(ctypes.CDLL(candidate))
        except (OSError, AttributeError) as error:
            logger.debug("%s is no libopus that can be called: %s", candidate, error)
    logger.warning("libopus is not found: lost sound is concealed in a simpler way, and what FEC could restore is lost")
    return None


def _candidates() -> Iterator[str]:
    package = Path(av.__file__).parent
    folders = (
        package.parent / "av.libs",  # of PyAV's wheels: Linux and Windows
        package / ".dylibs",  # macOS
        Path(sys.prefix, "lib"),  # conda
        Path(sys.prefix, "Library", "bin"),
    )
    for folder in folders:
        yield from (str(file) for file in sorted(folder.glob("*opus*")) if file.stem.startswith(("libopus", "opus")))
    if (name := ctypes.util.find_library("opus")) is not None:
        yield name


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """Tell ctypes the types of what is called (opus.h)."""
    library.opus_decoder_create.restype = ctypes.c_void_p
    library.opus_decoder_create.argtypes = ctypes.c_int32, ctypes.c_int, ctypes.POINTER(ctypes.c_int)
    library.opus_decoder_destroy.restype = None
    library.opus_decoder_destroy.argtypes = (ctypes.c_void_p,)
    library.opus_decode_float.restype = ctypes.c_int
    library.opus_decode_float.argtypes = (
        *(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32),
        *(ctypes.c_void_p, ctypes.c_int, ctypes.c_int),
    )
    return library


class LibopusDecoder:
    """Decodes with libopus: a tenth of a millisecond for 20 ms.

    Args:
        library: As :func:`find_library` gives it.
        channels: 1 or 2.
    """

    def __init__(self, library: ctypes.CDLL, channels: int) -> None:
        self.channels = channels
        self._decode = library.opus_decode_float
        error = ctypes.c_int()
        self._state: int | None = library.opus_decoder_create(RATE, channels, ctypes.byref(error))
        if not self._state:
            raise MemoryError(f"libopus gives no decoder (error {error.value})")
        weakref.finalize(self, library.opus_decoder_destroy, self._state)

    def decode(self, payload: bytes) -> Samples:
        """Decode a packet."""
        return self._call(payload, LONGEST, again=False)

    def recover(self, payload: bytes, count: int) -> Samples:
        """Make up samples before a packet."""
        return self._call(payload, count, again=True)

    def conceal(self, count: int) -> Samples:
        """Make up samples."""
        return self._call(None, count, again=False)

    def _call(self, payload: bytes | None, room: int, *, again: bool) -> Samples:
        samples = np.empty((room, self.channels), np.float32)
        size = 0 if payload is None else len(payload)
        count = self._decode(self._state, payload, size, samples.ctypes.data, room, again)
        if count < 0:
            raise ValueError(f"an Opus packet of {size} bytes cannot be decoded (error {count} of libopus)")
        return samples[:count]


class FadingDecoder:
    """Decodes with FFmpeg, and repeats the last sound, ever softer, for what is lost.

    Args:
        channels: 1 or 2.
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels
        codec = av.CodecContext.create("opus", "r")
        assert isinstance(codec, AudioCodecContext)  # noqa: S101 - tells the type checkers
        codec.layout = "stereo" if channels == 2 else "mono"  # noqa: PLR2004 - there are one or two
        codec.sample_rate = RATE
        self._codec = codec
        self._last: Samples = np.zeros((960, channels), np.float32)
        self._level = 0.0

    def decode(self, payload: bytes) -> Samples:
        """Decode a packet."""
        try:
            frames = self._codec.decode(av.Packet(payload))
        except av.error.FFmpegError as error:
            raise ValueError(f"an Opus packet of {len(payload)} bytes cannot be decoded: {error}") from error
        blocks = [frame.to_ndarray().astype(np.float32, copy=False).T for frame in frames]
        if sum(len(block) for block in blocks) != duration(payload):
            raise ValueError(f"an Opus packet of {len(payload)} bytes gives less sound than it says")
        samples = np.concatenate(blocks)
        self._last, self._level = samples, 1.0
        return samples

    def recover(self, payload: bytes, count: int) -> Samples:  # noqa: ARG002 - as the other has it
        """Make up samples: what the packet holds of them cannot be got at."""
        return self.conceal(count)

    def conceal(self, count: int) -> Samples:
        """Make up samples."""
        last = np.concatenate([self._last[::-1], self._last])  # back and forth, so that nothing jumps
        softer = self._level * FADE ** (count / 960)
        gains = np.linspace(self._level, softer, count, dtype=np.float32)
        self._level = softer
        return np.resize(last, (count, self.channels)) * gains[:, np.newaxis]
