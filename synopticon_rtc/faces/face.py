"""What is known of one face."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synopticon_rtc.faces.box import Box
from synopticon_rtc.faces.groups import GROUPS, Group
from synopticon_rtc.faces.pose import Pose


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face found in one frame.

    Attributes:
        landmarks: float32 array of shape (478, 3) (468 where a page sends the mesh without irises). x and y are
            fractions of the frame's width and height, 0..1 inside the frame; z is on the scale of x, smaller is nearer.
        blendshapes: Scores 0..1 by MediaPipe's name, empty unless asked for.
        matrix: float32 array of shape (4, 4), the facial transformation matrix (canonical face to camera, centimetres,
            column vectors), or None unless asked for.
        id: The same from frame to frame for the same face, another for another: 0, 1, 2 ... in the order in which they
            came, modulo 65536. Broadcasters give it; a face that no broadcaster of this package sent has 0.
    """

    landmarks: npt.NDArray[np.float32]
    blendshapes: dict[str, float]
    matrix: npt.NDArray[np.float32] | None = None
    id: int = 0

    @property
    def box(self) -> Box:
        """The smallest upright rectangle around all landmarks."""
        x, y = self.landmarks[:, 0], self.landmarks[:, 1]  # one by one, as numpy is slow with short rows
        return Box(float(x.min()), float(y.min()), float(x.max()), float(y.max()))

    @property
    def pose(self) -> Pose | None:
        """How the head is turned, or None where there is no matrix."""
        return None if self.matrix is None else Pose.of(self.matrix)

    def group(self, name: Group) -> npt.NDArray[np.float32]:
        """Return the landmarks of a part, shape (n, 3), in the order of :data:`~synopticon_rtc.faces.GROUPS`.

        A mesh of 468 landmarks has no irises: 0 of them.
        """
        indices = GROUPS[name]
        return self.landmarks[indices[indices < len(self.landmarks)]]

    def to_pixels(self, width: int, height: int) -> npt.NDArray[np.float32]:
        """Return the landmarks in pixels of a frame of this size, shape (n, 3), z on the scale of x.

        0, 0 is the top left corner of the top left pixel, whose centre is 0.5, 0.5.
        """
        return self.landmarks * np.array([width, height, width], np.float32)
