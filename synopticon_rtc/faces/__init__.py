"""Faces: found in frames, described, drawn."""

from synopticon_rtc.faces.detector import Detector
from synopticon_rtc.faces.draw import draw_faces
from synopticon_rtc.faces.face import Face
from synopticon_rtc.faces.landmarker import FaceLandmarker
from synopticon_rtc.faces.topology import (
    CONTOURS,
    FACE_OVAL,
    LEFT_EYE,
    LEFT_EYEBROW,
    LEFT_IRIS,
    LIPS,
    RIGHT_EYE,
    RIGHT_EYEBROW,
    RIGHT_IRIS,
    TESSELATION,
)

__all__ = [
    "CONTOURS",
    "FACE_OVAL",
    "LEFT_EYE",
    "LEFT_EYEBROW",
    "LEFT_IRIS",
    "LIPS",
    "RIGHT_EYE",
    "RIGHT_EYEBROW",
    "RIGHT_IRIS",
    "TESSELATION",
    "Detector",
    "Face",
    "FaceLandmarker",
    "draw_faces",
]
