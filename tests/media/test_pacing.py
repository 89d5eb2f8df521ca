import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import aclosing

import av
import pytest
from turned import turned
from waiting import turns

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media.pacing import drawn, taken

Put = Callable[[av.VideoFrame], None]


def numbered(number: int) -> av.VideoFrame:
    frame = av.VideoFrame(2, 2, "yuv420p")
    frame.pts = number
    return frame


@turned
async def test_drawn_frames_do_not_drift() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with aclosing(drawn(numbered, 100)) as frames:
        async for frame in frames:
            assert loop.time() - start == pytest.approx((frame.pts or 0) / 100)
            if frame.pts == 50:
                break


async def test_drawing_leaves_the_loop_alone() -> None:
    finish = threading.Event()

    def slow(number: int) -> av.VideoFrame:
        finish.wait(5)
        return numbered(number)

    async with aclosing(drawn(slow, 30)) as frames:
        first = asyncio.ensure_future(anext(frames))
        await turns(20)
        assert not first.done()
        finish.set()
        await first


async def test_an_error_in_drawing_reaches_the_consumer() -> None:
    def broken(number: int) -> av.VideoFrame:
        raise SourceError(f"no frame {number}")

    with pytest.raises(SourceError, match="no frame 0"):
        await anext(drawn(broken, 30))


async def test_only_the_newest_frame_is_taken() -> None:
    go = threading.Event()

    def produce(put: Put, stop: threading.Event) -> None:
        for number in range(10):
            put(numbered(number))
        go.set()
        stop.wait()

    async with aclosing(taken(produce)) as frames:
        first = asyncio.ensure_future(anext(frames))
        await turns()
        assert go.wait(5)  # without giving way to the loop
        assert (await first).pts == 9


async def test_the_last_frame_comes_before_the_end() -> None:
    def produce(put: Put, _: threading.Event) -> None:
        put(numbered(3))

    assert [frame.pts async for frame in taken(produce)] == [3]


async def test_as_many_as_are_kept_are_taken_in_order() -> None:
    done = threading.Event()

    def produce(put: Put, _: threading.Event) -> None:
        for number in range(10):
            put(numbered(number))
        done.set()

    frames = taken(produce, keep=3)
    first = asyncio.ensure_future(anext(frames))
    await turns()
    assert done.wait(5)  # the loop stands still while the thread goes on
    assert (await first).pts in range(8)
    assert [frame.pts async for frame in frames][-2:] == [8, 9]


async def test_an_error_in_the_thread_reaches_the_consumer() -> None:
    def produce(put: Put, _: threading.Event) -> None:
        put(numbered(0))
        raise SourceError("unplugged")

    frames = taken(produce)
    assert (await anext(frames)).pts == 0
    with pytest.raises(SourceError, match="unplugged"):
        await anext(frames)


async def test_closing_waits_for_the_thread() -> None:
    ended = threading.Event()
    loop = asyncio.get_running_loop()

    def produce(put: Put, stop: threading.Event) -> None:
        put(numbered(0))
        stop.wait()
        asyncio.run_coroutine_threadsafe(turns(20), loop).result(5)
        ended.set()

    async with aclosing(taken(produce)) as frames:
        await anext(frames)
    assert ended.is_set()


async def test_closing_does_not_wait_for_a_read_that_hangs() -> None:
    release = threading.Event()

    def produce(put: Put, _: threading.Event) -> None:
        put(numbered(0))
        release.wait()

    started = time.monotonic()
    try:
        async with aclosing(taken(produce)) as frames:
            await anext(frames)
        assert time.monotonic() - started < 2
    finally:
        release.set()


async def test_a_cancelled_consumer_stops_the_thread() -> None:
    ended = threading.Event()

    def produce(_: Put, stop: threading.Event) -> None:
        stop.wait()
        ended.set()

    async def consume() -> None:
        async with aclosing(taken(produce)) as frames:
            await anext(frames)

    task = asyncio.create_task(consume())
    await turns(20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.wait(5)
