"""Opening what takes a while, in a thread."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")


async def open_in_thread(opener: Callable[[], T], close: Callable[[T], object], threads: Executor | None = None) -> T:
    """Open something, and if this is cancelled meanwhile, close it again first: nobody else would.

    Args:
        opener: Opens it; this blocks.
        close: Closes it; this blocks too.
        threads: In one of which both are done; None for those of the event loop.

    Raises:
        Exception: What opening it raised.
    """
    loop = asyncio.get_running_loop()
    opening = loop.run_in_executor(threads, opener)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await asyncio.wait([opening])
        if opening.exception() is None:
            await loop.run_in_executor(threads, close, opening.result())
        raise
