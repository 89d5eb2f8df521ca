"""What is opened in a thread is closed by somebody."""

import asyncio
import threading

import pytest

from synopticon_rtc.basics.opening import open_in_thread


async def test_it_gives_what_was_opened() -> None:
    closed: list[int] = []
    assert await open_in_thread(lambda: 1, closed.append) == 1
    assert not closed


async def test_what_opening_raises_is_raised() -> None:
    with pytest.raises(FileNotFoundError):
        await open_in_thread(lambda: open("/nowhere/at/all"), print)  # noqa: PTH123, SIM115 - what raises is the test


async def test_what_nobody_waits_for_any_more_is_closed_before_the_cancellation_goes_on() -> None:
    begun, go_on = threading.Event(), threading.Event()
    closed: list[int] = []

    def opener() -> int:
        begun.set()
        go_on.wait()
        return 1

    task = asyncio.create_task(open_in_thread(opener, closed.append))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    await asyncio.wait([task], timeout=0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed == [1]


async def test_an_error_that_nobody_waits_for_any_more_is_dropped() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def opener() -> int:
        begun.set()
        go_on.wait()
        raise FileNotFoundError

    task = asyncio.create_task(open_in_thread(opener, print))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
