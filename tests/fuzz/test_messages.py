"""Messages of the control channel, of the faces channel, and of signaling."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fuzzing import Fuzzer
from rtc_attacks import attacked
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from synopticon_rtc.errors import SynopticonError
from synopticon_rtc.faces import Face
from synopticon_rtc.faces.wire import FacesMessage, decode, decode_json, encode, encode_json
from synopticon_rtc.peers.control import Control, Report
from synopticon_rtc.receiving.latency import Latency
from synopticon_rtc.signaling import messages
from synopticon_rtc.signaling.handshake import BroadcasterHandshake, ReceiverHandshake
from synopticon_rtc.signaling.server.server import SignalingServer

pytestmark = pytest.mark.fuzz

CONTROL = [
    b'{"type":"ping","t":1700000000000.5}',
    b'{"type":"pong","t":1700000000000.5,"time":1700000000001}',
    b'{"type":"report","rtpTimestamp":1,"captured":1700000000000.1,"capture":3.5,"encoding":1,"detection":20}',
]
SDP = {"type": "offer", "sdp": "v=0\r\n"}
SIGNALING: list[dict[str, Any]] = [
    {
        "type": "webrtc_seek_broadcaster",
        "name": "a",
        "session": "ws_1",
        "sessionId": "ws_1",
        "accept": {"faces": ["faces/1"]},
    },
    {"type": "request_offer", "session": "ws_1", "sourceSession": "ws_1"},
    {"type": "webrtc_offer", "sdp": SDP, "sourceSession": "ws_1", "targetSession": "ws_2"},
    {"type": "webrtc_answer", "sdp": {"type": "answer", "sdp": "v=0\r\n"}, "sourceSession": "ws_1"},
    {
        "type": "webrtc_ice",
        "candidate": {"candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host", "sdpMid": "0", "sdpMLineIndex": 0},
    },
    {"type": "webrtc_ice", "candidates": [None], "sourceSession": "ws_1", "targetSession": "ws_2"},
    {"type": "configure", "requirements": {"role": ["broadcaster"], "name": "x"}},
    {"type": "connected", "sessionId": "ws_1", "iceServers": [{"urls": ["stun:a"]}]},
    {"type": "configured", "sessionId": "ws_1"},
    {"type": "peer_left", "sessionId": "ws_1", "reason": "gone"},
    {"type": "broadcasters", "broadcasters": [{"sessionId": "ws_1", "name": "a"}]},
    {"type": "broadcaster_available", "sessionId": "ws_1", "name": "a"},
    {"type": "broadcaster_gone", "sessionId": "ws_1"},
    {"type": "error", "error": "no", "errorCode": "rate_limited"},
    {"type": "ping"},
    {"type": "pong"},
    {"type": "status"},
    {"type": "draining"},
]


async def test_control_messages(fuzz: Callable[[str], Fuzzer]) -> None:
    async with attacked() as (_, victim):
        (channel,) = victim.channels
        latency = Latency()
        control = Control(channel, gone=lambda _: None, report=lambda: Report(1, 2.0), reported=latency.reported)
        assert channel.on_message is not None
        receive = channel.on_message

        def feed(data: bytes) -> None:
            receive(data.decode(errors="replace") if data[-1:] < b"\x80" else data)
            assert control.offset is None or abs(control.offset) < 2e12  # computed from what came from outside

        await fuzz("control").run(CONTROL, feed)
        control.close()


def faces() -> FacesMessage:
    rng = np.random.default_rng(1)
    found = tuple(Face(rng.random((points, 3), np.float32), {"jawOpen": 0.5}) for points in (478, 468))
    return FacesMessage(found, 640, 480, rtp_timestamp=1)


async def test_faces_messages(fuzz: Callable[[str], Fuzzer]) -> None:
    message = faces()

    def feed(data: bytes) -> None:
        with contextlib.suppress(SynopticonError):
            decode(data)

    await fuzz("faces/1").run([encode(message)], feed)


async def test_faces_messages_of_pages(fuzz: Callable[[str], Fuzzer]) -> None:
    text = encode_json(faces()).encode()

    def feed(data: bytes) -> None:
        with contextlib.suppress(SynopticonError):
            decode_json(data.decode(errors="replace"))

    await fuzz("faces as JSON").run([text, text[:1000]], feed)


@pytest.mark.parametrize("role", [BroadcasterHandshake, ReceiverHandshake])
async def test_signaling_messages_at_a_peer(role: Any, fuzz: Callable[[str], Fuzzer]) -> None:
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

    await fuzz(f"signaling at a {role.__name__}").run([json.dumps(message).encode() for message in SIGNALING], feed)


async def test_signaling_messages_at_a_server(fuzz: Callable[[str], Fuzzer]) -> None:
    async with SignalingServer(port=0) as server:
        websocket = await connect(server.url)

        async def feed(data: bytes) -> None:
            nonlocal websocket
            try:
                await websocket.send(data.decode(errors="replace") if data[-1:] < b"\x80" else data)
            except ConnectionClosed:
                websocket = await connect(server.url)

        await fuzz("signaling at a server").run([json.dumps(message).encode() for message in SIGNALING], feed)
        await websocket.close()
        other = await connect(server.url)
        assert json.loads(await other.recv())["type"] == "connected"
        await other.close()
