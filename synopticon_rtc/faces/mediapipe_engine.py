"""MediaPipe's Face Landmarker, which finds faces."""

import ctypes
import re
import warnings
from itertools import zip_longest
from pathlib import Path
from typing import Any

import av
import mediapipe
import numpy as np
from av.video.reformatter import VideoReformatter
from mediapipe.tasks.python import BaseOptions, vision

from synopticon_rtc.errors import ModelError
from synopticon_rtc.faces.engine import Options
from synopticon_rtc.faces.face import Face

LAST_SILENT = 0, 10, 31  # the last release of MediaPipe that reports nothing, and the last whose insides are known here


class MediaPipeEngine:
    """An :class:`~synopticon_rtc.faces.engine.Engine`.

    Source: https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker

    Args:
        path: Of the bundle with the models.
        options: What to find.

    Raises:
        ModelError: MediaPipe can make nothing of the bundle.
    """

    def __init__(self, path: Path, options: Options) -> None:
        version = tuple(int(part) for part in re.findall(r"\d+", mediapipe.__version__)[:3])
        self.name = f"MediaPipe {'.'.join(map(str, version))}"
        self._result: Any = None
        if version <= LAST_SILENT:
            from mediapipe.tasks.python.vision.face_landmarker import FaceLandmarkerResultC  # noqa: PLC0415

            self._result = FaceLandmarkerResultC
        else:
            warnings.warn(f"{self.name} reports usage to its maker over the network; 0.10.31 does not", stacklevel=2)
        # A frame's own reformatter, which frame.to_ndarray() takes, is not safe to share with the encoder's thread.
        self._reformatter = VideoReformatter()
        try:
            self._native: Any = vision.FaceLandmarker.create_from_options(
                vision.FaceLandmarkerOptions(
                    base_options=BaseOptions(model_asset_path=str(path)),
                    running_mode=vision.RunningMode.VIDEO,
                    num_faces=options.max_faces,
                    output_face_blendshapes=options.blendshapes,
                    output_facial_transformation_matrixes=options.matrix,
                )
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise ModelError(f"MediaPipe cannot load the face model {path}: {error}") from error

    def close(self) -> None:
        """Let go of the models."""
        self._native.close()

    def detect(self, frame: av.VideoFrame, milliseconds: int) -> tuple[Face, ...]:
        """Return the faces in a frame. Raises what MediaPipe raises."""
        # MediaPipe overlooks that PyAV pads the rows of most widths.
        rgb = np.ascontiguousarray(self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray())
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=rgb)
        if self._result is None:
            return _faces(self._native.detect_for_video(image, milliseconds))
        # As detect_for_video(), but in this thread and not in yet another, and without the 478 objects a face that it
        # makes, holding the GIL for over a millisecond.
        found, message = self._result(), ctypes.c_char_p()
        library = self._native._lib._lib  # noqa: SLF001
        status = library.MpFaceLandmarkerDetectForVideo(
            self._native._handle,  # noqa: SLF001
            image._image_ptr,  # noqa: SLF001
            None,
            milliseconds,
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
