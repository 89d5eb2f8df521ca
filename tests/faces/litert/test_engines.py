"""Both engines find the same, and each says what it lacks."""

import subprocess
import sys
import zipfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from synopticon_rtc import Face, FaceLandmarker, Portrait
from synopticon_rtc.errors import DetectorError, ModelError
from synopticon_rtc.faces.engine import Choice
from synopticon_rtc.faces.litert.bundle import Bundle

FPS = 30
Photo = npt.NDArray[np.uint8]


async def found(
    model: Path, frames: Iterable[av.VideoFrame], engine: Choice, max_faces: int = 1
) -> list[tuple[Face, ...]]:
    options = {"blendshapes": True, "matrix": True}
    landmarker = FaceLandmarker(model=model, max_faces=max_faces, live=False, engine=engine, **options)
    faces = []
    async with landmarker:
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            faces.append(await landmarker.detect(frame))
    return faces


def assert_alike(ours: list[tuple[Face, ...]], theirs: list[tuple[Face, ...]], size: tuple[int, int]) -> None:
    assert [len(faces) for faces in ours] == [len(faces) for faces in theirs]
    pairs = [pair for both in zip(ours, theirs, strict=True) for pair in zip(*both, strict=True)]
    off = np.array([one.to_pixels(*size) - other.to_pixels(*size) for one, other in pairs])
    across = np.linalg.norm(off[..., :2], axis=2)
    assert across.mean() < 0.25
    assert np.percentile(across, 99) < 1
    assert np.abs(off[..., 2]).mean() < 0.5
    scores = [[one.blendshapes[name] - score for name, score in other.blendshapes.items()] for one, other in pairs]
    assert np.abs(scores).mean() < 0.02
    for one, other in pairs:
        assert one.pose == pytest.approx(other.pose, abs=0.5)
        assert one.matrix is not None
        assert one.matrix == pytest.approx(other.matrix, abs=0.2)


async def test_a_moving_portrait_is_found_alike(face_model: Path) -> None:
    portrait = Portrait((1280, 720), FPS)
    frames = [portrait.draw(3 * number) for number in range(12)]
    assert_alike(await found(face_model, frames, "litert"), await found(face_model, frames, "mediapipe"), (1280, 720))


def side_by_side(portrait: Photo) -> list[av.VideoFrame]:
    """Two faces that come nearer, cross and part, the left one in front."""
    frames = []
    for step in range(0, 321, 16):
        picture = np.full((320, 640, 3), 128, np.uint8)
        picture[:, 320 - step : 640 - step] = portrait[:, ::-1]
        picture[:, step : step + 320] = portrait
        frames.append(av.VideoFrame.from_ndarray(picture, format="rgb24"))
    return frames


async def test_two_faces_that_cross_are_found_alike(face_model: Path, portrait: Photo) -> None:
    frames = side_by_side(portrait)
    ours, theirs = [await found(face_model, frames, engine, 2) for engine in ("litert", "mediapipe")]
    assert {len(faces) for faces in theirs} == {1, 2}
    assert_alike(ours, theirs, (640, 320))


async def test_a_face_that_leaves_and_comes_back_is_found_alike(face_model: Path, portrait: Photo) -> None:
    frames = []
    for left in (*range(160, 640, 60), 640, 640, 160, 150, 140):
        picture = np.full((360, 640, 3), 128, np.uint8)
        picture[20:340, left : left + 320] = portrait[:, : max(0, 640 - left)]
        frames.append(av.VideoFrame.from_ndarray(picture, format="rgb24"))
    ours, theirs = [await found(face_model, frames, engine) for engine in ("litert", "mediapipe")]
    assert [len(faces) for faces in theirs][-5:] == [0, 0, 1, 1, 1]
    assert_alike(ours, theirs, (640, 360))


async def test_frames_of_one_time_or_times_that_go_back_are_looked_at_all_the_same(
    face_model: Path, portrait: Photo
) -> None:
    frame = av.VideoFrame.from_ndarray(portrait, format="rgb24")
    async with FaceLandmarker(model=face_model, live=False, engine="litert") as landmarker:
        for pts in (10, 10, 3, 0):
            frame.pts, frame.time_base = pts, Fraction(1, FPS)
            (face,) = await landmarker.detect(frame)
            assert np.isfinite(face.landmarks).all()


