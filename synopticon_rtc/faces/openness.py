"""How far eyes and mouth are open, by landmarks alone."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.floating]


class _Opening(NamedTuple):
    """An opening in the face.

    Attributes:
        corners: The landmarks at its ends.
        gaps: Pairs of landmarks that face each other, one on the upper rim and one on the lower.
    """

    corners: tuple[int, int]
    gaps: tuple[tuple[int, int], ...]


_LEFT_EYE = _Opening((362, 263), ((385, 380), (387, 373)))
_RIGHT_EYE = _Opening((33, 133), ((160, 144), (158, 153)))
_MOUTH = _Opening((78, 308), ((81, 178), (13, 14), (311, 402)))


class Openness(NamedTuple):
    """How far eyes and mouth of faces are open. Left and right are the face's own.

    Each is the mean height of an opening by its width, as it is seen in the picture, so it depends neither on the size
    of the face nor on its roll; a head that is turned or nods changes it. It is not a number where the width is 0.

    Attributes:
        left_eye: The eye aspect ratio (EAR) of Soukupova and Cech: Real-Time Eye Blink Detection using Facial
            Landmarks, Computer Vision Winter Workshop 2016, equation 1: two gaps between the lids, over the distance
            of the corners. About 0.3 for an open eye, 0.1 and less for a closed one.
        right_eye: The same of the other eye.
        mouth: The mouth aspect ratio (MAR), made likewise: three gaps between the inner rims of the lips, over the
            distance of their corners. 0 where the lips touch, about 1 for a yawn.
    """

    left_eye: _Floats
    right_eye: _Floats
    mouth: _Floats


def openness(landmarks: npt.NDArray[np.float32], sizes: _Floats) -> Openness:
    """Measure faces.

    Args:
        landmarks: Shape (n, 478, 3) or (n, 468, 3).
        sizes: Width and height of the frame of each, in pixels or in any other unit; shape (n, 2).
    """
    scale = sizes[:, None, :]
    return Openness(*(_ratio(landmarks, scale, opening) for opening in (_LEFT_EYE, _RIGHT_EYE, _MOUTH)))


def _ratio(landmarks: npt.NDArray[np.float32], scale: _Floats, opening: _Opening) -> _Floats:
    points = landmarks[:, np.ravel([opening.corners, *opening.gaps]), :2] * scale  # few of all that a face has
    (start, end), upper, lower = points[:, :2].swapaxes(0, 1), points[:, 2::2], points[:, 3::2]
    heights = np.linalg.norm(upper - lower, axis=2).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a peer may send any landmarks
        ratio: _Floats = heights / np.linalg.norm(start - end, axis=1)
    return np.where(np.isfinite(ratio), ratio, np.nan)
