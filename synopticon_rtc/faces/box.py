"""Where in its frame a face is."""

from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle in fractions of its frame's width and height: 0, 0 is the top left corner, 1, 1 the bottom right.

    A face that is cut off by the edge of its frame has a box that reaches beyond it.
    """

    left: float
    top: float
    right: float
    bottom: float
