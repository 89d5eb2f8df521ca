"""Which of this machine's addresses and ports a connection uses, and how others see them."""

import asyncio
import errno
import ipaddress
import random
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import ifaddr
from aioice.ice import get_host_addresses

from synopticon_rtc.rtc import seams
from synopticon_rtc.rtc.port import SharedPort
from synopticon_rtc.rtc.sorting import LARGEST_DATAGRAM, HostProtocol, SortingProtocol, Taker

_Protocol = TypeVar("_Protocol", bound=asyncio.DatagramProtocol)
LOOPBACK = ("127.0.0.1", "::1")
_RECEIVE_BUFFER = 262_144
_LARGEST_PORT = 65_535
_TRIES, _PAUSE = 20, 0.01
"""How often a port is tried that has just been closed, and the seconds between."""


@dataclass(frozen=True, slots=True)
class LocalNetwork:
    """What of this machine's network a connection uses.

    Args:
        udp_ports: The lowest and the highest UDP port to use, the same twice to have all connections share one
            port; None for any.
        announce: Addresses at which this machine is reached from outside on the same ports, such as the public one of a
            cloud machine; they take the place of its own of their family, which others are not told.
        interfaces: Names of interfaces, and addresses, to use alone; none for all but loopback.

    Raises:
        ValueError: The ports are no range, an address is none, or an interface is not there.
        TypeError: Addresses or interfaces are no texts.
    """

    udp_ports: tuple[int, int] | None = None
    announce: Sequence[str] = ()
    interfaces: Sequence[str] = ()
    _shared: dict[str, SharedPort] = field(default_factory=dict, init=False, repr=False, compare=False)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.udp_ports is not None:
            match self.udp_ports:
                case int(low), int(high) if 0 < low <= high <= _LARGEST_PORT and low is not True:
                    pass
                case given:
                    raise ValueError(f"udp_ports must be the lowest and the highest port, 1 to 65535, not {given!r}")
        for name in ("announce", "interfaces"):
            given = getattr(self, name)
            several = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else (None,)
            if not all(isinstance(one, str) for one in several):
                raise TypeError(f"{name} must be a list of texts, not {given!r:.100}")
            object.__setattr__(self, name, several)
        for address in self.announce:
            try:
                usable = not ipaddress.ip_address(address).is_unspecified
            except ValueError:
                usable = False
            if not usable:
                raise ValueError(f"{address!r} cannot be announced: give an IP address, like 203.0.113.5")
        for interface in self.interfaces:
            if not _addresses_of(interface):
                there = ", ".join(f"{adapter.nice_name} ({adapter.ips[0].ip})" for adapter in _adapters())
                raise ValueError(f"there is no network interface or address {interface!r}: there are {there}")

    def addresses(self) -> list[str]:
        """List the addresses to gather host candidates from: those of loopback only where there is no other."""
        if not self.interfaces:
            return host_addresses()
        return list(dict.fromkeys(address for name in self.interfaces for address in _addresses_of(name)))

    async def open(self, address: str, receiver: Taker) -> SortingProtocol:
        """Open a way for datagrams to a connection: a socket of its own, or a share of the one port for all.

        Raises:
            OSError: As :meth:`bind`.
        """
        if self.udp_ports is None or self.udp_ports[0] < self.udp_ports[1]:
            return await self._listen(address, lambda: HostProtocol(receiver))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - ours alone
        async with self._opening:
            port = self._shared.get(address)
            if port is None:
                self._shared[address] = port = await self._listen(address, SharedPort)
            elif port.is_closing:
                await port.gone
                self._shared[address] = port = await self._listen_again(address)
            return port.share(receiver)

    async def _listen_again(self, address: str) -> SharedPort:
        """Open the port that was closed a moment ago: what sends on a connection that broke off still lets go of it."""
        for _ in range(_TRIES):
            try:
                return await self._listen(address, SharedPort)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            await asyncio.sleep(_PAUSE)
        return await self._listen(address, SharedPort)

    async def _listen(self, address: str, factory: Callable[[], _Protocol]) -> _Protocol:
        opened = self.bind(address)
        try:
            transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(factory, sock=opened)
        except BaseException:
            opened.close()
            raise
        seams.read_at_most(transport, LARGEST_DATAGRAM)
        return protocol

    def bind(self, address: str) -> socket.socket:
        """Open a UDP socket at an address, on a port of the range.

        Raises:
            OSError: There is no such address, no free port (``EADDRINUSE``), or no room for a socket (``EMFILE``).
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        opened = socket.socket(family, socket.SOCK_DGRAM)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._bind(opened, address)
        except BaseException:
            opened.close()
            raise
        return opened

    def _bind(self, opened: socket.socket, address: str) -> None:
        if self.udp_ports is None:
            opened.bind((address, 0))
            return
        low, high = self.udp_ports
        begin, count = random.randrange(high - low + 1), high - low + 1  # noqa: S311 - no secret
        for number in range(count):
            try:
                opened.bind((address, low + (begin + number) % count))
            except OSError as error:
                if error.errno != errno.EADDRINUSE or number == count - 1:
                    raise
            else:
                return

    def told(self, address: str) -> list[str]:
        """List what others are told of one of our addresses: those announced in its family; of loopback, itself too."""
        own = ipaddress.ip_address(address)
        outer = [outer for outer in self.announce if ipaddress.ip_address(outer).version == own.version]
        return outer if outer and not own.is_loopback else [address, *outer]

    def explain(self, error: OSError, address: str) -> str:
        """Say in words why no socket could be opened at an address, and what to do."""
        if error.errno == errno.EADDRINUSE and self.udp_ports is not None:
            low, high = self.udp_ports
            if low == high:
                return f"UDP port {low} at {address} is taken by another program, or by another connection of this one"
            return f"no UDP port of {low}-{high} is free at {address}: allow more, as each connection takes one"
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            return "too many files and sockets are open: raise the limit (ulimit -n, LimitNOFILE=)"
        return f"no socket can be opened at {address}: {error.strerror}"


def host_addresses() -> list[str]:
    """List this machine's addresses; those of loopback only where there is no other."""
    return get_host_addresses(use_ipv4=True, use_ipv6=True) or list(LOOPBACK)


def _adapters() -> list[ifaddr.Adapter]:
    return [adapter for adapter in ifaddr.get_adapters() if adapter.ips]


def _addresses_of(interface: str) -> list[str]:
    """List the addresses of an interface, or the one address; link-local ones of IPv6 left out, as aioice does."""
    found = []
    for adapter in _adapters():
        for ip in adapter.ips:
            address, scope = (ip.ip, 0) if isinstance(ip.ip, str) else (ip.ip[0], ip.ip[2])
            if scope == 0 and interface in {adapter.name, adapter.nice_name, address}:
                found.append(address)
    return found
