"""What comes to a socket, sorted by its first byte (RFC 7983) before anything looks further into it."""

import asyncio
import logging
import struct
from collections.abc import Iterator
from typing import Any, Protocol

from aioice import stun
from aioice.ice import StunProtocol

from synopticon_rtc.rtc import seams

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 512
"""Datagrams taken in one turn of the event loop."""
LARGEST_DATAGRAM = 65_536
LARGEST_STUN = 1500
"""Bytes of a STUN message, which must not be fragmented (RFC 8489 section 6.1)."""
LARGEST_RTP = 1500
"""Bytes of an RTP or RTCP packet: pylibsrtp has no more room, and its error would end the connection."""
LARGEST_RECORD = 1600
"""Bytes of a DTLS record with data: aiortc reads at most 1,500 of its content."""
_RECORD_HEADER = 13
_APPLICATION_DATA = 23
_STUN = range(4)
_DTLS = range(20, 64)
_RTP = range(128, 192)
_KINDS = bytes(1 if first in _RTP else 2 if first in _DTLS else 3 if first in _STUN else 0 for first in range(256))
_IS_RTP, _IS_DTLS, _IS_STUN = 1, 2, 3
_COOKIE = struct.pack("!I", stun.COOKIE)
_ROLE_CONFLICT = 487
_ANSWERS = 1
"""The bit in the first byte that responses and errors have, and requests and indications have not."""


class Taker(Protocol):
    """What an ICE connection does with what is sorted."""

    username_mark: bytes

    def may_switch_role(self) -> bool:
        """Whether the peer may have us change roles."""
        ...

    def take(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take a datagram that is no STUN."""

    def request_received(self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        """Take a check."""


def read_stun(data: bytes) -> stun.Message | None:
    """Read a STUN message (RFC 8489 section 5); None for what is malformed in any way."""
    if len(data) > LARGEST_STUN or data[4:8] != _COOKIE:
        return None
    try:
        return stun.parse_message(data)
    except (ValueError, struct.error):  # aioice lets the latter out where an attribute is cut short
        return None


def is_flight(data: bytes) -> bool:
    """Whether a datagram consists of whole DTLS records (RFC 6347 section 4.1), of which at most one carries data.

    Of several aiortc reads one, and the others would be kept for ever.
    """
    at = carried = 0
    while at + _RECORD_HEADER <= len(data):
        length = int.from_bytes(data[at + 11 : at + _RECORD_HEADER], "big")
        if data[at] == _APPLICATION_DATA:
            carried += 1
            if length > LARGEST_RECORD:
                return False
        at += _RECORD_HEADER + length
    return at == len(data) and carried <= 1


def is_stun(data: bytes) -> bool:
    """Whether a datagram is STUN, by its first byte."""
    return bool(data) and _KINDS[data[0]] == _IS_STUN


def is_stun_answer(data: bytes) -> bool:
    """Whether a STUN message is a response or an error, by its first byte."""
    return bool(data[0] & _ANSWERS)


def waiting_at(transport: asyncio.BaseTransport) -> Iterator[tuple[bytes, tuple[Any, ...]]]:
    """Read the datagrams that wait at a transport's socket, each with its sender, as many as one turn may take."""
    sock = seams.socket_of(transport)
    if sock is None:
        return
    for _ in range(MOST_AT_ONCE):
        try:
            yield sock.recvfrom(LARGEST_DATAGRAM)
        except OSError:  # there are no more
            return


class SortingProtocol(StunProtocol):
    """A way that datagrams come: STUN is read here, DTLS and RTP go on, and everything else goes nowhere."""

    carries = False
    """Whether more than checks has come this way, which tells what the peer has chosen."""
    receiver: Taker  # type: ignore[assignment] # pyright: ignore[reportIncompatibleVariableOverride] - ours alone

    def claim(self, addr: tuple[str, int], *, answered: bool) -> None:
        """Have what comes from an address where the peer asked, or answered: where the socket is ours alone, we do."""

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        """Take a datagram."""
        assert isinstance(data, bytes)  # noqa: S101 - asyncio's type knows only this much
        self.sort(data, addr)

    def sort(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Pass a datagram on to where it belongs."""
        if not data:  # aiortc would look at its first byte
            return
        kind = _KINDS[data[0]]
        if kind == _IS_RTP:
            if len(data) <= LARGEST_RTP:
                self.carries = True
                self.receiver.take(data, addr[:2])
        elif kind == _IS_DTLS:
            if is_flight(data):
                self.carries = True
                self.receiver.take(data, addr[:2])
        elif kind == _IS_STUN and self._is_ours(data) and (message := read_stun(data)) is not None:
            self._read(message, addr[:2])

    def _is_ours(self, data: bytes) -> bool:
        """Whether it answers us, or names us as whom it asks: all that a stranger sends ends here, at little cost."""
        if is_stun_answer(data):
            return data[8:20] in self.transactions
        return self.receiver.username_mark in data

    def _read(self, message: stun.Message, addr: tuple[str, int]) -> None:
        if message.message_class == stun.Class.REQUEST:
            self.receiver.request_received(message, addr, self)
        elif message.message_class != stun.Class.INDICATION:
            transaction = self.transactions.get(message.transaction_id)
            if transaction is None or (message.error_code == _ROLE_CONFLICT and not self.receiver.may_switch_role()):
                return
            transaction.response_received(message, addr)


class HostProtocol(SortingProtocol):
    """A socket of which all that has come is read at once.

    asyncio reads one datagram in a turn of the event loop. Where an application holds the loop up again and again, that
    is less than comes, and the video would be ever later.
    """

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        """Take a datagram, and those that wait behind it."""
        super().datagram_received(data, addr)
        for waiting in waiting_at(self.transport):
            self.sort(*waiting)
