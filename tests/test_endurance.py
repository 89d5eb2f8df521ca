"""Peers come and go in every way there is, and leave nothing behind; ``benchmarks/endurance.py`` does it for longer."""

import asyncio
import functools
import gc
import itertools
import logging
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import psutil
import pytest
from aiortc import RTCPeerConnection
from waiting import until

from benchmarks import strays
from benchmarks.endurance import OneFace
from synopticon_rtc import Broadcaster, Receiver, SignalingServer, TestPattern

STAY = 0.3
KINDS: dict[str, Callable[[str], Awaitable[None]]] = strays.KINDS | {
    "half-open": functools.partial(strays.half_open, stay=STAY),
    "silent": functools.partial(strays.silent, stay=STAY),
}
AT_ONCE = 8


def held() -> Counter[str]:
    """What this process holds that has to be given back."""
    gc.collect()
    connections = sum(
        issubclass(type(one), RTCPeerConnection) for one in gc.get_objects()
    )  # dead proxies have no class
    return Counter(
        connections=connections,
        descriptors=psutil.Process().num_fds(),
        threads=threading.active_count(),
        tasks=len(asyncio.all_tasks()),
    )


@pytest.fixture
def silence(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged above INFO; what is below is not kept, since its arguments would be kept with it."""
    caplog.set_level(logging.WARNING)
    yield
    assert [record.getMessage() for record in caplog.records] == []


async def join(url: str, count: int) -> None:
    """Have receivers of all kinds join, some at the same time."""
    coming = itertools.islice(itertools.cycle(KINDS.values()), count)

    async def some() -> None:
        for kind in coming:
            await kind(url)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())


@pytest.mark.usefixtures("silence")
@pytest.mark.long
async def test_joins_of_all_kinds_leave_nothing_at_a_broadcaster() -> None:
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, TestPattern(strays.SIZE, strays.FPS), faces=OneFace()) as broadcaster,
    ):
        others = held()["connections"]  # of tests that failed
        await join(server.url, len(KINDS))
        await until(lambda: held()["connections"] <= others, seconds=60)
        before = held()
        await join(server.url, 50)
        await until(lambda: not held() - before, seconds=60)
        assert broadcaster.peers == ()


@pytest.mark.usefixtures("silence")
@pytest.mark.long
async def test_broadcasters_that_come_and_go_leave_nothing_at_a_receiver() -> None:
    states: asyncio.Queue[str] = asyncio.Queue()

    async def reached(wanted: str) -> None:
        async with asyncio.timeout(60):
            while await states.get() != wanted:
                pass

    async def meet(url: str, *, kill: bool) -> None:
        if kill:
            with strays.process(strays.broadcast, url):
                await reached("connected")
        else:
            async with Broadcaster(url, TestPattern(strays.SIZE, strays.FPS)):
                await reached("connected")
        await reached("interrupted")

    async with SignalingServer(port=0) as server, Receiver(server.url) as receiver:
        receiver.events.subscribe(lambda event: states.put_nowait(event.state))
        await meet(server.url, kill=False)
        await meet(server.url, kill=True)
        before = held()
        for number in range(10):
            await meet(server.url, kill=number % 2 == 0)
        await until(lambda: not held() - before, seconds=60)
