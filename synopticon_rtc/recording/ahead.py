"""What is read in a thread, one item ahead of who uses it."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

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
