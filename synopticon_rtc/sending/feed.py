"""Hands on what a source gives, and lets another take its place."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any, Generic, TypeVar

from synopticon_rtc.errors import SourceError

T = TypeVar("T")


class Feed(Generic[T]):
    """Runs one async generator after another, each until it ends or is replaced."""

    def __init__(self) -> None:
        self._next: asyncio.Future[AsyncGenerator[T, None]] | None = None  # while it runs

    async def run(self, items: AsyncGenerator[T, None], take: Callable[[T], None]) -> None:
        """Hand on each item, until there are no more."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._next = loop.create_future()
                playing = asyncio.create_task(_play(items, take))
                parts: list[asyncio.Future[Any]] = [playing, self._next]
                try:
                    await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    playing.cancel()
                    await asyncio.wait([playing])
                if not self._next.done():
                    return playing.result()
                items = self._next.result()
        finally:
            self._next = None

    async def replace(self, items: AsyncGenerator[T, None]) -> None:
        """Go on with another generator, once it has given an item; until then, and if it gives none, with this one.

        Raises:
            SourceError: The other one gives nothing, or this one has ended.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(items.aclose)
            first = await anext(items, None)
            if first is None:
                raise SourceError("the source ended before it gave anything")
            if self._next is None or self._next.done():
                raise SourceError("there is no source any more that could be replaced")
            stack.pop_all()
        self._next.set_result(_again(first, items))


async def _play(items: AsyncGenerator[T, None], take: Callable[[T], None]) -> None:
    async with contextlib.aclosing(items):
        async for item in items:
            take(item)


async def _again(first: T, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Give an item that was taken already, and the rest."""
    async with contextlib.aclosing(items):
        yield first
        async for item in items:
            yield item