async def test_a_frame_that_is_too_large_is_an_error_in_words(face_model: Path, portrait: Photo) -> None:
    async with FaceLandmarker(model=face_model, engine="litert") as landmarker:
        with pytest.raises(DetectorError, match="frames of up to 32766 pixels"):
            await landmarker.detect(av.VideoFrame(40_000, 2, "yuv420p"))
        assert await landmarker.detect(av.VideoFrame.from_ndarray(portrait, format="rgb24"))


@pytest.mark.parametrize(
    ("lacking", "options"),
    [
        ("face_detector.tflite", {}),
        ("face_landmarks_detector.tflite", {}),
        ("face_blendshapes.tflite", {"blendshapes": True}),
        ("geometry_pipeline_metadata_landmarks.binarypb", {"matrix": True}),
    ],
)
async def test_a_model_that_lacks_a_part_is_told_of_it_where_the_part_is_needed(
    face_model: Path, tmp_path: Path, lacking: str, options: dict[str, bool]
) -> None:
    path = tmp_path / "own.task"
    with zipfile.ZipFile(face_model) as whole, zipfile.ZipFile(path, "w") as part:
        for name in whole.namelist():
            if name != lacking:
                part.writestr(name, whole.read(name))
    with pytest.raises(ModelError, match=rf"own\.task has no {lacking} in it"):
        await FaceLandmarker(model=path, engine="litert", **options).__aenter__()
    if options:
        async with FaceLandmarker(model=path, engine="litert"):
            pass


def test_a_model_that_is_gone_by_then_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.task cannot be read: .*No such file"):
        Bundle(tmp_path / "gone.task").part("face_detector.tflite")


@pytest.mark.parametrize("content", [b"no model", "face_blendshapes.tflite"])
async def test_a_part_that_is_something_else_is_told_of(face_model: Path, tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "own.task"
    with zipfile.ZipFile(face_model) as whole, zipfile.ZipFile(path, "w") as part:
        other = content if isinstance(content, bytes) else whole.read(content)
        part.writestr("face_detector.tflite", other)
    with pytest.raises(ModelError, match=r"face_detector\.tflite (cannot be loaded|is another kind of model)"):
        await FaceLandmarker(model=path, engine="litert").__aenter__()


@pytest.mark.parametrize(
    ("engine", "missing", "remedy"),
    [
        ("litert", "ai_edge_litert", "pip install ai-edge-litert"),
        ("litert", "cv2", "libgl1"),
        ("mediapipe", "mediapipe", "pip install .mediapipe<0.10.32"),
    ],
)
async def test_an_engine_that_is_not_installed_says_what_to_install(
    face_model: Path, monkeypatch: pytest.MonkeyPatch, engine: Choice, missing: str, remedy: str
) -> None:
    without(monkeypatch, missing)
    with pytest.raises(DetectorError, match=f"engine {engine} cannot be loaded .*{missing}.*{remedy}"):
        await FaceLandmarker(model=face_model, engine=engine).__aenter__()


async def test_auto_takes_what_is_installed(face_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FaceLandmarker(model=face_model) as first:
        assert first.name.startswith("LiteRT ")
    without(monkeypatch, "ai_edge_litert")
    async with FaceLandmarker(model=face_model) as second, second.another() as third:
        assert third.name == second.name
        assert second.name.startswith("MediaPipe ")
        assert "face_landmarker.task, sha256 64184e229b263107" in second.name
    without(monkeypatch, "mediapipe")
    with pytest.raises(DetectorError, match=r"litert cannot be loaded .*; or the engine mediapipe cannot be loaded"):
        await FaceLandmarker(model=face_model).__aenter__()


def without(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Have a library missing, and forget what was imported with it."""
    importers = {
        "ai_edge_litert": ("ai_edge_litert.interpreter", "synopticon_rtc.faces.litert.network"),
        "cv2": ("synopticon_rtc.faces.litert.picture",),
        "mediapipe": ("synopticon_rtc.faces.mediapipe_engine",),
    }
    monkeypatch.setitem(sys.modules, missing, None)
    for name in (*importers[missing], "synopticon_rtc.faces.litert.engine"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_an_engine_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="engine must be one of auto, litert, mediapipe, not 'dlib'"):
        FaceLandmarker(engine="dlib")  # type: ignore[arg-type]


def test_litert_brings_no_mediapipe_along(face_model: Path) -> None:
    code = (
        "import asyncio, sys; from synopticon_rtc.faces import FaceLandmarker\n"
        "async def main():\n"
        f"    async with FaceLandmarker(model={str(face_model)!r}, engine='litert'): pass\n"
        "asyncio.run(main())\n"
        "print([name for name in ('mediapipe', 'tensorflow', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
