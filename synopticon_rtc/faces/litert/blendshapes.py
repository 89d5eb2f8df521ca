"""The expression of a face, in 52 scores."""

import numpy as np

from synopticon_rtc.faces.litert.bundle import Bundle
from synopticon_rtc.faces.litert.network import Floats, Network
from synopticon_rtc.faces.wire import BLENDSHAPES

# Source: kLandmarksSubsetIdxs of MediaPipe's face_blendshapes_graph.cc (Apache License 2.0).
LANDMARKS = np.array(
    """
    0 1 4 5 6 7 8 10 13 14 17 21 33 37 39 40 46 52 53 54 55 58 61 63 65 66 67 70 78 80 81 82 84 87 88 91 93 95 103 105
    107 109 127 132 133 136 144 145 146 148 149 150 152 153 154 155 157 158 159 160 161 162 163 168 172 173 176 178 181
    185 191 195 197 234 246 249 251 263 267 269 270 276 282 283 284 285 288 291 293 295 296 297 300 308 310 311 312 314
    317 318 321 323 324 332 334 336 338 356 361 362 365 373 374 375 377 378 379 380 381 382 384 385 386 387 388 389 390
    397 398 400 402 405 409 415 454 466 468 469 470 471 472 473 474 475 476 477
    """.split(),  # noqa: SIM905 - a list of literals takes as many lines again
    np.intp,
)
"""Those that the model looks at, in its order."""


class FaceBlendshapes:
    """Judges expressions by landmarks alone."""

    def __init__(self, bundle: Bundle) -> None:
        self._network = Network(bundle, "face_blendshapes.tflite", (1, len(LANDMARKS), 2), (len(BLENDSHAPES),))

    def score(self, landmarks: Floats) -> dict[str, float]:
        """Return the score of each blendshape, 0 to 1.

        Args:
            landmarks: In pixels, shape (478, 3): where they are, and how large the face is, makes no difference.
        """
        self._network.input()[0] = landmarks[LANDMARKS, :2]
        (scores,) = self._network.run()
        return dict(zip(BLENDSHAPES, scores.tolist(), strict=True))
