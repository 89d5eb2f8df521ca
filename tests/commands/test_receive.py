"""What `receive --show` draws on a frame."""

import av
import numpy as np
import pytest

from synopticon_rtc import Face, Moment, Receiver
from synopticon_rtc.commands import receive as command
from synopticon_rtc.commands.receive import _Picture

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
