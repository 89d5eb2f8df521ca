"""Sources by the names that a command line gives them."""

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media.camera import Camera
from synopticon_rtc.media.file import VideoFile
from synopticon_rtc.media.pattern import TestPattern
from synopticon_rtc.media.portrait import Portrait
from synopticon_rtc.media.source import FrameSource


def parse_source(text: str, *, size: tuple[int, int] = (1280, 720), fps: float = 30) -> FrameSource:
    """Return the source that ``text`` names.

    Args:
        text: ``0``, ``1``... or ``/dev/video0`` for a camera, ``portrait``, ``test``, or a file or URL.
        size: Width and height in pixels; a file keeps its own.
        fps: Frames a second; a file keeps its own.

    Raises:
        SourceError: There is no such file, or no such size or rate.
        MissingExtra: The source needs a package that is not installed.
    """
    if text.isdecimal():
        return Camera(int(text), size=size, fps=fps)
    if text.startswith("/dev/"):
        return Camera(text, size=size, fps=fps)
    if text == "portrait":
        return Portrait(size, fps)
    if text == "test":
        return TestPattern(size, fps)
    try:
        return VideoFile(text)
    except SourceError as error:
        raise SourceError(f"{error}, or give the number of a camera, portrait, or test") from None
