"""A real face without a camera."""

import functools
import importlib.util
import math
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import av
import numpy as np

from synopticon_rtc.errors import MissingExtra
from synopticon_rtc.media.pacing import checked_fps, checked_size, drawn
from synopticon_rtc.media.pictures import Pictures
from synopticon_rtc.media.planes import planes, planes_of_rgb

if TYPE_CHECKING:
    from PIL import Image

# The face in the photograph: the middle and the height of the landmarks that MediaPipe finds, in pixels.
_CENTRE_X, _CENTRE_Y = 225, 125
_FACE_HEIGHT = 106
# How the camera moves: the height of the face and the pan, in fractions of the frame's shorter side; the turn.
_NEAR, _FAR = 0.68, 0.42
_PAN_Y = 0.06
_BELOW = 0.03  # the middle, on average: the hair wants to be seen too
_TURN = math.radians(11)
_MARGIN = 0.06
# Pixels of the canvas for one of the frame at the nearest: so many that the nearest pixel does for interpolation,
# which takes a seventh of the time. The photograph is too coarse for more than _MOST for one of its own.
_OVERSAMPLING = 1.5
_MOST = 12.0
_BLUR = 16


class Portrait:
    """A photograph of a face, panned, zoomed and slightly rotated, as a camera held by hand would see it.

    It is NASA's portrait of the astronaut Eileen Collins, in the public domain, as scikit-image ships it. The whole
    face stays in the frame, 42 to 70 % of its shorter side high and turned by at most 11 degrees. What a frame shows
    follows from its number alone.

    Args:
        size: Width and height in pixels, even.
        fps: Frames a second. Frame ``n`` comes ``n / fps`` seconds after the start; late ones are left out.

    Raises:
        MissingExtra: scikit-image is not installed.
        SourceError: There can be no frame of that size, or no such rate.
    """

    def __init__(self, size: tuple[int, int] = (1280, 720), fps: float = 30) -> None:
        if importlib.util.find_spec("skimage") is None:
            raise MissingExtra("the portrait", "portrait")
        self.size = width, height = checked_size(size)
        self.fps = checked_fps(fps)
        self._pictures = Pictures()
        self._side = min(size)
        self._pan_x = 0.6 * (width / 2 - (_NEAR / 2 + _MARGIN) * self._side)
        # The canvas reaches as far from the face as a corner of the frame gets, in pixels of the photograph.
        farthest = _FACE_HEIGHT / (_FAR * self._side)
        cos, sin = math.cos(_TURN), math.sin(_TURN)
        across, down = width / 2 + self._pan_x, height / 2 + (_BELOW + _PAN_Y) * self._side
        self._reach_x = math.ceil((across * cos + down * sin) * farthest)
        self._reach_y = math.ceil((across * sin + down * cos) * farthest)
        self._scale = min(_MOST, _OVERSAMPLING * _NEAR * self._side / _FACE_HEIGHT)

    def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        return drawn(self.draw, self.fps)

    def draw(self, number: int) -> av.VideoFrame:
        """Return frame ``number`` in yuv420p."""
        from PIL import Image  # noqa: PLC0415 - an extra

        width, height = self.size
        turns = 2 * math.pi * number / self.fps
        face_height = (_NEAR + _FAR) / 2 + (_NEAR - _FAR) / 2 * math.sin(turns / 11.3)
        angle = _TURN * math.sin(turns / 7.1)
        face_x = width / 2 + self._pan_x * math.sin(turns / 9.7)
        face_y = height / 2 + (_BELOW + _PAN_Y * math.sin(turns / 5.3)) * self._side
        # From the frame to the canvas: about the face, turned and scaled.
        scale = self._scale * _FACE_HEIGHT / (face_height * self._side)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        origin_x = self._reach_x * self._scale - cos * face_x + sin * face_y
        origin_y = self._reach_y * self._scale - sin * face_x - cos * face_y
        frame = self._pictures.new(width, height)
        for index, (image, canvas) in enumerate(zip(planes(frame), self._canvas, strict=True)):
            half = 2 if index else 1  # chroma has half the lines and columns
            image[:] = np.asarray(
                canvas.transform(
                    (width // half, height // half),
                    Image.Transform.AFFINE,
                    (cos, -sin, origin_x / half, sin, cos, origin_y / half),
                    Image.Resampling.NEAREST,
                )
            )
        return frame

    @functools.cached_property
    def _canvas(self) -> "list[Image.Image]":
        """The planes of the photograph in what surrounds it, enlarged: itself mirrored and blurred."""
        from PIL import Image, ImageFilter  # noqa: PLC0415 - an extra
        from skimage import data  # noqa: PLC0415 - an extra

        photograph = data.astronaut()  # type: ignore[no-untyped-call] # scikit-image's
        height, width = photograph.shape[:2]
        left, right = self._reach_x - _CENTRE_X, self._reach_x + _CENTRE_X - width
        top, bottom = self._reach_y - _CENTRE_Y, self._reach_y + _CENTRE_Y - height
        around = [(max(0, top), max(0, bottom)), (max(0, left), max(0, right))]
        mirrored = Image.fromarray(np.pad(photograph, [*around, (0, 0)], mode="reflect"))
        # Sharp inside the photograph; towards its edges more and more blurred.
        inside = np.pad(np.full((height - 2 * _BLUR, width - 2 * _BLUR), 255, np.uint8), _BLUR)
        mask = Image.fromarray(np.pad(inside, around)).filter(ImageFilter.GaussianBlur(_BLUR / 2))
        whole = Image.composite(mirrored, mirrored.filter(ImageFilter.GaussianBlur(_BLUR)), mask)
        part = whole.crop((max(0, -left), max(0, -top), whole.width - max(0, -right), whole.height - max(0, -bottom)))
        canvas = round(part.width * self._scale), round(part.height * self._scale)
        return [
            Image.fromarray(plane).resize((canvas[0] // half, canvas[1] // half), Image.Resampling.LANCZOS)
            for half, plane in zip((1, 2, 2), planes_of_rgb(np.asarray(part), "yuv444p"), strict=True)
        ]
