"""Receivers that only count, many of them in one process, so that a sender can be watched by hundreds.

Each finds its broadcaster by signaling, or in a room of Janus, and does the whole handshake of ICE and DTLS with
aiortc. After that nothing is decrypted: the header of an RTP packet is readable, and its marker bit tells that a frame
is complete. STUN is answered as ever, and once a second each sends a receiver report, with an estimate of plenty of
bandwidth.

``python -m benchmarks.counting CORE (ours|plain|janus) URL``, driven over its standard input.
"""

import asyncio
import contextlib
import socket
import sys
import time
from typing import Any

from aioice.ice import StunProtocol
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    pack_remb_fci,
)
from websockets.asyncio.client import connect

from benchmarks import plain
from benchmarks.children import pin, serve
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.engines.janus import read_address
from synopticon_rtc.engines.janus_room import PLUGIN
from synopticon_rtc.engines.janus_session import open_session
from synopticon_rtc.signaling.messages import SessionDescription

REPORT_INTERVAL = 1.0
PLENTY = 5_000_000
"""The bandwidth that receivers tell, bit/s."""
RECEIVE_BUFFER = 2_000_000
"""Bytes that the system may hold for a receiver: what is lost must not be lost here."""
AT_ONCE = 8
"""Receivers that join at the same time."""
_kept = contextlib.AsyncExitStack()
"""Sessions with Janus, which end with the process."""


class Counter:
    """One receiver."""

    def __init__(self) -> None:
        self.frames: list[float] = []
        """When each frame was complete, as time.monotonic() has it."""
        self.packets = 0
        self.lost = 0
        self.first = 0.0
        """Seconds from asking to the first packet."""
        self._seen = asyncio.Event()
        self._begun = 0.0
        self._ssrc = b""
        self._next: int | None = None
        self._reported = 0, 0
        self._connection = RTCPeerConnection(plain.configuration(None))

    async def join(self, url: str) -> None:
        """Join, and return when the first frame is there."""
        connection = self._connection
        connected = asyncio.Event()

        @connection.on("connectionstatechange")
        def on_change() -> None:
            if connection.connectionState == "connected":
                connected.set()

        @connection.on("track")
        def on_track(_: object) -> None:  # it has its sockets as soon as it describes itself
            asyncio.get_running_loop().call_soon(self._listen)

        if url.startswith("janus+"):
            self._begun = time.monotonic()
            await self._subscribe(url)
            self._listen()
            await connected.wait()
        else:
            async with connect(url) as signaling:
                await signaling.recv()
                self._begun = time.monotonic()
                await plain.answer(connection, signaling)
                self._listen()
                await connected.wait()
        (transceiver,) = connection.getTransceivers()
        await transceiver.receiver.stop()  # no decoder, no reports of its own
        await self._seen.wait()

    async def _subscribe(self, url: str) -> None:
        """Subscribe to whoever publishes in a room of Janus; the session lasts as long as this process."""
        address = read_address(url)
        session = await _kept.enter_async_context(open_session(address.url, {}, None, Faults()))
        handle = await session.attach(PLUGIN, lambda _: None)
        room = {"room": int(address.room)}
        present = await handle.request({"request": "listparticipants"} | room)
        (feed,) = (one["id"] for one in present.body["participants"] if one["publisher"])
        wanted = {"request": "join", "ptype": "subscriber", "streams": [{"feed": feed}]}
        offer = await handle.request(wanted | room)
        assert offer.jsep is not None  # noqa: S101 - else there would be an error
        await self._connection.setRemoteDescription(RTCSessionDescription(offer.jsep.sdp, "offer"))
        await self._connection.setLocalDescription(await self._connection.createAnswer())
        answer = SessionDescription("answer", self._connection.localDescription.sdp)
        await handle.request({"request": "start"} | room, answer)

    async def report(self) -> None:
        """Send a receiver report and an estimate of the bandwidth."""
        if self._next is None:
            return
        expected, lost = self.packets + self.lost - sum(self._reported), self.lost - self._reported[1]
        self._reported = self.packets, self.lost
        ssrc = int.from_bytes(self._ssrc)
        info = RtcpReceiverInfo(
            ssrc=ssrc,
            fraction_lost=min(255, 256 * lost // max(1, expected)),
            packets_lost=self.lost,
            highest_sequence=self._next - 1 & 0xFFFF,
            jitter=0,
            lsr=0,
            dlsr=0,
        )
        remb = RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=pack_remb_fci(PLENTY, [ssrc]))
        transport = self._connection.getTransceivers()[0].receiver.transport
        with contextlib.suppress(ConnectionError):  # who was given up is sent nothing more, and counted so
            await transport._send_rtp(bytes(RtcpRrPacket(ssrc=1, reports=[info])) + bytes(remb))  # noqa: SLF001 - no other way

    def _listen(self) -> None:
        """Take datagrams ahead of aioice."""
        ice = self._connection.getTransceivers()[0].receiver.transport.transport._connection  # noqa: SLF001 - as above
        for protocol in ice._protocols:  # noqa: SLF001 - as above
            if isinstance(protocol, StunProtocol) and "datagram_received" not in vars(protocol):
                _Tap(protocol, self)

    def take(self, data: bytes | bytearray) -> bool:
        """Count a datagram; False if it is no RTP packet (RFC 7983, RFC 5761)."""
        if not 128 <= data[0] < 192 or 192 <= data[1] < 224:  # noqa: PLR2004 - as the RFCs have it
            return False
        if not self._ssrc:
            self._ssrc = bytes(data[8:12])
            self.first = time.monotonic() - self._begun
        if data[8:12] != self._ssrc:
            return True
        number = data[2] << 8 | data[3]
        if self._next is not None:
            self.lost += (number - self._next) & 0xFFFF
        self._next = (number + 1) & 0xFFFF
        self.packets += 1
        if data[1] & 0x80:
            self.frames.append(time.monotonic())
            self._seen.set()
        return True


