"""FFmpeg's encoders of each codec: which there are, how each is set up, and whether one can be used here."""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal, cast, get_args

import av
import av.error
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from synopticon_rtc.media.picture import TIME_BASE
from synopticon_rtc.media.source import Hint

Codec = Literal["vp8", "h264"]

OWN: dict[Codec, str] = {"vp8": "libvpx", "h264": "libx264"}
"""The encoder of each codec that runs on every machine."""
FOLLOWS = {"libx264", "h264_nvenc"}
"""Encoders whose bit rate can be changed while they run, below that with which they were opened."""
HELD = 8
"""Pictures that an encoder may keep back before the first comes out."""
_LONGEST_KEYFRAME_INTERVAL = 3000  # frames; all but these are asked for
_SCREEN_QUANTIZER = 48  # of VP8, 0 to 63: text of 20 pixels keeps its edges, and a page of it 36 dB
_PARAMETER_SET = re.compile(rb"\x00\x00\x01[\x07\x27\x47\x67]")  # a sequence parameter set (H.264, 7.3.1) in Annex B
# Each picture comes out at once, and a keyframe where one is asked for.
_HARDWARE = {
    "h264_nvenc": {
        "preset": "p4",
        "tune": "ull",
        "zerolatency": "1",
        "delay": "0",
        "rc": "cbr",
        "forced-idr": "1",
        "profile": "baseline",
    },
    "h264_qsv": {"preset": "veryfast", "async_depth": "1", "look_ahead": "0", "forced_idr": "1", "profile": "baseline"},
    "h264_videotoolbox": {"realtime": "1", "prio_speed": "1", "profile": "constrained_baseline"},
}


def check_codec(codec: str) -> None:
    """Raise ValueError for a codec that there is not."""
    if codec not in get_args(Codec):
        raise ValueError(f"no such codec: {codec!r}; there are {', '.join(OWN)}")


def codec_of(encoder: str, codecs: Sequence[Codec]) -> Codec:
    """Return the codec, one of these, that an encoder of FFmpeg's encodes to.

    Raises:
        ValueError: There is no such encoder.
    """
    codec = _encoded_by(encoder) if isinstance(encoder, str) else ""
    for offered in codecs:
        if offered == codec:
            return offered
    others = [name for name in sorted(av.codecs_available) if _encoded_by(name) in codecs and name not in codecs]
    raise ValueError(f"no such encoder of {' or '.join(codecs)}: {encoder!r:.100}; this FFmpeg has {', '.join(others)}")


def _encoded_by(encoder: str) -> str:
    try:
        return str(av.Codec(encoder, "w").canonical_name)
    except ValueError:  # there is none
        return ""


