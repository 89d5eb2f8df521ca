"""Items that are made while those before are in use."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from synopticon_rtc.recording.ahead import overlapping


class Making:
    """Makes numbers, and fails after some of them.

    Args:
        count: How many it makes.
        error: How it fails then.
    """

    def __init__(self, count: int, error: type[BaseException] = ValueError) -> None:
        self.count = count
        self.error = error
        self.made: list[int] = []
        self.closed = False

    async def numbers(self) -> AsyncGenerator[int, None]:
        try:
            for number in range(self.count):
                await asyncio.sleep(0)
                self.made.append(number)
                yield number
            raise self.error("no more")
        finally:
            self.closed = True


async def settle() -> None:
    """Let all that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_follows_is_made_while_one_is_in_use_and_no_more_than_two_of_it() -> None:
    making = Making(9)
    async with contextlib.aclosing(overlapping(making.numbers())) as numbers:
        assert await anext(numbers) == 0
        await settle()
        assert making.made == [0, 1, 2]
        assert await anext(numbers) == 1
        await settle()
        assert making.made == [0, 1, 2, 3]


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, GeneratorExit])
async def test_an_error_comes_after_all_that_was_made_before_it(error: type[BaseException]) -> None:
    making = Making(3, error)
    async with contextlib.aclosing(overlapping(making.numbers())) as numbers:
        for number in range(3):
            assert await anext(numbers) == number
            await settle()
        with pytest.raises(error, match="no more"):
            async with asyncio.timeout(5):
                await anext(numbers)


async def test_who_has_enough_ends_the_making() -> None:
    making = Making(9)
    async with contextlib.aclosing(overlapping(making.numbers())) as numbers:
        await anext(numbers)
        await settle()
    assert making.closed
