"""Still faces hold still, and moving ones get through."""

import json
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
import numpy.typing as npt
import pytest

from synopticon_rtc.faces import Detector, Face, OneEuro, Smoothed

FRAME = 1 / 30  # seconds
VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
Landmarks = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def still() -> Landmarks:
    """A real face; its box is about 0.2 of the frame wide."""
    (near,) = (vector for vector in VECTORS["binary"]["valid"] if vector["name"] == "a near face")
    return np.array(near["message"]["faces"][0]["landmarks"], np.float32).reshape(478, 3)


def width_of(landmarks: Landmarks) -> float:
    return float(np.ptp(landmarks[:, 0]))


def moved(landmarks: Landmarks, x: float) -> Landmarks:
    return landmarks + np.array([x, 0, 0], np.float32)


def run(one_euro: OneEuro, frames: Sequence[npt.NDArray[np.floating]]) -> list[Landmarks]:
    return [
        one_euro.smooth([Face(landmarks, {})], number * FRAME)[0].landmarks for number, landmarks in enumerate(frames)
    ]


def trembling(landmarks: Landmarks, count: int) -> list[Landmarks]:
    random = np.random.default_rng(8)
    deviation = 0.003 * width_of(landmarks)  # what MediaPipe leaves in noisy video
    return [(landmarks + random.normal(0, deviation, landmarks.shape)).astype(np.float32) for _ in range(count)]


def tremor(frames: Sequence[Landmarks]) -> float:
    return float(np.diff(frames, axis=0).std())


def test_a_still_face_trembles_three_times_less(still: Landmarks) -> None:
    noisy = trembling(still, 120)
    smooth = run(OneEuro(), noisy)
    assert tremor(smooth[30:]) < tremor(noisy[30:]) / 3
    assert np.mean(smooth[30:], axis=0) == pytest.approx(still, abs=0.002 * width_of(still))  # and stays in its place


def test_the_parameters_are_the_papers(still: Landmarks) -> None:
    noisy = trembling(still, 90)
    alone = tremor(run(OneEuro(beta=0), noisy)[30:])
    assert tremor(run(OneEuro(mincutoff=0.3, beta=0), noisy)[30:]) < alone / 2
    assert tremor(run(OneEuro(beta=200), noisy)[30:]) > alone
    assert tremor(run(OneEuro(beta=40, dcutoff=30), noisy)[30:]) > tremor(run(OneEuro(beta=40), noisy)[30:])


def test_it_is_the_filter_of_the_paper(still: Landmarks) -> None:
    """One coordinate by its Algorithms 1 and 2, written down as they stand there."""
    mincutoff, beta, dcutoff = 1.2, 7.0, 1.5
    random = np.random.default_rng(9)
    steps = random.normal(0, 0.01, 40).cumsum()
    frames = [moved(still, float(step)) for step in steps]
    smooth = run(OneEuro(mincutoff=mincutoff, beta=beta, dcutoff=dcutoff), frames)

    def alpha(cutoff: float) -> float:
        tau = 1 / (2 * math.pi * cutoff)
        return 1 / (1 + tau / FRAME)

    hat, speed = float(frames[0][0, 0]), 0.0
    for landmarks, result in zip(frames[1:], smooth[1:], strict=True):
        x = float(landmarks[0, 0])
        speed = alpha(dcutoff) * (x - hat) / FRAME / width_of(still) + (1 - alpha(dcutoff)) * speed
        cutoff = mincutoff + beta * abs(speed)
        hat = alpha(cutoff) * x + (1 - alpha(cutoff)) * hat
        assert result[0, 0] == pytest.approx(hat, abs=1e-5)


def test_a_step_is_followed_within_three_frames_and_not_overshot(still: Landmarks) -> None:
    step = 0.5 * width_of(still)
    smooth = run(OneEuro(), [still] * 30 + [moved(still, step)] * 15)
    way = [float((landmarks[0, 0] - still[0, 0]) / step) for landmarks in smooth[30:]]
    assert way[2] > 0.95
    assert way == sorted(way)
    assert way[-1] <= 1 + 1e-5


