"""Clients without manners end by their own doing: nobody else loses a message, and the server does not grow."""

import asyncio
import contextlib
import json
import struct
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest
from waiting import turns
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

PAIRS = 5
EACH = 2  # abusers of each kind
LARGE = 200_000
GROWTH_MB = 60  # all that abusers send at once is several times as much


def text(data: str | bytes, *, fin: bool = True) -> bytes:
    return Frame(Opcode.TEXT, data.encode() if isinstance(data, str) else data, fin=fin).serialize(mask=True)


# What is written in one go, and the close code that it must come to; empty where the session may stay.
ABUSE: dict[str, tuple[bytes, str]] = {
    "no JSON": (20 * text('{"type":"webrtc_ice",'), "1011"),
    "no object": (20 * text("[1,2,3]"), "1011"),
    "no message": (20 * text('{"type":"notification"}'), "1011"),
    "too deep": (20 * text('{"type":"request_offer","x":' + 50_000 * "["), "1011"),
    "no UTF-8": (text(b'{"type":"request_offer","name":"\xff"}'), "1007"),
    "oversized": (b"\x81\xff" + struct.pack("!Q", 2**40) + bytes(4) + LARGE * b"x", "1009"),
    "no frame": (b"\xf3\x85" + bytes(9), "1002"),
    "fragments": (text("{", fin=False) + text("{", fin=False), "1002"),
    "pings": (20_000 * text('{"type":"ping"}'), "1008"),
    "to nobody": (1_000 * text('{"type":"webrtc_ice","targetSession":"ws_0_0"}'), ""),
    "to all": (5_000 * text('{"type":"request_offer"}'), "1008"),  # each counts for all whom it reaches
}


@dataclass
class Server:
    """A server in a process of its own, and what it tells of its sessions."""

    url: str
    process: psutil.Process
    reasons: dict[str, str] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def follow(self, stdout: asyncio.StreamReader) -> None:
        async for line in stdout:
            event = json.loads(line)
            if event.get("state") == "closed":
                async with self.changed:
                    self.reasons[event["session"]] = event["reason"]
                    self.changed.notify_all()

    async def end_of(self, session: str) -> str:
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(lambda: session in self.reasons)
        return self.reasons[session]

    def rss_mb(self) -> float:
        return float(self.process.memory_info().rss / 1e6)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    command = [sys.executable, "-m", "synopticon_rtc.signaling", "--port", "0", "--json"]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    assert process.stdout
    assert process.stderr
    ready = json.loads(await process.stdout.readline())
    server = Server(ready["url"], psutil.Process(process.pid))
    following = asyncio.create_task(server.follow(process.stdout))
    complaints = asyncio.create_task(process.stderr.read())
    yield server
    process.terminate()
    await process.wait()
    await following
    assert "Traceback" not in (await complaints).decode()


class Client:
    def __init__(self, websocket: ClientConnection, session: str) -> None:
        self.websocket = websocket
        self.session = session


@contextlib.asynccontextmanager
async def joined(server: Server) -> AsyncIterator[Client]:
    async with connect(server.url, compression=None, max_size=None, close_timeout=1) as websocket:
        yield Client(websocket, json.loads(await websocket.recv())["sessionId"])


@contextlib.asynccontextmanager
async def pairs(server: Server) -> AsyncIterator[list[tuple[Client, Client]]]:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(joined(server)) for _ in range(2 * PAIRS)]
        yield list(zip(clients[::2], clients[1::2], strict=True))


async def converse(sender: Client, receiver: Client, enough: asyncio.Event) -> int:
    """Send numbers, the next when the last has come, until it is enough; others may write to the receiver too."""
    number = 0
    while not enough.is_set():
        await sender.websocket.send(json.dumps({"type": "webrtc_ice", "targetSession": receiver.session, "n": number}))
        async with asyncio.timeout(60):
            while True:
                message: dict[str, Any] = json.loads(await receiver.websocket.recv())
                if message["sourceSession"] == sender.session:
                    break
        assert message["n"] == number
        number += 1
    return number


async def abuse(server: Server, data: bytes) -> str:
    """Write all of it, and wait for the session's end as the server tells it; empty if it is taken."""
    async with joined(server) as client:
        client.websocket.transport.write(data + text('{"type":"ping","timestamp":"last"}'))
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(60):
                while '"last"' not in str(await client.websocket.recv()):
                    pass
            return ""
        return await server.end_of(client.session)


async def forge(server: Server, victim: Client, target: Client) -> str:
    message = {"type": "webrtc_ice", "targetSession": target.session, "sourceSession": victim.session, "n": -1}
    return await abuse(server, 200 * text(json.dumps(message).replace("source", "\\u0073ource")))


async def stop_reading(server: Server) -> str:
    """Send large messages to itself and read none of them, until the server has enough of it."""
    async with joined(server) as client:
        client.websocket.transport.pause_reading()
        large = {"type": "webrtc_ice", "targetSession": client.session, "x": LARGE * "x"}
        data = text(json.dumps(large))
        for _ in range(100):
            client.websocket.transport.write(data)
            await turns()
        reason = await server.end_of(client.session)
        client.websocket.transport.abort()
        return reason


@pytest.mark.long
async def test_honest_pairs_lose_nothing_and_abusers_end_by_their_own_doing(server: Server) -> None:
    async with pairs(server) as honest:
        enough = asyncio.Event()
        conversations = [asyncio.create_task(converse(*pair, enough)) for pair in honest]
        before = server.rss_mb()
        ends, deaf, forgers = await asyncio.gather(
            asyncio.gather(*(abuse(server, data) for data, _ in ABUSE.values() for _ in range(EACH))),
            asyncio.gather(*(stop_reading(server) for _ in range(EACH))),
            asyncio.gather(*(forge(server, *honest[0]) for _ in range(EACH))),
        )
        enough.set()
        sent = await asyncio.gather(*conversations)
        assert min(sent) > 0
        assert [end[:4] for end in ends] == [code for _, code in ABUSE.values() for _ in range(EACH)]
        assert [end[:4] for end in deaf] == ["1008"] * EACH
        assert forgers == [""] * EACH  # passed on, under their own names
        assert server.rss_mb() - before < GROWTH_MB
    async with joined(server) as client:
        await client.websocket.send('{"type":"status"}')
        assert json.loads(await client.websocket.recv())["server"]["activeConnections"] == 1
