"""What is got one item ahead of who uses it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


async def ahead(items: Generator[T, Any, Any]) -> AsyncGenerator[T, None]:
    """Give the items of a generator that blocks; each is got while the one before is in use, and none is left out."""
    loop, thread, end = asyncio.get_running_loop(), ThreadPoolExecutor(1, "ahead"), object()
    following: asyncio.Future[Any] = loop.run_in_executor(thread, next, items, end)
    try:
        while (item := await following) is not end:
            following = loop.run_in_executor(thread, next, items, end)
            yield item
    finally:
        following.cancel()
        thread.submit(items.close)
        thread.shutdown(wait=False)


class _End(NamedTuple):
    error: BaseException | None  # what ended it


async def overlapping(items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Give the items of an asynchronous generator, which makes up to two more of them while one is in use."""
    ready: asyncio.Queue[T | _End] = asyncio.Queue(1)

    async def get() -> None:
        error: BaseException | None = None
        try:
            async with contextlib.aclosing(items):
                async for item in items:
                    await ready.put(item)  # where there is room it goes on at once, before the item is used
        except BaseException as failure:  # raised to whoever uses the items, and waits
            if getting.cancelling():
                raise
            error = failure
        await ready.put(_End(error))

    getting = asyncio.create_task(get())
    try:
        while not isinstance(item := await ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        getting.cancel()
        await asyncio.wait([getting])
