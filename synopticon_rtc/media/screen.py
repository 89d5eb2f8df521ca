"""Video of what a screen shows."""

import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import ClassVar, NamedTuple

import av
import av.error
import numpy as np
from av.container import InputContainer

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media.pacing import checked_fps, taken
from synopticon_rtc.media.source import Hint

Region = tuple[int, int, int, int]

_RETRY_INTERVAL = 1.0  # seconds

log = logging.getLogger(__name__)


class Screen:
    """What a screen shows, with the pointer, read through FFmpeg: x11grab, on Windows gdigrab, on macOS avfoundation.

    One that goes away while it runs is looked for every second, and goes on when it is back.

    Args:
        display: Of X, like ``:1``, the one that ``DISPLAY`` names by default; on macOS the device, by default
            ``Capture screen 0``.
        region: Left, top, width and height of what is sent of it, in pixels; None for all.
        fps: How often to look at it in a second. What has not changed by then is not sent.

    Attributes:
        hint: That it is to be sent as a screen is.

    Raises:
        SourceError: No such region or rate. While iterating: there is no screen, it may not be looked at, or the region
            is not within it.
    """

    hint: ClassVar[Hint] = "screen"

    def __init__(self, display: str | None = None, region: Region | None = None, fps: float = 10) -> None:
        self.display = display
        self.region = None if region is None else _checked_region(region)
        self.fps = checked_fps(fps)

    def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        return taken(self._read)

    def _read(self, put: Callable[[av.VideoFrame], None], stop: threading.Event) -> None:
        """Put frame after frame, in the thread."""
        begun = lost = False
        while not stop.is_set():
            try:
                for frame in self._frames(stop):
                    if lost:
                        log.info("the screen is back")
                    begun, lost = True, False
                    put(frame)
            except SourceError as error:
                if not begun:
                    raise
                log.log(logging.DEBUG if lost else logging.WARNING, "%s; it is looked for every second", error)
                lost = True
                stop.wait(_RETRY_INTERVAL)

    def _frames(self, stop: threading.Event) -> Iterator[av.VideoFrame]:
        """Open the screen, and give a frame whenever one is due."""
        device = _DEVICES.get(sys.platform, _x11)(self.display)
        options = device.options
        if self.region is not None:
            with _opened(device, options) as container:
                stream = container.streams.video[0]
                _check_within(self.region, stream.width, stream.height)
            options = {**options, **device.part(self.region)}
        with _opened(device, options) as container:
            frames = container.decode(video=0)
            due = time.monotonic()
            while not stop.wait(max(0.0, due - time.monotonic())):
                due = max(due, time.monotonic() - 1 / self.fps) + 1 / self.fps
                try:
                    frame = next(frames)
                except (av.error.FFmpegError, OSError, StopIteration):
                    raise SourceError(f"{device.name} cannot be read any more") from None
                yield frame if self.region is None or device.cuts else _cut(frame, self.region)


class _Device(NamedTuple):
    """How FFmpeg reads a screen.

    Attributes:
        name: For people.
        format: FFmpeg's name of what reads it.
        address: Of the screen.
        options: That are always given. FFmpeg waits between frames, too, and for longer than that until the first.
        left: The option for the left side of a region, empty where FFmpeg cannot cut one out.
        top: That for its top.
        hint: What to do where the screen cannot be opened.
    """

    name: str
    format: str
    address: str
    options: Mapping[str, str]
    left: str
    top: str
    hint: str

    @property
    def cuts(self) -> bool:
        """Whether FFmpeg can give a region alone."""
        return bool(self.left)

    def part(self, region: Region) -> dict[str, str]:
        """Return the options for a region."""
        left, top, width, height = map(str, region)
        return {self.left: left, self.top: top, "video_size": f"{width}x{height}"} if self.cuts else {}


def _x11(display: str | None) -> _Device:
    environ = os.environ
    if display is None and (environ.get("WAYLAND_DISPLAY") or environ.get("XDG_SESSION_TYPE") == "wayland"):
        raise SourceError(
            "this is a Wayland session, whose screen other programs cannot read: share it from the browser, "
            "or name a display of X, such as :1, to send that"
        )
    address = display or environ.get("DISPLAY", "")
    if not address:
        raise SourceError("there is no screen here: DISPLAY is not set; name a display of X, such as :0")
    return _Device(
        f"the X display {address}",
        "x11grab",
        address,
        {"framerate": "1000"},
        "grab_x",
        "grab_y",
        "check that it is there, and that this program may use it (XAUTHORITY)",
    )


def _windows(_display: str | None) -> _Device:
    options = {"framerate": "1000"}
    hint = "check that somebody is logged in here, with a desktop"
    return _Device("the desktop", "gdigrab", "desktop", options, "offset_x", "offset_y", hint)


def _macos(display: str | None) -> _Device:
    name = display or "Capture screen 0"
    options = {"framerate": "60", "capture_cursor": "1", "pixel_format": "bgr0"}
    hint = "check that this program may (System Settings, Privacy & Security, Screen Recording)"
    return _Device(name, "avfoundation", f"{name}:none", options, "", "", hint)


_DEVICES = {"win32": _windows, "darwin": _macos}


def _opened(device: _Device, options: Mapping[str, str]) -> InputContainer:
    try:
        return av.open(device.address, format=device.format, options=dict(options))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if device.format not in av.formats_available:
            raise SourceError(f"screens cannot be read: FFmpeg was built without {device.format}") from error
        raise SourceError(f"{device.name} cannot be opened; {device.hint}") from error


def _checked_region(region: Region) -> Region:
    """Return ``region``; raises SourceError unless it is one."""
    if not isinstance(region, Sequence) or [isinstance(side, Integral) for side in region] != [True] * 4:
        raise SourceError(
            f"{region!r:.100} is no region of a screen; give left, top, width and height, as in (0, 0, 1280, 720)"
        )
    left, top, width, height = region
    if min(left, top) < 0 or min(width, height) < 2:  # noqa: PLR2004 - the smallest side in 4:2:0
        raise SourceError(
            f"no region of a screen can be {width}x{height} at {left},{top}; "
            "give left and top from 0, and a width and height of 2 or more"
        )
    return left, top, width, height


def _check_within(region: Region, width: int, height: int) -> None:
    """Refuse a region that is not on a screen of this size."""
    left, top, wide, high = region
    if left + wide > width or top + high > height:
        raise SourceError(
            f"the region of {wide}x{high} at {left},{top} is not within the screen, which is {width}x{height}; "
            "give a smaller one"
        )


def _cut(frame: av.VideoFrame, region: Region) -> av.VideoFrame:
    left, top, width, height = region
    part = frame.to_ndarray(format="bgr24")[top : top + height, left : left + width]
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(part, np.uint8), format="bgr24")
