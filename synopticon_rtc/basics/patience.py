"""Says what takes long, while it does."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def warning_after(seconds: float, logger: logging.Logger, message: str, *arguments: object) -> Iterator[None]:
    """Say something in the log where what is done meanwhile takes that long."""
    timer = asyncio.get_running_loop().call_later(seconds, logger.warning, message, *arguments)
    try:
        yield
    finally:
        timer.cancel()
