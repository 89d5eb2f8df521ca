"""Where the faces in a picture are."""

from itertools import groupby

import cv2
import numpy as np

from synopticon_rtc.faces.box import Box
from synopticon_rtc.faces.litert.bundle import Bundle
from synopticon_rtc.faces.litert.network import Floats, Network
from synopticon_rtc.faces.litert.picture import Picture
from synopticon_rtc.faces.litert.region import SIMILAR, Region

SIZE = 128
STRIDES = 8, 16, 16, 16
"""Pixels from one anchor to the next in each layer of the model, BlazeFace for faces nearby."""
PER_CELL = 2
"""Anchors of a layer at the same place."""
PAIRS = 8
"""Of numbers that the model gives for an anchor: the middle of a box, its size, the right eye, the left one, more."""


class FaceDetector:
    """Finds faces in a whole picture by a single shot detector, BlazeFace.

    Source: Bazarevsky and others, BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs, 2019; with the
    constants of ``face_detector_graph.cc`` of MediaPipe.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._anchors = anchors()
        numbers = len(self._anchors) * PAIRS * 2, len(self._anchors)
        self._network = Network(bundle, "face_detector.tflite", (1, SIZE, SIZE, 3), numbers)

    def find(self, picture: Picture, most: int) -> list[Region]:
        """Return the regions of at most so many faces, the surest first."""
        whole = Region.whole(picture.width, picture.height)
        pixels = picture.cut(whole, SIZE, beyond=cv2.BORDER_CONSTANT)
        np.multiply(pixels, np.float32(2 / 255), out=self._network.input()[0])
        self._network.input()[0] -= 1
        numbers, logits = self._network.run()
        sure = logits >= 0  # more likely a face than not
        found = decoded(numbers.reshape(-1, PAIRS, 2)[sure], self._anchors[sure])
        scores = np.reciprocal(1 + np.exp(-logits[sure]))
        faces = [whole.placed(face).tolist() for face in suppressed(found, scores)[:most]]
        return [Region.around(Box(*corners, *other), right, left) for corners, other, right, left, *_ in faces]


def anchors() -> Floats:
    """Return the middle of each anchor in fractions of the picture, shape (n, 2).

    All are as large as the picture. Layers of the same stride share their places.
    """
    places = []
    for stride, layers in groupby(STRIDES):
        cells = SIZE // stride
        middles = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        grid = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
        places.append(grid.repeat(PER_CELL * len(list(layers)), axis=0))
    return np.concatenate(places)


def decoded(numbers: Floats, places: Floats) -> Floats:
    """Return what the model says of anchors, in fractions of the picture, shape (n, 8, 2).

    These are, as x and y, the top left and the bottom right corner of the box, and the six points.
    """
    pairs = numbers / np.float32(SIZE)
    middle, half, points = pairs[:, :1] + places[:, None], pairs[:, 1:2] / 2, pairs[:, 2:] + places[:, None]
    return np.concatenate([middle - half, middle + half, points], axis=1)


def suppressed(found: Floats, scores: Floats) -> list[Floats]:
    """Return each face once: the mean of what overlaps the surest, weighted by the scores; then of the rest."""
    faces = []
    order = np.argsort(-scores, kind="stable")
    found, scores = found[order], scores[order]
    while len(found):
        same = overlaps(found[:, :2], found[0, :2]) > SIMILAR
        if not same[0]:  # a box without an area
            break
        faces.append(np.average(found[same], axis=0, weights=scores[same]))
        found, scores = found[~same], scores[~same]
    return faces


def overlaps(boxes: Floats, box: Floats) -> Floats:
    """Return the intersection over union of each box, shape (n, 2, 2), with one."""
    shared = np.prod(np.clip(np.minimum(boxes[:, 1], box[1]) - np.maximum(boxes[:, 0], box[0]), 0, None), axis=1)
    union = np.prod(boxes[:, 1] - boxes[:, 0], axis=1) + np.prod(box[1] - box[0]) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0), np.float32)
