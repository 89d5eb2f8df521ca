"""A room in memory: a signaling server, machines with clocks of their own, broadcasters and receivers. No sockets."""

import asyncio
import contextlib
import contextvars
import itertools
import json
from collections.abc import AsyncIterator
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
import pytest
from turned import elapse
from websockets.asyncio.client import ClientConnection
from wires import Host, Network, Way

from synopticon_rtc import Broadcaster, Room, SignalingClient
from synopticon_rtc.basics import clock

SIZE = 64, 48
FPS = 20
ahead: contextvars.ContextVar[float] = contextvars.ContextVar("ahead", default=0.0)
"""Seconds by which the clock of a machine is ahead of the true one."""


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock of each machine show what it wants."""
    true = clock.now
    monkeypatch.setattr(clock, "now", lambda: true() + ahead.get())


class Card:
    """A small source whose frames come evenly."""

    def __init__(self, fps: float = FPS) -> None:
        self._fps = fps

    async def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        picture = np.full((SIZE[1] * 3 // 2, SIZE[0]), 128, np.uint8)
        for number in itertools.count():
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = round(number * 90_000 / self._fps), Fraction(1, 90_000)
            yield frame
            await elapse(1 / self._fps)


class Lobby:
    """A signaling server and a network, both in memory.

    Args:
        network: Of another lobby, to be on too; None for one of its own.
    """

    def __init__(self, network: Network | None = None) -> None:
        self.network = network or Network(seed=1)
        self.url = f"ws://lobby-{id(self)}.invalid/ws"
        self.here = self.network.host()
        self.lines: dict[str, _Line] = {}
        self._numbers = itertools.count(1)

    def client(self) -> SignalingClient:
        """Return a client of the server."""
        return _Client(self)

    def room(self, **options: Any) -> Room[Any]:
        """Return a room of those who are there, on our machine."""
        room: Room[Any] = Room(self.client(), **options)
        room._network = self.here
        return room

    def connect(self) -> "_Line":
        """Let a client in."""
        line = _Line(self, f"ws_{next(self._numbers)}")
        self.lines[line.session] = line
        line.put({"type": "connected", "sessionId": line.session})
        return line

    def relay(self, source: "_Line", message: dict[str, Any]) -> None:
        """Pass on a message to whom it is for, or to everybody else."""
        if message["type"] == "configure":
            source.put({"type": "configured", "sessionId": source.session})
        if not message["type"].startswith(("webrtc_", "request_")):
            return
        target = message.get("targetSession")
        for line in list(self.lines.values()):
            if line.session == target or (target is None and line is not source):
                line.put(message | {"sourceSession": source.session})

    @contextlib.asynccontextmanager
    async def broadcasting(
        self, name: str, *, fps: float = FPS, delay: float = 0.01, clock_ahead: float = 0.0
    ) -> AsyncIterator["Far"]:
        """Have somebody broadcast meanwhile, on a machine of its own.

        Args:
            name: What it is called.
            fps: Of its source.
            delay: Seconds that its datagrams take, each way.
            clock_ahead: Seconds by which its clock is ahead of ours.
        """
        host = self.network.host()
        down, up = self.network.way(host.address, self.here.address), self.network.way(self.here.address, host.address)
        down.delay = up.delay = delay
        broadcaster = Broadcaster(self.client(), Card(fps), name=name)
        broadcaster.network = host
        context = contextvars.copy_context()
        context.run(ahead.set, clock_ahead)
        await asyncio.create_task(broadcaster.start(), context=context)
        try:
            yield Far(broadcaster, host, down, up)
        finally:
            await asyncio.create_task(broadcaster.aclose(), context=context)


class Far:
    """A broadcaster on a machine of its own.

    Attributes:
        broadcaster: It.
        host: Its machine.
        down: The way from there to us.
        up: The way from us to it.
    """

    def __init__(self, broadcaster: Broadcaster, host: Host, down: Way, up: Way) -> None:
        self.broadcaster = broadcaster
        self.host = host
        self.down = down
        self.up = up


class _Client(SignalingClient):
    """A real client, whose connections are in memory."""

    def __init__(self, lobby: Lobby) -> None:
        super().__init__(lobby.url)
        self._lobby = lobby

    async def _connect(self, proxy: str | None) -> ClientConnection:  # noqa: ARG002 - as it is called
        return cast("ClientConnection", self._lobby.connect())


class _Line:
    """A connection of a client, of which it uses no more than this."""

    def __init__(self, lobby: Lobby, session: str) -> None:
        self.session = session
        self._lobby = lobby
        self._incoming: asyncio.Queue[str] = asyncio.Queue()

    def put(self, message: dict[str, Any]) -> None:
        self._incoming.put_nowait(json.dumps(message))

    async def recv(self) -> str:
        return await self._incoming.get()

    async def send(self, text: str) -> None:
        self._lobby.relay(self, json.loads(text))

    async def close(self) -> None:
        self._lobby.lines.pop(self.session, None)
