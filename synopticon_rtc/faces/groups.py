"""The parts of a face by name."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from synopticon_rtc.faces.topology import (
    FACE_OVAL,
    LEFT_EYE,
    LEFT_EYEBROW,
    LEFT_IRIS,
    LIPS,
    RIGHT_EYE,
    RIGHT_EYEBROW,
    RIGHT_IRIS,
    Connections,
)

Group = Literal[
    "lips", "left_eye", "right_eye", "left_eyebrow", "right_eyebrow", "left_iris", "right_iris", "face_oval"
]


def _landmarks(lines: Connections) -> npt.NDArray[np.intp]:
    landmarks = np.array(list(dict.fromkeys(lines.ravel().tolist())), np.intp)
    landmarks.setflags(write=False)
    return landmarks


GROUPS: dict[Group, npt.NDArray[np.intp]] = {
    "lips": _landmarks(LIPS),
    "left_eye": _landmarks(LEFT_EYE),
    "right_eye": _landmarks(RIGHT_EYE),
    "left_eyebrow": _landmarks(LEFT_EYEBROW),
    "right_eyebrow": _landmarks(RIGHT_EYEBROW),
    "left_iris": _landmarks(LEFT_IRIS),
    "right_iris": _landmarks(RIGHT_IRIS),
    "face_oval": _landmarks(FACE_OVAL),
}
"""Indices into ``Face.landmarks``, each once, in the order of MediaPipe's lines. Left and right are the face's own."""
