"""What a peer sends that means harm: SCTP packets, RTP, STUN and datagrams as nobody honest would make them."""

import contextlib
import random
import socket
from collections.abc import AsyncIterator
from struct import pack
from typing import Any

from aioice import stun
from aiortc import RTCSctpTransport
from google_crc32c import value as crc32c
from rtc_helpers import Peer, join
from waiting import turns

from synopticon_rtc.rtc import Channel

HEARTBEAT, RECONFIG, INIT, SACK, DATA, FORWARD_TSN, ABORT, ERROR = 4, 130, 1, 3, 0, 192, 6, 9
FIRST, LAST, UNORDERED = 2, 1, 4


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - no secret


def chunk(kind: int, body: bytes, flags: int = 0, length: int | None = None) -> bytes:
    """Make an SCTP chunk, of another length than its own if one is given."""
    length = len(body) + 4 if length is None else length
    return pack("!BBH", kind, flags, length) + body + bytes(-len(body) % 4)


def data(tsn: int, stream: int, number: int, payload: bytes, flags: int = FIRST | LAST, protocol: int = 53) -> bytes:
    return chunk(DATA, pack("!LHHL", tsn % 2**32, stream, number, protocol) + payload, flags)


def opening(label: bytes, protocol: bytes = b"") -> bytes:
    """The message that opens a data channel (RFC 8832 section 5.1)."""
    return pack("!BBHLHH", 3, 0, 0, 0, len(label), len(protocol)) + label + protocol


def sealed(packet: bytes) -> bytes:
    """Put the checksum into an SCTP packet."""
    return packet[:8] + pack("<L", crc32c(packet[:8] + bytes(4) + packet[12:])) + packet[12:]


def sctp_of(peer: Peer) -> RTCSctpTransport:
    association = peer.connection._connection.sctp
    assert association is not None
    return association


def dtls_of(peer: Peer) -> Any:
    return sctp_of(peer).transport


class Attacker:
    """Sends over the association of a peer what its stack would not send."""

    def __init__(self, peer: Peer, channel: Channel) -> None:
        self.peer = peer
        self.channel = channel
        self.sctp = sctp_of(peer)

    @property
    def tsn(self) -> int:
        """The next transmission sequence number."""
        return self.sctp._local_tsn

    def take_tsns(self, count: int) -> int:
        """Take numbers that the peer's own stack will not use any more, and return the first."""
        first = self.sctp._local_tsn
        self.sctp._local_tsn = (first + count) % 2**32
        return first

    async def send(self, *chunks: bytes, tag: int | None = None) -> None:
        sctp = self.sctp
        tag = sctp._remote_verification_tag if tag is None else tag
        packet = pack("!HHLL", sctp._local_port, sctp._remote_port, tag, 0) + b"".join(chunks)
        await sctp.transport._send_data(sealed(packet))


@contextlib.asynccontextmanager
async def attacked() -> AsyncIterator[tuple[Attacker, Peer]]:
    """Connect somebody who means harm with a victim."""
    async with Peer() as offender, Peer() as victim:
        channel = offender.connection.add_channel("faces")
        await join(offender, victim)
        await offender.until(lambda: channel.is_open)
        await victim.until(lambda: victim.channels)
        yield Attacker(offender, channel), victim


async def still_talk(attacker: Attacker, victim: Peer) -> None:
    """Fail unless messages still go both ways."""
    here: list[bytes | str] = []
    there: list[bytes | str] = []
    victim.channels[0].on_message = here.append
    attacker.channel.on_message = there.append
    assert attacker.channel.send("ping")
    assert victim.channels[0].send("pong")
    await victim.until(lambda: "ping" in here and "pong" in there)
    assert victim.connection.state == "connected"


def address_of(peer: Peer) -> tuple[str, int]:
    """Where a peer can be reached."""
    connection = peer.connection._ice
    assert connection is not None
    candidate = next(candidate for candidate in connection._protocols if ":" not in candidate.local_candidate.host)
    return candidate.local_candidate.host, candidate.local_candidate.port


@contextlib.asynccontextmanager
async def stranger(host: str) -> AsyncIterator[socket.socket]:
    """A socket of somebody who knows an address and nothing else."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.bind((host, 0))
        out.setblocking(False)
        yield out


async def flood(out: socket.socket, datagrams: list[bytes], address: tuple[str, int]) -> None:
    """Send datagrams no faster than they are read: one a turn of the event loop."""
    for datagram in datagrams:
        out.sendto(datagram, address)
        await turns()
    await turns(50)


def check(victim: Peer, offender: Peer, **attributes: Any) -> stun.Message:
    """A check as the peer of a victim makes it."""
    here, there = victim.connection._ice, offender.connection._ice
    assert here is not None
    assert there is not None
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["USERNAME"] = f"{here.local_username}:{there.local_username}"
    message.attributes["PRIORITY"] = 1
    message.attributes["ICE-CONTROLLING" if there.ice_controlling else "ICE-CONTROLLED"] = 1
    message.attributes.update(attributes)
    message.add_message_integrity(here.local_password.encode())
    return message
