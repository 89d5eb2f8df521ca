import gc
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_films import HEIGHT, WIDTH, Corner, corner, film

from synopticon_rtc.media.presentation import Presentation

ONE = 1 << 16
MATRICES = {
    # Where the marked corner, stored at the upper left, is to be seen: by the linear part of the display matrix.
    (1, 0, 0, 1): "upper left",
    (-1, 0, 0, 1): "upper right",
    (1, 0, 0, -1): "lower left",
    (-1, 0, 0, -1): "lower right",
    (0, 1, -1, 0): "upper right",
    (0, -1, 1, 0): "lower left",
    (0, 1, 1, 0): "upper left",
    (0, -1, -1, 0): "lower right",
}


def shown(path: Path, size: tuple[int, int] | None = None) -> list[av.VideoFrame]:
    presentation = Presentation(size)
    frames: list[av.VideoFrame] = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            frames += presentation.take(frame, stream.sample_aspect_ratio)
    return [*frames, *presentation.flush()]


@pytest.mark.parametrize(("turn", "seen"), MATRICES.items())
def test_a_film_is_shown_upright(turn: tuple[int, int, int, int], seen: Corner, tmp_path: Path) -> None:
    a, b, c, d = turn
    matrix = [a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30]
    frame = shown(film(tmp_path / "turned.mp4", matrix=matrix))[0]
    assert (frame.width, frame.height) == ((WIDTH, HEIGHT) if a else (HEIGHT, WIDTH))
    assert corner(frame) == seen


def test_a_film_that_needs_nothing_is_passed_on_as_it_is(tmp_path: Path) -> None:
    presentation = Presentation()
    with av.open(film(tmp_path / "plain.mp4")) as container:
        for frame in container.decode(video=0):
            assert list(presentation.take(frame, None)) == [frame]


def test_a_picture_is_free_when_nobody_has_it_any_more(tmp_path: Path) -> None:
    def pictures() -> int:
        return sum(isinstance(each, av.VideoFrame) for each in gc.get_objects())

    path = film(tmp_path / "film.mp4", count=20)
    gc.collect()
    gc.disable()
    try:
        before = pictures()
        assert len(shown(path)) == 20
        assert pictures() == before
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(4, 3), (256, 108)), (Fraction(3, 4), (192, 144)), (Fraction(64, 45), (272, 108))]
)
def test_pixels_become_square(aspect: Fraction, size: tuple[int, int], tmp_path: Path) -> None:
    path = film(tmp_path / "wide.mp4", aspect=aspect)
    assert {(frame.width, frame.height) for frame in shown(path)} == {size}


@pytest.mark.parametrize(
    ("within", "size"), [((96, 96), (96, 54)), ((1000, 54), (96, 54)), ((1000, 1000), (WIDTH, HEIGHT))]
)
def test_a_film_is_scaled_within_a_size(within: tuple[int, int], size: tuple[int, int], tmp_path: Path) -> None:
    assert {(frame.width, frame.height) for frame in shown(film(tmp_path / "film.mp4"), within)} == {size}


def test_an_interlaced_film_is_not_combed(tmp_path: Path) -> None:
    frames = shown(film(tmp_path / "fields.ts", codec="mpeg2video", count=8, interlaced=True, size=(720, 576)))
    assert len(frames) == 8
    luma = frames[4].to_ndarray()[:576].astype(int)
    # A bar moves between the fields: in a combed picture, neighbouring lines differ where it moved.
    assert np.abs(luma[300:500:2] - luma[301:501:2]).mean() < 0.7


@pytest.mark.parametrize(("transfer", "grey"), [(16, 509), (18, 721)])
def test_bright_films_are_tone_mapped(transfer: int, grey: int) -> None:
    frame = av.VideoFrame(64, 48, "yuv420p10le")
    for plane, value in zip(frame.planes, (grey, 512, 512), strict=True):
        np.frombuffer(memoryview(plane), np.uint16)[:] = value
    frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range = 9, 9, transfer, 1
    frame.pts, frame.time_base = 0, Fraction(1, 30)
    (mapped,) = Presentation().take(frame, None)
    luma, chroma = mapped.to_ndarray()[10, 10], mapped.to_ndarray()[60, 10]
    # 100 cd/m2 by PQ and 75 % by HLG, that of white paper, are seen as such; both are grey.
    assert 170 < luma < 225
    assert abs(int(chroma) - 128) <= 1


@pytest.mark.parametrize(("lines", "matrix"), [(720, 1), (1080, 1), (576, 2)])
def test_colours_that_a_film_does_not_name_are_those_of_its_size(lines: int, matrix: int) -> None:
    frame = av.VideoFrame(64, lines, "yuv420p")
    assert next(iter(Presentation().take(frame, None))).colorspace == matrix


@pytest.mark.parametrize(
    ("orientation", "seen"), [(1, "upper left"), (3, "lower right"), (6, "upper right"), (8, "lower left")]
)
def test_a_photograph_of_a_phone_is_shown_upright(orientation: int, seen: Corner, tmp_path: Path) -> None:
    jpeg = film(tmp_path / "plain.jpg", codec="mjpeg", count=1).read_bytes()
    tag = struct.pack(">HHIHH", 0x112, 3, 1, orientation, 0)  # EXIF 2.3, section 4.6.4
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + tag + bytes(4)
    path = tmp_path / "phone.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    frame = shown(path)[0]
    assert (frame.width, frame.height) == ((WIDTH, HEIGHT) if orientation < 6 else (HEIGHT, WIDTH))
    assert corner(frame) == seen
