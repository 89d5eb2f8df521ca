"""Messages of the control channel, of the faces channel, and of signaling."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fuzzing import Fuzzer
from rtc_attacks import attacked
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from synopticon_rtc import SignalingClient
from synopticon_rtc.errors import SignalingError, SynopticonError
from synopticon_rtc.faces import Face
from synopticon_rtc.faces.wire import FacesMessage, decode, decode_json, encode, encode_json
from synopticon_rtc.peers.control import Control, Report
from synopticon_rtc.receiving.latency import Latency
from synopticon_rtc.signaling import messages
from synopticon_rtc.signaling.broadcaster_handshake import BroadcasterHandshake
from synopticon_rtc.signaling.receiver_handshake import ReceiverHandshake
from synopticon_rtc.signaling.server.server import SignalingServer

pytestmark = pytest.mark.fuzz


async def test_control_messages(fuzz: Callable[[str, str], Fuzzer]) -> None:
    async with attacked() as (_, victim):
        (channel,) = victim.channels
        latency = Latency()
        control = Control(channel, gone=lambda _: None, reports=lambda: [Report(1, 2.0)], reported=latency.reported)
        assert channel.on_message is not None
        receive = channel.on_message

        def feed(data: bytes) -> None:
            receive(data.decode(errors="replace") if data[-1:] < b"\x80" else data)
            assert control.offset is None or abs(control.offset) < 2e12  # computed from what came from outside

        await fuzz("control", "control").run([], feed)
        control.close()


def faces() -> FacesMessage:
    rng = np.random.default_rng(1)
    found = tuple(Face(rng.random((points, 3), np.float32), {"jawOpen": 0.5}) for points in (478, 468))
    return FacesMessage(found, 640, 480, rtp_timestamp=1)


async def test_faces_messages(fuzz: Callable[[str, str], Fuzzer]) -> None:
    message = faces()

    def feed(data: bytes) -> None:
        with contextlib.suppress(SynopticonError):
            decode(data)

    await fuzz("faces/1", "faces").run([encode(message)], feed)


async def test_faces_messages_of_pages(fuzz: Callable[[str, str], Fuzzer]) -> None:
    text = encode_json(faces()).encode()

    def feed(data: bytes) -> None:
        with contextlib.suppress(SynopticonError):
            decode_json(data.decode(errors="replace"))

    await fuzz("faces as JSON", "faces-json").run([text, text[:1000]], feed)


@pytest.mark.parametrize("role", [BroadcasterHandshake, ReceiverHandshake])
async def test_signaling_messages_at_a_peer(role: Any, fuzz: Callable[[str, str], Fuzzer]) -> None:
    accept = {"faces": ["faces/1"]}
    handshake = role(name="x", accept=accept, timestamp=lambda: 1)
    handshake.opened("ws_2", 0.0)
    now = 0.0

    def feed(data: bytes) -> None:
        nonlocal now
        now += 0.05
        with contextlib.suppress(SynopticonError):
            handshake.received(messages.decode(data), now)
        handshake.tick(now)

    await fuzz(f"signaling at a {role.__name__}", "signaling").run([], feed)


async def test_signaling_messages_at_a_server(fuzz: Callable[[str, str], Fuzzer]) -> None:
    async with SignalingServer(port=0) as server:
        websocket = await connect(server.url)

        async def feed(data: bytes) -> None:
            nonlocal websocket
            try:
                await websocket.send(data.decode(errors="replace") if data[-1:] < b"\x80" else data)
            except ConnectionClosed:
                websocket = await connect(server.url)

        await fuzz("signaling at a server", "signaling").run([], feed)
        await websocket.close()
        other = await connect(server.url)
        assert json.loads(await other.recv())["type"] == "connected"
        await other.close()


class Anybody:
    """Takes whatever comes."""

    requirements = messages.Requirements(role=("broadcaster",), tell=("peers",), name="x")

    def __init__(self) -> None:
        self.heard = 0

    def opened(self, session: str) -> None:
        assert session

    def received(self, message: messages.AnyMessage) -> bool:
        self.heard += 1
        return len(repr(message)) % 2 == 0  # or leaves it to the others

    def unclaimed(self, message: messages.AnyMessage) -> bool:
        return not self.received(message)

    def failed(self, error: SignalingError) -> None:
        raise error


async def test_signaling_messages_at_a_client(fuzz: Callable[[str, str], Fuzzer]) -> None:
    welcomed: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def welcome(connection: ServerConnection) -> None:
        await connection.send('{"type":"connected","sessionId":"ws_1"}')
        welcomed.put_nowait(connection)
        async for _ in connection:
            pass

    async with (
        serve(welcome, "127.0.0.1", 0) as server,
        SignalingClient(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws") as client,
    ):
        client.listen(anybody := Anybody())
        connection = await welcomed.get()

        async def feed(data: bytes) -> None:
            nonlocal connection
            try:
                await connection.send(data.decode(errors="replace") if data[-1:] < b"\x80" else data)
            except ConnectionClosed:
                connection = await welcomed.get()

        await fuzz("signaling at a client", "signaling").run([], feed)
        assert anybody.heard
        assert await client.wait_open() == client.session
