"""Waiting for what tells nobody: for all else there are events, and a clock that is turned (turned.py)."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable

PATIENCE = 20.0
"""Seconds, for a machine that has much else to do: what takes longer does not come."""
INTERVAL = 0.01
"""Seconds from one look to the next."""


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for what no event tells of.

    Raises:
        TimeoutError: It has not come true.
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - as it says
            await asyncio.sleep(INTERVAL)


def blocked_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait in a thread that may be blocked, for another one, or for a process.

    Raises:
        TimeoutError: It has not come true.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(INTERVAL)


def listens(port: int) -> bool:
    """Whether somebody takes connections at a TCP port of the loopback."""
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


async def turns(count: int = 1) -> None:
    """Let all that is ready run, turn by turn of the event loop; no time passes."""
    for _ in range(count):
        await asyncio.sleep(0)
