"""Faces: found in frames, followed, described, drawn."""

from synopticon_rtc.faces.box import Box
from synopticon_rtc.faces.detector import Detector
from synopticon_rtc.faces.draw import draw_faces
from synopticon_rtc.faces.face import Face
from synopticon_rtc.faces.groups import GROUPS, Group
from synopticon_rtc.faces.landmarker import FaceLandmarker
from synopticon_rtc.faces.pose import Pose
from synopticon_rtc.faces.smoothing import OneEuro, Smoothed
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
from synopticon_rtc.faces.tracking import Tracker

__all__ = [
    "CONTOURS",
    "FACE_OVAL",
    "GROUPS",
    "LEFT_EYE",
    "LEFT_EYEBROW",
    "LEFT_IRIS",
    "LIPS",
    "RIGHT_EYE",
    "RIGHT_EYEBROW",
    "RIGHT_IRIS",
    "TESSELATION",
    "Box",
    "Detector",
    "Face",
    "FaceLandmarker",
    "Group",
    "OneEuro",
    "Pose",
    "Smoothed",
    "Tracker",
    "draw_faces",
]
