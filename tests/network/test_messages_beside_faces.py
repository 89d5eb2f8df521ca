"""Messages of an application on a slow link: they take what faces leave, and do not hold them up."""

import asyncio

from rtc_helpers import Peer, join
from turned import elapse, turned
from wires import Network

from synopticon_rtc.peers.messages import MessageHub
from synopticon_rtc.rtc import Channel

FACES = 700
"""Octets of a message of faces."""
FPS = 30
SECONDS = 12


class Link:
    """Faces at 30 a second and perhaps a flood of messages, on one slow link."""

    def __init__(self, rate: float, delay: float, *, faces: bool = True) -> None:
        network = Network(1)
        home, host = network.host(), network.host()
        self.down, up = network.way(home.address, host.address), network.way(host.address, home.address)
        self.rate = rate
        self.down.delay = up.delay = delay
        self.delays: list[float] = []
        self.octets = 0
        self._faces = faces
        self._sender, self._receiver = Peer(network=home), Peer(network=host, on_channel=self._adopt)
        self._sending, self._receiving = MessageHub(), MessageHub()
        self._ends = (
            self._sending.join(self._sender.connection, "there"),
            self._receiving.join(self._receiver.connection, "here"),
        )

    def _adopt(self, channel: Channel) -> None:
        if not self._ends[1].adopt(channel):
            loop = asyncio.get_running_loop()
            channel.on_message = lambda message: self.delays.append(loop.time() - float(message[:20]))

    async def play(self, message: int) -> None:
        """Play for a while, with a flood of messages of so many octets, or none."""
        async with self._sender, self._receiver:
            faces = self._sender.connection.add_channel("faces", ordered=False, max_retransmits=0, max_buffered=2048)
            await join(self._sender, self._receiver)
            await self._sender.until(lambda: faces.is_open)
            self.down.rate, self.down.queue = self.rate, round(self.rate / 8 / 4)
            tasks = [asyncio.create_task(self._read())]
            if message:
                tasks.append(asyncio.create_task(self._flood(message)))
            for _ in range(SECONDS * FPS):
                if self._faces:
                    faces.send(f"{asyncio.get_running_loop().time():020.9f}".encode().ljust(FACES))
                await elapse(1 / FPS)
            await elapse(0.5)
            for task in tasks:
                task.cancel()
            for end in self._ends:
                end.close()

    async def _flood(self, message: int) -> None:
        while True:
            await self._sending.send("notes", bytes(message))

    async def _read(self) -> None:
        async for message in self._receiving.messages("notes"):
            self.octets += len(message.data)

    @property
    def p95(self) -> float:
        """The delay of faces (s)."""
        return sorted(self.delays)[len(self.delays) * 95 // 100]


@turned
async def test_that_a_flood_of_messages_holds_up_no_faces() -> None:
    alone = Link(400_000, 0.01)
    await alone.play(0)
    for message in (200, 16_000):
        link = Link(400_000, 0.01)
        await link.play(message)
        assert len(link.delays) == SECONDS * FPS
        assert link.p95 < alone.p95 + 0.025  # in a line of 64 KiB it were more than a second
        assert link.octets > 5_000 * SECONDS


@turned
async def test_that_messages_take_a_link_that_nobody_else_uses() -> None:
    link = Link(2_000_000, 0.05, faces=False)
    await link.play(16_000)
    assert link.octets > 0.6 * 250_000 * SECONDS
    assert link.down.dropped < 0.01 * link.down.sent
