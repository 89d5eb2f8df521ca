"""Sources by the names that a command line or a program gives them."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media.camera import Camera
from synopticon_rtc.media.file import VideoFile
from synopticon_rtc.media.images import Images
from synopticon_rtc.media.pattern import TestPattern
from synopticon_rtc.media.portrait import Portrait
from synopticon_rtc.media.source import FrameSource

Source = FrameSource | Iterable[object] | str | os.PathLike[str] | int
"""What a program may give as its source."""
SIZE = (1280, 720)
FPS = 30.0


def parse_source(
    text: str,
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    loop: bool = True,
    format: str | None = None,  # noqa: A002 - FFmpeg's and PyAV's name
    options: Mapping[str, str] | None = None,
) -> FrameSource:
    """Return the source that ``text`` names.

    Args:
        text: ``0``, ``1``... or the path of a device for a camera, ``portrait``, ``test``, a file or URL, or ``-`` for
            standard input.
        size: Width and height in pixels; a film is scaled down within them. 1280x720, and a film's own, without it.
        fps: Frames a second, of a film at the most. 30, and a film's own, without it.
        loop: Whether a film begins again at its end.
        format: FFmpeg's name of the format of a film, where it cannot be told from what is read.
        options: FFmpeg's options for a film.

    Raises:
        SourceError: There is no such file, or no such size or rate, or a format or options are given to no film.
        MissingExtra: The source needs a package that is not installed.
    """
    if (format or options) and (text.isdecimal() or text in {"portrait", "test"} or _is_device(text)):
        raise SourceError(f"{text} is no film: format and options are for one")
    if text.isdecimal():
        return Camera(int(text), size=size or SIZE, fps=fps or FPS)
    if _is_device(text):
        return Camera(text, size=size or SIZE, fps=fps or FPS)
    if text == "portrait":
        return Portrait(size or SIZE, fps or FPS)
    if text == "test":
        return TestPattern(size or SIZE, fps or FPS)
    try:
        return VideoFile(text, loop=loop, size=size, fps=fps, format=format, options=options)
    except SourceError as error:
        raise SourceError(f"{error}, or give the number of a camera, portrait, or test") from None


def _is_device(text: str) -> bool:
    """Whether a path is that of a camera, perhaps one that is not plugged in; not a film in /dev/shm, nor a pipe."""
    path = Path(text)
    if text in {"/dev/stdin", "/dev/fd/0"}:
        return False
    return path.is_char_device() or (text.startswith("/dev/") and not path.exists())


def as_source(value: Source) -> FrameSource:
    """Return what a program gives as its source as one.

    Args:
        value: A :class:`FrameSource`; a path, or what else :func:`parse_source` reads; the number of a camera; or an
            iterator of frames or images, which is then asked in a thread.

    Raises:
        SourceError: It is none of these.
    """
    if isinstance(value, str | os.PathLike):
        return parse_source(os.fspath(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return Camera(value)
    if (
        isinstance(value, type)
        or not isinstance(value, FrameSource | Iterable)
        or isinstance(value, np.ndarray | bytes)
    ):
        what = f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
        hint = "; call it, as in source()" if callable(value) else ""
        raise SourceError(f"{what} is no source of frames{hint}: give a Camera, a path, or an iterator of frames")
    return value if isinstance(value, FrameSource) else Images(value)
