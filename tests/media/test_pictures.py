"""Memory for pictures is used again, and only when nobody holds it any more."""

from fractions import Fraction

import av
import numpy as np
import pytest

from synopticon_rtc.media.pictures import Pictures

SIZE = (640, 480)


def place(frame: av.VideoFrame) -> int:
    return frame.planes[0].buffer_ptr


def filled(frame: av.VideoFrame, value: int) -> av.VideoFrame:
    for plane in frame.planes:
        np.asarray(plane)[:] = value
    return frame


def test_a_picture_lies_where_one_did_that_nobody_holds() -> None:
    pictures = Pictures()
    frame = pictures.new(*SIZE)
    was = place(frame)
    del frame
    assert place(pictures.new(*SIZE)) == was


@pytest.mark.parametrize("holding", ["frame", "plane", "array"])
def test_a_picture_that_somebody_holds_stays_as_it_is(holding: str) -> None:
    pictures = Pictures()
    frame = filled(pictures.new(*SIZE), 1)
    held = {"frame": frame, "plane": frame.planes[0], "array": np.asarray(frame.planes[0])}[holding]
    del frame
    filled(pictures.new(*SIZE), 2)
    luma = held.planes[0] if isinstance(held, av.VideoFrame) else held
    assert (np.asarray(luma) == 1).all()


def test_a_picture_that_an_encoder_still_has_stays_as_it_is() -> None:
    def encoded(pictures: Pictures | None) -> list[bytes]:
        encoder = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt = *SIZE, "yuv420p"
        encoder.time_base, encoder.thread_count = Fraction(1, 30), 1
        encoder.options = {"rc-lookahead": "20", "preset": "veryfast"}  # it takes 20 pictures before it gives one
        packets = []
        for number in range(30):
            frame = av.VideoFrame(*SIZE, "yuv420p") if pictures is None else pictures.new(*SIZE)
            filled(frame, 16 + number * 7).pts = number
            packets += encoder.encode(frame)
            del frame
        return [bytes(packet) for packet in [*packets, *encoder.encode(None)]]

    assert encoded(Pictures()) == encoded(None)


@pytest.mark.parametrize("size", [(638, 480), (640, 482), (2, 2)])
def test_a_picture_has_the_sides_that_are_asked_for(size: tuple[int, int]) -> None:
    frame = Pictures().new(*size)
    assert (frame.width, frame.height, frame.format.name) == (*size, "yuv420p")


def test_memory_of_pictures_of_another_size_is_not_kept() -> None:
    pictures = Pictures()
    pictures.new(*SIZE)
    pictures.new(1280, 720)
    assert len(pictures._free) == 1


def test_memory_for_no_more_than_some_pictures_is_kept() -> None:
    pictures = Pictures()
    held = [pictures.new(*SIZE) for _ in range(20)]
    held.clear()
    assert len(pictures._free) == 8
