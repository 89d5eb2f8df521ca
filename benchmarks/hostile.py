"""Peers with no manners: connected as anybody is, they send whatever bytes they like.

They are of plain aiortc, whose insides send what no API of its would: SCTP chunks, RTCP, RTP.
"""

import asyncio
import contextlib
import itertools
import json
import random
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import google_crc32c
from aiortc import RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from websockets.asyncio.client import ClientConnection

from benchmarks import plain
from benchmarks.strays import offered, session

# ruff: noqa: SLF001 - what they do is not public

WITHIN = 20.0
"""Seconds to connect."""


class Hostile:
    """One end of a connection.

    Args:
        connection: Connected, or about to be.
        signaling: Where it was arranged.
        other: The session of the other end.
        sdp: What the other end said of itself.
    """

    def __init__(self, connection: RTCPeerConnection, signaling: ClientConnection, other: str, sdp: str) -> None:
        self.connection = connection
        self.signaling = signaling
        self.other = other
        self.sdp = sdp

    @property
    def ports(self) -> list[tuple[str, int]]:
        """Where the other end said that it can be reached."""
        return addresses(self.sdp)

    @property
    def ssrc(self) -> int:
        """The first source of the other end's video."""
        found = re.search(r"a=ssrc:(\d+)", self.sdp)
        return int(found[1]) if found else 0

    @property
    def _dtls(self) -> Any:  # noqa: ANN401 - aiortc's
        sctp = self.connection.sctp
        if sctp is not None:
            return sctp.transport
        return self.connection.getTransceivers()[0].receiver.transport

    async def chunk(self, kind: int, body: bytes, flags: int = 0, *, tag: int | None = None) -> None:
        """Send one SCTP chunk (RFC 9260, section 3)."""
        sctp: Any = self.connection.sctp
        head = struct.pack(
            "!HHL", sctp._local_port, sctp._remote_port, sctp._remote_verification_tag if tag is None else tag
        )
        chunk = struct.pack("!BBH", kind, flags, len(body) + 4) + body + bytes(-len(body) % 4)
        checksum = struct.pack("<L", google_crc32c.value(head + bytes(4) + chunk))
        with contextlib.suppress(ConnectionError):
            await self._dtls._send_data(head + checksum + chunk)

    async def data(
        self, tsn: int, payload: bytes, *, stream: int = 0, number: int = 0, flags: int = 3, kind: int = 51
    ) -> None:
        """Send a DATA chunk: ``flags`` 2 begins a message and 1 ends it."""
        await self.chunk(0, struct.pack("!LHHL", tsn % 2**32, stream, number, kind) + payload, flags)

    @property
    def tsn(self) -> int:
        """The number of the chunk that it would send next."""
        sctp: Any = self.connection.sctp
        return int(sctp._local_tsn)

    async def secure(self, data: bytes) -> None:
        """Send RTP or RTCP."""
        with contextlib.suppress(ConnectionError):
            await self._dtls._send_rtp(data)

    async def say(self, kind: str, **fields: Any) -> None:  # noqa: ANN401 - as JSON has it
        """Send the other end a message by signaling."""
        await self.signaling.send(json.dumps({"type": kind, "targetSession": self.other} | fields))


def addresses(sdp: str) -> list[tuple[str, int]]:
    """The UDP addresses of a description."""
    found = re.findall(r"a=candidate:\S+ \d+ udp \d+ (\S+) (\d+) typ host", sdp, re.IGNORECASE)
    return [(host, int(port)) for host, port in found if "." in host]


