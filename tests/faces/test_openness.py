"""How far eyes and mouth are open."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest

from synopticon_rtc.faces.openness import openness

LEFT = {362: (0, 0), 385: (1, -1), 387: (2, -1), 263: (3, 0), 373: (2, 1), 380: (1, 1)}  # 2 high, 3 wide
RIGHT = {33: (0, 0), 160: (1, -0.5), 158: (2, -0.5), 133: (4, 0), 153: (2, 0.5), 144: (1, 0.5)}  # 1 high, 4 wide
MOUTH = {78: (0, 0), 81: (1, -1), 13: (2, -2), 311: (3, -1), 308: (4, 0), 402: (3, 1), 14: (2, 2), 178: (1, 1)}
SIZE = np.array([[1.0, 1.0]])


def face(*parts: Mapping[int, tuple[float, float]]) -> npt.NDArray[np.float32]:
    landmarks = np.zeros((1, 478, 3), np.float32)
    for part in parts:
        landmarks[0, list(part), :2] = list(part.values())
    return landmarks


def test_each_is_the_mean_height_by_the_width() -> None:
    found = openness(face(LEFT, RIGHT, MOUTH), SIZE)
    assert [float(each[0]) for each in found] == pytest.approx([2 / 3, 1 / 4, (2 + 4 + 2) / 3 / 4])


def test_they_are_those_of_the_picture_whatever_its_shape_and_the_roll_of_the_face() -> None:
    upright = face(LEFT, RIGHT, MOUTH)
    cosine, sine = np.cos(0.7), np.sin(0.7)
    turned = upright.copy()
    turned[:, :, :2] = 30 * upright[:, :, :2] @ np.array([[cosine, sine], [-sine, cosine]])
    turned[:, :, :2] /= (1920, 1080)
    for before, after in zip(openness(upright, SIZE), openness(turned, np.array([[1920, 1080]])), strict=True):
        assert after == pytest.approx(before, rel=1e-5)


def test_where_landmarks_fall_together_nothing_is_known() -> None:
    assert np.isnan(openness(face(), SIZE)).all()


def test_a_mesh_without_irises_is_measured_too() -> None:
    assert openness(face(LEFT)[:, :468], SIZE).left_eye[0] == pytest.approx(2 / 3)
