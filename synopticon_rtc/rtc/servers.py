"""STUN and TURN servers: their URLs (RFC 7064, RFC 7065) and what they are asked for."""

import asyncio
import contextlib
import functools
import ipaddress
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from aioice import Candidate, stun, turn
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import StunProtocol

from synopticon_rtc.errors import InvalidIceServer, without_login

RELEASE_TIMEOUT = 0.5
"""Seconds that a TURN server is given to confirm that an allocation is released."""
MAX_ADDRESSES = 4
"""Addresses of a TURN server that are tried."""
ADDRESS_TIMEOUT = 1.2
"""Seconds for each but the last, so that all have their turn while a server is waited for."""
_TURN_HEADER = 4
_CHANNEL_DATA = 0x40
_Result = TypeVar("_Result")
_KINDS = {("stun", "udp"), ("turn", "udp"), ("turn", "tcp"), ("turns", "tcp")}
_URL = re.compile(
    r"(?P<scheme>stun|turns?):(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]?:@/\s]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?:\?transport=(?P<transport>[a-z]+))?"
)


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server.

    Args:
        url: ``stun:HOST[:PORT]``, ``turn:HOST[:PORT][?transport=tcp]`` or ``turns:HOST[:PORT]`` (TLS over TCP).
        username: For TURN.
        credential: For TURN.

    Raises:
        InvalidIceServer: The URL is malformed, or of a kind that cannot be used.
    """

    url: str
    username: str | None = None
    credential: str | None = field(default=None, repr=False)
    host: str = field(init=False, repr=False)
    """Its name or address, as the URL has it."""
    port: int = field(init=False, repr=False)
    """Of the server, by default 3478, with TLS 5349."""
    turn: bool = field(init=False, repr=False)
    """Whether it relays, else it only tells us our address."""
    tcp: bool = field(init=False, repr=False)
    """Whether it is reached over TCP, else over UDP."""
    tls: bool = field(init=False, repr=False)
    """Whether it is reached over TLS."""

    def __post_init__(self) -> None:
        shown = without_login(self.url)  # a password that does not belong there is not shown
        match = _URL.fullmatch(self.url)
        if match is None:
            raise InvalidIceServer(f"{shown!r} is no ICE server: give stun:, turn: or turns:HOST:PORT")
        scheme = match["scheme"]
        transport = match["transport"] or ("tcp" if scheme == "turns" else "udp")
        port = int(match["port"] or (5349 if scheme == "turns" else 3478))
        bare = match["transport"] is None or scheme != "stun"  # RFC 7064 knows no transport
        if not bare or (scheme, transport) not in _KINDS or not 0 < port < 2**16:
            raise InvalidIceServer(f"{shown!r} cannot be used: give stun:, turn: (udp or tcp) or turns:HOST:PORT")
        if scheme != "stun" and not (self.username and self.credential):
            raise InvalidIceServer(f"{shown!r} needs a username and a credential")
        values = {"host": match["host"].strip("[]"), "port": port, "turn": scheme != "stun"}
        for name, value in {**values, "tcp": transport == "tcp", "tls": scheme == "turns"}.items():
            object.__setattr__(self, name, value)


def check_servers(servers: object) -> None:
    """Raise TypeError for what is no sequence of ICE servers."""
    given = servers if isinstance(servers, Sequence) and not isinstance(servers, str | bytes) else [servers]
    for server in given:
        if not isinstance(server, IceServer):
            raise TypeError(f"ice_servers must be a list like [IceServer('stun:host')], not {type(server).__name__}")
    if given is not servers:
        raise TypeError("ice_servers must be a list like [IceServer('stun:host')], not a server alone")


async def in_thread(work: Callable[[], _Result]) -> _Result:
    """Do blocking work in a daemon thread of its own: what hangs there delays nothing, not even the exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

    def settle(settled: Callable[[], None]) -> None:
        if not future.done():
            settled()

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - it is passed on
            settled = functools.partial(future.set_exception, error)
        else:
            settled = functools.partial(future.set_result, result)
        with contextlib.suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(settle, settled)

    threading.Thread(target=run, name="ice-server", daemon=True).start()
    return await future


async def addresses_of(host: str, port: int) -> list[tuple[str, int]]:
    """Look all addresses of a host up, in the order in which the system has them tried (RFC 6724)."""
    with contextlib.suppress(ValueError):
        return [(str(ipaddress.ip_address(host)), port)]
    found = await in_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM))
    return list(dict.fromkeys((str(info[4][0]), port) for info in found))


async def reflexive_candidate(protocol: StunProtocol, address: tuple[str, int]) -> Candidate:
    """Ask a STUN server at an address how it sees a host candidate of the same family (RFC 8445 section 5.1.1.2)."""
    request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    response, _ = await protocol.request(request, address)
    base = protocol.local_candidate
    host, port = response.attributes["XOR-MAPPED-ADDRESS"]
    return Candidate(
        foundation=candidate_foundation("srflx", "udp", base.host),
        component=base.component,
        transport=base.transport,
        priority=candidate_priority(base.component, "srflx"),
        host=host,
        port=port,
        type="srflx",
        related_address=base.host,
        related_port=base.port,
    )


