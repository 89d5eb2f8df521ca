"""Planar frames as arrays: in yuv420p luma in full size, the two planes of chroma in half."""

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace

Plane = npt.NDArray[np.uint8]


def planes(frame: av.VideoFrame) -> list[Plane]:
    """Return the planes of a frame, Y, U and V, as writable arrays onto its memory."""
    return [
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    ]


def planes_of_rgb(image: npt.NDArray[np.uint8], layout: str = "yuv420p") -> list[Plane]:
    """Convert an RGB image of shape (height, width, 3) to planes (BT.601, limited range)."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    return planes(frame.reformat(format=layout, dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG))
