"""Video from a camera."""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media.pacing import checked_bounds, checked_fps, taken

if TYPE_CHECKING:
    import cv2

_RETRY_INTERVAL = 1.0  # seconds

log = logging.getLogger(__name__)


class Camera:
    """A camera, read through OpenCV.

    One that is unplugged while it runs is looked for every second, and goes on when it is back.

    Args:
        device: Its number, or its path, such as ``/dev/video0``.
        size: The width and height to ask it for, in pixels; it answers with the nearest that it has. None for its own.
        fps: The frame rate to ask it for. None for its own.

    Raises:
        SourceError: No such size or rate. While iterating: the camera is missing or busy, may not be used, or OpenCV
            cannot be loaded.
    """

    def __init__(
        self, device: int | str = 0, *, size: tuple[int, int] | None = (1280, 720), fps: float | None = 30
    ) -> None:
        # On Linux a number stands for a path, where there is something to look at when it cannot be opened.
        self.device = f"/dev/video{device}" if isinstance(device, int) and sys.platform == "linux" else device
        self.size = None if size is None else checked_bounds(size)
        self.fps = fps if fps is None else checked_fps(fps)

    def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        return taken(self._read)

    def _read(self, put: Callable[[av.VideoFrame], None], stop: threading.Event) -> None:
        """Put frame after frame, in the thread."""
        capture = self._open()
        try:
            while not stop.is_set():
                there, image = capture.read()
                if there:
                    put(av.VideoFrame.from_ndarray(np.asarray(image, np.uint8), format="bgr24"))
                    continue
                log.warning("camera %s gives no more frames; looking for it every second", self.device)
                while not there and not stop.wait(_RETRY_INTERVAL):
                    capture.release()
                    try:
                        capture = self._open()
                    except SourceError as error:
                        log.debug("%s", error)
                    else:
                        there = True
                        log.info("camera %s is back", self.device)
        finally:
            capture.release()

    def _open(self) -> "cv2.VideoCapture":
        """Open the camera, set it up, and make sure that frames come."""
        try:
            import cv2  # noqa: PLC0415 - it needs libGL, which machines without a camera often lack
        except ImportError as error:
            raise SourceError(
                f"OpenCV cannot be loaded, which reads the camera ({error}); "
                "on Debian and Ubuntu: apt install libgl1 libglib2.0-0"
            ) from error
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what matters is told below
        # Also where udev gave it another name, as in /dev/v4l/by-id.
        v4l2 = sys.platform == "linux" and str(self.device).startswith("/dev/")
        capture = cv2.VideoCapture(self.device, cv2.CAP_V4L2 if v4l2 else cv2.CAP_ANY)
        if v4l2:
            # Uncompressed, USB 2 carries 720p at 10 frames a second. To be asked for before the size.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        if self.size is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, self.size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self.size[1])
        if self.fps is not None:
            capture.set(cv2.CAP_PROP_FPS, self.fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if not capture.isOpened() or not capture.read()[0]:
            capture.release()
            raise SourceError(self._trouble())
        return capture

    def _trouble(self) -> str:
        """Say why there may be no frames, and what to do."""
        if isinstance(self.device, int):
            return (
                f"camera {self.device} cannot be used; check that it is plugged in, that no other program uses it, and "
                "that this one may (macOS: System Settings, Privacy & Security, Camera)"
            )
        if not Path(self.device).exists():
            others = ", ".join(sorted(map(str, Path("/dev").glob("video*"))))
            return f"there is no camera {self.device}; " + (f"there is {others}" if others else "plug one in")
        if not os.access(self.device, os.R_OK | os.W_OK):
            return f'camera {self.device} may not be used; join its group ("sudo usermod -aG video $USER"), log in anew'
        if _is_raspberry_pi():
            return (
                f"camera {self.device} gives no frames: on a Raspberry Pi, the camera at its own port needs libcamera; "
                "give the images of picamera2 as a source of your own, or use a USB camera"
            )
        return f"camera {self.device} gives no frames; check that no other program uses it (fuser {self.device})"


def _is_raspberry_pi() -> bool:
    with contextlib.suppress(OSError):
        return "Raspberry Pi" in Path("/proc/device-tree/model").read_text(encoding="utf-8", errors="replace")
    return False
