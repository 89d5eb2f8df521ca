"""What the detector's model says of its anchors becomes one box a face."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from synopticon_rtc.faces.litert.detector import SIZE, anchors, decoded, overlaps, suppressed

numbers = arrays(np.float32, st.tuples(st.integers(0, 12), st.just(8), st.just(2)), elements=st.floats(0, 1, width=32))


def test_anchors_are_those_of_blazeface() -> None:
    places = anchors()
    assert places.shape == (896, 2)
    assert places[0].tolist() == places[1].tolist() == [0.5 / 16] * 2
    assert places[2].tolist() == [1.5 / 16, 0.5 / 16]  # along the row first
    assert (places[512:518] == 0.5 / 8).all()  # six at each place of the coarse layers
    assert places[-1].tolist() == [7.5 / 8] * 2


def test_boxes_and_points_are_counted_from_their_anchor() -> None:
    said = np.zeros((1, 8, 2), np.float32)
    said[0, 0] = 12.8, -12.8  # the middle, in pixels of the model's picture
    said[0, 1] = 0.5 * SIZE, 0.25 * SIZE
    said[0, 2] = 0, 6.4
    corner, other, eye, *_ = decoded(said, np.array([[0.5, 0.5]], np.float32))[0]
    assert [*corner, *other] == pytest.approx([0.35, 0.275, 0.85, 0.525])
    assert eye == pytest.approx([0.5, 0.55])


@given(numbers)
def test_no_two_faces_are_where_one_is(found: np.ndarray) -> None:
    found[:, 1] += found[:, 0] + 0.01  # the other corner
    scores = np.linspace(1, 0.5, len(found), dtype=np.float32)
    faces = suppressed(found, scores)
    assert bool(len(found)) == bool(faces)
    for face in faces:  # a mean of some that were there
        assert (face >= found.min(axis=0) - 1e-6).all()
        assert (face <= found.max(axis=0) + 1e-6).all()


def test_what_overlaps_is_averaged_by_its_scores() -> None:
    box = np.zeros((3, 8, 2), np.float32)
    box[:, 1] = 0.4
    box[1] += 0.04
    box[2] += 0.5
    first, second = suppressed(box, np.array([0.6, 0.9, 0.7], np.float32))
    assert first[0] == pytest.approx(0.04 * 0.9 / 1.5)
    assert second[0] == pytest.approx([0.5, 0.5])


def test_a_box_without_an_area_overlaps_nothing() -> None:
    assert overlaps(np.zeros((1, 2, 2), np.float32), np.zeros((2, 2), np.float32)).tolist() == [0]
    assert suppressed(np.zeros((1, 8, 2), np.float32), np.ones(1, np.float32)) == []
