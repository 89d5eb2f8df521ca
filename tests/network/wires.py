"""A network in memory: machines, and the ways between them, which are slow, full, lossy or cut as a test wants.

What happens to a datagram is drawn from a generator of its way's own, which begins with the seed of the network. On an
event loop that is turned (tests/network/turned.py) the same test does the same each time.
"""

import asyncio
import contextvars
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from turned import TurnedLoop

from synopticon_rtc.rtc.network import LocalNetwork

Address = tuple[str, int]
_Protocol = TypeVar("_Protocol", bound=asyncio.DatagramProtocol)
HEADERS = 28
"""Octets that IPv4 and UDP add to a datagram."""
FIRST_PORT = 49_152


@dataclass
class Losses:
    """Loss in bursts, as Gilbert and Elliott have it: a way is well or bad, and loses all while it is bad.

    Attributes:
        share: Of the datagrams, how many get lost in the long run, 0 to 1.
        burst: How many are lost in a row, on average; with 1 each is lost by itself.
    """

    share: float
    burst: float = 1.0
    bad: bool = False

    def take(self, chance: random.Random) -> bool:
        """Say whether the next datagram gets lost."""
        if self.burst <= 1:
            return chance.random() < self.share
        begin = self.share / (self.burst * (1 - self.share))
        self.bad = chance.random() >= 1 / self.burst if self.bad else chance.random() < begin
        return self.bad


@dataclass
class Way:
    """The way from one machine to another; all may be changed while datagrams travel, and counts for those that follow.

    Attributes:
        delay: Seconds that each datagram takes.
        jitter: Seconds that it may take longer. The order stays as it was.
        reordered: The share that comes late by ``late`` seconds, so that others overtake it.
        losses: What gets lost.
        rate: Bit/s of the bottleneck, headers counted; None where there is none.
        queue: Octets that may wait before the bottleneck; what finds no room is dropped.
        up: Whether anything comes through at all.
        sent: Datagrams that went in.
        lost: Of those, how many were lost on the way, or because it was down.
        dropped: Of those, how many found no room in the queue.
        octets: What came out, headers not counted.
        delivered: The same, in datagrams.
        overtaken: Datagrams that came out behind one that went in after them.
    """

    chance: random.Random
    delay: float = 0.01
    jitter: float = 0.0
    reordered: float = 0.0
    late: float = 0.03
    losses: Losses | None = None
    rate: float | None = None
    queue: int = 50_000
    up: bool = True
    sent: int = 0
    lost: int = 0
    dropped: int = 0
    octets: int = 0
    delivered: int = 0
    overtaken: int = 0
    _free: float = 0.0  # when the bottleneck has sent all that waits
    _last: float = 0.0  # when the last datagram arrives that keeps its place
    _newest: int = -1
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _travelling: list[tuple[float, int, bytes, Callable[[bytes], None]]] = field(default_factory=list)

    @property
    def waiting(self) -> float:
        """Octets that wait before the bottleneck."""
        left = self._free - asyncio.get_running_loop().time()
        return 0.0 if self.rate is None else max(0.0, left) * self.rate / 8

    def send(self, data: bytes, arrive: Callable[[bytes], None]) -> None:
        """Send a datagram; ``arrive`` is called with it if and when it comes out."""
        loop = asyncio.get_running_loop()
        at = loop.time()
        self.sent += 1
        if not self.up or (self.losses is not None and self.losses.take(self.chance)):
            self.lost += 1
            return
        if self.rate is not None:
            if self.waiting + len(data) + HEADERS > self.queue + 1e-6:  # which rounding makes of it
                self.dropped += 1
                return
            self._free = at = max(at, self._free) + (len(data) + HEADERS) * 8 / self.rate
        at += self.delay
        if self.jitter:
            at += self.chance.uniform(0, self.jitter)
        if self.reordered and self.chance.random() < self.reordered:
            at += self.late
        else:
            self._last = at = max(at, self._last)
        heapq.heappush(self._travelling, (at, next(self._numbers), data, arrive))
        loop.call_at(at, self._arrive)

    def _arrive(self) -> None:
        """Give out the datagram that is due: timers of one instant have no order, datagrams have."""
        _, number, data, arrive = heapq.heappop(self._travelling)
        self.overtaken += number < self._newest
        self._newest = max(self._newest, number)
        self.delivered += 1
        self.octets += len(data)
        arrive(data)


class Network:
    """Machines, and the ways between them.

    Args:
        seed: What chance begins with.
    """

    def __init__(self, seed: int = 0) -> None:
        self.sockets: dict[Address, Socket] = {}
        self._seed = seed
        self._ways: dict[tuple[str, str], Way] = {}
        self._hosts = 0

    def host(self) -> "Host":
        """Add a machine."""
        self._hosts += 1
        return Host(self, f"198.18.0.{self._hosts}")

    def way(self, source: str, to: str) -> Way:
        """Return the way from one address to another, which may be changed."""
        if (source, to) not in self._ways:
            self._ways[source, to] = Way(random.Random(f"{self._seed} {source} {to}"))  # noqa: S311 - no secret
        return self._ways[source, to]

    def cut(self, one: "Host", other: "Host", *, up: bool = False) -> None:
        """Cut the ways between two machines, or mend them."""
        self.way(one.address, other.address).up = self.way(other.address, one.address).up = up

    def cut_all(self) -> None:
        """Cut all ways on which anything has gone."""
        for way in self._ways.values():
            way.up = False


_networks: "WeakKeyDictionary[TurnedLoop, Network]" = WeakKeyDictionary()


class Host(LocalNetwork):
    """One machine, as a :class:`~synopticon_rtc.rtc.PeerConnection` is given it."""

    def __init__(self, network: Network, address: str) -> None:
        super().__init__()
        # The class is frozen; these are no fields of it.
        object.__setattr__(self, "network", network)
        object.__setattr__(self, "address", address)
        object.__setattr__(self, "_ports", itertools.count(FIRST_PORT))

    network: Network
    address: str
    _ports: "itertools.count[int]"

    def addresses(self) -> list[str]:
        return [self.address]

    async def _listen(self, address: str, factory: Callable[[], _Protocol]) -> _Protocol:
        protocol = factory()
        protocol.connection_made(Socket(self.network, (address, next(self._ports)), protocol))
        return protocol


def own_host() -> Host | None:
    """Return a new machine on the one network of the event loop, if that is turned; None where there are sockets."""
    return own_network().host() if isinstance(asyncio.get_running_loop(), TurnedLoop) else None


def own_network() -> Network:
    """Return the one network of the event loop, which is turned."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, TurnedLoop)
    return _networks.setdefault(loop, Network())


class Socket(asyncio.DatagramTransport):
    """A UDP socket on the network. It takes whatever it is given at once: what is too much is dropped on the way."""

    def __init__(self, network: Network, address: Address, protocol: asyncio.DatagramProtocol) -> None:
        super().__init__({"sockname": address})
        self._network = network
        self._address = address
        self._protocol = protocol
        self._closing = False
        self._context = contextvars.copy_context()  # in which whoever opened it is called, as by asyncio's own
        network.sockets[address] = self

    def sendto(self, data: Any, addr: Any = None) -> None:
        if self._closing:
            return
        to = addr[:2]
        self._network.way(self._address[0], to[0]).send(bytes(data), lambda data: self._deliver(data, to))

    def _deliver(self, data: bytes, to: Address) -> None:
        there = self._network.sockets.get(to)
        if there is not None:
            there._context.copy().run(there._protocol.datagram_received, data, self._address)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            del self._network.sockets[self._address]
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()
