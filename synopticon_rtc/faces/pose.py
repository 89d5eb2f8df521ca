"""How a head is turned."""

import math
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt


class Pose(NamedTuple):
    """Three turns of a head in degrees, all of them 0 where it is upright and looks along the camera's axis.

    The axes are those of MediaPipe's facial transformation matrix: x to the right of the picture, y up in it, z out of
    it, towards the camera. Each turn is right-handed about its axis, and a head that is turned by all three is turned
    by ``Ry(yaw) @ Rx(pitch) @ Rz(roll)``: it turns, then nods, then tilts, each about its own axis as it then is.
    docs/faces.md has a figure.

    Attributes:
        yaw: About y, -180 to 180: positive turns to the person's left, the nose to the right of the picture.
        pitch: About x, -90 to 90: positive looks down.
        roll: About z, -180 to 180: positive tilts to the person's right shoulder, counterclockwise in the picture.
    """

    yaw: float
    pitch: float
    roll: float

    @classmethod
    def of(cls, matrix: npt.NDArray[np.floating]) -> Self:
        """Read the turns of a matrix of shape (4, 4) or (3, 3), of any scale.

        Near a pitch of 90 degrees, up or down, yaw and roll are about the same axis and cannot be told apart.
        """
        turned = matrix.tolist()
        yaw = math.atan2(turned[0][2], turned[2][2])
        pitch = math.atan2(-turned[1][2], math.hypot(turned[0][2], turned[2][2]))
        roll = math.atan2(turned[1][0], turned[1][1])
        return cls(math.degrees(yaw), math.degrees(pitch), math.degrees(roll))
