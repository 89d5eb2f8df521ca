"""What is got, or made, ahead of who uses it."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


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


async def in_order(
    items: AsyncGenerator[T, None], job: Callable[[T], Coroutine[Any, Any, R]], most: int
) -> AsyncGenerator[tuple[T, R], None]:
    """Give each item with what a job makes of it, in their order, and have it made of those that follow meanwhile.

    An error of the items comes after all that was made before it.

    Args:
        items: What there is to do, which is left to who gave it.
        job: Begun with each item in turn, whether or not it is done with those before.
        most: Of how many items that follow it is made while one is in use.
    """
    begun: deque[tuple[T, asyncio.Task[R]]] = deque()
    error: Exception | None = None
    try:
        while error is None:
            try:
                item = await anext(items)
            except Exception as failure:  # noqa: BLE001 - raised below, unless it is StopAsyncIteration
                error = failure
                continue
            begun.append((item, asyncio.create_task(job(item))))
            if len(begun) > most:
                item, made = begun.popleft()
                yield item, await made
        while begun:
            item, made = begun.popleft()
            yield item, await made
        if not isinstance(error, StopAsyncIteration):
            raise error
    finally:
        for _, made in begun:
            made.cancel()
        await asyncio.gather(*(made for _, made in begun), return_exceptions=True)