@pytest.mark.parametrize("speed", [0.2, 0.5, 1.0, 2.0])  # widths of the face a second
def test_a_moving_face_is_never_more_than_half_a_frame_behind_once_it_moves(still: Landmarks, speed: float) -> None:
    width = width_of(still)
    frames = [still] * 30 + [moved(still, speed * width * FRAME * number) for number in range(1, 61)]
    lag = np.array(
        [landmarks[0, 0] - result[0, 0] for landmarks, result in zip(frames, run(OneEuro(), frames), strict=True)]
    )
    assert lag.max() < 0.025 * width
    assert lag[-1] / (speed * width) < FRAME / 2


def test_parameters_do_for_faces_of_any_size(still: Landmarks) -> None:
    frames = trembling(still, 40) + [moved(still, 0.01 * number) for number in range(20)]
    near = run(OneEuro(), frames)
    far = run(OneEuro(), [landmarks / np.float32(4) for landmarks in frames])
    assert np.array(far) * 4 == pytest.approx(np.array(near), abs=1e-5)


def test_the_rate_may_vary(still: Landmarks) -> None:
    random = np.random.default_rng(10)
    one_euro = OneEuro()
    width, time = width_of(still), 0.0
    for _ in range(60):
        time += float(random.choice([1, 2, 5])) * FRAME
        (face,) = one_euro.smooth([Face(moved(still, 0.5 * width * time), {})], time)
        assert abs(face.landmarks[0, 0] - still[0, 0] - 0.5 * width * time) < 0.04 * width


def test_faces_are_told_apart_by_their_ids(still: Landmarks) -> None:
    one_euro = OneEuro()
    for number in range(30):
        faces = [Face(still, {}, id=4), Face(moved(still, 0.3), {}, id=9)]
        faces = faces if number % 2 else faces[::-1]
        for face, smooth in zip(faces, one_euro.smooth(faces, number * FRAME), strict=True):
            assert smooth.id == face.id
            assert smooth.landmarks == pytest.approx(face.landmarks, abs=1e-6)


def test_faces_that_share_an_id_are_left_as_they_are(still: Landmarks) -> None:
    one_euro = OneEuro()
    for number in range(3):
        faces = [Face(still, {}), Face(moved(still, 0.1 * number), {})]
        assert one_euro.smooth(faces, number * FRAME) == tuple(faces)


@pytest.mark.parametrize("time", [10.6, 9.0])
def test_a_face_starts_afresh_after_a_gap_and_where_time_goes_back(still: Landmarks, time: float) -> None:
    one_euro = OneEuro()
    one_euro.smooth([Face(still, {})], 10.0)
    (face,) = one_euro.smooth([Face(moved(still, 0.01), {})], time)
    np.testing.assert_array_equal(face.landmarks, moved(still, 0.01))


def test_a_face_that_loses_its_irises_starts_afresh(still: Landmarks) -> None:
    one_euro = OneEuro()
    one_euro.smooth([Face(still, {})], 0)
    (face,) = one_euro.smooth([Face(still[:468], {})], FRAME)
    assert face.landmarks.shape == (468, 3)


def test_the_same_frame_twice_gives_the_same_faces(still: Landmarks) -> None:
    one_euro = OneEuro()
    one_euro.smooth([Face(still, {})], 0)
    first = one_euro.smooth([Face(moved(still, 0.01), {})], FRAME)[0].landmarks
    again = one_euro.smooth([Face(moved(still, 0.01), {})], FRAME)[0].landmarks
    np.testing.assert_array_equal(first, again)


def test_all_but_the_landmarks_stays_and_what_was_given_is_not_written_to(still: Landmarks) -> None:
    still = still.copy()
    still.setflags(write=False)
    matrix = np.eye(4, dtype=np.float32)
    given = Face(still, {"jawOpen": 0.5}, matrix, id=3)
    one_euro = OneEuro()
    one_euro.smooth([given], 0)
    (face,) = one_euro.smooth([given], FRAME)
    assert face.blendshapes is given.blendshapes
    assert face.matrix is matrix
    assert face.landmarks.dtype == np.float32
    assert face.landmarks is not still
    assert face.id == 3


