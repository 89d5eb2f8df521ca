"""What is drawn, where, and what is left alone."""

from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt
import pytest

from synopticon_rtc.faces import FACE_OVAL, RIGHT_IRIS, Face, FaceLandmarker, draw_faces

pytest.importorskip("cv2", exc_type=ImportError)  # its wheel needs libGL

Style = Literal["contours", "points", "mesh"]
STYLES: list[Style] = ["contours", "points", "mesh"]
SIZE = 320


@pytest.fixture(scope="module")
def grey() -> npt.NDArray[np.uint8]:
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    image.setflags(write=False)
    return image


@pytest.fixture
async def face(face_model: Path, portrait: npt.NDArray[np.uint8]) -> Face:
    async with FaceLandmarker(model=face_model) as landmarker:
        (face,) = await landmarker.detect(av.VideoFrame.from_ndarray(portrait, format="rgb24"))
    return face


def moved(face: Face, x: float, y: float) -> Face:
    return Face(face.landmarks + np.array([x, y, 0], np.float32), {})


@pytest.mark.parametrize("style", STYLES)
def test_it_draws_in_place_and_within_the_face_alone(face: Face, grey: npt.NDArray[np.uint8], style: Style) -> None:
    image = grey.copy()
    assert draw_faces(image, [face], style=style) is image
    rows, columns = np.nonzero((image != grey).any(axis=2))
    low, high = face.landmarks[:, :2].min(axis=0) * SIZE, face.landmarks[:, :2].max(axis=0) * SIZE
    assert [columns.min(), rows.min()] == pytest.approx(low, abs=5)
    assert [columns.max(), rows.max()] == pytest.approx(high, abs=5)


def test_lines_run_through_the_landmarks(face: Face, grey: npt.NDArray[np.uint8]) -> None:
    image = draw_faces(grey.copy(), [face])
    oval = (face.landmarks[FACE_OVAL[:, 0], :2] * SIZE).astype(int)
    assert (image[oval[:, 1], oval[:, 0]].min(axis=1) > 110).all()  # lighter than the grey
    iris = (face.landmarks[RIGHT_IRIS[:, 0], :2] * SIZE).astype(int)
    blue, _, red = image[iris[:, 1], iris[:, 0]].astype(int).T
    assert (red > blue + 30).all()  # amber


def test_the_mesh_is_fainter_than_the_contours_and_under_them(face: Face, grey: npt.NDArray[np.uint8]) -> None:
    contours = draw_faces(grey.copy(), [face])
    mesh = draw_faces(grey.copy(), [face], style="mesh")
    untouched = (contours == grey).all(axis=2)
    added = mesh[untouched & (mesh != grey).any(axis=2)]
    assert len(added) > 1000
    assert 90 < added.max() < 160 < contours.max()
    bright = contours.min(axis=2) > 200
    assert mesh[bright].astype(int) == pytest.approx(contours[bright], abs=25)


@pytest.mark.parametrize("style", STYLES)
def test_a_face_without_irises_is_drawn_without_them(face: Face, grey: npt.NDArray[np.uint8], style: Style) -> None:
    image = draw_faces(grey.copy(), [Face(face.landmarks[:468], {})], style=style).astype(int)
    assert (image != grey).any()
    assert (image[..., 2] <= image[..., 0] + 1).all()  # nothing amber


@pytest.mark.parametrize("style", STYLES)
def test_what_lies_outside_is_cut_off(face: Face, grey: npt.NDArray[np.uint8], style: Style) -> None:
    for x, y in ((0.5, 0), (-0.5, 0), (0, 0.6), (0, -0.5)):
        assert (draw_faces(grey.copy(), [moved(face, x, y)], style=style) != grey).any()
    for x, y in ((5, 0), (0, -5), (1e30, 1e30)):
        assert (draw_faces(grey.copy(), [moved(face, x, y)], style=style) == grey).all()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38])
def test_no_number_is_too_odd(grey: npt.NDArray[np.uint8], face: Face, style: Style, value: float) -> None:
    landmarks = face.landmarks.copy()
    landmarks[::7] = value
    draw_faces(grey.copy(), [Face(landmarks, {}), Face(np.full((478, 3), value, np.float32), {})], style=style)


def test_a_frame_whose_rows_are_padded_can_be_drawn_on(face: Face) -> None:
    image: npt.NDArray[Any] = av.VideoFrame(300, 200, "bgr24").to_ndarray()
    image[:] = 90
    assert not image.flags.c_contiguous
    assert (draw_faces(image, [face], style="mesh") != 90).any()


def test_no_faces_no_change(grey: npt.NDArray[np.uint8]) -> None:
    assert (draw_faces(grey.copy(), []) == grey).all()
