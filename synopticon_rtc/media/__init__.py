"""Where frames come from, and the encoder that all receivers share."""

from synopticon_rtc.media.camera import Camera
from synopticon_rtc.media.encoder import Codec, SharedEncoder
from synopticon_rtc.media.file import VideoFile
from synopticon_rtc.media.images import frames_of
from synopticon_rtc.media.parse import Source, as_source, parse_source
from synopticon_rtc.media.pattern import TestPattern
from synopticon_rtc.media.picture import Converter, Picture
from synopticon_rtc.media.portrait import Portrait
from synopticon_rtc.media.screen import Screen
from synopticon_rtc.media.source import FrameSource, Hint, hint_of

__all__ = [
    "Camera",
    "Codec",
    "Converter",
    "FrameSource",
    "Hint",
    "Picture",
    "Portrait",
    "Screen",
    "SharedEncoder",
    "Source",
    "TestPattern",
    "VideoFile",
    "as_source",
    "frames_of",
    "hint_of",
    "parse_source",
]
