"""What is left of a connection that ended is free at once: Python looks seldom for objects that hold each other."""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

import pytest
from waiting import until

from benchmarks import strays
from benchmarks.endurance import OneFace
from synopticon_rtc import Broadcaster, Receiver, SignalingServer, TestPattern, Tone
from synopticon_rtc.peers.control import Control
from synopticon_rtc.receiving import peer as receiving
from synopticon_rtc.receiving.sound import SoundStream
from synopticon_rtc.receiving.stream import Stream
from synopticon_rtc.rtc import Channel, PeerConnection
from synopticon_rtc.rtc.association import Association
from synopticon_rtc.rtc.audio_receiver import AudioReceiver
from synopticon_rtc.rtc.audio_sender import AudioSender
from synopticon_rtc.rtc.ice import IceConnection
from synopticon_rtc.rtc.receiver import VideoReceiver
from synopticon_rtc.rtc.seams import OwnedPeerConnection
from synopticon_rtc.rtc.sender import FanoutSender
from synopticon_rtc.rtc.transport import Transport
from synopticon_rtc.sending import peer as sending

PARTS = (
    *(PeerConnection, OwnedPeerConnection, IceConnection, Transport, Association, Channel, Control),
    *(FanoutSender, AudioSender, VideoReceiver, AudioReceiver, Stream, SoundStream, sending.Peer, receiving.Peer),
)
"""Of a connection, at either end; all else hangs on them."""
SIZE, FPS, STAY = (160, 120), 15, 0.3


class Stray(Protocol):
    """A peer that behaves badly."""

    async def __call__(self, url: str, *, stay: float) -> None: ...


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Nobody looks for objects that hold each other meanwhile, and there are none before."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def parts() -> Counter[str]:
    """Count the parts of connections that there are."""
    return Counter(type(one).__qualname__ for one in gc.get_objects() if issubclass(type(one), PARTS))


async def test_receivers_that_left_leave_no_part_of_a_connection_at_a_broadcaster() -> None:
    before = parts()
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, TestPattern(SIZE, FPS), faces=OneFace(), audio=Tone()) as broadcaster,
    ):
        for _ in range(2):
            async with Receiver(server.url) as receiver:
                async for _ in receiver.audio():
                    break
                async for _ in receiver.moments():
                    break
            await until(lambda: not broadcaster.peers)
        await until(lambda: not parts() - before)


@pytest.mark.parametrize("kind", [strays.half_open, strays.silent])
async def test_peers_that_never_connected_leave_no_part_of_a_connection_at_a_broadcaster(kind: Stray) -> None:
    before = parts()
    async with SignalingServer(port=0) as server, Broadcaster(server.url, TestPattern(SIZE, FPS)) as broadcaster:
        await kind(server.url, stay=STAY)
        await until(lambda: not broadcaster.peers)
        await until(lambda: not parts() - before)


async def test_broadcasters_that_left_leave_no_part_of_a_connection_at_a_receiver() -> None:
    before = parts()
    states: asyncio.Queue[str] = asyncio.Queue()
    async with SignalingServer(port=0) as server, Receiver(server.url) as receiver:
        receiver.events.subscribe(lambda event: states.put_nowait(event.state))
        for _ in range(2):
            async with Broadcaster(server.url, TestPattern(SIZE, FPS), faces=OneFace(), audio=Tone()):
                while await states.get() != "connected":
                    pass
                async for _ in receiver.audio():
                    break
                async for _ in receiver.moments():
                    break
            while await states.get() != "interrupted":
                pass
        await until(lambda: not parts() - before)
