"""Who is who from frame to frame."""

import asyncio
from collections.abc import Sequence

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc import Broadcaster, Receiver, SignalingServer, TestPattern
from synopticon_rtc.faces import Face, Tracker
from synopticon_rtc.faces.tracking import IDS

FRAME = 1 / 30  # seconds
SHAPE = np.random.default_rng(5).uniform(-0.5, 0.5, (478, 3)).astype(np.float32)
SHAPE[:4, :2] = [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]


def face_at(x: float, y: float = 0.5, size: float = 0.2) -> Face:
    return Face((SHAPE * size + [x, y, 0]).astype(np.float32), {})


def ids(faces: Sequence[Face]) -> list[int]:
    return [face.id for face in faces]


def test_faces_are_numbered_as_they_come() -> None:
    tracker = Tracker()
    assert ids(tracker.track([], 0)) == []
    assert ids(tracker.track([face_at(0.2)], FRAME)) == [0]
    assert ids(tracker.track([face_at(0.8), face_at(0.2)], 2 * FRAME)) == [1, 0]
    assert ids(tracker.track([face_at(0.8), face_at(0.5), face_at(0.2)], 3 * FRAME)) == [1, 2, 0]


def test_nothing_else_of_a_face_changes() -> None:
    matrix = np.eye(4, dtype=np.float32)
    given_ = Face(SHAPE, {"jawOpen": 0.5}, matrix, id=77)
    (face,) = Tracker().track([given_], 0)
    assert face.landmarks is SHAPE
    assert face.blendshapes is given_.blendshapes
    assert face.matrix is matrix
    assert face.id == 0


def test_moving_faces_keep_their_ids_in_whatever_order_they_are_found() -> None:
    tracker = Tracker()
    random = np.random.default_rng(6)
    for number in range(300):
        time = number * FRAME
        places = [0.2 + 0.1 * np.sin(3 * time), 0.5 + 0.1 * np.sin(5 * time + 1), 0.8 + 0.05 * np.cos(4 * time)]
        order = random.permutation(3) if number else np.arange(3)
        faces = [face_at(places[person], 0.5 + 0.2 * np.sin(time + person), 0.15) for person in order]
        assert ids(tracker.track(faces, time)) == order.tolist()


def test_a_face_passing_behind_another_keeps_its_id() -> None:
    tracker = Tracker()
    for number in range(60):
        faces = [face_at(0.5, size=0.3), face_at(0.2 + 0.01 * number, size=0.12)]
        order = [1, 0] if number % 2 else [0, 1]
        assert ids(tracker.track([faces[person] for person in order], number * FRAME)) == order


def test_a_face_may_be_missing_for_as_long_as_patience_lasts() -> None:
    tracker = Tracker(patience=1.0)
    tracker.track([face_at(0.2), face_at(0.8)], 0)
    for number in range(1, 29):
        assert ids(tracker.track([face_at(0.8)], number * FRAME)) == [1]
    assert ids(tracker.track([face_at(0.25), face_at(0.8)], 1.0)) == [0, 1]
    assert ids(tracker.track([face_at(0.8)], 1.5)) == [1]
    assert ids(tracker.track([face_at(0.25), face_at(0.8)], 2.01)) == [2, 1]


def test_a_face_elsewhere_is_another() -> None:
    tracker = Tracker()
    tracker.track([face_at(0.2)], 0)
    assert ids(tracker.track([face_at(0.4)], FRAME)) == [1]
    assert ids(tracker.track([face_at(0.4, size=0.8)], 2 * FRAME)) == [2]


def test_the_nearest_pair_is_matched_first() -> None:
    tracker = Tracker()
    tracker.track([face_at(0.5)], 0)
    assert ids(tracker.track([face_at(0.6), face_at(0.51)], FRAME)) == [1, 0]


def test_everything_is_forgotten_where_time_goes_back() -> None:
    tracker = Tracker()
    tracker.track([face_at(0.5)], 10)
    assert ids(tracker.track([face_at(0.5)], 9)) == [1]


def test_ids_begin_again_after_the_last() -> None:
    tracker = Tracker()
    tracker._next = IDS - 1
    assert ids(tracker.track([face_at(0.2), face_at(0.8)], 0)) == [65535, 0]


@given(
    st.lists(
        st.lists(st.tuples(st.floats(-8, 8), st.floats(-8, 8), st.floats(0, 4)), max_size=32), min_size=1, max_size=6
    )
)
def test_no_two_faces_of_a_frame_share_an_id(frames: list[list[tuple[float, float, float]]]) -> None:
    tracker = Tracker()
    for number, faces in enumerate(frames):
        given_ids = ids(tracker.track([face_at(*face) for face in faces], number * FRAME))
        assert len(given_ids) == len(set(given_ids)) == len(faces)


def test_ids_that_wrap_leave_out_those_in_use() -> None:
    tracker = Tracker(patience=1.0)
    tracker.track([face_at(0.2), face_at(0.2, 0.2)], 0)
    tracker._next = IDS - 1  # as after 65533 more
    assert ids(tracker.track([face_at(0.2), face_at(0.2, 0.2), face_at(0.8), face_at(0.8, 0.2)], FRAME)) == [
        0,
        1,
        IDS - 1,
        2,
    ]


class TwoFaces:
    """Finds the same two faces in each frame, in alternating order."""

    def __init__(self) -> None:
        self._faces = [face_at(0.3), face_at(0.7)]

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - so the protocol names it
        self._faces.reverse()
        return self._faces


async def test_a_receiver_gets_the_ids_that_the_broadcaster_gave_to_any_detectors_faces() -> None:
    seen: list[dict[int, float]] = []
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, TestPattern((320, 240), 30), faces=TwoFaces()),
        Receiver(server.url, timeout=15) as receiver,
        asyncio.timeout(20),
    ):
        async for moment in receiver:
            if moment.faces:
                seen.append({face.id: face.box.left for face in moment.faces})
            if len(seen) == 20:
                break
    for places in seen:
        assert places == pytest.approx(seen[0], abs=0.01)
    assert sorted(seen[0]) == [0, 1]
