"""Faces found by MediaPipe's Face Landmarker."""

import asyncio
import ctypes
import hashlib
import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from synopticon_rtc.basics import system
from synopticon_rtc.basics.life import not_open
from synopticon_rtc.errors import DetectorError, ModelError
from synopticon_rtc.faces.face import Face

logger = logging.getLogger(__name__)

if sys.stderr is None:  # closed: what is opened next, an event loop's own among it, would be stderr to native code
    with suppress(OSError):
        os.open(os.devnull, os.O_WRONLY)

LAST_SILENT = 0, 10, 31  # the last release of MediaPipe that reports nothing, and the last whose insides are known here


class FaceLandmarker:
    """Finds faces of 478 landmarks: a :class:`~synopticon_rtc.faces.Detector` and an async context manager.

    Constructing it costs nothing; entering it finds and loads the model. All work is done in one thread of its own, and
    each frame starts from the faces of the frame before. Nothing is sent anywhere, and nothing fetched but the model,
    once, where there is none (see :func:`synopticon_rtc.faces.model.find_model`).
    With a later MediaPipe than the one that this package asks for, which reports usage to its maker, it works too, and
    warns of that.
    Source: https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker

    Args:
        max_faces: How many faces to look for, at least 1.
        model: A model of one's own, instead of the one that is found or fetched.
        blendshapes: Fill in :attr:`Face.blendshapes`, 52 of them.
        matrix: Fill in :attr:`Face.matrix`, and so :attr:`Face.pose`.
        live: Whether each frame is of the moment at which it comes. Frames of a film that is looked at faster or slower
            than it plays are not: MediaPipe then goes by ``frame.time``.

    Attributes:
        name: What it is, in words for people, with its versions once it was entered.
    """

    def __init__(
        self,
        *,
        max_faces: int = 1,
        model: Path | str | None = None,
        blendshapes: bool = False,
        matrix: bool = False,
        live: bool = True,
    ) -> None:
        if max_faces < 1:
            raise ValueError(f"max_faces must be at least 1, not {max_faces}")
        self.name = "FaceLandmarker"
        self._model = model
        self._live = live
        self._options: dict[str, Any] = {
            "num_faces": max_faces,
            "output_face_blendshapes": blendshapes,
            "output_facial_transformation_matrixes": matrix,
        }
        self._open: tuple[ThreadPoolExecutor, _Landmarker] | None = None

    def another(self) -> "FaceLandmarker":
        """Make one more with the same options, for another stream: each starts from the faces of its own frames."""
        made = FaceLandmarker(model=self._model, live=self._live)
        made._options = self._options
        return made

    async def __aenter__(self) -> Self:
        """Find and load the model. Raises :class:`~synopticon_rtc.errors.ModelError` if there is none to be had."""
        path, digest = await asyncio.to_thread(_find_model, self._model)
        if self._open is not None:
            raise RuntimeError(
                "this FaceLandmarker is open already: make another one for each `async with`; "
                "a Broadcaster, or a Receiver, enters the one that it is given"
            )
        thread, landmarker = self._open = ThreadPoolExecutor(1, "face-landmarker"), _Landmarker(live=self._live)
        try:
            await asyncio.get_running_loop().run_in_executor(thread, landmarker.open, path, self._options)
            version = ".".join(map(str, landmarker.version))
            self.name = f"MediaPipe {version}, {path.name}, sha256 {digest[:16]}"
            if landmarker.version > LAST_SILENT:
                warnings.warn(
                    f"MediaPipe {version} reports usage to its maker over the network; 0.10.31 does not", stacklevel=2
                )
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the model when the thread has done what it began."""
        if self._open is None:
            return
        (thread, landmarker), self._open = self._open, None
        closed = thread.submit(landmarker.close)
        thread.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(closed))

    async def detect(self, frame: av.VideoFrame) -> tuple[Face, ...]:
        """Return the faces in ``frame``, none to ``max_faces``.

        Raises:
            DetectorError: MediaPipe failed on the frame.
            RuntimeError: It is not open.
        """
        if self._open is None:
            raise not_open(self)
        thread, landmarker = self._open
        return await asyncio.get_running_loop().run_in_executor(thread, landmarker.detect, frame)


def _find_model(path: Path | str | None) -> tuple[Path, str]:
    from synopticon_rtc.faces.model import find_model  # noqa: PLC0415  # else `python -m` of it would import it twice

    found = find_model(path)
    return found, hashlib.sha256(found.read_bytes()).hexdigest()


class _Landmarker:
    """MediaPipe's landmarker, used in one thread from ``open()`` to ``close()``."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._mediapipe: Any = None
        self._native: Any = None
        self._result: Any = None
        self.version: tuple[int, ...] = ()
        self._time = 0
        # A frame's own reformatter, which frame.to_ndarray() takes, is not safe to share with the encoder's thread.
        self._reformatter = VideoReformatter()

    def open(self, path: Path, options: dict[str, Any]) -> None:
        try:
            import mediapipe  # noqa: PLC0415  # takes its time
            from mediapipe.tasks.python import BaseOptions, vision  # noqa: PLC0415

            self.version = tuple(int(part) for part in re.findall(r"\d+", mediapipe.__version__)[:3])
            if self.version <= LAST_SILENT:
                from mediapipe.tasks.python.vision.face_landmarker import FaceLandmarkerResultC  # noqa: PLC0415

                self._result = FaceLandmarkerResultC
        except ModuleNotFoundError as error:
            raise DetectorError(
                f"no faces can be found here: {error.name} is not installed, as it has no wheel for every machine; "
                "have a receiver on another one look for them (--detect), or give a detector of your own"
            ) from error
        except (ImportError, OSError) as error:
            raise DetectorError(f"MediaPipe cannot be loaded: {error}") from error
        self._mediapipe = mediapipe
        try:
            with _native_log():
                self._native = vision.FaceLandmarker.create_from_options(
                    vision.FaceLandmarkerOptions(
                        base_options=BaseOptions(model_asset_path=str(path)),
                        running_mode=vision.RunningMode.VIDEO,
                        **options,
                    )
                )
        except (OSError, RuntimeError, ValueError) as error:
            raise ModelError(f"MediaPipe cannot load the face model {path}: {error}") from error

    def close(self) -> None:
        if self._native is not None:
            self._native.close()

    def detect(self, frame: av.VideoFrame) -> tuple[Face, ...]:
        # The smoothing over time wants true milliseconds, and MediaPipe insists that no two frames share one.
        seconds = time.monotonic() if self._live or frame.time is None else frame.time
        self._time = max(self._time + 1, int(seconds * 1000))
        try:
            # MediaPipe overlooks that PyAV pads the rows of most widths.
            rgb = np.ascontiguousarray(self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray())
            image = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=rgb)
            return self._find(image)
        except (OSError, RuntimeError, ValueError) as error:
            raise DetectorError(f"no faces can be found in a frame {frame}: {error}") from error

    def _find(self, image: Any) -> tuple[Face, ...]:  # noqa: ANN401  # mediapipe has no types
        if self._result is None:
            return _faces(self._native.detect_for_video(image, self._time))
        # As detect_for_video(), but in this thread and not in yet another, and without the 478 objects a face that it
        # makes, holding the GIL for over a millisecond.
        found, message = self._result(), ctypes.c_char_p()
        library = self._native._lib._lib  # noqa: SLF001
        status = library.MpFaceLandmarkerDetectForVideo(
            self._native._handle,  # noqa: SLF001
            image._image_ptr,  # noqa: SLF001
            None,
            self._time,
            ctypes.byref(found),
            ctypes.byref(message),
        )
        if status:
            trouble = (message.value or b"unknown").decode(errors="replace")
            library.MpErrorFree(message)
            raise RuntimeError(trouble)
        try:
            return tuple(_face(found, index) for index in range(found.face_landmarks_count))
        finally:
            library.MpFaceLandmarkerCloseResult(ctypes.byref(found))


