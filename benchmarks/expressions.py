"""A portrait that turns its head, speaks, smiles, raises its brows and blinks: a photograph, warped.

The landmarks that MediaPipe finds in the photograph are moved as a head and a face would move them, and the pixels
between them follow, triangle by triangle. It is no more than a photograph can give: teeth and skin stretch, and what is
behind a cheek stays hidden. What counts is that MediaPipe finds a face in every frame, and finds it turned and moved.
"""

import math

import av
import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.tri import LinearTriInterpolator, Triangulation

from benchmarks.reel import FPS, SIZE
from synopticon_rtc import Face, FaceLandmarker, Portrait
from synopticon_rtc.faces import GROUPS

Points = npt.NDArray[np.float64]

MESH = 468
"""Landmarks that move the picture: those of the irises, which would cross the lids, follow them."""
GRID = 4
"""Pixels from one to the next at which it is computed where a pixel comes from."""
YAW, PITCH, ROLL = math.radians(22), math.radians(12), math.radians(11)
AXIS = 0.75
"""How far behind the nearest landmark the head turns, in heights of the face."""
BLINK, BLINK_EVERY = 8, 97
"""Frames that it takes to close the eyes, and from one blink to the next."""
MOUTH_CORNERS = 61, 291
LOWER_LIP = 146, 91, 181, 84, 17, 314, 405, 321, 375, 95, 88, 178, 87, 14, 317, 402, 318, 324


def swing(number: int, seconds: float, phase: float = 0.0) -> float:
    """Return -1 to 1 and back, as time passes from frame to frame, in cycles of 2 pi of these seconds."""
    return math.sin(2 * math.pi * number / FPS / seconds + phase)


class Expressions:
    """The photograph of the portrait source, in motion. What a frame shows follows from its number alone.

    Args:
        photograph: A frame of the portrait.
        face: The face in it.
    """

    def __init__(self, photograph: av.VideoFrame, face: Face) -> None:
        self._image = photograph.to_ndarray(format="bgr24")
        self._face = face.to_pixels(*SIZE)[:MESH].astype(float)
        self._face[:, 2] -= self._face[:, 2].min()
        self._height = float(np.ptp(self._face[:, 1]))
        oval = self._face[GROUPS["face_oval"], :2]
        self._centre = oval.mean(axis=0)
        # What moves with the head as a whole: a ring around the face, and all that is far away.
        far = [(x, y) for x in (-4000, 5300) for y in (-4000, 4700)]
        self._around = np.concatenate([self._centre + 1.45 * (oval - self._centre), far])
        self._rest = np.concatenate([self._face[:, :2], self._around])
        self._rows, self._columns = np.mgrid[0 : SIZE[1] + GRID : GRID, 0 : SIZE[0] + GRID : GRID]

    @classmethod
    async def of_portrait(cls) -> "Expressions":
        """Find the face in a frame in which it is large and upright."""
        photograph = Portrait(SIZE, FPS).draw(13)
        async with FaceLandmarker() as landmarker:
            face, *_ = await landmarker.detect(photograph)
        return cls(photograph, face)

    def draw(self, number: int) -> av.VideoFrame:
        """Return frame ``number``."""
        face = self._turned(self._expressed(number), YAW * swing(number, 3.9), PITCH * swing(number, 5.3, 1))
        size, roll = 0.85 + 0.2 * swing(number, 11.3), ROLL * swing(number, 7.1)
        cos, sin = size * math.cos(roll), size * math.sin(roll)
        place = 640 + 220 * swing(number, 9.7), 380 + 40 * swing(number, 5.7)
        moved = (np.concatenate([face, self._around]) - self._centre) @ [[cos, sin], [-sin, cos]] + place
        triangles = Triangulation(moved[:, 0], moved[:, 1])
        finder = triangles.get_trifinder()

        def source(axis: int) -> npt.NDArray[np.float32]:
            coarse = LinearTriInterpolator(triangles, self._rest[:, axis], trifinder=finder)(self._columns, self._rows)
            fine = cv2.resize(coarse.filled(-1).astype(np.float32), None, fx=GRID, fy=GRID)
            # A pixel of the coarse grid lies in the middle of those that it became.
            return np.asarray(fine[GRID // 2 :, GRID // 2 :][: SIZE[1], : SIZE[0]], np.float32)

        image = cv2.remap(self._image, source(0), source(1), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return av.VideoFrame.from_ndarray(np.asarray(image, np.uint8), format="bgr24")

    def _expressed(self, number: int) -> Points:
        """Move the mouth, the brows and the lids."""
        face, height = self._face.copy(), self._height
        left, right = face[list(MOUTH_CORNERS)]
        middle, half = (left + right) / 2, (right[0] - left[0]) / 2
        aside = (face[:, 0] - middle[0]) / half
        below = np.clip((face[:, 1] - middle[1]) / (0.12 * height), 0, 1) * np.exp(-((aside / 1.3) ** 2))
        below[GROUPS["lips"]] = 0
        lower = list(LOWER_LIP)
        below[lower] = np.sqrt(np.clip(1 - aside[lower] ** 2, 0, None))
        moved = face.copy()
        moved[:, 1] += 0.2 * height * below * max(0.0, swing(number, 0.43) + 0.6 * swing(number, 0.27, 1)) / 1.6
        smile = max(0.0, swing(number, 4.3))
        for corner, outwards in ((left, -1), (right, 1)):
            near = np.exp(-np.square(face[:, :2] - corner[:2]).sum(axis=1) / (2 * (0.09 * height) ** 2))
            moved[:, 0] += outwards * 0.05 * height * smile * near
            moved[:, 1] -= 0.045 * height * smile * near
        for brow in ("left_eyebrow", "right_eyebrow"):
            away = (face[:, :2] - face[GROUPS[brow], :2].mean(axis=0)) / [0.16 * height, 0.07 * height]
            moved[:, 1] -= 0.05 * height * max(0.0, swing(number, 2.9, 2)) * np.exp(-np.square(away).sum(axis=1))
        closed = max(0.0, 1 - abs(number % BLINK_EVERY - BLINK) / BLINK)
        for eye in ("left_eye", "right_eye"):
            ring = GROUPS[eye]
            x, y = face[ring, 0], face[ring, 1]
            upper = y < np.interp(x, [x.min(), x.max()], [y[x.argmin()], y[x.argmax()]])
            order = np.argsort(x[~upper])
            moved[ring[upper], 1] += closed * (np.interp(x[upper], x[~upper][order], y[~upper][order]) - y[upper])
        return moved

    def _turned(self, face: Points, yaw: float, pitch: float) -> Points:
        """Turn the head about its axes, seen from far away; return x and y."""
        x, y, z = (face - [*self._centre, AXIS * self._height]).T
        x, z = math.cos(yaw) * x + math.sin(yaw) * z, math.cos(yaw) * z - math.sin(yaw) * x
        turned = np.stack([x, math.cos(pitch) * y - math.sin(pitch) * z], axis=1)
        turned += self._centre - turned[GROUPS["face_oval"]].mean(axis=0)
        return turned
