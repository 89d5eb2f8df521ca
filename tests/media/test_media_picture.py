from fractions import Fraction

import av
import av.filter
import numpy as np
import pytest

from synopticon_rtc.media.picture import twin


def noise(width: int, height: int) -> av.VideoFrame:
    pixels = np.random.default_rng(1).integers(0, 256, (height * 3 // 2, width), np.uint8)
    return av.VideoFrame.from_ndarray(pixels, format="yuv420p")


def upside_down(frame: av.VideoFrame) -> av.VideoFrame:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 90_000)
    )
    graph.link_nodes(source, graph.add("vflip"), graph.add("buffersink")).configure()
    frame.pts, frame.time_base = 0, Fraction(1, 90_000)
    graph.vpush(frame)
    flipped = graph.vpull()
    assert isinstance(flipped, av.VideoFrame)
    return flipped


def test_a_twin_shares_the_memory_of_the_picture() -> None:
    frame = noise(320, 180)
    assert [plane.buffer_ptr for plane in twin(frame).planes] == [plane.buffer_ptr for plane in frame.planes]


@pytest.mark.parametrize("size", [(320, 180), (322, 182)])  # without and with bytes that pad the lines
def test_a_twin_outlives_the_frame(size: tuple[int, int]) -> None:
    frame = noise(*size)
    picture, other = frame.to_ndarray(), twin(frame)
    del frame
    kept = [noise(*size) for _ in range(8)]  # they would take memory that is free
    assert kept
    assert np.array_equal(other.to_ndarray(), picture)


def test_a_twin_has_times_of_its_own() -> None:
    frame = noise(320, 180)
    frame.pts = 1
    twin(frame).pts = 2
    assert frame.pts == 1


def test_the_twin_of_a_frame_that_lies_upside_down_shows_the_same() -> None:
    flipped = upside_down(noise(320, 180))
    assert flipped.planes[0].line_size < 0
    assert np.array_equal(twin(flipped).to_ndarray(), flipped.to_ndarray())


def test_a_pyav_that_cannot_share_memory_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        from_ndarray = av.VideoFrame.from_ndarray

    frame = noise(322, 182)
    monkeypatch.setattr(av, "VideoFrame", Old)
    copy = twin(frame)
    assert copy.planes[0].buffer_ptr != frame.planes[0].buffer_ptr
    assert np.array_equal(copy.to_ndarray(), frame.to_ndarray())