def _face(found: Any, index: int) -> Face:  # noqa: ANN401  # mediapipe has no types
    """Copy a face out of a FaceLandmarkerResultC."""
    landmarks = found.face_landmarks[index]
    floats = ctypes.sizeof(landmarks.landmarks.contents) // ctypes.sizeof(ctypes.c_float)
    table = np.ctypeslib.as_array(
        ctypes.cast(landmarks.landmarks, ctypes.POINTER(ctypes.c_float)), (landmarks.landmarks_count, floats)
    )
    scores = {}
    if index < found.face_blendshapes_count:
        shapes = found.face_blendshapes[index]
        scores = {shape.category_name.decode(): shape.score for shape in shapes.categories[: shapes.categories_count]}
    matrix = None
    if index < found.facial_transformation_matrixes_count:
        matrix = np.ascontiguousarray(found.facial_transformation_matrixes[index].to_numpy())
    return Face(table[:, :3].copy(), scores, matrix)  # a NormalizedLandmarkC begins with its x, y and z


def _faces(found: Any) -> tuple[Face, ...]:  # noqa: ANN401  # mediapipe has no types
    """Copy the faces out of a FaceLandmarkerResult."""
    return tuple(
        Face(
            np.array([(point.x, point.y, point.z) for point in landmarks], np.float32),
            {shape.category_name: shape.score for shape in shapes or ()},
            None if matrix is None else np.ascontiguousarray(matrix, np.float32),
        )
        for landmarks, shapes, matrix in zip_longest(
            found.face_landmarks, found.face_blendshapes, found.facial_transformation_matrixes
        )
    )


_stderr = threading.Lock()


@contextmanager
def _native_log() -> Iterator[None]:
    """Pass what MediaPipe's native code writes to stderr on to our log, at debug level.

    It heeds no option or variable that would quieten it, so stderr is a file in memory meanwhile. Lines of anybody
    else's are written to stderr afterwards.
    """
    if sys.stderr is None:
        yield
        return
    with _stderr, system.scratch_file() as kept:
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            kept.seek(0)
            for line in kept:
                if re.match(rb"[IWEF]\d{4} |INFO: |WARNING: (All log messages|Logging) before ", line):
                    logger.debug("%s", line.decode(errors="replace").rstrip())
                else:
                    os.write(2, line)
