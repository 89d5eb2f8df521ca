import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_films import film
from waiting import turns, until

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media import Camera, TestPattern, VideoFile, as_source, frames_of, images


def test_a_path_is_taken_as_the_command_line_takes_it(tmp_path: Path) -> None:
    path = film(tmp_path / "talk.mp4")
    assert isinstance(as_source(str(path)), VideoFile)
    assert isinstance(as_source(path), VideoFile)
    assert isinstance(as_source("test"), TestPattern)


def test_a_number_is_a_camera() -> None:
    assert isinstance(as_source(0), Camera)


def test_a_source_stays_as_it_is() -> None:
    source = TestPattern()
    assert as_source(source) is source


async def endless() -> AsyncIterator[av.VideoFrame]:
    while True:
        yield av.VideoFrame(64, 48, "yuv420p")
        await turns()


@pytest.mark.parametrize("wrong", [None, True, 1.5, TestPattern, endless, np.zeros((4, 4, 3), np.uint8), b"talk.mp4"])
def test_what_is_no_source_is_refused_in_words(wrong: object) -> None:
    with pytest.raises(SourceError, match=r"^[^\n]* is no source of frames[^\n]*$"):
        as_source(wrong)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - on purpose


def test_a_function_that_was_not_called_is_told() -> None:
    with pytest.raises(SourceError, match="call it"):
        as_source(endless)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - on purpose


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 3), (48, 64, 4)])
async def test_arrays_are_taken_as_images(shape: tuple[int, ...]) -> None:
    image = np.full(shape, 200, np.uint8)
    if len(shape) == 3:
        image[..., 0] = 0  # no blue
    frames = [frame async for frame in frames_of(as_source(iter([image])))]
    red, green, blue = (int(value) for value in frames[0].to_ndarray(format="rgb24")[10, 10])
    assert (red, green) == (200, 200)
    assert blue == (200 if len(shape) == 2 else 0)


async def test_arrays_of_an_asynchronous_source_are_taken_too() -> None:
    async def source() -> AsyncIterator[Any]:
        yield np.zeros((48, 64, 3), np.uint8)
        await turns()

    assert [frame.width async for frame in frames_of(as_source(source()))] == [64]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((48, 64, 3), np.float32),
        np.zeros((48, 64, 2), np.uint8),
        np.zeros((0, 64, 3), np.uint8),
        np.zeros(5, np.uint8),
        "x",
    ],
)
async def test_other_things_are_refused_in_words(image: object) -> None:
    with pytest.raises(SourceError, match=r"^a source gave [^\n]*; give [^\n]*$"):
        await anext(frames_of(as_source(iter([image]))))


async def test_a_plain_iterator_is_asked_in_a_thread_and_nothing_is_left_out() -> None:
    threads = set()

    def source() -> Iterator[av.VideoFrame]:
        for number in range(20):
            threads.add(threading.current_thread())
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = number
            yield frame

    assert [frame.pts async for frame in frames_of(as_source(source()))] == list(range(20))
    assert threads.isdisjoint({threading.main_thread()})


async def test_a_plain_generator_is_closed_when_nobody_wants_more() -> None:
    closed = threading.Event()

    def source() -> Iterator[av.VideoFrame]:
        try:
            while True:
                yield av.VideoFrame(64, 48, "yuv420p")
        finally:
            closed.set()

    frames = frames_of(as_source(source()))
    await anext(frames)
    await frames.aclose()
    assert await asyncio.to_thread(closed.wait, 5)


async def test_a_source_that_never_waits_leaves_the_loop_its_turn() -> None:
    async def source() -> AsyncIterator[av.VideoFrame]:
        while True:
            yield av.VideoFrame(64, 48, "yuv420p")

    taken = 0

    async def count() -> None:
        nonlocal taken
        while True:
            taken += 1
            await turns()

    other = asyncio.create_task(count())
    frames = frames_of(as_source(source()))
    for _ in range(10):
        await anext(frames)
    other.cancel()
    assert taken >= 9


async def test_a_source_that_blocks_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def blocking() -> AsyncIterator[av.VideoFrame]:
        for _ in range(3):
            time.sleep(2 * images.BLOCKING)  # noqa: ASYNC251 - as a camera's read
            yield av.VideoFrame(64, 48, "yuv420p")

    _ = [frame async for frame in frames_of(as_source(blocking()))]
    assert caplog.text.count("holds up the event loop") == 1
    assert "plain generator" in caplog.text


async def test_a_first_frame_that_does_not_come_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "PATIENCE", 0.01)
    caplog.set_level(logging.WARNING)

    async def silent() -> AsyncIterator[av.VideoFrame]:
        await until(lambda: caplog.text)
        yield av.VideoFrame(64, 48, "yuv420p")

    await anext(frames_of(as_source(silent())))
    assert "async_generator has given no frame in 0.01 s; it is waited for" in caplog.text
