"""Opus packets, real ones and such as only look like it."""

import functools

import av
import numpy as np
import numpy.typing as npt
from av.audio.codeccontext import AudioCodecContext

from synopticon_rtc.rtc.opus_packet import RATE

COUNT = 960
"""Samples of a packet, 20 ms."""
LOOK_AHEAD = 312
"""Samples by which what comes out of a decoder is later than what went into the encoder."""
CELT = 31 << 3
"""Begins a packet of one frame of 20 ms, mono, which repeats nothing."""
SILK = 9 << 3
REPEATING = bytes([SILK, 0b0100_0000])
"""Begins one that holds the one before once more."""


def packet(number: int, *, repeats: bool = False) -> bytes:
    """Return what looks like a packet, and tells which it is."""
    return (REPEATING if repeats else bytes([CELT, 0])) + number.to_bytes(4, "big")


def voice(seconds: float) -> npt.NDArray[np.float32]:
    """Return something like a voice: a hum whose pitch and loudness change all the time."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 2 * np.pi * 300 * time + 12 * np.sin(2 * np.pi * 5 * time)
    hum = np.sin(pitch) + np.sin(2 * pitch) / 2 + np.sin(3 * pitch) / 3
    samples: npt.NDArray[np.float32] = (0.2 * hum * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))).astype(np.float32)
    return samples


@functools.cache
def encoded_voice(seconds: float, channels: int = 1) -> list[bytes]:
    """Encode it in packets of 20 ms, each with the one before once more."""
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = RATE, "stereo" if channels == 2 else "mono", "flt"
    encoder.bit_rate = 32_000 * channels
    encoder.options = {"application": "voip", "fec": "1", "packet_loss": "20", "frame_duration": "20"}
    samples, packets = voice(seconds), []
    for at in range(0, len(samples), COUNT):
        block = np.repeat(samples[np.newaxis, at : at + COUNT], channels, axis=0)
        frame = av.AudioFrame.from_ndarray(block.T.reshape(1, -1), format="flt", layout=encoder.layout.name)
        frame.sample_rate, frame.pts = RATE, at
        packets += [bytes(one) for one in encoder.encode(frame)]
    return packets
