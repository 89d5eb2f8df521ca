"""Receivers that are cancelled at any moment of connecting leave nothing behind, at either end."""

import asyncio
import contextlib
import logging
import os
from collections import Counter
from pathlib import Path

import pytest
from waiting import until

from synopticon_rtc import Broadcaster, Receiver, SignalingServer, TestPattern

pytestmark = pytest.mark.field

RECEIVERS = 180
APART = 0.002  # seconds: cancelled 0 to 118 ms after their start
AT_ONCE = 12


def running() -> Counter[str]:
    return Counter(task.get_coro().__qualname__ for task in asyncio.all_tasks())  # type: ignore[union-attr]


def files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not read


async def start_and_cancel(url: str, after: float) -> None:
    async def receive() -> None:
        async with Receiver(url) as receiver:
            async for _ in receiver:
                pass

    receiving = asyncio.create_task(receive())
    await asyncio.sleep(after)
    receiving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await receiving


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors by /proc")
async def test_nothing_lives_on_and_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with SignalingServer(port=0) as server, Broadcaster(server.url, TestPattern((160, 90), 30)) as broadcaster:
        await start_and_cancel(server.url, 0.5)
        before, open_files = running(), files()
        for first in range(0, RECEIVERS, AT_ONCE):
            await asyncio.gather(
                *(start_and_cancel(server.url, (first + each) % 60 * APART) for each in range(AT_ONCE))
            )
        await until(lambda: running() == before and files() <= open_files and not broadcaster.peers)
    assert caplog.text == ""
