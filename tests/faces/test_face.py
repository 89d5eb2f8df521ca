"""What a face says of itself."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest

from synopticon_rtc.faces import GROUPS, LIPS, Face, Group

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
NAMES: tuple[Group, ...] = get_args(Group)
WIDTH, HEIGHT = 1280, 720


@pytest.fixture(scope="module")
def face() -> Face:
    """A real one, turned a little to her right."""
    (near,) = (vector for vector in VECTORS["binary"]["valid"] if vector["name"] == "a near face")
    (landmarks,) = (face["landmarks"] for face in near["message"]["faces"])
    return Face(np.array(landmarks, np.float32).reshape(478, 3), {})


def centre(points: npt.NDArray[np.float32]) -> tuple[float, float]:
    x, y, _ = points.mean(axis=0).tolist()
    return x, y


def test_the_box_holds_every_landmark_and_touches_four() -> None:
    landmarks = np.random.default_rng(1).uniform(-0.2, 1.3, (478, 3)).astype(np.float32)
    box = Face(landmarks, {}).box
    x, y, _ = landmarks.T
    assert ((box.left <= x) & (x <= box.right) & (box.top <= y) & (y <= box.bottom)).all()
    assert (box.left in x, box.right in x, box.top in y, box.bottom in y) == (True,) * 4
    assert all(type(side) is float for side in box)


def test_pixels_are_the_frames_and_z_is_on_the_scale_of_x() -> None:
    landmarks = np.array([[0, 0, -0.25], [0.5, 0.5, 0], [1, 1, 0.25]], np.float32)
    pixels = Face(landmarks, {}).to_pixels(WIDTH, HEIGHT)
    assert pixels.tolist() == [[0, 0, -320], [640, 360, 0], [1280, 720, 320]]
    assert pixels.dtype == np.float32


def test_a_face_has_no_pose_without_a_matrix_and_is_number_0_unless_followed(face: Face) -> None:
    assert face.pose is None
    assert face.id == 0
    assert Face(face.landmarks, {}, np.eye(4, dtype=np.float32)).pose == (0, 0, 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_group_has_each_of_its_landmarks_once(face: Face, name: Group) -> None:
    indices = GROUPS[name]
    assert len(set(indices.tolist())) == len(indices)
    np.testing.assert_array_equal(face.group(name), face.landmarks[indices])
    with pytest.raises(ValueError, match="read-only"):
        indices[0] = 0


def test_groups_are_where_they_are_in_a_face(face: Face) -> None:
    at: dict[str, tuple[float, float]] = {name: centre(face.group(name)) for name in NAMES}
    for part in ("eye", "eyebrow", "iris"):
        left, right = at[f"left_{part}"], at[f"right_{part}"]
        assert left[0] > right[0]  # her left is on the right of the picture
        assert abs(left[1] - right[1]) < 0.2 * (face.box.bottom - face.box.top)
    assert at["left_eyebrow"][1] < at["left_eye"][1] < at["lips"][1]
    assert at["left_iris"] == pytest.approx(at["left_eye"], abs=0.01)
    oval = face.group("face_oval")
    assert np.ptp(oval[:, 1]) == pytest.approx(face.box.bottom - face.box.top, abs=0.01)
    assert len(face.group("lips")) == len(np.unique(LIPS)) == 40


def test_the_oval_goes_around(face: Face) -> None:
    oval = face.group("face_oval")[:, :2] - face.landmarks[:468, :2].mean(axis=0)
    angles = np.unwrap(np.arctan2(oval[:, 1], oval[:, 0]))
    assert (np.diff(angles) > 0).all()
    assert angles[-1] - angles[0] == pytest.approx(2 * np.pi, abs=0.5)


def test_a_face_without_irises_has_none(face: Face) -> None:
    face = Face(face.landmarks[:468], {})
    assert face.group("left_iris").shape == face.group("right_iris").shape == (0, 3)
    assert len(face.group("left_eye")) == 16
