"""The turns of a head, against turns made by hand and against faces."""

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.faces import FaceLandmarker, Pose

Matrix = npt.NDArray[np.float32]
NOSE, LEFT, CROWN = np.eye(3)[[2, 0, 1]]  # of an upright head that looks into the camera


def about(axis: int, degrees: float) -> npt.NDArray[np.float64]:
    """Turn right-handed about x, y or z: the next axis towards the one after it."""
    after, last = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[after, after] = matrix[last, last] = np.cos(np.radians(degrees))
    matrix[last, after] = np.sin(np.radians(degrees))
    matrix[after, last] = -matrix[last, after]
    return matrix


def turned(yaw: float = 0, pitch: float = 0, roll: float = 0) -> npt.NDArray[np.float64]:
    return about(1, yaw) @ about(0, pitch) @ about(2, roll)


@given(st.floats(-179, 179), st.floats(-89, 89), st.floats(-179, 179), st.floats(0.01, 100))
def test_turns_come_back_whatever_the_scale_and_place(yaw: float, pitch: float, roll: float, scale: float) -> None:
    matrix = np.eye(4, dtype=np.float32)
    matrix[:3, :3] = turned(yaw, pitch, roll) * scale
    matrix[:3, 3] = 10, -20, -50
    assert Pose.of(matrix) == pytest.approx((yaw, pitch, roll), abs=0.01)


def test_no_turn_is_0() -> None:
    assert Pose.of(np.eye(4)) == Pose(0, 0, 0)
    assert Pose.of(np.eye(3)) == Pose(0, 0, 0)


def test_positive_yaw_brings_the_nose_to_the_right_of_the_picture() -> None:
    x, y, _ = turned(yaw=30) @ NOSE
    assert (x, y) == pytest.approx((0.5, 0))


def test_positive_pitch_looks_down() -> None:
    x, y, _ = turned(pitch=30) @ NOSE
    assert (x, y) == pytest.approx((0, -0.5))


def test_positive_roll_tilts_the_crown_to_the_left_of_the_picture_where_the_right_shoulder_is() -> None:
    x, y, _ = turned(roll=30) @ CROWN
    assert (x, y) == pytest.approx((-0.5, np.sqrt(0.75)))


def test_a_head_nods_about_the_axis_of_its_ears_after_it_has_turned() -> None:
    matrix = turned(yaw=90, pitch=40)
    assert matrix @ LEFT == pytest.approx((0, 0, -1))  # stays where the turn took it
    assert Pose.of(matrix) == pytest.approx((90, 40, 0), abs=1e-4)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=16, max_size=16))
def test_any_matrix_that_a_peer_may_send_has_finite_turns(numbers: list[float]) -> None:
    yaw, pitch, roll = Pose.of(np.array(numbers, np.float32).reshape(4, 4))
    assert -180 <= yaw <= 180
    assert -90 <= pitch <= 90
    assert -180 <= roll <= 180


async def pose_of(model: Path, image: npt.NDArray[np.uint8]) -> Pose:
    async with FaceLandmarker(model=model, matrix=True) as landmarker:
        (face,) = await landmarker.detect(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"))
    assert face.pose is not None
    return face.pose


async def test_a_real_face_turns_as_its_photograph_does(face_model: Path, portrait: npt.NDArray[np.uint8]) -> None:
    upright = await pose_of(face_model, portrait)
    assert upright == pytest.approx((0, 10, -3), abs=6)  # she looks into the camera, head bent a little
    mirrored = await pose_of(face_model, portrait[:, ::-1])
    assert mirrored == pytest.approx((-upright.yaw, upright.pitch, -upright.roll), abs=2)
    counterclockwise = await pose_of(face_model, np.rot90(portrait))
    assert counterclockwise.roll == pytest.approx(upright.roll + 90, abs=5)


async def test_a_face_whose_nose_is_moved_to_the_right_of_the_picture_has_turned_there(
    face_model: Path, portrait: npt.NDArray[np.uint8]
) -> None:
    yaws = []
    for shift in (-0.15, 0, 0.15):
        column = np.linspace(-1, 1, 320)
        source = column - shift * (1 - column**2) * np.exp(-((column / 0.6) ** 2))
        image = portrait[:, np.rint((source + 1) * 159.5).astype(int)]
        yaws.append((await pose_of(face_model, image)).yaw)
    assert yaws[0] + 2 < yaws[1] < yaws[2] - 2
