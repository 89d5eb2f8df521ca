"""Where frames and sound come from, and the encoders that all receivers share."""

from synopticon_rtc.media.camera import Camera
from synopticon_rtc.media.codecs import Codec
from synopticon_rtc.media.encoder import SharedEncoder
from synopticon_rtc.media.file import VideoFile
from synopticon_rtc.media.images import frames_of
from synopticon_rtc.media.opus import OpusEncoder, OpusPacket
from synopticon_rtc.media.parse import Source, as_source, parse_source
from synopticon_rtc.media.pattern import TestPattern
from synopticon_rtc.media.picture import Converter, Picture
from synopticon_rtc.media.portrait import Portrait
from synopticon_rtc.media.screen import Screen
from synopticon_rtc.media.sound import AnySound, Microphone, Sound, SoundSource, Tone, as_sound, blocks_of, parse_sound
from synopticon_rtc.media.source import FrameSource, Hint, hint_of

__all__ = [
    "AnySound",
    "Camera",
    "Codec",
    "Converter",
    "FrameSource",
    "Hint",
    "Microphone",
    "OpusEncoder",
    "OpusPacket",
    "Picture",
    "Portrait",
    "Screen",
    "SharedEncoder",
    "Sound",
    "SoundSource",
    "Source",
    "TestPattern",
    "Tone",
    "VideoFile",
    "as_sound",
    "as_source",
    "blocks_of",
    "frames_of",
    "hint_of",
    "parse_sound",
    "parse_source",
]
