"""How a head is turned and how far away it is: the facial transformation matrix."""

import math
from typing import NamedTuple, Self, cast

import numpy as np
import numpy.typing as npt

from synopticon_rtc.errors import ModelError
from synopticon_rtc.faces.litert.bundle import Bundle
from synopticon_rtc.faces.litert.mesh import LANDMARKS
from synopticon_rtc.faces.litert.protobuf import fields

NAME = "geometry_pipeline_metadata_landmarks.binarypb"
FIELD_OF_VIEW = math.radians(63)
"""Of the camera, from top to bottom."""
SMALLEST = 2e-3
"""In widths and heights of the frame: a face that is no larger tells nothing of a head."""
VERTEX = 5
"""Numbers of a vertex of the canonical face: x, y, z, and two of its texture."""
MESH, WEIGHTED = 1, 2
"""Fields of ``GeometryPipelineMetadata``: the canonical face, and a landmark that counts."""
VERTICES = 3
"""Field of ``Mesh3d``."""
INDEX, WEIGHT = 1, 2
"""Fields of ``WeightedLandmarkRef``."""

_Array = npt.NDArray[np.float64]


class CanonicalFace(NamedTuple):
    """An upright face in centimetres: x to the right of the picture, y up in it, z towards the camera.

    Attributes:
        points: One for each landmark but the irises', shape (n, 3).
        weights: How much each says of the head, and not of the expression, shape (n,); 0 for most.
    """

    points: _Array
    weights: _Array

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """Read that of a face model.

        Raises:
            ModelError: It is not there, or something else.
        """
        try:
            return cls(*_described(bundle.part(NAME)))
        except (ValueError, LookupError, TypeError) as error:
            raise ModelError(f"{NAME} of the face model does not describe a face: {error}") from error


def _described(metadata: bytes) -> tuple[_Array, _Array]:
    """Return the points of the canonical face and their weights."""
    parts = list(fields(metadata))
    (mesh,) = (value for number, value in parts if number == MESH)
    numbers = [value for number, value in fields(cast("bytes", mesh)) if number == VERTICES]
    points = np.array(numbers, float).reshape(-1, VERTEX)[:, :3]
    weights = np.zeros(len(points))
    for number, value in parts:
        if number == WEIGHTED:
            weighted = dict(fields(cast("bytes", value)))
            weights[cast("int", weighted.get(INDEX, 0))] = weighted[WEIGHT]
    if len(points) > LANDMARKS:
        raise ValueError(f"it has {len(points)} points, and a face {LANDMARKS} landmarks")
    if not (np.isfinite(points).all() and weights.min(initial=0) >= 0 and 0 < weights.sum() < math.inf):
        raise ValueError("its points have no weight")
    return points, weights


class FaceGeometry:
    """Finds the matrix that takes the canonical face to where landmarks are.

    The landmarks are what a camera sees of a head, their z known but for its scale and where it begins. Both follow
    from how large the canonical face must be to fit: first as if the camera were far away, then twice in perspective,
    each time better. Source: ``geometry_pipeline.cc`` of MediaPipe's ``face_geometry``.
    """

    def __init__(self, face: CanonicalFace) -> None:
        self._count = len(face.points)
        self._used = np.flatnonzero(face.weights)
        self._fit = Fit(face.points[self._used], face.weights[self._used])

    def matrix(self, landmarks: npt.NDArray[np.float32], aspect: float) -> npt.NDArray[np.float32] | None:
        """Return the facial transformation matrix, shape (4, 4), or None for a face of next to no size.

        Args:
            landmarks: In fractions of the frame, shape (478, 3).
            aspect: The width of the frame for a height of 1.
        """
        x, y, z = landmarks[: self._count].T
        if max(x.max() - x.min(), y.max() - y.min()) <= SMALLEST:
            return None
        # On a plane one centimetre in front of the camera, which looks along -z.
        tall = 2 * math.tan(FIELD_OF_VIEW / 2)
        wide = tall * aspect
        points = (landmarks[self._used].astype(np.float64) - (0.5, 0.5, float(z.mean()))) * (wide, -tall, wide)
        seen, away, scale = points * (1.0, 1.0, -1.0), 1 + points[:, 2:], 1.0
        for _ in range(2):
            scale *= self._fit.turn(seen)[1]
            seen = np.concatenate([points[:, :2] * away, -away], axis=1) / scale
        return self._fit.matrix(seen).astype(np.float32)


class Fit:
    """Finds the turn, scale and shift that take points nearest to where they are seen, by weighted least squares.

    Source: Umeyama, Least-Squares Estimation of Transformation Parameters Between Two Point Patterns, 1991.

    Args:
        points: Shape (n, 3).
        weights: How much each counts, shape (n,).
    """

    def __init__(self, points: _Array, weights: _Array) -> None:
        self._shares = weights / weights.sum()
        self._middle = self._shares @ points
        centred = points - self._middle
        self._weighted = centred * self._shares[:, None]
        self._spread = float((self._weighted * centred).sum())

    def turn(self, seen: _Array) -> tuple[_Array, float]:
        """Return the turn, shape (3, 3), and the scale, for where each point is seen, shape (n, 3)."""
        covariance = seen.T @ self._weighted
        left, sizes, right = np.linalg.svd(covariance)
        if np.linalg.det(covariance) < 0:  # a mirror would fit better, and is none
            left[:, 2], sizes[2] = -left[:, 2], -sizes[2]
        return left @ right, float(sizes.sum()) / self._spread

    def matrix(self, seen: _Array) -> _Array:
        """Return all of it, shape (4, 4)."""
        turn, scale = self.turn(seen)
        matrix = np.eye(4)
        matrix[:3, :3] = scale * turn
        matrix[:3, 3] = self._shares @ seen - matrix[:3, :3] @ self._middle
        return matrix
