"""What is cut out of a frame is what the frame shows, in the colours that FFmpeg gives it."""

import math
from fractions import Fraction

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from av.filter import Graph
from av.video.reformatter import VideoReformatter

from synopticon_rtc.faces.litert.picture import LARGEST, Picture
from synopticon_rtc.faces.litert.region import Region

SMALL = np.kron(np.random.default_rng(3).integers(0, 256, (12, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8)
"""Squares of 8x8 pixels, each of a colour of its own."""


def frame_of(image: npt.NDArray[np.uint8], pixel_format: str = "rgb24") -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel_format)


def cut(frame: av.VideoFrame, region: Region, size: int, beyond: int = cv2.BORDER_REPLICATE) -> npt.NDArray[np.int_]:
    return Picture.of(frame, VideoReformatter()).cut(region, size, beyond=beyond).astype(int)


@pytest.mark.parametrize("colour_range", [1, 2])
@pytest.mark.parametrize("colour_space", [1, 2, 5, 6, 9])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuvj420p", "nv12", "gray", "bgr24"])
def test_colours_are_those_that_ffmpeg_gives(pixel_format: str, colour_space: int, colour_range: int) -> None:
    frame = frame_of(SMALL, pixel_format)
    if pixel_format[:4] in {"yuv4", "nv12"}:
        frame.colorspace, frame.color_range = colour_space, colour_range
    expected = VideoReformatter().reformat(frame, format="rgb24").to_ndarray().astype(int)
    found = cut(frame, Region(48, 48, 96, 96), 96)
    assert np.abs(found - expected[:, :96]).max() <= 3  # FFmpeg rounds down at each step


def test_a_region_that_is_turned_is_seen_upright() -> None:
    turned = np.ascontiguousarray(np.rot90(SMALL))
    upright = cut(frame_of(SMALL), Region(64, 48, 64, 64), 64)
    found = cut(frame_of(turned), Region(48, 127 - 64, 64, 64, -math.pi / 2), 64)
    assert np.abs(upright - found).max() <= 1


def test_beyond_the_picture_is_its_edge_or_black() -> None:
    white = frame_of(np.full((32, 32, 3), 255, np.uint8), "yuv420p")
    outside = Region(-100, -100, 32, 32)
    assert cut(white, outside, 8).min() >= 254
    assert cut(white, outside, 8, cv2.BORDER_CONSTANT).max() == 0


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (301, 299), (2, 700)])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "rgb24"])
def test_odd_sizes_are_seen_to_their_edges(size: tuple[int, int], pixel_format: str) -> None:
    grey = frame_of(np.full((size[1], size[0], 3), 100, np.uint8), pixel_format)
    assert np.abs(cut(grey, Region.whole(*size), 64) - 100).max() <= 2


def test_a_frame_whose_rows_run_upward_is_seen_the_right_way_up() -> None:
    graph = Graph()
    source = graph.add_buffer(width=128, height=96, format=av.VideoFormat("yuv420p"), time_base=Fraction(1, 30))
    flip, sink = graph.add("vflip"), graph.add("buffersink")
    source.link_to(flip)
    flip.link_to(sink)
    graph.configure()
    frame = frame_of(np.ascontiguousarray(SMALL[::-1]), "yuv420p")
    source.push(frame)
    flipped = sink.pull()
    assert isinstance(flipped, av.VideoFrame)
    region = Region(48, 48, 96, 96)
    assert np.abs(cut(flipped, region, 96) - cut(frame_of(SMALL, "yuv420p"), region, 96)).max() <= 4


def test_a_frame_that_opencv_cannot_count_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=f"up to {LARGEST} pixels"):
        cut(av.VideoFrame(LARGEST + 2, 2, "yuv420p"), Region(1, 1, 2, 2), 8)
    assert cut(frame_of(np.full((2, LARGEST, 3), 9, np.uint8)), Region(LARGEST - 4, 1, 2, 2), 8).max() == 9


def test_opencv_keeps_its_threads() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        cut(frame_of(SMALL, "yuv420p"), Region(48, 48, 96, 96), 96)
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)
