"""Clients of a signaling server that cost less than it does, so that it is the server that is measured.

They are of picows, do without JSON where they only count, and write what is to arrive together in one call.
``python -m benchmarks.signaling_load CORE``, driven over its standard input.
"""

import asyncio
import contextlib
import functools
import json
import secrets
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from aiortc import RTCPeerConnection
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from websockets.frames import Frame, Opcode

from benchmarks.children import pin, serve
from benchmarks.report import percentile

AT_ONCE = 50
"""Connections that are opened at the same time."""
TICK = 0.001
"""Seconds between two looks at what is due, where messages go at a fixed rate."""
PATIENCE = 5.0
"""Seconds that a message may take before it counts as lost."""
MARK = b" sent "
"""Stands in a candidate before the time at which it was sent: ns in hex digits."""
DIGITS = 16
CANDIDATE = "candidate:842163049 1 udp 2122260223 192.168.1.17 54321 typ host generation 0"
CANDIDATES = 5
"""How many each end sends in a join."""
_T = TypeVar("_T")


class Client(WSListener):
    """A session; what comes after the welcome goes to ``handle``."""

    def __init__(self, session: str = "") -> None:
        self.session = session
        self.closed = ""
        self.handle: Callable[[WSFrame], object] = self._welcome
        self.transport: WSTransport
        self._welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, url: str, token: str | None = None) -> "Client":
        """Connect, and return with the welcome."""
        session = ""
        if url.endswith("/peerjs"):  # there a client chooses its own id
            session = secrets.token_hex(16)
            url = f"{url}?key=peerjs&id={session}&token=benchmark&version=1.5.4"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        client = cls(session)
        client.transport, _ = await ws_connect(lambda: client, url, extra_headers=headers)
        await client._welcomed
        return client

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a message, or note why the server closes."""
        if frame.msg_type == WSMsgType.TEXT:
            self.handle(frame)
        elif frame.msg_type == WSMsgType.CLOSE:
            self.closed = f"{frame.get_close_code()} {frame.get_close_reason()}"
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - as picows calls it
        """Note that it is over."""
        self.closed = self.closed or "cut"
        if not self._welcomed.done():
            self._welcomed.set_exception(ConnectionError(f"no welcome: {self.closed}"))

    def send(self, message: dict[str, Any]) -> None:
        """Send a message as JSON."""
        self.write(json.dumps(message).encode())

    def write(self, text: bytes) -> None:
        """Send a message."""
        self.transport.send(WSMsgType.TEXT, text)

    def _welcome(self, frame: WSFrame) -> None:
        self.session = json.loads(frame.get_payload_as_bytes()).get("sessionId", self.session)
        self.handle = lambda _: None
        self._welcomed.set_result(None)


def ice(target: str, number: int = 0) -> bytes:
    """Write a candidate as a browser tells it, with a number in it."""
    candidate = {
        "candidate": f"{CANDIDATE} ufrag EsAw{MARK.decode()}{number:0{DIGITS}x}",
        "sdpMid": "0",
        "sdpMLineIndex": 0,
        "usernameFragment": "EsAw",
    }
    message: dict[str, Any] = {"type": "webrtc_ice", "targetSession": target, "candidate": candidate}
    if not target.startswith("ws_"):
        payload = {"candidate": candidate, "type": "media", "connectionId": "mc_1"}
        message = {"type": "CANDIDATE", "payload": payload, "dst": target}
    return json.dumps(message, separators=(",", ":")).encode()


class Pair:
    """One client that sends candidates to another."""

    def __init__(self, sender: Client, receiver: Client) -> None:
        self.sender = sender
        self.receiver = receiver
        self.sent = 0
        self.received = 0
        self.late: list[float] = []
        """Seconds from sending to receiving, where messages go at a fixed rate."""
        self.forged = 0
        """Messages that said that they came from the sender, and did not."""
        self._sender = sender.session.encode()
        self._text = ice(receiver.session)
        self._number_at = self._text.index(MARK) + len(MARK)
        self._expected: deque[int] = deque()
        self._batch = 0
        self._block = b""
        receiver.handle = self._first

    def saturate(self, batch: int, batches: int) -> None:
        """Keep some batches of messages on their way: one goes out when one has come in."""
        self._batch = batch
        self._block = batch * Frame(Opcode.TEXT, self._text).serialize(mask=True)
        for _ in range(batches):
            self._write_block()

    def stop(self) -> None:
        """Send no more batches."""
        self._block = b""

    def send(self) -> None:
        """Send one message with the time in it."""
        self.sent += 1
        now = time.perf_counter_ns()
        self._expected.append(now)
        text, at = self._text, self._number_at
        self.sender.write(b"%b%016x%b" % (text[:at], now, text[at + DIGITS :]))

    def _write_block(self) -> None:
        self.sent += self._batch
        self.sender.transport.underlying_transport.write(self._block)

    def _first(self, frame: WSFrame) -> None:
        """See once that what comes is what was sent, stamped by the server."""
        message = json.loads(frame.get_payload_as_bytes())
        source = message.get("sourceSession", message.get("src"))
        if source != self.sender.session or CANDIDATE not in str(message):
            raise RuntimeError(f"the server passed on something else: {message}")
        self.receiver.handle = self._counted if self._batch else self._timed
        self.receiver.handle(frame)

    def _counted(self, _: WSFrame) -> None:
        self.received += 1
        if self.received % self._batch == 0 and self._block:
            self._write_block()

    def _timed(self, frame: WSFrame) -> None:
        now = time.perf_counter_ns()
        text = frame.get_payload_as_bytes()
        at = text.find(MARK) + len(MARK)
        if self._expected and text[at : at + DIGITS] == b"%016x" % self._expected[0]:  # in order, and ours alone
            self.received += 1
            self.late.append(1e-9 * (now - self._expected.popleft()))
        elif self._sender in text and self.sender.session == json.loads(text).get("sourceSession"):
            self.forged += 1


class Joins:
    """Receivers that seek, and one broadcaster that offers: all that signaling has to do for a join."""

    def __init__(self, offer: dict[str, str], answer: dict[str, str]) -> None:
        self.offers: list[float] = []
        """Seconds from the broadcaster's sending an offer to its coming to the receiver."""
        self.joins: list[float] = []
        """Seconds from a receiver's first byte to its answer's and candidates' coming to the broadcaster."""
        self._offer = offer
        self._answer = answer
        self._offered: dict[str, float] = {}
        self._missing: dict[str, int] = {}
        self._joined: dict[str, asyncio.Event] = {}

    async def run(self, url: str, tokens: list[str], count: int, within: float) -> None:
        """Let receivers come, one after the other within some seconds."""
        broadcaster = await Client.open(url, tokens[0])
        broadcaster.handle = functools.partial(self._at_broadcaster, broadcaster)
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                await asyncio.sleep(begun + number * within / count - time.perf_counter())
                group.create_task(self._join(url, tokens[1]))

    async def _join(self, url: str, token: str) -> None:
        begun = time.perf_counter()
        client = await Client.open(url, token)
        client.handle = functools.partial(self._at_receiver, client)
        self._missing[client.session] = CANDIDATES + 1
        joined = self._joined[client.session] = asyncio.Event()
        for kind in ("webrtc_seek_broadcaster", "request_offer"):
            client.send({"type": kind, "deviceId": client.session, "accept": {"faces": ["faces/1", "json"]}})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await joined.wait()
                self.joins.append(time.perf_counter() - begun)

    def _at_broadcaster(self, broadcaster: Client, frame: WSFrame) -> None:
        message = json.loads(frame.get_payload_as_bytes())
        source = message["sourceSession"]
        if message["type"] in {"webrtc_ice", "webrtc_answer"}:
            self._missing[source] -= 1
            if not self._missing[source]:
                self._joined[source].set()
        elif source not in self._offered:
            self._offered[source] = time.perf_counter()
            _describe(broadcaster, "webrtc_offer", source, self._offer)

    def _at_receiver(self, client: Client, frame: WSFrame) -> None:
        now = time.perf_counter()
        message = json.loads(frame.get_payload_as_bytes())
        if message["type"] == "webrtc_offer":
            self.offers.append(now - self._offered[client.session])
            _describe(client, "webrtc_answer", message["sourceSession"], self._answer)


