"""Real detection on a real photograph, by each engine.

All of it holds for later MediaPipes too, which warn: `pytest -W ignore:MediaPipe`. Tried with 1.2.3.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from waiting import turns

from synopticon_rtc.errors import DetectorError, ModelError
from synopticon_rtc.faces import LEFT_EYE, LEFT_IRIS, RIGHT_EYE, RIGHT_IRIS, Detector, FaceLandmarker
from synopticon_rtc.faces.engine import Choice
from synopticon_rtc.faces.native_log import native_log

Photo = npt.NDArray[np.uint8]


def frame(image: Photo, pixel_format: str = "yuv420p") -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel_format)


@pytest.fixture(params=["litert", "mediapipe"])
def engine(request: pytest.FixtureRequest) -> Choice:
    choice: Choice = request.param
    return choice


@pytest.fixture
async def landmarker(face_model: Path, engine: Choice) -> AsyncIterator[FaceLandmarker]:
    async with FaceLandmarker(model=face_model, engine=engine) as landmarker:
        yield landmarker


async def test_one_face_has_478_landmarks_within_the_frame(landmarker: FaceLandmarker, portrait: Photo) -> None:
    (face,) = await landmarker.detect(frame(portrait))
    assert face.landmarks.shape == (478, 3)
    assert face.landmarks.dtype == np.float32
    assert face.landmarks.flags.c_contiguous
    assert face.landmarks.flags.owndata
    assert ((face.landmarks[:, :2] > 0) & (face.landmarks[:, :2] < 1)).all()
    assert face.blendshapes == {}
    assert face.matrix is None
    assert (face.landmarks[1, :2] * 320).tolist() == pytest.approx([159, 131], abs=8)  # the tip of her nose
    assert face.landmarks[:, 2].argmin() in {1, 4}  # is what is nearest


async def test_irises_lie_inside_their_eyes(landmarker: FaceLandmarker, portrait: Photo) -> None:
    (face,) = await landmarker.detect(frame(portrait))
    for iris, eye in ((LEFT_IRIS, LEFT_EYE), (RIGHT_IRIS, RIGHT_EYE)):
        centre = face.landmarks[iris[:, 0], :2].mean(axis=0)
        lids = face.landmarks[np.unique(eye), :2]
        assert (lids.min(axis=0) < centre).all()
        assert (centre < lids.max(axis=0)).all()


async def test_mediapipes_landmarks_are_those_of_its_own_result(face_model: Path, portrait: Photo) -> None:
    import mediapipe as mp  # noqa: PLC0415  # slow
    from mediapipe.tasks.python import BaseOptions, vision  # noqa: PLC0415  # slow

    options = {"output_face_blendshapes": True, "output_facial_transformation_matrixes": True}
    base = BaseOptions(model_asset_path=str(face_model))
    with vision.FaceLandmarker.create_from_options(
        vision.FaceLandmarkerOptions(base_options=base, running_mode=vision.RunningMode.VIDEO, **options)
    ) as reference:
        expected = reference.detect_for_video(mp.Image(image_format=mp.ImageFormat.SRGB, data=portrait), 1)
    async with FaceLandmarker(model=face_model, blendshapes=True, matrix=True, engine="mediapipe") as landmarker:
        (face,) = await landmarker.detect(frame(portrait, "rgb24"))
    points = [(point.x, point.y, point.z) for point in expected.face_landmarks[0]]
    assert face.landmarks == pytest.approx(np.array(points), abs=1e-5)
    scores = {shape.category_name: shape.score for shape in expected.face_blendshapes[0]}
    assert face.blendshapes == pytest.approx(scores, abs=1e-3)
    assert face.matrix == pytest.approx(expected.facial_transformation_matrixes[0], abs=1e-3)


@pytest.mark.parametrize(
    "options", [{}, {"blendshapes": True}, {"matrix": True}, {"blendshapes": True, "matrix": True}]
)
async def test_a_later_mediapipe_is_warned_of_and_gives_the_same(
    face_model: Path, portrait: Photo, monkeypatch: pytest.MonkeyPatch, options: dict[str, bool]
) -> None:
    both = frame(np.hstack([portrait, portrait]))
    async with FaceLandmarker(model=face_model, max_faces=2, engine="mediapipe", **options) as landmarker:
        expected = await landmarker.detect(both)
    monkeypatch.setattr("synopticon_rtc.faces.mediapipe_engine.LAST_SILENT", (0, 10, 29))  # so this one is later
    later = FaceLandmarker(model=face_model, max_faces=2, engine="mediapipe", **options)
    async with contextlib.AsyncExitStack() as stack:
        with pytest.warns(UserWarning, match=r"^MediaPipe [\d.]+ reports usage"):
            await stack.enter_async_context(later)
        assert await later.detect(frame(np.full((480, 640, 3), 128, np.uint8))) == ()
        faces = await later.detect(both)
    for face, other in zip(faces, expected, strict=True):
        assert face.landmarks == pytest.approx(other.landmarks, abs=1e-4)
        assert face.blendshapes == pytest.approx(other.blendshapes, abs=0.01)
        assert (face.matrix is None) == (other.matrix is None) == (not options.get("matrix"))
        assert face.matrix is None or face.matrix == pytest.approx(other.matrix, abs=0.05)
        assert face.landmarks.dtype == np.float32


async def test_blendshapes_and_matrix_come_when_asked_for(face_model: Path, portrait: Photo, engine: Choice) -> None:
    async with FaceLandmarker(model=face_model, blendshapes=True, matrix=True, engine=engine) as landmarker:
        (face,) = await landmarker.detect(frame(portrait))
    assert len(face.blendshapes) == 52
    assert {"_neutral", "jawOpen", "eyeBlinkLeft", "mouthSmileRight"} < face.blendshapes.keys()
    assert all(0 <= score <= 1 for score in face.blendshapes.values())
    assert face.blendshapes["mouthSmileLeft"] > 0.5  # she smiles
    assert face.matrix is not None
    assert face.matrix.shape == (4, 4)
    assert face.matrix.dtype == np.float32
    assert face.matrix[3].tolist() == [0, 0, 0, 1]
    assert face.matrix[2, 3] < 0  # in front of the camera, which looks along -z


async def test_two_faces_are_found_if_two_are_looked_for(face_model: Path, portrait: Photo, engine: Choice) -> None:
    both = frame(np.hstack([portrait, portrait]))
    async with FaceLandmarker(model=face_model, max_faces=2, engine=engine) as landmarker:
        faces = await landmarker.detect(both)
    assert sorted(face.landmarks[1, 0] > 0.5 for face in faces) == [False, True]
    async with FaceLandmarker(model=face_model, engine=engine) as landmarker:
        assert len(await landmarker.detect(both)) == 1


async def test_a_film_is_looked_at_by_its_own_times_at_any_pace(
    face_model: Path, portrait: Photo, engine: Choice
) -> None:
    frames = [av.VideoFrame.from_ndarray(np.roll(portrait, 4 * number, axis=1), format="rgb24") for number in range(6)]
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, Fraction(1, 25)
    found = []
    for pause in (0.0, 0.05):
        async with FaceLandmarker(model=face_model, live=False, engine=engine) as landmarker:
            for frame in frames:
                (face,) = await landmarker.detect(frame)
                found.append(face.landmarks)
                await asyncio.sleep(pause)  # which changes what the smoothing over time makes of live frames
    assert np.array_equal(found[:6], found[6:])


async def test_grey_has_no_face(landmarker: FaceLandmarker) -> None:
    assert await landmarker.detect(frame(np.full((480, 640, 3), 128, np.uint8))) == ()


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj422p", "nv12", "bgr24", "gray"])
async def test_any_pixel_format_will_do(landmarker: FaceLandmarker, portrait: Photo, pixel_format: str) -> None:
    assert len(await landmarker.detect(frame(portrait, pixel_format))) == 1


async def test_frames_may_change_their_size_on_the_way(landmarker: FaceLandmarker, portrait: Photo) -> None:
    for width, height in ((320, 320), (301, 299), (2, 2), (640, 480), (186, 186)):
        faces = await landmarker.detect(frame(portrait).reformat(width=width, height=height))
        assert len(faces) == (width > 2)


async def test_what_mediapipe_refuses_is_an_error_in_its_words(face_model: Path, portrait: Photo) -> None:
    async with FaceLandmarker(model=face_model, engine="mediapipe") as landmarker:
        await landmarker.detect(frame(portrait))
        assert landmarker._open is not None
        landmarker._open[1]._milliseconds = 2**61  # in microseconds, as MediaPipe counts, it is before all others
        with pytest.raises(DetectorError, match=r"in a frame .*timestamp must be"):
            await landmarker.detect(frame(portrait))


async def test_the_loop_runs_on_during_detection(landmarker: FaceLandmarker, portrait: Photo) -> None:
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await turns()
            gaps.append(time.perf_counter() - before)
            await asyncio.sleep(0.001)

    photo = frame(portrait)
    await landmarker.detect(photo)
    ticking = asyncio.create_task(tick())
    for _ in range(20):
        await landmarker.detect(photo)
    ticking.cancel()
    assert len(gaps) > 40  # more than the two of each detection that would come if it blocked
    assert np.quantile(gaps, 0.98) < 0.005  # but for what the machine does besides


async def test_detection_goes_on_after_a_cancelled_one(landmarker: FaceLandmarker, portrait: Photo) -> None:
    photo = frame(portrait)
    cancelled = []
    for delay in (0, 0.002, 0.005):
        task = asyncio.create_task(landmarker.detect(photo))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.wait([task])
        cancelled.append(task.cancelled())
    assert cancelled[0]  # the others may be done by then
    assert len(await landmarker.detect(photo)) == 1


async def test_leaving_waits_for_the_frame_in_work(face_model: Path, portrait: Photo) -> None:
    async with FaceLandmarker(model=face_model) as landmarker:
        task = asyncio.create_task(landmarker.detect(frame(portrait)))
        await turns()
    assert len(await task) == 1


async def test_detecting_while_not_open_is_an_error_that_says_so(face_model: Path, portrait: Photo) -> None:
    landmarker = FaceLandmarker(model=face_model)
    assert isinstance(landmarker, Detector)
    with pytest.raises(RuntimeError, match="not open"):
        await landmarker.detect(frame(portrait))
    async with landmarker:
        with pytest.raises(RuntimeError, match="open already"):
            await landmarker.__aenter__()
    with pytest.raises(RuntimeError, match="not open"):
        await landmarker.detect(frame(portrait))


async def test_a_closed_landmarker_can_be_opened_again(face_model: Path, portrait: Photo) -> None:
    landmarker = FaceLandmarker(model=face_model)
    for _ in range(2):
        async with landmarker:
            assert len(await landmarker.detect(frame(portrait))) == 1


@pytest.mark.parametrize("stage", ["finding", "loading"])
async def test_cancelling_the_loading_leaves_it_closed(face_model: Path, portrait: Photo, stage: str) -> None:
    landmarker = FaceLandmarker(model=face_model)
    opening = asyncio.create_task(landmarker.__aenter__())
    await turns()
    while stage == "loading" and landmarker._open is None:
        await turns()  # it loads no longer than that takes
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    for thread in threading.enumerate():
        if thread.name.startswith("face-landmarker"):
            thread.join(1)
            assert not thread.is_alive()
    async with landmarker:
        assert len(await landmarker.detect(frame(portrait))) == 1


@pytest.mark.parametrize("content", [b"", b"no model at all", b"PK\x05\x06" + bytes(18)])
async def test_a_file_that_is_no_model_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.task"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.task") as caught:
        await FaceLandmarker(model=path).__aenter__()
    assert "\n" not in str(caught.value)


async def test_another_one_has_the_same_options_and_a_life_of_its_own(face_model: Path, portrait: Photo) -> None:
    async with FaceLandmarker(model=face_model, blendshapes=True).another() as first, first.another() as second:
        await first.__aexit__(None, None, None)
        (face,) = await second.detect(frame(portrait))
    assert len(face.blendshapes) == 52


def test_looking_for_less_than_one_face_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        FaceLandmarker(max_faces=0)


def test_constructing_imports_neither_engine_nor_a_window_library() -> None:
    code = (
        "import sys; from synopticon_rtc.faces import FaceLandmarker; FaceLandmarker()\n"
        "print([name for name in ('mediapipe', 'ai_edge_litert', 'cv2', 'pooch', 'matplotlib') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_engines_own_log_is_kept_off_stderr(face_model: Path, engine: Choice) -> None:
    code = (
        "import asyncio; from synopticon_rtc.faces import FaceLandmarker\n"
        "async def main():\n"
        f"    async with FaceLandmarker(model={str(face_model)!r}, engine={engine!r}): print('open')\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("open\n", "")


def test_what_others_write_to_stderr_meanwhile_is_kept(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with native_log():
        os.write(2, b"W0000 00:00:1700000000.000000 42 graph.cc:174] by MediaPipe\n")
        os.write(2, b"WARNING: Logging before InitGoogle() is written to STDERR\n")
        os.write(2, b"by another thread\n")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "by another thread\nafterwards\n"
    assert [record.message[-12:] for record in caplog.records] == ["by MediaPipe", "en to STDERR"]


def test_it_works_where_stderr_is_closed(face_model: Path, engine: Choice) -> None:
    code = (
        "import asyncio; from synopticon_rtc.faces import FaceLandmarker\n"
        "async def main():\n"
        f"    async with FaceLandmarker(model={str(face_model)!r}, engine={engine!r}): print('open')\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2), check=True)
    assert done.stdout == b"open\n"