class UdpClient(turn.TurnClientUdpProtocol):
    """A TURN client over UDP, which drops what cannot be read."""

    def datagram_received(self, data: bytes | str, addr: tuple[str, int]) -> None:
        """Take a datagram from the server, or from somebody who writes its address."""
        with contextlib.suppress(struct.error):  # aioice lets it out where a STUN attribute is cut short
            super().datagram_received(data, addr)


class TcpClient(turn.TurnClientTcpProtocol):
    """A TURN client over TCP or TLS, whose cost grows with what comes, however small the pieces."""

    _rest = b""

    def data_received(self, data: bytes) -> None:
        """Cut the stream into messages (RFC 8656 section 12.4), and take each."""
        data = self._rest + data
        address = self.transport.get_extra_info("peername")
        at = 0
        while len(data) - at >= _TURN_HEADER:
            length = -(-int.from_bytes(data[at + 2 : at + 4], "big") // 4) * 4
            end = at + length + (_TURN_HEADER if data[at] & 0xC0 == _CHANNEL_DATA else stun.HEADER_LENGTH)
            if end > len(data):
                break
            with contextlib.suppress(struct.error):  # as over UDP
                self.datagram_received(data[at:end], address)
            at = end
        self._rest = data[at:]


_Client = TypeVar("_Client", TcpClient, UdpClient)


class RelayTransport(turn.TurnTransport):
    """A TURN allocation that looks like a datagram transport, and closes in bounded time."""

    def __init__(self, client: turn.TurnClientProtocol) -> None:
        super().__init__(client)
        self._client = client

    async def open(self, protocol: StunProtocol) -> None:
        """Allocate; the protocol is connected when this returns."""
        await self._connect(protocol)

    def get_write_buffer_size(self) -> int:
        """Bytes on their way to the server that the system has not taken yet."""
        transport: asyncio.DatagramTransport | asyncio.Transport = self._client.transport
        return transport.get_write_buffer_size() if isinstance(transport, asyncio.WriteTransport) else 0

    async def _close(self) -> None:
        # Without this bound a server that is gone holds the closing up for a minute of STUN retransmissions.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await super()._close()


async def relayed_protocol(
    server: IceServer, make_protocol: Callable[[], StunProtocol], *, hide_address: bool
) -> StunProtocol:
    """Allocate an address at a TURN server (RFC 8656), at the first of its addresses that answers.

    What does not answer is given a share of the time only, so that a family without a route holds up no other.

    Args:
        server: The TURN server.
        make_protocol: Makes the ICE protocol that is to use the allocation.
        hide_address: Whether to leave our own address out of the candidate (RFC 9429 section 3.5.3).

    Returns:
        The protocol, connected, its ``local_candidate`` set.
    """
    errors: list[Exception] = []
    addresses = (await addresses_of(server.host, server.port))[:MAX_ADDRESSES]
    for left in range(len(addresses), 0, -1):
        try:
            async with asyncio.timeout(ADDRESS_TIMEOUT if left > 1 else None):
                return await _allocated(server, addresses[-left], make_protocol, hide_address=hide_address)
        except (OSError, stun.TransactionError) as error:
            errors.append(error)
    raise errors[-1] if len(errors) == 1 else OSError("; ".join(str(e) or "no answer" for e in errors))


async def _allocated(
    server: IceServer, address: tuple[str, int], make_protocol: Callable[[], StunProtocol], *, hide_address: bool
) -> StunProtocol:
    loop = asyncio.get_running_loop()
    host, port = address
    transport: asyncio.BaseTransport
    client: TcpClient | UdpClient

    def make_client(kind: type[_Client]) -> _Client:
        return kind(
            (host, port),
            username=server.username,
            password=server.credential,
            lifetime=turn.DEFAULT_ALLOCATION_LIFETIME,
            channel_refresh_time=turn.DEFAULT_CHANNEL_REFRESH_TIME,
        )

    if server.tcp:
        transport, client = await loop.create_connection(
            lambda: make_client(TcpClient),
            host,
            port,
            ssl=await in_thread(ssl.create_default_context) if server.tls else None,
            server_hostname=server.host if server.tls else None,
        )
    else:
        transport, client = await loop.create_datagram_endpoint(
            lambda: make_client(UdpClient), remote_addr=(host, port)
        )
    relay = RelayTransport(client)
    protocol = make_protocol()
    try:
        await relay.open(protocol)
    except BaseException:
        transport.close()
        raise
    relayed = relay.get_extra_info("sockname")
    unspecified = "0.0.0.0" if ipaddress.ip_address(relayed[0]).version == 4 else "::"  # noqa: S104, PLR2004
    related = (unspecified, 9) if hide_address else relay.get_extra_info("related_address")
    protocol.local_candidate = Candidate(
        foundation=candidate_foundation("relay", "udp", relayed[0]),
        component=1,
        transport="udp",
        priority=candidate_priority(1, "relay"),
        host=relayed[0],
        port=relayed[1],
        type="relay",
        related_address=related[0],
        related_port=related[1],
    )
    return protocol
