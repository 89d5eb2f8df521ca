"""A film with the faces drawn on it."""

import contextlib
import functools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream

from synopticon_rtc.basics.life import not_open
from synopticon_rtc.errors import TableError
from synopticon_rtc.faces.draw import draw_faces
from synopticon_rtc.faces.face import Face
from synopticon_rtc.media.picture import even
from synopticon_rtc.recording.beside import written_beside
from synopticon_rtc.recording.worker import Worker

FILMS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov"}
"""Endings of the films that can be made, and what FFmpeg calls them."""

_TICKS = Fraction(1, 90_000)
_OPTIONS = {"preset": "veryfast", "crf": "20", "bf": "0"}  # frames in their order, so that parts follow one another
_PART = "nut"  # which keeps times as they are
_BT709 = 1  # ITU-T H.273


class AnnotatedVideo:
    """A part of a film, in H.264, with the faces drawn on it: an async context manager. Works in a thread.

    Args:
        path: Where it is.
        size: Width and height of its pictures, to which all are scaled.

    Raises:
        TableError: When it is entered or left, or while it is written: it cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        self._path = path
        self._size = even(size[0]), even(size[1])
        self._reformatter = VideoReformatter()
        self._worker = Worker("annotated-video")
        self._open: tuple[OutputContainer, VideoStream] | None = None

    async def __aenter__(self) -> Self:
        """Open it."""
        try:
            container = av.open(self._path, "w", format=_PART)
        except OSError as error:
            raise self._error(error) from error
        stream = container.add_stream("libx264", rate=30, options=_OPTIONS)
        stream.width, stream.height = self._size
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = _TICKS
        stream.codec_context.colorspace = _BT709
        self._open = container, stream
        return self

    async def write(self, frame: av.VideoFrame, faces: Sequence[Face]) -> None:
        """Draw the faces of the next frame on it; ``frame.time`` says when it is shown."""
        if self._open is None:
            raise not_open(self)
        try:
            await self._worker.do(functools.partial(self._encode, frame, faces))
        except OSError as error:
            raise self._error(error) from error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left, and close it."""
        try:
            await self._worker.end(self._close, self._abandon)
        except OSError as full:
            if error is None:  # else it has been said
                raise self._error(full) from full

    def _encode(self, frame: av.VideoFrame, faces: Sequence[Face]) -> None:
        assert self._open is not None  # noqa: S101 - as it was when the job was given
        container, stream = self._open
        width, height = self._size
        image = self._reformatter.reformat(frame, width, height, "bgr24").to_ndarray()
        drawn = av.VideoFrame.from_ndarray(draw_faces(np.ascontiguousarray(image, np.uint8), faces), format="bgr24")
        shown = self._reformatter.reformat(drawn, format="yuv420p", dst_colorspace=Colorspace.ITU709)
        shown.pts, shown.time_base = round((frame.time or 0.0) / _TICKS), _TICKS
        container.mux(stream.encode(shown))

    def _close(self) -> None:
        assert self._open is not None  # noqa: S101 - as it was when the job was given
        (container, stream), self._open = self._open, None
        with container:
            container.mux(stream.encode(None))

    def _abandon(self) -> None:
        if self._open is not None:
            (container, _), self._open = self._open, None
            with contextlib.suppress(av.error.FFmpegError):
                container.close()

    def _error(self, error: OSError) -> TableError:
        return TableError(f"{self._path} cannot be written: {error.strerror or error}")


def join_video(parts: Iterable[Path], path: Path) -> None:
    """Make one film of parts that follow one another, in the container that its ending names.

    Raises:
        OSError: It cannot be written; av.error.FFmpegError is one or a ValueError.
    """
    with written_beside(path) as place, av.open(place, "w", format=FILMS[path.suffix.lower()]) as target:
        film: VideoStream | None = None
        for part in parts:
            with av.open(part, format=_PART) as source:
                stream = source.streams.video[0]
                film = film or target.add_stream_from_template(stream)
                for packet in source.demux(stream):
                    if packet.size:
                        packet.dts = packet.pts  # which a part of few frames does not tell
                        packet.stream = film
                        target.mux(packet)
