"""A broadcaster on one server and a receiver on another: they meet, and miss each other only when they are gone."""

import asyncio
import contextlib
import json
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from nats_servers import NatsServer, nats_servers

from synopticon_rtc import Broadcaster, Receiver, SignalingServer, TestPattern
from synopticon_rtc.signaling.server.nats import NatsBackplane

CARD = ["--source", "test", "--size", "320x180", "--faces", "0"]


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    with nats_servers() as [nats]:
        yield nats


@contextlib.asynccontextmanager
async def process(module: str, *args: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """A command, and what it says when it is ready."""
    command = [sys.executable, "-m", f"synopticon_rtc.{module}", *args, "--json"]
    child = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=DEVNULL)
    assert child.stdout is not None
    try:
        async with asyncio.timeout(20):
            ready: dict[str, Any] = json.loads(await child.stdout.readline())
        yield child, ready
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.communicate()


async def take(receiver: Receiver, count: int) -> None:
    async with asyncio.timeout(20):
        async for _ in receiver:
            count -= 1
            if count == 0:
                break


async def test_a_broadcaster_that_is_killed_is_missed_as_soon_as_on_one_server(nats: NatsServer) -> None:
    async with (
        process("signaling", "--port", "0", "--backplane", nats.url) as (_, elsewhere),
        SignalingServer(port=0, backplane=NatsBackplane(nats.url)) as server,
        Receiver(server.url) as receiver,
        process("broadcast", "--url", elsewhere["url"], *CARD) as (broadcast, _),
    ):
        await take(receiver, 5)
        missed = asyncio.Event()
        receiver.events.subscribe(lambda event: missed.set() if event.state == "interrupted" else None)
        broadcast.kill()
        killed = time.monotonic()
        async with asyncio.timeout(10):
            await missed.wait()
        assert time.monotonic() - killed < 1.8


@pytest.mark.long
async def test_media_outlive_the_server_of_one_of_them(nats: NatsServer) -> None:
    async with (
        process("signaling", "--port", "0", "--backplane", nats.url) as (signaling, elsewhere),
        SignalingServer(port=0, backplane=NatsBackplane(nats.url)) as server,
        Broadcaster(elsewhere["url"], TestPattern((320, 180), 30)) as broadcaster,
        Receiver(server.url) as receiver,
    ):
        await take(receiver, 5)
        states: list[str] = []
        receiver.events.subscribe(lambda event: states.append(event.state))
        cluster = server._hub.cluster
        assert len(cluster.remote) == 1
        signaling.kill()
        async with asyncio.timeout(20):
            while cluster.remote:  # until the other server is given up
                await take(receiver, 5)
        await take(receiver, 60)  # longer than it takes to find out that a peer is gone
        assert states == []
        assert len(broadcaster.peers) == 1