def test_faces_that_came_out_may_be_written_to(still: Landmarks) -> None:
    one_euro = OneEuro()
    for time in (0, FRAME, FRAME, 2 * FRAME):
        (face,) = one_euro.smooth([Face(still.copy(), {})], time)
        assert face.landmarks == pytest.approx(still, abs=1e-6)
        face.landmarks[:] = 7


def test_a_face_of_one_point_is_no_trouble() -> None:
    frames = [np.full((478, 3), value, np.float32) for value in (0.5, 0.5, 0.6, -8)]
    assert np.isfinite(run(OneEuro(), frames)).all()


@pytest.mark.parametrize("parameters", [{"mincutoff": 0}, {"beta": -1}, {"dcutoff": 0}, {"mincutoff": math.nan}])
def test_parameters_that_filter_nothing_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        OneEuro(**parameters)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e38])
@pytest.mark.parametrize("before", [0, 1])
def test_a_landmark_that_is_no_number_does_not_stay_in_the_smoothing(
    still: Landmarks, value: float, before: int
) -> None:
    bad = still.copy()
    bad[5, 1] = value
    one_euro = OneEuro()
    frames = run(one_euro, [*[still] * before, bad, still, still])
    assert np.array_equal(frames[before], bad, equal_nan=True)
    assert frames[-1] == pytest.approx(still)


class Trembling:
    """A detector that finds two trembling faces, in alternating order and without ids."""

    def __init__(self, landmarks: Landmarks) -> None:
        self.open = False
        self._frames = iter(trembling(landmarks, 90))
        self._number = 0

    async def __aenter__(self) -> None:
        self.open = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open = False

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - so the protocol names it
        assert self.open
        self._number += 1
        landmarks = next(self._frames)
        faces = [Face(landmarks, {}), Face(moved(landmarks, -0.4), {})]
        return faces[:: -1 if self._number % 2 else 1]


def frame_at(number: int) -> av.VideoFrame:
    frame = av.VideoFrame(16, 16, "yuv420p")
    frame.pts, frame.time_base = number, Fraction(1, 30)
    return frame


async def test_a_smoothed_detector_is_a_detector_that_follows_faces_by_itself(still: Landmarks) -> None:
    raw = Trembling(still)
    smoothed = Smoothed(raw)
    assert isinstance(smoothed, Detector)
    results: dict[int, list[Landmarks]] = {0: [], 1: []}
    async with smoothed:
        for number in range(90):
            for face in await smoothed.detect(frame_at(number)):
                results[face.id].append(face.landmarks)
    assert not raw.open
    for frames in results.values():
        assert len(frames) == 90
        assert tremor(frames[30:]) < tremor(trembling(still, 90)[30:]) / 3


async def test_a_detector_that_needs_no_entering_is_smoothed_too_and_frames_may_have_no_time(still: Landmarks) -> None:
    class Plain:
        async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - so the protocol names it
            return [Face(still, {})]

    async with Smoothed(Plain(), OneEuro(mincutoff=2)) as smoothed:
        for _ in range(2):
            (face,) = await smoothed.detect(av.VideoFrame(16, 16, "yuv420p"))
            assert face.landmarks == pytest.approx(still, abs=1e-6)


async def test_another_one_is_of_another_detector_and_forgets_nothing_of_its_parameters(still: Landmarks) -> None:
    class Following(Trembling):
        def another(self) -> Detector:
            return Trembling(still)

    first = Smoothed(Following(still), OneEuro(mincutoff=0.01, beta=0))
    second = first.another()
    assert second is not first
    results: list[list[Landmarks]] = []
    for smoothed in first, second:
        async with smoothed:
            faces = [await smoothed.detect(frame_at(number)) for number in range(20)]
        results.append([face.landmarks for found in faces for face in found if face.id == 0])
    assert np.array_equal(results[0], results[1])  # neither has smoothed over the faces of the other


def test_smoothed_faces_of_a_detector_of_which_there_is_one_are_too(still: Landmarks) -> None:
    smoothed = Smoothed(Trembling(still))
    assert smoothed.another() is smoothed
