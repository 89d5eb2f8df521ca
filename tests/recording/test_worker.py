"""A thread that works beside: its last job is done whatever happens to who waits for it."""

import asyncio
import threading

import pytest

from synopticon_rtc.recording.worker import Worker


async def test_jobs_are_done_one_after_the_other_and_the_last_is_waited_for() -> None:
    worker, done = Worker("test"), list[int]()
    await worker.do(lambda: done.append(1))
    await worker.do(lambda: done.append(2))
    await worker.end(lambda: done.append(3), lambda: done.append(-1))
    assert done == [1, 2, 3]


async def test_after_a_job_that_failed_the_last_is_abandoned() -> None:
    worker, done = Worker("test"), list[str]()

    def fails() -> None:
        raise OSError("full")

    await worker.do(fails)
    with pytest.raises(OSError, match="full"):
        await worker.end(lambda: done.append("ended"), lambda: done.append("abandoned"))
    assert done == ["abandoned"]


async def test_a_last_job_that_fails_is_abandoned() -> None:
    worker, done = Worker("test"), list[str]()

    def fails() -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        await worker.end(fails, lambda: done.append("abandoned"))
    assert done == ["abandoned"]


async def test_the_last_job_is_done_though_who_waits_for_the_one_before_is_cancelled() -> None:
    worker, go_on, ended = Worker("test"), threading.Event(), threading.Event()

    def waits() -> None:
        go_on.wait()

    await worker.do(waits)
    ending = asyncio.create_task(worker.end(ended.set, lambda: None))
    await asyncio.wait([ending], timeout=0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    go_on.set()
    assert await asyncio.to_thread(ended.wait, 10)
