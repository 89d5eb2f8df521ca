"""What `receive --show` draws on a frame, and `receive --faces-out` writes of it."""

import dataclasses
import json
from pathlib import Path

import av
import numpy as np
import pytest

from synopticon_rtc import Face, Moment, Receiver
from synopticon_rtc.commands import receive as command
from synopticon_rtc.commands.receive import _FacesFile, _Picture

FACE = Face(np.random.default_rng(1).uniform(0.4, 0.8, (478, 3)).astype(np.float32), {})


def moment(*faces: Face, detected: bool) -> Moment:
    frame = av.VideoFrame.from_ndarray(np.full((360, 640, 3), 128, np.uint8), format="bgr24")
    return Moment(frame, faces, detected, None, 0)


def drawn(picture: _Picture, what: Moment) -> tuple[bool, bool]:
    """Whether anything is drawn where the figures are, and where the face is."""
    image = picture.draw(what).astype(int)
    return bool((abs(image[:30, :100] - 128) > 20).any()), bool((abs(image[140:300, 250:520] - 128) > 20).any())


@pytest.fixture
def picture() -> _Picture:
    return _Picture(Receiver("ws://127.0.0.1:1/ws"))


def test_figures_and_faces_are_drawn(picture: _Picture) -> None:
    assert drawn(picture, moment(FACE, detected=True)) == (True, True)
    assert drawn(picture, moment(detected=True)) == (True, False)


def test_a_frame_that_was_not_looked_at_keeps_the_faces_for_a_while(
    picture: _Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture.draw(moment(FACE, detected=True))
    assert drawn(picture, moment(detected=False)) == (True, True)
    monkeypatch.setattr(command, "STALE", -1.0)
    assert drawn(picture, moment(detected=False)) == (True, False)


def test_faces_of_a_sender_without_timestamps_are_drawn(picture: _Picture) -> None:
    assert drawn(picture, moment(FACE, detected=False)) == (True, True)


def written(path: Path, what: Moment) -> str:
    with _FacesFile(path) as file:
        file.write(what)
    return path.read_text()


def test_landmarks_are_written_with_five_decimals_at_most(tmp_path: Path) -> None:
    line = written(tmp_path / "faces.jsonl", moment(FACE, detected=True))
    landmarks = json.loads(line)["faces"][0]["landmarks"]
    assert max(len(text) for text in line.replace("[", ",").replace("]", ",").split(",") if text.startswith("0.")) == 7
    assert np.array(landmarks) == pytest.approx(FACE.landmarks, abs=5.1e-6)


def test_what_is_known_of_a_face_is_written_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "faces.jsonl"
    (plain,) = json.loads(written(path, moment(FACE, detected=True)))["faces"]
    assert plain.keys() == {"id", "landmarks"}
    known = dataclasses.replace(FACE, blendshapes={"jawOpen": 0.5}, matrix=np.eye(4, dtype=np.float32), id=7)
    (told,) = json.loads(written(path, moment(known, detected=True)))["faces"]
    assert (told["id"], told["blendshapes"]) == (7, {"jawOpen": 0.5})
    assert told["matrix"] == np.eye(4).tolist()
    assert told["pose"] == {"yaw": 0, "pitch": 0, "roll": 0}
