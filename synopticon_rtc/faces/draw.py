"""Faces drawn on an image, as the viewer draws them."""

from collections.abc import Iterable
from itertools import chain
from typing import Literal

import numpy as np
import numpy.typing as npt

from synopticon_rtc.faces.face import Face
from synopticon_rtc.faces.topology import CONTOURS, LEFT_IRIS, RIGHT_IRIS, TESSELATION, Connections

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.int32]
Colour = tuple[int, int, int]  # blue, green, red

MESH = (255, 244, 205)
CONTOUR = (255, 248, 214)
IRIS = (92, 196, 255)
SHADE = (32, 22, 0)  # under the lines, so that they show on light skin too
MESH_OPACITY = 0.34
SHADE_OPACITY = 0.42
IRISES = [sorted({*chain(*iris)}) for iris in (LEFT_IRIS, RIGHT_IRIS)]  # np.unique would have all of numpy.ma loaded
FIRST_IRIS = 468
SHIFT = 4  # binary places of the fixed-point coordinates that OpenCV draws with
ONE = 1 << SHIFT
MARGIN = 5  # more than half the thickest line


def draw_faces(
    image: Image, faces: Iterable[Face], *, style: Literal["contours", "points", "mesh"] = "contours"
) -> Image:
    """Draw faces on an image and return it.

    Args:
        image: uint8 array of shape (height, width, 3) in BGR, drawn on in place.
        faces: Faces found in this image in any size of it. Those of 468 landmarks are drawn without irises.
        style: "contours" draws lips, eyes, irises, brows and oval, "mesh" the edges of all triangles too, "points" the
            landmarks alone.
    """
    height, width = image.shape[:2]
    for face in faces:
        # A peer may send anything: far outside is far enough. Pixels are squares, OpenCV's coordinates their centres.
        landmarks = np.clip(np.nan_to_num(face.landmarks[:, :2]), -1, 2) * (width, height) - 0.5
        left, top = np.clip(landmarks.min(axis=0).astype(int) - MARGIN, 0, (width, height))
        right, bottom = np.clip(landmarks.max(axis=0).astype(int) + MARGIN + 1, 0, (width, height))
        area = image[top:bottom, left:right]
        if area.size == 0:
            continue
        points = np.rint((landmarks - (left, top)) * ONE).astype(np.int32)
        unit = float(np.clip(np.ptp(landmarks[:, 1]) / 280, 0.6, 1.6))
        if style == "points":
            _draw_points(area, points, unit)
        else:
            _draw_lines(area, points, unit, mesh=style == "mesh")
    return image


def _draw_lines(area: Image, points: Points, unit: float, *, mesh: bool) -> None:
    has_irises = len(points) > FIRST_IRIS
    if mesh:
        layer = area.copy()
        _stroke(layer, points, TESSELATION, MESH, 1)
        _blend(area, layer, MESH_OPACITY)
    layer = area.copy()
    _stroke(layer, points, CONTOURS, SHADE, round(3.4 * unit))
    if has_irises:
        _ring(layer, points, SHADE, round(3.4 * unit))
    _blend(area, layer, SHADE_OPACITY)
    _stroke(area, points, CONTOURS, CONTOUR, round(1.5 * unit))
    if has_irises:
        _ring(area, points, IRIS, round(1.7 * unit))


def _draw_points(area: Image, points: Points, unit: float) -> None:
    layer = area.copy()
    _dot(layer, points, SHADE, 1.9 * unit)
    _blend(area, layer, SHADE_OPACITY)
    _dot(area, points[:FIRST_IRIS], CONTOUR, 1.15 * unit)
    _dot(area, points[FIRST_IRIS:], IRIS, 1.5 * unit)


def _stroke(image: Image, points: Points, lines: Connections, colour: Colour, thickness: int) -> None:
    import cv2  # noqa: PLC0415  # its wheel needs libGL, which servers lack

    cv2.polylines(
        image, list(points[lines]), isClosed=False, color=colour, thickness=thickness, lineType=cv2.LINE_AA, shift=SHIFT
    )


def _ring(image: Image, points: Points, colour: Colour, thickness: int) -> None:
    """Draw the circles through the points of the irises."""
    import cv2  # noqa: PLC0415  # as above

    for iris in IRISES:
        x, y = points[iris].mean(axis=0)
        radius = np.hypot(*(points[iris] - (x, y)).T).mean()
        cv2.circle(image, (round(x), round(y)), round(radius), colour, thickness, cv2.LINE_AA, SHIFT)


def _dot(image: Image, points: Points, colour: Colour, radius: float) -> None:
    import cv2  # noqa: PLC0415  # as above

    for x, y in points.tolist():
        cv2.circle(image, (x, y), round(radius * ONE), colour, thickness=cv2.FILLED, lineType=cv2.LINE_AA, shift=SHIFT)


def _blend(area: Image, layer: Image, opacity: float) -> None:
    import cv2  # noqa: PLC0415  # as above

    cv2.addWeighted(layer, opacity, area, 1 - opacity, 0, dst=area)