class _Tap:
    """Reads all that has come to a socket at once, and passes on what is no RTP."""

    def __init__(self, protocol: StunProtocol, counter: Counter) -> None:
        self._counter = counter
        self._pass_on = protocol.datagram_received
        self._socket: socket.socket = protocol.transport.get_extra_info("socket").dup()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._buffer = bytearray(2048)
        vars(protocol)["datagram_received"] = self.received

    def received(self, data: bytes, address: tuple[Any, ...]) -> None:
        """Take a datagram, and those that wait behind it."""
        if not self._counter.take(data):
            self._pass_on(data, address)
        while True:
            try:
                size, address = self._socket.recvfrom_into(self._buffer)
            except OSError:  # there are no more
                return
            if not self._counter.take(self._buffer):
                self._pass_on(bytes(self._buffer[:size]), address)


class Crowd:
    """The receivers of this process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._counters: list[Counter] = []

    async def reports(self) -> None:
        """Send everybody's reports, for ever."""
        while True:
            begun = time.monotonic()
            for counter in self._counters.copy():
                await counter.report()
            await asyncio.sleep(max(0.0, begun + REPORT_INTERVAL - time.monotonic()))

    async def join(self, count: int) -> list[float]:
        """Have more receivers join; return the seconds from asking to the first packet of each."""
        new = [Counter() for _ in range(count)]
        waiting = iter(new)

        async def some() -> None:
            for counter in waiting:
                await counter.join(self._url)
                self._counters.append(counter)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(some())
        return [counter.first for counter in new]

    async def totals(self) -> dict[str, Any]:
        """Count: frames, packets and lost packets of each receiver, the time, and the CPU time of this process."""
        return {
            "time": time.monotonic(),
            "cpu": time.process_time(),
            "frames": [len(counter.frames) for counter in self._counters],
            "packets": [counter.packets for counter in self._counters],
            "lost": [counter.lost for counter in self._counters],
        }

    async def times(self, since: float) -> list[list[float]]:
        """When each receiver had its frames."""
        return [[at for at in counter.frames if at >= since] for counter in self._counters]


async def main(core: str, _who: str, url: str) -> None:
    """Do as asked; they are the same whoever sends."""
    pin(int(core))
    crowd = Crowd(url)
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.reports())
        await serve(join=crowd.join, totals=crowd.totals, times=crowd.times)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
