"""Video from a file or a URL."""

import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.video.frame import PictureType

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media.pacing import taken

_TIMEOUT = 10.0  # seconds that a server may be silent
_LONGEST_STEP = 10.0  # seconds between two frames; more is a fault in the timestamps
_DEFAULT_RATE = 30


class VideoFile:
    """A file or a URL in any format that FFmpeg reads, played in real time by its own timestamps.

    Args:
        path_or_url: A path, or an address such as ``https://...`` or ``rtsp://...``.
        loop: Whether to begin again at the end, without a gap.

    Raises:
        SourceError: There is no such file. While iterating: it is no video, has no video stream, cannot be reached, or
            breaks off.
    """

    def __init__(self, path_or_url: str | os.PathLike[str], *, loop: bool = True) -> None:
        self.loop = loop
        self._address = os.fspath(path_or_url)
        self._name = re.sub(r"://[^/@]*@", "://", self._address)  # without user and password
        if "://" not in self._address and not Path(self._address).exists():
            raise SourceError(f"there is no file {self._name}; check the path")

    def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        return taken(self._play)

    def _play(self, put: Callable[[av.VideoFrame], None], stop: threading.Event) -> None:
        start = time.monotonic()
        due = 0.0  # seconds after the start
        while True:
            previous: float | None = None
            with self._open() as container:
                stream = container.streams.video[0]
                interval = float(1 / (stream.average_rate or _DEFAULT_RATE))
                try:
                    for frame in container.decode(stream):
                        if previous is not None:
                            step = interval if frame.time is None else frame.time - previous
                            due += step if 0 < step < _LONGEST_STEP else interval
                        previous = frame.time if frame.time is not None else (previous or 0.0) + interval
                        if stop.wait(max(0.0, start + due - time.monotonic())):
                            return
                        frame.pict_type = PictureType.NONE  # an encoder would take it for an order
                        put(frame)
                except av.error.FFmpegError as error:
                    raise SourceError(f"{self._name} breaks off after {due:.1f} s: {error.strerror}") from error
            if previous is None:
                raise SourceError(f"there is not one picture in {self._name}; try another file")
            due += interval
            if not self.loop:
                return

    def _open(self) -> InputContainer:
        try:
            container = av.open(self._address, timeout=_TIMEOUT)
        except av.error.InvalidDataError as error:
            raise SourceError(f"{self._name} is no video that FFmpeg can read; try another file") from error
        except OSError as error:
            raise SourceError(f"cannot open {self._name}: {error.strerror}; check the path or the address") from error
        trouble = None
        if container.format.name == "tty":  # FFmpeg draws any text
            trouble = "is no video that FFmpeg can read"
        elif not container.streams.video:
            trouble = "has no video stream"
        if trouble is not None:
            container.close()
            raise SourceError(f"{self._name} {trouble}; try another file")
        return container
