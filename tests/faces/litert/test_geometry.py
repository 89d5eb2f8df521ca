"""Heads are where their matrices say."""

import math
import struct
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.errors import ModelError
from synopticon_rtc.faces import Pose
from synopticon_rtc.faces.litert.bundle import Bundle
from synopticon_rtc.faces.litert.geometry import FIELD_OF_VIEW, NAME, CanonicalFace, FaceGeometry, Fit
from synopticon_rtc.faces.litert.protobuf import fields

angles = st.floats(-math.pi, math.pi)
Matrix = npt.NDArray[np.float64]


def turned(yaw: float, pitch: float, roll: float) -> Matrix:
    def about(axis: int, angle: float) -> Matrix:
        first, second = (axis + 1) % 3, (axis + 2) % 3
        matrix = np.eye(3)
        matrix[first, first] = matrix[second, second] = math.cos(angle)
        matrix[second, first], matrix[first, second] = math.sin(angle), -math.sin(angle)
        return matrix

    return about(1, yaw) @ about(0, pitch) @ about(2, roll)


@pytest.fixture(scope="module")
def face(face_model: Path) -> CanonicalFace:
    return CanonicalFace.of(Bundle(face_model))


@given(angles, angles, angles, st.floats(0.1, 50), st.integers(4, 40), st.integers(0, 1000))
def test_what_was_turned_scaled_and_shifted_is_fitted(
    yaw: float, pitch: float, roll: float, scale: float, count: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    points, shift = random.normal(size=(count, 3)), random.normal(size=3)
    turn = turned(yaw, pitch, roll)
    matrix = Fit(points, random.uniform(0.1, 1, count)).matrix(scale * points @ turn.T + shift)
    assert matrix[:3, :3] == pytest.approx(scale * turn, abs=1e-6 * scale)
    assert matrix[:3, 3] == pytest.approx(shift, abs=1e-6 * scale)
    assert matrix[3].tolist() == [0, 0, 0, 1]


def test_a_mirror_image_is_not_fitted_by_a_mirror() -> None:
    points = np.random.default_rng(1).normal(size=(20, 3))
    assert np.linalg.det(Fit(points, np.ones(20)).matrix(points * (1, 1, -1))[:3, :3]) > 0


@given(st.floats(-0.6, 0.6), st.floats(-0.5, 0.5), st.floats(-0.7, 0.7), st.floats(60, 150), st.floats(0.5, 2))
def test_a_head_seen_by_the_camera_is_found_where_it_is(
    face: CanonicalFace, yaw: float, pitch: float, roll: float, away: float, aspect: float
) -> None:
    head = face.points @ turned(yaw, pitch, roll).T + (2, -1, -away)
    # As landmarks are: x and y in perspective, and z of a camera that is far away.
    tall = 2 * math.tan(FIELD_OF_VIEW / 2)
    near = head[:, :2] / -head[:, 2:]
    depth = -(head[:, 2] + away) / away / (tall * aspect)
    landmarks = np.column_stack([near / (tall * aspect, -tall) + 0.5, depth]).astype(np.float32)
    matrix = FaceGeometry(face).matrix(landmarks, aspect)
    assert matrix is not None
    assert matrix.dtype == np.float32
    assert Pose.of(matrix) == pytest.approx(np.degrees([yaw, pitch, roll]), abs=3)
    assert matrix[:3, 3] == pytest.approx((2, -1, -away), rel=0.05, abs=1)


def test_a_face_of_no_size_has_no_matrix(face: CanonicalFace) -> None:
    assert FaceGeometry(face).matrix(np.full((478, 3), 0.5, np.float32), 1.5) is None


def test_the_canonical_face_is_upright_and_in_centimetres(face: CanonicalFace) -> None:
    assert face.points.shape == (468, 3)
    assert 14 < np.ptp(face.points[:, 0]) < 16
    assert face.points[10, 1] > face.points[152, 1]  # the forehead above the chin
    assert face.points[1, 2] > face.points[454, 2]  # the nose before the ears
    assert np.count_nonzero(face.weights) == 33


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x0a",  # ends before its length
        b"\x0a\x05ab",
        b"\x0a\x00",  # a mesh of nothing, and no weights
        b"\x09" + bytes(8),
        b"\x0a\x05\x1d" + bytes(4),  # a fifth of a vertex
        b"\x0a\x19" + 5 * b"\x1d\x00\x00\x80\x3f" + b"\x12\x07\x08\x63\x15\x00\x00\x80\x3f",  # of landmark 99
        b"\x0a\x19" + 5 * b"\x1d\x00\x00\x80\x3f" + b"\x12\x02\x08\x00",  # a weight that is not told
        b"\x0a\x02\x18\x01\x12\x02\x08\x00",  # numbers that are whole
        b"\x0a\xc7\x5d" + 2395 * b"\x1d\x00\x00\x80\x3f" + b"\x12\x05\x15\x00\x00\x80\x3f",  # 479 points
    ],
)
def test_what_describes_no_face_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.task"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr(NAME, content)
    with pytest.raises(ModelError, match="does not describe a face"):
        CanonicalFace.of(Bundle(path))


@given(st.lists(st.tuples(st.integers(1, 2**29), st.integers(0, 2**63) | st.floats(width=32) | st.binary())))
def test_fields_are_read_as_they_were_written(written: list[tuple[int, int | float | bytes]]) -> None:
    def varint(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)

    message = b""
    for number, value in written:
        if isinstance(value, int):
            message += varint(number * 8) + varint(value)
        elif isinstance(value, float):
            message += varint(number * 8 + 5) + struct.pack("<f", value)
        else:
            message += varint(number * 8 + 2) + varint(len(value)) + value
    assert repr(list(fields(message))) == repr(written)  # NaN equals itself so


@given(st.binary())
def test_what_is_no_message_is_a_value_error(content: bytes) -> None:
    try:
        list(fields(content))
    except ValueError:
        return
