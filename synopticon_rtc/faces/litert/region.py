"""Where in a picture a model looks."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from synopticon_rtc.faces.box import Box

SIMILAR = 0.5
"""Regions that share more than this, intersection over union, show the same face."""

_EXPANDED = 1.5


class Region(NamedTuple):
    """A rectangle that may be turned, in pixels of its picture.

    Attributes:
        x: Of its middle, from the left edge of the picture.
        y: Of its middle, from the top edge.
        width: Along its own x axis.
        height: Along its own y axis.
        angle: By which its axes are turned, in radians, clockwise in the picture.
    """

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0

    @classmethod
    def whole(cls, width: int, height: int) -> Self:
        """Return the square around the middle of a picture that has all of it inside."""
        side = max(width, height)
        return cls(width / 2, height / 2, side, side)

    @classmethod
    def around(cls, box: Box, right_eye: Sequence[float], left_eye: Sequence[float]) -> Self:
        """Return the region of a face: half as large again as its box, and turned as its eyes are.

        Args:
            box: In pixels.
            right_eye: x and y of a point of the person's right eye, which is the left one in the picture.
            left_eye: Of one of the other eye.
        """
        width, height = _EXPANDED * (box.right - box.left), _EXPANDED * (box.bottom - box.top)
        angle = math.atan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0])
        return cls((box.left + box.right) / 2, (box.top + box.bottom) / 2, width, height, angle)

    def squared(self) -> "Region":
        """Return the square with the longer of both sides about the same middle."""
        side = max(self.width, self.height)
        return self._replace(width=side, height=side)

    def scaled(self, across: float, down: float) -> "Region":
        """Return the same region of the picture once that is so many times as wide and as high."""
        return Region(self.x * across, self.y * down, self.width * across, self.height * down, self.angle)

    @property
    def sound(self) -> bool:
        """Whether there is anything in it: what a model makes of noise may be no rectangle at all."""
        return all(map(math.isfinite, self)) and self.width > 0 and self.height > 0

    @property
    def to_picture(self) -> npt.NDArray[np.float64]:
        """The affine transformation from fractions of the region to pixels of the picture, shape (2, 3)."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        a, b, c, d = self.width * cos, -self.height * sin, self.width * sin, self.height * cos
        return np.array([[a, b, self.x - (a + b) / 2], [c, d, self.y - (c + d) / 2]])

    def placed(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Return points, in fractions of the region, in pixels of the picture, shape (n, 2)."""
        matrix = self.to_picture
        placed: npt.NDArray[np.floating] = points @ matrix[:, :2].T + matrix[:, 2]
        return placed

    def overlap(self, other: "Region") -> float:
        """Return the intersection over union with another one, both taken for upright."""
        across = min(self.x + self.width / 2, other.x + other.width / 2) - max(
            self.x - self.width / 2, other.x - other.width / 2
        )
        down = min(self.y + self.height / 2, other.y + other.height / 2) - max(
            self.y - self.height / 2, other.y - other.height / 2
        )
        shared = max(0.0, across) * max(0.0, down)
        union = self.width * self.height + other.width * other.height - shared
        return shared / union if union > 0 else 0.0


def joined(followed: Sequence[Region], detected: Sequence[Region]) -> list[Region]:
    """Return all regions, each face once: of those that are similar the one that comes last, which is newest."""
    regions: list[Region] = []
    for region in (*followed, *detected):
        regions = [other for other in regions if region.overlap(other) <= SIMILAR]
        regions.append(region)
    return regions
