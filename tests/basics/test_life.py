"""The life of an object: who ends it, and who is told."""

import asyncio
import contextlib

import pytest
from waiting import turns

from synopticon_rtc.basics.life import Leaving, Life


class Told:
    """Is told of the end of a life."""

    def __init__(self) -> None:
        self.ends: list[BaseException | None] = []
        self.life = Life(self.ends.append)


async def wait() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise LookupError("a part broke")


async def test_only_the_first_end_counts() -> None:
    told = Told()
    error = LookupError("first")
    told.life.end(error)
    told.life.end()
    told.life.end(LookupError("last"))
    assert told.ends == [error]
    with pytest.raises(LookupError, match="first"):
        await told.life.wait()


async def test_waiting_ends_with_it() -> None:
    told = Told()
    waiting = asyncio.create_task(told.life.wait())
    await turns()
    assert not waiting.done()
    told.life.end()
    await waiting


async def test_it_ends_with_a_part_that_fails() -> None:
    told = Told()
    async with contextlib.AsyncExitStack() as stack:
        told.life.run(stack, wait(), LookupError("cancelled"))
        told.life.run(stack, fail(), LookupError("cancelled"))
        with pytest.raises(LookupError, match="a part broke"):
            await told.life.wait()


async def test_it_ends_with_a_part_that_ends() -> None:
    told = Told()
    async with contextlib.AsyncExitStack() as stack:
        told.life.run(stack, turns(), LookupError("cancelled"))
        await told.life.wait()
    assert told.ends == [None]


async def test_a_part_that_somebody_else_cancels_is_an_error() -> None:
    told = Told()

    async def be_cancelled() -> None:
        raise asyncio.CancelledError

    async with contextlib.AsyncExitStack() as stack:
        told.life.run(stack, be_cancelled(), LookupError("cancelled"))
        with pytest.raises(LookupError, match="cancelled"):
            await told.life.wait()


async def test_stopping_its_parts_is_none() -> None:
    told = Told()
    async with contextlib.AsyncExitStack() as stack:
        told.life.run(stack, wait(), LookupError("cancelled"))
        told.life.run(stack, wait(), LookupError("cancelled"))
        await turns()
    assert told.ends == [None]


async def test_all_of_an_end_is_done_once_whoever_is_cancelled_meanwhile() -> None:
    done: list[int] = []

    async def work() -> None:
        for number in range(5):
            await turns(1)
            done.append(number)

    leaving = Leaving(work)
    assert not leaving.begun
    waiting = [asyncio.create_task(leaving.wait()) for _ in range(3)]
    await turns(2)
    assert leaving.begun
    for _ in range(2):
        waiting[0].cancel()
        await turns(1)
    await asyncio.wait(waiting)
    assert [each.cancelled() for each in waiting] == [True, False, False]
    await leaving.wait()
    assert done == [0, 1, 2, 3, 4]


async def test_what_fails_at_an_end_is_told_everybody_who_waits() -> None:
    leaving = Leaving(fail)
    for _ in range(2):
        with pytest.raises(LookupError, match="a part broke"):
            await leaving.wait()
