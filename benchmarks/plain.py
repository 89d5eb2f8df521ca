"""The same job on aiortc alone, as its documentation shows it: what the benchmarks compare with.

``python -m benchmarks.plain URL [STUN]`` broadcasts the test card to every receiver that asks: one source, which a
``MediaRelay`` passes to a track for each, as in aiortc's own example of a webcam.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
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
from aiortc.contrib.media import MediaRelay
from websockets.asyncio.client import ClientConnection, connect

from synopticon_rtc import TestPattern

Draw = Callable[[int], av.VideoFrame]


def configuration(stun: str | None) -> RTCConfiguration:
    """Ask this STUN server, or none."""
    return RTCConfiguration(iceServers=[RTCIceServer(stun)] if stun else [])


class Card(VideoStreamTrack):
    """What is drawn, as a track of 30 frames a second."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self._draw = draw
        self._number = 0

    async def recv(self) -> av.VideoFrame:
        """Draw the next frame when it is due."""
        pts, time_base = await self.next_timestamp()
        frame = self._draw(self._number)
        frame.pts, frame.time_base = pts, time_base
        self._number += 1
        return frame

    def joined(self, connection: RTCPeerConnection) -> None:
        """Somebody is about to be offered the track."""


async def describe(connection: RTCPeerConnection, socket: ClientConnection, kind: str, target: str) -> None:
    """Send the local description, which holds all candidates."""
    description = connection.localDescription
    message = {"type": kind, "targetSession": target, "sdp": {"type": description.type, "sdp": description.sdp}}
    await socket.send(json.dumps(message))


def described(message: dict[str, Any]) -> RTCSessionDescription:
    """Read the peer's description."""
    return RTCSessionDescription(message["sdp"]["sdp"], message["sdp"]["type"])


async def broadcast(
    url: str, stun: str | None, card: Card | None = None, ready: Callable[[], None] | None = None
) -> None:
    """Offer a track to every receiver that asks."""
    connections: dict[str, RTCPeerConnection] = {}
    card = card or Card(TestPattern((1280, 720), 30).draw)
    relay = MediaRelay()
    async with connect(url) as socket:
        async for data in socket:
            message = json.loads(data)
            source = message.get("sourceSession", "")
            if message["type"] == "connected" and ready is not None:
                ready()
            elif message["type"] == "request_offer":
                connection = connections[source] = RTCPeerConnection(configuration(stun))
                connection.addTrack(relay.subscribe(card))
                card.joined(connection)
                await connection.setLocalDescription(await connection.createOffer())
                await describe(connection, socket, "webrtc_offer", source)
            elif message["type"] == "webrtc_answer":
                await connections[source].setRemoteDescription(described(message))
            elif message["type"] == "webrtc_ice" and message.get("bye"):
                await connections.pop(source).close()


async def answer(connection: RTCPeerConnection, socket: ClientConnection) -> str:
    """Ask for an offer, answer it, and return the session of the broadcaster that made it."""
    await socket.send(json.dumps({"type": "request_offer"}))
    message: dict[str, Any] = {}
    while message.get("type") != "webrtc_offer":
        message = json.loads(await socket.recv())
    await connection.setRemoteDescription(described(message))
    await connection.setLocalDescription(await connection.createAnswer())
    await describe(connection, socket, "webrtc_answer", message["sourceSession"])
    return str(message["sourceSession"])


@contextlib.asynccontextmanager
async def receive(url: str, stun: str | None = None) -> AsyncIterator[MediaStreamTrack]:
    """Receive the video of the broadcaster that answers first."""
    tracks: asyncio.Future[MediaStreamTrack] = asyncio.get_running_loop().create_future()
    connection = RTCPeerConnection(configuration(stun))
    connection.on("track", tracks.set_result)
    async with connect(url) as socket:
        await socket.recv()
        broadcaster = await answer(connection, socket)
        yield await tracks
        await socket.send(json.dumps({"type": "webrtc_ice", "targetSession": broadcaster, "bye": "done"}))
    await connection.close()


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
        broadcaster = await answer(connection, socket)
        seconds = await first - begun
        await socket.send(json.dumps({"type": "webrtc_ice", "targetSession": broadcaster, "bye": "done"}))
    await connection.close()
    return seconds


def main(arguments: Sequence[str]) -> None:
    """Broadcast until killed."""
    url, *stun = arguments
    asyncio.run(broadcast(url, stun[0] if stun else None, ready=lambda: print("ready", flush=True)))


if __name__ == "__main__":
    main(sys.argv[1:])
