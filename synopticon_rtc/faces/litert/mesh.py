"""The landmarks of the face in a region."""

import math

import cv2
import numpy as np

from synopticon_rtc.faces.box import Box
from synopticon_rtc.faces.litert.bundle import Bundle
from synopticon_rtc.faces.litert.network import Floats, Network
from synopticon_rtc.faces.litert.picture import Picture
from synopticon_rtc.faces.litert.region import Region

SIZE = 256
LANDMARKS = 478
RIGHT_EYE, LEFT_EYE = 33, 263
"""Their outer corners."""


class FaceMesh:
    """Finds landmarks."""

    def __init__(self, bundle: Bundle) -> None:
        self._network = Network(bundle, "face_landmarks_detector.tflite", (1, SIZE, SIZE, 3), (3 * LANDMARKS, 1))

    def find(self, picture: Picture, region: Region) -> Floats | None:
        """Return the landmarks in pixels of the picture, shape (478, 3), z on the scale of x; None without a face."""
        pixels = picture.cut(region, SIZE, beyond=cv2.BORDER_REPLICATE)
        np.multiply(pixels, np.float32(1 / 255), out=self._network.input()[0])
        numbers, (logit,) = self._network.run()
        if not logit > 0:  # less likely a face than not
            return None
        return projected(numbers.reshape(LANDMARKS, 3) / np.float32(SIZE), region, picture.width / picture.height)


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
    matrix = np.array([[a, b, 0, x], [c, d, 0, y], [0, 0, depth, 0]])
    return np.asarray(cv2.transform(landmarks[:, None], matrix)[:, 0], np.float32)


def region_of(landmarks: Floats) -> Region:
    """Return where the face with these landmarks, in pixels, will be in the next picture."""
    x, y = landmarks[:, 0], landmarks[:, 1]
    box = Box(float(x.min()), float(y.min()), float(x.max()), float(y.max()))
    return Region.around(box, landmarks[RIGHT_EYE].tolist(), landmarks[LEFT_EYE].tolist()).squared()