@contextlib.asynccontextmanager
async def joined(url: str) -> AsyncIterator[Hostile]:
    """Be a receiver, connected to a broadcaster."""
    connection = RTCPeerConnection(plain.configuration(None))
    try:
        async with session(url) as signaling:
            offer = await offered(signaling)
            await connection.setRemoteDescription(plain.described(offer))
            await connection.setLocalDescription(await connection.createAnswer())
            hostile = Hostile(connection, signaling, offer["sourceSession"], offer["sdp"]["sdp"])
            text = connection.localDescription.sdp
            await hostile.say("webrtc_answer", sdp={"type": "answer", "sdp": text})
            await _up(connection)
            yield hostile
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def met(url: str, name: str, edit: Callable[[str], str] = lambda sdp: sdp) -> AsyncIterator[Hostile]:
    """Be the broadcaster of a name, connected to the first receiver that asks."""
    connection = RTCPeerConnection(plain.configuration(None))
    connection.addTrack(VideoStreamTrack())
    connection.createDataChannel("faces", protocol="faces/1")
    try:
        async with session(url) as signaling:
            await signaling.send(
                json.dumps({"type": "configure", "requirements": {"role": ["broadcast"], "name": name}})
            )
            source = await _asked(signaling)
            await connection.setLocalDescription(await connection.createOffer())
            text = edit(connection.localDescription.sdp)
            hostile = Hostile(connection, signaling, source, "")
            await hostile.say("webrtc_offer", sdp={"type": "offer", "sdp": text}, name=name)
            while True:
                message = json.loads(await signaling.recv())
                if message.get("type") == "webrtc_answer":
                    break
            hostile.sdp = message["sdp"]["sdp"]
            await connection.setRemoteDescription(RTCSessionDescription(hostile.sdp, "answer"))
            await _up(connection)
            yield hostile
    finally:
        await connection.close()


async def _asked(signaling: ClientConnection) -> str:
    while True:
        message = json.loads(await signaling.recv())
        if message.get("type") in ("request_offer", "webrtc_seek_broadcaster"):
            return str(message["sourceSession"])


async def _up(connection: RTCPeerConnection) -> None:
    async with asyncio.timeout(WITHIN):
        while connection.connectionState != "connected" or (  # noqa: ASYNC110 - SCTP tells nobody
            connection.sctp is not None and connection.sctp.state != "connected"
        ):
            await asyncio.sleep(0.02)


async def spray(targets: Sequence[tuple[str, int]], datagrams: Iterable[bytes], rate: float, seconds: float) -> int:
    """Send datagrams from a socket that nobody knows, at most so many a second; return how many."""
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
        source.setblocking(False)
        begun = time.monotonic()
        for datagram, target in zip(datagrams, itertools.cycle(targets), strict=False):
            with contextlib.suppress(BlockingIOError, ConnectionError):
                source.sendto(datagram, target)
            sent += 1
            passed = time.monotonic() - begun
            if passed > seconds:
                break
            if sent > rate * passed:
                await asyncio.sleep(0.002)
            elif sent % 500 == 0:
                await asyncio.sleep(0)
    return sent


def noise(seed: int, most: int = 200) -> Iterable[bytes]:
    """Datagrams that begin like STUN, DTLS or RTP, and are none."""
    chance = random.Random(seed)  # noqa: S311 - the same each time
    while True:
        first = chance.choice((0, 1, chance.randrange(20, 64), chance.randrange(128, 192)))
        yield bytes([first]) + chance.randbytes(chance.randrange(most))


def cut_stun(seed: int) -> Iterable[bytes]:
    """STUN messages whose attributes are cut short (RFC 8489, section 14)."""
    chance = random.Random(seed)  # noqa: S311 - the same each time
    while True:
        length = chance.randrange(1, 3)
        kind = chance.choice((0x0006, 0x0020, 0x0024, 0x0008, 0x8028, 0x0009))
        body = struct.pack("!HH", kind, length) + chance.randbytes(length) + bytes(-length % 4)
        yield struct.pack("!HHL", 0x0001, len(body), 0x2112A442) + chance.randbytes(12) + body


def nack(ssrc: int, media: int, pairs: int) -> bytes:
    """A NACK that names 17 packets for each pair (RFC 4585, section 6.2.1)."""
    named = b"".join(struct.pack("!HH", 17 * number & 0xFFFF, 0xFFFF) for number in range(pairs))
    return struct.pack("!BBHLL", 0x81, 205, 2 + pairs, ssrc, media) + named


def rtp(ssrc: int, number: int, payload: bytes, *, kind: int = 97, timestamp: int = 0, marker: bool = True) -> bytes:
    """An RTP packet (RFC 3550, section 5.1)."""
    return struct.pack("!BBHLL", 0x80, kind | marker << 7, number & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc) + payload


def vp8_keyframe(width: int, height: int, size: int) -> bytes:
    """What begins like a VP8 keyframe of that size (RFC 6386, section 9.1), with its payload descriptor (RFC 7741)."""
    first = (size - 10) << 5 | 1 << 4  # a keyframe that is shown; the first partition fills it
    head = struct.pack("<L", first)[:3] + b"\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"\x10" + head + random.Random(1).randbytes(size - len(head))  # noqa: S311 - the same each time