def _describe(client: Client, kind: str, target: str, description: dict[str, str]) -> None:
    client.send({"type": kind, "targetSession": target, "sdp": description})
    for number in range(CANDIDATES):
        client.write(ice(target, number))


async def _descriptions() -> list[dict[str, str]]:
    """An offer and an answer, as aiortc writes them."""
    offerer, answerer = RTCPeerConnection(), RTCPeerConnection()
    offerer.addTransceiver("video", direction="sendonly")
    offerer.createDataChannel("faces")
    await offerer.setLocalDescription(await offerer.createOffer())
    await answerer.setRemoteDescription(offerer.localDescription)
    await answerer.setLocalDescription(await answerer.createAnswer())
    found = [{"type": one.localDescription.type, "sdp": one.localDescription.sdp} for one in (offerer, answerer)]
    await offerer.close()
    await answerer.close()
    return found


def _summary(seconds: list[float]) -> dict[str, float]:
    """Milliseconds, in the middle and at the end."""
    if not seconds:
        return {"count": 0}
    return {
        "count": len(seconds),
        "median": 1e3 * percentile(seconds, 50),
        "p99": 1e3 * percentile(seconds, 99),
        "most": 1e3 * max(seconds),
    }


class Load:
    """The clients of this process."""

    def __init__(self) -> None:
        self._idle: list[Client] = []
        self._pairs: list[Pair] = []
        self._rate = 0.0

    async def idle(self, url: str, token: str, count: int) -> int:
        """Open sessions that say nothing; return how many there are."""
        self._idle += await _many(count, lambda: Client.open(url, token))
        return sum(not client.closed for client in self._idle)

    async def pairs(self, url: str, other: str, token: str, count: int) -> None:
        """Open pairs of sessions, the one at a server and the other perhaps at another."""

        async def pair() -> Pair:
            return Pair(await Client.open(url, token), await Client.open(other, token))

        self._pairs += await _many(count, pair)

    async def saturate(self, batch: int, batches: int) -> None:
        """Let every pair keep some batches of messages on their way, from now on."""
        for pair in self._pairs:
            pair.saturate(batch, batches)

    async def pace(self, rate: float) -> None:
        """Send so many messages a second, each on its own and by another pair than the one before, from now on."""
        self._rate = rate

    async def sessions(self) -> list[list[str]]:
        """Return the sessions of each pair: who sends, who receives."""
        return [[pair.sender.session, pair.receiver.session] for pair in self._pairs]

    async def stop(self) -> None:
        """Send no more, and wait for what is on its way."""
        self._rate = 0.0
        for pair in self._pairs:
            pair.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while any(pair.received < pair.sent for pair in self._pairs):  # noqa: ASYNC110 - many may be the last
                    await asyncio.sleep(TICK)

    async def totals(self) -> dict[str, Any]:
        """Count the messages of all pairs; how late they were since the last time, if they go at a fixed rate."""
        late = [seconds for pair in self._pairs for seconds in pair.late]
        for pair in self._pairs:
            pair.late.clear()
        return {
            "time": time.monotonic(),
            "cpu": time.process_time(),
            "sent": sum(pair.sent for pair in self._pairs),
            "received": sum(pair.received for pair in self._pairs),
            "forged": sum(pair.forged for pair in self._pairs),
            "late": _summary(late),
        }

    async def join(self, url: str, tokens: list[str], count: int, within: float) -> dict[str, Any]:
        """Let receivers join one broadcaster."""
        joins = Joins(*await _descriptions())
        await joins.run(url, tokens, count, within)
        return {"offers": _summary(joins.offers), "joins": _summary(joins.joins)}

    async def close(self) -> None:
        """Close all sessions."""
        clients = [*self._idle, *(client for pair in self._pairs for client in (pair.sender, pair.receiver))]
        self._idle, self._pairs = [], []
        for client in clients:
            client.transport.disconnect()
        for client in clients:
            await client.transport.wait_disconnected()

    async def pacing(self) -> None:
        """Send what is due, for ever."""
        begun, sent, rate = time.perf_counter(), 0, 0.0
        while True:
            if rate != self._rate:
                begun, sent, rate = time.perf_counter(), 0, self._rate
            due = int(rate * (time.perf_counter() - begun))
            for number in range(sent, due):
                self._pairs[number % len(self._pairs)].send()
            sent = due
            await asyncio.sleep(TICK)


async def _many(count: int, make: Callable[[], Coroutine[Any, Any, _T]]) -> list[_T]:
    """Make many of something, some at a time."""
    made: list[_T] = []
    numbers = iter(range(count))

    async def some() -> None:
        for _ in numbers:
            made.append(await make())  # noqa: PERF401 - several take from the same numbers

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())
    return made


async def main(core: str) -> None:
    """Do as asked."""
    pin(int(core))
    load = Load()
    async with asyncio.TaskGroup() as group:
        group.create_task(load.pacing())
        await serve(
            idle=load.idle,
            pairs=load.pairs,
            saturate=load.saturate,
            pace=load.pace,
            sessions=load.sessions,
            stop=load.stop,
            totals=load.totals,
            join=load.join,
            close=load.close,
        )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
