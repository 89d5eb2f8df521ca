"""Items of which something is made while those before are in use."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from synopticon_rtc.recording.ahead import in_order


class Making:
    """Makes something of numbers, each when it is let.

    Args:
        count: How many numbers there are.
        error: What ends them.
    """

    def __init__(self, count: int, error: type[Exception] | None = None) -> None:
        self.count = count
        self.error = error
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.let = [asyncio.Event() for _ in range(count)]

    async def numbers(self) -> AsyncGenerator[int, None]:
        for number in range(self.count):
            yield number
        if self.error is not None:
            raise self.error("no more")

    async def make(self, number: int) -> str:
        self.begun.append(number)
        try:
            await self.let[number].wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        return str(number)

    def made(self, most: int) -> contextlib.aclosing[AsyncGenerator[tuple[int, str], None]]:
        return contextlib.aclosing(in_order(self.numbers(), self.make, most))


async def settle() -> None:
    """Let all that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_it_is_made_of_those_that_follow_while_one_is_in_use_and_of_no_more() -> None:
    making = Making(9)
    making.let[0].set()
    making.let[1].set()
    async with making.made(2) as made:
        assert await anext(made) == (0, "0")
        await settle()
        assert making.begun == [0, 1, 2]
        assert await anext(made) == (1, "1")
        await settle()
        assert making.begun == [0, 1, 2, 3]


async def test_they_come_in_order_whichever_is_done_first() -> None:
    making = Making(3)
    making.let[2].set()
    making.let[1].set()
    asyncio.get_running_loop().call_soon(making.let[0].set)
    async with making.made(2) as made:
        assert [number async for number, _ in made] == [0, 1, 2]


async def test_an_error_comes_after_all_that_was_made_before_it() -> None:
    making = Making(3, ValueError)
    for let in making.let:
        let.set()
    async with making.made(2) as made:
        for number in range(3):
            assert await anext(made) == (number, str(number))
        with pytest.raises(ValueError, match="no more"):
            await anext(made)


async def test_who_has_enough_ends_the_making() -> None:
    making = Making(9)
    making.let[0].set()
    async with making.made(2) as made:
        await anext(made)
        await settle()
    assert making.cancelled == [1, 2]
