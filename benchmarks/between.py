"""A bad link between two peers, without root: signaling passes through our hands, and with it where media go to.

Each signaling connection that is made here is passed on to a server. On the way the first candidate of each peer is
replaced by a socket of a :class:`Link`, so both find each other there, and there alone.
"""

import asyncio
import contextlib
import functools
import json
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

Address = tuple[str, int]
CANDIDATE = re.compile(r"a=candidate:\S+ 1 udp \d+ (\d+\.\d+\.\d+\.\d+) (\d+) typ host.*\r?\n", re.IGNORECASE)
ANY_CANDIDATE = re.compile(r"a=candidate:.*\r?\n")
QUEUE = 0.25
"""Seconds of a link's rate that wait in it; what comes beyond that is dropped."""


class Link:
    """One way of a bad link.

    Attributes:
        loss: Share of datagrams that are dropped, 0 to 1.
        rate: In bit/s, None for as much as comes.
        delay: Seconds that each takes on its way, beside what it waits.
        jitter: Seconds that one takes longer than another at most; they keep their order.
        offered: Bytes that came.
        passed: Bytes that were delivered.
        dropped: Datagrams that were not.
    """

    def __init__(self, seed: int) -> None:
        self.loss = 0.0
        self.rate: int | None = None
        self.delay = self.jitter = 0.0
        self.offered = self.passed = self.dropped = 0
        self._random = random.Random(seed)  # noqa: S311 - the same losses each time
        self._last = 0.0  # when the last one arrives
        self._free = 0.0  # when the last datagram that waits has gone out

    def take(self, size: int, deliver: Callable[[], None]) -> None:
        """Deliver a datagram at once, later, or never."""
        now = time.monotonic()
        self.offered += size
        start = max(now, self._free)
        if self._random.random() < self.loss or (self.rate and start - now > QUEUE):
            self.dropped += 1
            return
        self.passed += size
        if self.rate:
            self._free = start + 8 * size / self.rate
        arrival = (self._free if self.rate else now) + self.delay + self.jitter * self._random.random()
        self._last = max(self._last, arrival)
        if self._last > now:
            asyncio.get_running_loop().call_later(self._last - now, deliver)
        else:
            deliver()


class _Socket(asyncio.DatagramProtocol):
    """One end: where one peer finds the other."""

    def __init__(self, link: Link) -> None:
        self.link = link
        """To the peer that is found elsewhere."""
        self.other: _Socket | None = None
        self.peer: Address | None = None
        """Where the peer is that sends here."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    @property
    def address(self) -> Address:
        """Where it is."""
        address: Address = self.transport.get_extra_info("sockname")
        return address

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.peer = self.peer or addr
        self.link.take(len(data), lambda: self._deliver(data))

    def _deliver(self, data: bytes) -> None:
        if self.other is not None and self.other.peer is not None and not self.other.transport.is_closing():
            self.other.transport.sendto(data, self.other.peer)


class Between:
    """The links of one receiver, and the address of the signaling that leads there.

    Attributes:
        url: For the receiver.
        down: From the broadcaster to it.
        up: The other way.
    """

    subprotocols: Sequence[Subprotocol] | None = None
    """Of the WebSockets."""

    def __init__(self, seed: int = 1) -> None:
        self.url = ""
        self.down = Link(seed)
        self.up = Link(seed + 1)
        self._facing_receiver = _Socket(self.up)
        self._facing_sender = _Socket(self.down)
        self._facing_receiver.other, self._facing_sender.other = self._facing_sender, self._facing_receiver

    def rewrite(self, text: str, *, from_receiver: bool) -> str:
        """Put the link in the place of the peer that speaks: of its first candidate; others are dropped."""
        message: dict[str, Any] = json.loads(text)
        if message["type"] in ("webrtc_offer", "webrtc_answer"):
            message["sdp"]["sdp"] = self.describe(message["sdp"]["sdp"], from_receiver=from_receiver)
        elif message["type"] == "webrtc_ice" and message.get("candidate"):
            message.pop("more", None)
            line = self._through(f"a={message['candidate']['candidate']}\r\n", from_receiver=from_receiver)
            message["candidate"] = message["candidate"] | {"candidate": line[2:].strip()} if line else None
        return json.dumps(message)

    def describe(self, text: str, *, from_receiver: bool) -> str:
        """Do so in a session description."""
        behind = self._facing_receiver if from_receiver else self._facing_sender
        behind.peer = None
        return ANY_CANDIDATE.sub(lambda line: self._through(line[0], from_receiver=from_receiver), text)

    def _through(self, line: str, *, from_receiver: bool) -> str:
        sockets = self._facing_receiver, self._facing_sender
        behind, shown = sockets if from_receiver else sockets[::-1]
        found = CANDIDATE.fullmatch(line)
        if found is None or behind.peer is not None:
            return ""
        behind.peer = found[1], int(found[2])
        host, port = shown.address
        return line.replace(f"{found[1]} {found[2]}", f"{host} {port}")

    async def _bridge(self, receiver: ServerConnection, server: str) -> None:
        async with connect(server, subprotocols=self.subprotocols) as onward, asyncio.TaskGroup() as group:
            group.create_task(self._pass(receiver, onward, from_receiver=True))
            group.create_task(self._pass(onward, receiver, from_receiver=False))

    async def _pass(
        self,
        source: ServerConnection | ClientConnection,
        sink: ServerConnection | ClientConnection,
        *,
        from_receiver: bool,
    ) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in source:
                await sink.send(self.rewrite(str(text), from_receiver=from_receiver))
        await sink.close()

    @contextlib.asynccontextmanager
    async def open(self, server: str, host: str) -> AsyncIterator["Between"]:
        """Stand between a receiver and a signaling server.

        Args:
            server: The address of the signaling server.
            host: An address of this machine.
        """
        loop = asyncio.get_running_loop()
        sockets = self._facing_receiver, self._facing_sender
        for one in sockets:
            await loop.create_datagram_endpoint(lambda one=one: one, local_addr=(host, 0))  # type: ignore[misc]  # bound
        pass_on = functools.partial(self._bridge, server=server)
        async with serve(pass_on, "127.0.0.1", 0, subprotocols=self.subprotocols) as bridge:
            port = next(iter(bridge.sockets)).getsockname()[1]
            self.url = f"ws://127.0.0.1:{port}/ws"
            yield self
        for one in sockets:
            one.transport.close()
