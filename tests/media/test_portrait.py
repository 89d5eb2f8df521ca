import importlib.util
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import av
import numpy as np
import pytest

from synopticon_rtc.errors import MissingExtra, SourceError
from synopticon_rtc.media import Portrait

SIZES = [(1280, 720), (640, 480), (480, 640), (320, 320), (1280, 200), (200, 1280)]


@pytest.mark.parametrize("size", SIZES)
def test_the_picture_fills_the_frame_wherever_the_camera_looks(size: tuple[int, int]) -> None:
    portrait = Portrait(size)
    for number in range(0, 30 * 120, 173):
        frame = portrait.draw(number)
        assert (frame.width, frame.height, frame.format.name) == (*size, "yuv420p")
        chroma = frame.to_ndarray()[size[1] :]
        assert chroma.min() >= 16  # outside the canvas it would be 0, which is no colour


def test_a_frame_follows_from_its_number() -> None:
    one, other = Portrait((320, 180)), Portrait((320, 180))
    other.draw(7)
    assert np.array_equal(one.draw(40).to_ndarray(), other.draw(40).to_ndarray())


def test_the_camera_moves_smoothly() -> None:
    portrait = Portrait((640, 360))
    frames = [portrait.draw(number).to_ndarray()[:360].astype(float) for number in (100, 101, 160)]
    step, jump = (np.abs(frames[0] - later).mean() for later in frames[1:])
    assert 0 < step < jump / 4


def test_the_same_moment_looks_the_same_at_any_rate() -> None:
    slow, fast = Portrait((320, 180), fps=15).draw(15), Portrait((320, 180), fps=60).draw(60)
    assert np.array_equal(slow.to_ndarray(), fast.to_ndarray())


async def test_frames_come_when_iterated() -> None:
    async with aclosing(cast("AsyncGenerator[av.VideoFrame, None]", aiter(Portrait((320, 180))))) as frames:
        first, second = await anext(frames), await anext(frames)
    assert first is not second
    assert not np.array_equal(first.to_ndarray(), second.to_ndarray())


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r'^the portrait needs an extra: .*pip install "\.\[portrait\]"$'):
        Portrait()


@pytest.mark.parametrize("size", [(0, 0), (-2, 48), (641, 360), (640, 361)])
def test_an_impossible_size_is_refused_in_one_line(size: tuple[int, int]) -> None:
    with pytest.raises(SourceError, match=f"^no frame can be {size[0]}x{size[1]}; give [^\n]+$"):
        Portrait(size)
