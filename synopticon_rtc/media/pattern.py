"""A test card that tells its frame number to machines."""

import binascii
import math
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import av
import numpy as np
import numpy.typing as npt

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media.pacing import checked_fps, checked_size, drawn
from synopticon_rtc.media.pictures import Pictures
from synopticon_rtc.media.planes import Plane, planes, planes_of_rgb

# The number is 32 bits and their CRC-16, most significant bit first, row by row: white is 1.
_ROWS, _COLUMNS = 4, 12
_NUMBER_BITS, _CRC_BITS = 32, 16
# Where the cells are, in fractions of the frame's height and width.
_TOP, _BOTTOM, _LEFT, _RIGHT = 0.1, 0.5, 0.14, 0.86
_BLACK, _WHITE = 16, 235
_SURELY_BLACK, _SURELY_WHITE = 95, 160
_SMALLEST = (64, 48)

_BACKGROUND = ((34, 42, 58), (78, 92, 116))  # RGB, top and bottom
_BARS = ((236, 229, 240), (242, 206, 106), (112, 193, 190), (128, 178, 108), (226, 132, 118), (158, 118, 180))
_BALL = (250, 246, 232)


class TestPattern:
    """A moving test card: coloured bars that slide, a ball that bounces, and the number of the frame in large cells.

    The number survives strong compression and scaling to a quarter; :meth:`read_number` reads it back.

    Args:
        size: Width and height in pixels, even, 64x48 at least.
        fps: Frames a second. Frame ``n`` comes ``n / fps`` seconds after the start; late ones are left out.

    Raises:
        SourceError: There can be no frame of that size, or no such rate.
    """

    __test__: ClassVar[bool] = False  # pytest takes any Test... for its own

    def __init__(self, size: tuple[int, int] = (1280, 720), fps: float = 30) -> None:
        self.size = width, height = checked_size(size)
        self.fps = checked_fps(fps)
        self._pictures = Pictures()
        if width < _SMALLEST[0] or height < _SMALLEST[1]:
            raise SourceError(f"a test pattern cannot be {width}x{height}; give {_SMALLEST[0]}x{_SMALLEST[1]} or more")
        self._cells = _cell_edges(width, height)
        self._bars_top = height * 5 // 8 & ~1
        card = np.empty((height, width, 3), np.uint8)
        card[:] = np.linspace(*_BACKGROUND, num=height)[:, np.newaxis]
        self._card = planes_of_rgb(card)
        # One turn more than the frame is wide, so that any offset within a turn is a plain slice.
        bar = max(2, width // len(_BARS) & ~1)
        self._turn = bar * len(_BARS)
        colours = np.repeat(np.array(_BARS, np.uint8), bar, axis=0)
        strip = np.tile(colours, (2 + width // self._turn, 1))[: width + self._turn]
        self._bars = planes_of_rgb(np.broadcast_to(strip, (height - self._bars_top, *strip.shape)))
        diameter = max(4, height // 7 & ~1)
        offset = np.arange(diameter) - (diameter - 1) / 2
        self._ball = np.hypot(offset, offset[:, np.newaxis]) <= diameter / 2
        self._ball_colour = [int(plane[0, 0]) for plane in planes_of_rgb(np.full((2, 2, 3), _BALL, np.uint8))]

    def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        return drawn(self.draw, self.fps)

    def draw(self, number: int) -> av.VideoFrame:
        """Return frame ``number`` in yuv420p; numbers are taken modulo 2**32."""
        width, height = self.size
        frame = self._pictures.new(width, height)
        seconds = number / self.fps
        shift = int(seconds * width / 20) % self._turn & ~1
        diameter = len(self._ball)
        left = round((width - diameter) * (0.5 + 0.5 * math.sin(seconds * 1.7))) & ~1
        top = round(height - diameter - (height - self._bars_top - diameter) * abs(math.sin(seconds * 3.1))) & ~1
        for index, image in enumerate(planes(frame)):
            half = 2 if index else 1  # chroma has half the lines and columns
            bars = self._bars_top // half
            image[:bars] = self._card[index][:bars]
            image[bars:] = self._bars[index][:, shift // half : shift // half + image.shape[1]]
            ball = image[top // half : (top + diameter) // half, left // half : (left + diameter) // half]
            ball[self._ball[::half, ::half]] = self._ball_colour[index]
            self._draw_cells(image, number, half, luma=not index)
        return frame

    def _draw_cells(self, image: Plane, number: int, half: int, *, luma: bool) -> None:
        """Draw ``number`` into a plane of a frame."""
        rows, columns = (edges // half for edges in self._cells)
        area = image[rows[0] : rows[-1], columns[0] : columns[-1]]
        if not luma:
            area[:] = 128
            return
        cells = np.where(_bits(number), _WHITE, _BLACK).astype(np.uint8)
        area[:] = cells.repeat(np.diff(rows), axis=0).repeat(np.diff(columns), axis=1)

    @staticmethod
    def read_number(image: npt.NDArray[Any]) -> int | None:
        """Read the number of a frame from its pixels.

        Args:
            image: Luma, or RGB or BGR, 0..255: an array of shape (height, width) or (height, width, 3), of any size.

        Returns:
            The number; None where it cannot be read for sure.
        """
        height, width = image.shape[:2]
        rows, columns = _cell_edges(width, height)
        if np.diff(rows).min() < 2 or np.diff(columns).min() < 2:  # noqa: PLR2004 - a pixel is no cell
            return None
        cells = np.empty((_ROWS, _COLUMNS))
        for row in range(_ROWS):
            for column in range(_COLUMNS):
                # The middle half of the cell: the edges may be blurred.
                top, bottom = _middle(rows[row], rows[row + 1])
                left, right = _middle(columns[column], columns[column + 1])
                cells[row, column] = image[top:bottom, left:right].mean()
        if np.any((cells > _SURELY_BLACK) & (cells < _SURELY_WHITE)):
            return None
        bits = cells >= _SURELY_WHITE
        number = int.from_bytes(np.packbits(bits.ravel()[:_NUMBER_BITS]).tobytes())
        return number if np.array_equal(bits, _bits(number)) else None


def _bits(number: int) -> npt.NDArray[np.bool_]:
    """Return the cells that say ``number``."""
    data = (number % 2**_NUMBER_BITS).to_bytes(_NUMBER_BITS // 8)
    data += binascii.crc_hqx(data, 0xFFFF).to_bytes(_CRC_BITS // 8)
    return np.unpackbits(np.frombuffer(data, np.uint8)).astype(np.bool_).reshape(_ROWS, _COLUMNS)


def _cell_edges(width: int, height: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the rows and the columns at which cells begin and end, all of them even."""
    rows = np.linspace(_TOP * height, _BOTTOM * height, _ROWS + 1) / 2
    columns = np.linspace(_LEFT * width, _RIGHT * width, _COLUMNS + 1) / 2
    return rows.round().astype(np.intp) * 2, columns.round().astype(np.intp) * 2


def _middle(start: np.intp, end: np.intp) -> tuple[int, int]:
    quarter = (end - start) // 4
    return int(start + quarter), int(max(end - quarter, start + quarter + 1))
