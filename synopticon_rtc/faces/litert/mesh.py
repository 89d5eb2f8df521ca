"""The landmarks of the face in a region."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from synopticon_rtc.faces.box import Box
from synopticon_rtc.faces.litert.bundle import Bundle
from synopticon_rtc.faces.litert.network import Floats, Network
from synopticon_rtc.faces.litert.picture import Picture, Pixels
from synopticon_rtc.faces.litert.region import Region

SIZE = 256
LANDMARKS = 478
RIGHT_EYE, LEFT_EYE = 33, 263
"""Their outer corners."""


class FaceMesh:
    """Finds landmarks."""

    def __init__(self, bundle: Bundle) -> None:
        self._network = Network(bundle, "face_landmarks_detector.tflite", (1, SIZE, SIZE, 3), (3 * LANDMARKS, 1))

    def find(self, picture: Picture, regions: Sequence[Region]) -> list[Floats]:
        """Return the landmarks of the faces in some regions, fewer where there is none in one.

        They are in pixels of the picture, shape (478, 3), z on the scale of x.
        """
        # All pieces are cut out first: the model takes what there is of near memory, and the picture would be fetched
        # once more for each.
        pieces = [picture.cut(region, SIZE, beyond=cv2.BORDER_REPLICATE) for region in regions]
        aspect = picture.width / picture.height
        found = ((region, self._look(piece)) for region, piece in zip(regions, pieces, strict=True))
        return [projected(landmarks, region, aspect) for region, landmarks in found if landmarks is not None]

    def _look(self, pixels: Pixels) -> Floats | None:
        """Return the landmarks in fractions of a piece, or None where it is less likely a face than not."""
        np.multiply(pixels, np.float32(1 / 255), out=self._network.input()[0])
        numbers, (logit,) = self._network.run()
        return numbers.reshape(LANDMARKS, 3) / np.float32(SIZE) if logit > 0 else None


def projected(landmarks: Floats, region: Region, aspect: float) -> Floats:
    """Return landmarks, in fractions of a region, in pixels of its picture.

    Args:
        landmarks: Shape (n, 3).
        region: That they were found in.
        aspect: The width of the picture for a height of 1.
    """
    # MediaPipe scales z as the upper edge of the region, measured in widths and heights of the picture.
    depth = region.width * math.hypot(math.cos(region.angle), aspect * math.sin(region.angle))
    (a, b, x), (c, d, y) = region.to_picture.tolist()
    matrix = np.array([[a, c, 0], [b, d, 0], [0, 0, depth]], np.float32)
    return np.asarray(landmarks @ matrix + np.array([x, y, 0], np.float32))


def region_of(landmarks: Floats) -> Region:
    """Return where the face with these landmarks, in pixels, will be in the next picture."""
    x, y = landmarks[:, 0], landmarks[:, 1]
    box = Box(float(x.min()), float(y.min()), float(x.max()), float(y.max()))
    return Region.around(box, landmarks[RIGHT_EYE].tolist(), landmarks[LEFT_EYE].tolist()).squared()