def why_not(encoder: str, codec: Codec, width: int, height: int, *, bitrate: int, fps: Fraction) -> str:
    """Try an encoder on a few pictures; return in words why it cannot be used, nothing if it can.

    Args:
        encoder: FFmpeg's name of it.
        codec: What it encodes to.
        width: Of the pictures, pixels, even.
        height: Likewise.
        bitrate: bit/s.
        fps: Frames a second.
    """
    grey = np.full((height * 3 // 2, width), 128, np.uint8)
    packets = []
    try:
        context = opened(codec, width, height, encoder=encoder, bitrate=bitrate, fps=fps, threads=1)
        for number in range(2 * HELD):
            frame = av.VideoFrame.from_ndarray(grey, format="yuv420p").reformat(format=context.pix_fmt)
            frame.pts, frame.time_base = int(number / fps / TIME_BASE), TIME_BASE
            frame.pict_type = PictureType.I if number in (0, HELD) else PictureType.NONE
            packets += context.encode(frame)
    except av.error.FFmpegError as error:
        return str(error.strerror)
    keyframes = [bytes(packet) for packet in packets if packet.is_keyframe]
    if len(packets) <= HELD:
        return f"it keeps more than {HELD} pictures back"
    if len(keyframes) < 2:  # noqa: PLR2004 - the first, and that which was asked for
        return "it makes no keyframe when one is asked for"
    if codec == "h264" and not all(map(_PARAMETER_SET.search, keyframes)):
        return "its keyframes cannot be decoded by those who join later"
    return ""


def opened(
    codec: Codec,
    width: int,
    height: int,
    changed: Mapping[str, str] | None = None,
    *,
    encoder: str = "",
    hint: Hint = "camera",
    bitrate: int,
    fps: Fraction,
    threads: int,
) -> VideoCodecContext:
    """Open FFmpeg's encoder as this package sets it up, but for what is ``changed`` of its options.

    Args:
        codec: What it encodes to.
        width: Of the pictures, pixels.
        height: Likewise.
        changed: Options that are not as they would be.
        encoder: FFmpeg's name of the encoder, where it is not this package's own choice.
        hint: What the pictures show.
        bitrate: bit/s.
        fps: The frame rate for which it plans.
        threads: How many it may use.

    Raises:
        FFmpegError: It cannot be opened, for lack of a device as it may be.
    """
    encoder = encoder or OWN[codec]
    context = cast("VideoCodecContext", av.CodecContext.create(encoder, "w"))
    context.width, context.height, context.pix_fmt = width, height, _pixels(context.codec)
    context.time_base, context.framerate = TIME_BASE, fps
    context.bit_rate = bitrate
    context.gop_size = _LONGEST_KEYFRAME_INTERVAL
    context.thread_count = threads
    if encoder == "libvpx":
        context.qmin, context.qmax = (_SCREEN_QUANTIZER,) * 2 if hint == "screen" else (2, 56)
    own = encoder == OWN[codec]
    context.options = (_options(codec, bitrate, hint) if own else _others(encoder, bitrate)) | dict(changed or {})
    context.open()
    return context


def _options(codec: Codec, bitrate: int, hint: Hint) -> dict[str, str]:
    """Return the options for FFmpeg's encoder; ``benchmarks/encoding.py`` holds them against others."""
    rate = str(bitrate)
    if codec == "vp8":
        return {
            "deadline": "realtime",
            # Up to two fifths less time than -6, for at most 0.8 dB; beyond it quality falls off. Letters come again
            # on the next page: looking for them takes three times as long, and a fifth less is to be sent.
            "cpu-used": "-3" if hint == "screen" else "-14",
            "noise-sensitivity": "0",
            "static-thresh": "0",
            "error-resilient": "default",
            "lag-in-frames": "0",
            "keyint_min": str(_LONGEST_KEYFRAME_INTERVAL),  # no keyframe at a cut of its own accord
            "minrate": rate,  # minrate = maxrate = bit_rate is constant bitrate,
            "maxrate": rate,
            "bufsize": rate,  # over one second
            "overshoot-pct": "15",
            "undershoot-pct": "100",
        }
    shared = {
        "preset": "superfast",
        "aq-mode": "none",
        "tune": "zerolatency",
        "profile": "baseline",
        "forced-idr": "1",
        "sc_threshold": "0",  # no keyframe at a cut of its own accord
    }
    if hint == "screen":
        return shared | {
            "qp": "37",  # a page of text has the same 36 dB
            "x264-params": "ipratio=1",  # also in a keyframe
            "partitions": "all",  # letters are small
            "subq": "4",
        }
    return shared | {
        "subq": "0",  # these two and aq-mode: a third faster, for 1.8 dB of a clean picture and none of a noisy one
        "partitions": "none",
        "maxrate": rate,  # opened so, the bitrate can be changed while it runs
        "bufsize": str(bitrate // 2),
    }


def _pixels(codec: av.Codec) -> str:
    """Return in which format an encoder takes pictures."""
    formats = [each.name for each in codec.video_formats or ()]
    return "nv12" if "nv12" in formats and "yuv420p" not in formats else "yuv420p"


def _others(encoder: str, bitrate: int) -> dict[str, str]:
    """Return the options for an encoder that is not this package's own choice: a constant bit rate, and no delay."""
    rate = str(bitrate)
    return {"bf": "0", "maxrate": rate, "bufsize": rate} | _HARDWARE.get(encoder, {})
