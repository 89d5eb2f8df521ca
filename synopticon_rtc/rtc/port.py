"""One UDP port that connections share, for a firewall that has one hole."""

import asyncio
import struct
from typing import Any, cast

from aioice import stun

from synopticon_rtc.rtc.sorting import SortingProtocol, Taker, is_stun, is_stun_answer, waiting_at

_ATTRIBUTE = struct.Struct("!HH")  # its type, and the bytes of its value
_USERNAME = stun.ATTRIBUTES_BY_NAME["USERNAME"][0]


class SharedPort(asyncio.DatagramProtocol):
    """A socket, and the connections whose datagrams come to it.

    A check names its connection in the first half of its user name (RFC 8445 section 7.2.2), an answer by the
    transaction. Everything else belongs to the connection that last had an answer from its address or, where none had,
    to the first that was asked from there.

    Attributes:
        gone: Done when the socket is closed, which it is when the last connection has left it.
    """

    transport: asyncio.DatagramTransport

    def __init__(self) -> None:
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._shares: dict[bytes, _Share] = {}  # by the user name of the connection, with the colon that follows it
        self._owners: dict[tuple[str, int], _Share] = {}  # by the address of the peer

    def share(self, receiver: Taker) -> SortingProtocol:
        """Let one more connection use the socket; closing its transport lets go of it."""
        share = _Share(receiver, self)
        share.connection_made(_ShareTransport(share, self))
        self._shares[receiver.username_mark] = share
        return share

    def claim(self, share: "_Share", addr: tuple[str, int], *, answered: bool) -> None:
        """Note that the peer at an address has proven to belong to a connection.

        Where it only asked it takes the address from nobody: a sender's address can be forged, an answer to it cannot.
        """
        if answered:
            self._owners[addr] = share
        else:
            self._owners.setdefault(addr, share)

    def leave(self, share: "_Share") -> None:
        """Forget a connection, and close the socket behind the last."""
        self._shares = {mark: other for mark, other in self._shares.items() if other is not share}
        self._owners = {addr: other for addr, other in self._owners.items() if other is not share}
        if not self._shares:
            self.transport.close()

    @property
    def is_closing(self) -> bool:
        """Whether nobody can join any more."""
        return self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the connections where the socket broke."""
        self.gone.set_result(None)
        for share in list(self._shares.values()):
            share.connection_lost(exc)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Take a datagram, and those that wait behind it."""
        self._sort(data, addr)
        for waiting in waiting_at(self.transport):
            self._sort(*waiting)

    def _sort(self, data: bytes, addr: tuple[Any, ...]) -> None:
        share = self._named(data) if is_stun(data) else self._owners.get(addr[:2])
        if share is not None:
            share.sort(data, addr)

    def _named(self, data: bytes) -> "_Share | None":
        if is_stun_answer(data):
            return next(
                (share for share in self._shares.values() if data[8 : stun.HEADER_LENGTH] in share.transactions), None
            )
        return self._shares.get(username_mark(data))


class _Share(SortingProtocol):
    """What one connection gets of the socket."""

    def __init__(self, receiver: Taker, port: SharedPort) -> None:
        super().__init__(receiver)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - ours alone
        self._port = port

    def claim(self, addr: tuple[str, int], *, answered: bool) -> None:
        """Have what comes from a peer's address."""
        self._port.claim(self, addr, answered=answered)


class _ShareTransport(asyncio.DatagramTransport):
    """The socket, as one connection sees it: closing it leaves it to the others."""

    def __init__(self, share: _Share, port: SharedPort) -> None:
        super().__init__()
        self._share = share
        self._port = port
        self._closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - asyncio's signature
        return self._port.transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return cast("Any", self._port.transport).get_write_buffer_size()  # type: ignore[no-any-return]

    def sendto(self, data: Any, addr: Any = None) -> None:  # noqa: ANN401 - asyncio's signature
        if not self._closing:
            self._port.transport.sendto(data, addr)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._port.leave(self._share)
            asyncio.get_running_loop().call_soon(self._share.connection_lost, None)

    def abort(self) -> None:
        self.close()


def username_mark(data: bytes) -> bytes:
    """Find whom a check is for: the first half of its user name, with the colon; empty where it has none."""
    at = stun.HEADER_LENGTH
    while at + _ATTRIBUTE.size <= len(data):
        kind, length = _ATTRIBUTE.unpack_from(data, at)
        at += _ATTRIBUTE.size
        if kind == _USERNAME:
            name, colon, _ = data[at : at + length].partition(b":")
            return name + colon
        at += length + -length % 4
    return b""
