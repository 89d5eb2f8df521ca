"""The same job on aiortc alone, as its documentation shows it: what the benchmarks compare with.

``python -m benchmarks.plain URL [STUN]`` broadcasts the test card to every receiver that asks.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
)
from websockets.asyncio.client import ClientConnection, connect

from synopticon_rtc import TestPattern


def configuration(stun: str | None) -> RTCConfiguration:
    """Ask this STUN server, or none."""
    return RTCConfiguration(iceServers=[RTCIceServer(stun)] if stun else [])


class Card(VideoStreamTrack):
    """The test card as a track."""

    def __init__(self) -> None:
        super().__init__()
        self._pattern = TestPattern((1280, 720), 30)
        self._number = 0

    async def recv(self) -> av.VideoFrame:
        """Draw the next frame when it is due."""
        pts, time_base = await self.next_timestamp()
        frame = self._pattern.draw(self._number)
        frame.pts, frame.time_base = pts, time_base
        self._number += 1
        return frame


async def describe(connection: RTCPeerConnection, socket: ClientConnection, kind: str, target: str) -> None:
    """Send the local description, which holds all candidates."""
    description = connection.localDescription
    message = {"type": kind, "targetSession": target, "sdp": {"type": description.type, "sdp": description.sdp}}
    await socket.send(json.dumps(message))


def described(message: dict[str, Any]) -> RTCSessionDescription:
    """Read the peer's description."""
    return RTCSessionDescription(message["sdp"]["sdp"], message["sdp"]["type"])


async def broadcast(url: str, stun: str | None) -> None:
    """Offer a track to every receiver that asks."""
    connections: dict[str, RTCPeerConnection] = {}
    async with connect(url) as socket:
        async for data in socket:
            message = json.loads(data)
            source = message.get("sourceSession", "")
            if message["type"] == "connected":
                print("ready", flush=True)
            elif message["type"] == "request_offer":
                connection = connections[source] = RTCPeerConnection(configuration(stun))
                connection.addTrack(Card())
                await connection.setLocalDescription(await connection.createOffer())
                await describe(connection, socket, "webrtc_offer", source)
            elif message["type"] == "webrtc_answer":
                await connections[source].setRemoteDescription(described(message))
            elif message["type"] == "webrtc_ice" and message.get("bye"):
                await connections.pop(source).close()


async def join(url: str, stun: str | None) -> float:
    """Seconds from asking to the first decoded frame."""
    first: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    connection = RTCPeerConnection(configuration(stun))

    @connection.on("track")
    async def on_track(track: MediaStreamTrack) -> None:
        await track.recv()
        first.set_result(time.perf_counter())

    async with connect(url) as socket:
        await socket.recv()
        begun = time.perf_counter()
        await socket.send(json.dumps({"type": "request_offer"}))
        message: dict[str, Any] = {}
        while message.get("type") != "webrtc_offer":
            message = json.loads(await socket.recv())
        await connection.setRemoteDescription(described(message))
        await connection.setLocalDescription(await connection.createAnswer())
        await describe(connection, socket, "webrtc_answer", message["sourceSession"])
        seconds = await first - begun
        await socket.send(json.dumps({"type": "webrtc_ice", "targetSession": message["sourceSession"], "bye": "done"}))
    await connection.close()
    return seconds


def main(arguments: Sequence[str]) -> None:
    """Broadcast until killed."""
    url, *stun = arguments
    asyncio.run(broadcast(url, stun[0] if stun else None))


if __name__ == "__main__":
    main(sys.argv[1:])
