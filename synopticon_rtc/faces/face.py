"""What is known of one face."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face found in one frame.

    Attributes:
        landmarks: float32 array of shape (478, 3) (468 where a page sends the mesh without irises). x and y are
            fractions of the frame's width and height, 0..1 inside the frame; z is on the scale of x, smaller is nearer.
        blendshapes: Scores 0..1 by MediaPipe's name, empty unless asked for.
        matrix: float32 array of shape (4, 4), the facial transformation matrix (canonical face to camera, centimetres,
            column vectors), or None unless asked for.
    """

    landmarks: npt.NDArray[np.float32]
    blendshapes: dict[str, float]
    matrix: npt.NDArray[np.float32] | None = None
