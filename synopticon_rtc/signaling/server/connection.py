"""One TCP connection to the server: what it asks for, and its WebSocket if it becomes one.

picows carries the WebSocket. What it makes of requests is not HTTP to everybody (it knows no HEAD, nor HTTP/1.0), and
it does not know who asks: so the request is read here.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from picows import WSAutoPingStrategy, WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # as picows.api has it; not in its stub
from websockets.frames import Close, CloseCode

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.signaling.messages import one_line
from synopticon_rtc.signaling.server.door import Call
from synopticon_rtc.signaling.server.http import Head, Refused, Response, read_head, refuse
from synopticon_rtc.signaling.server.limits import HEAD_BYTES, HELD_FREE, READ_BUFFER, Limits
from synopticon_rtc.signaling.server.memory import Memory

if TYPE_CHECKING:
    from picows.picows import WSCloseHandshake

CARRYING = frozenset({"POST", "PUT", "PATCH"})  # methods whose requests have content
HEAD_END = b"\r\n\r\n"
TLS_HELLO = b"\x16\x03"  # how a client begins that takes us for a server with TLS (RFC 8446, 5.1)
UPGRADE = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n%b"
)  # all that picows looks at of a request, and what came with it
CLOSE_REASON = 123  # bytes: what a close frame has room for (RFC 6455, 5.5)
FAULT_OF_CLIENT = "WS parser error"
TEXT, BINARY, CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
PING, CLOSE = WSMsgType.PING, WSMsgType.CLOSE

# Faults of a client, after which nothing that it sends is of interest.
FAULTS = frozenset({1002, 1007, 1008, 1009, 1011})  # close codes

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"  # RFC 9110, 15.2.1

Answer = Callable[[Head, bytes, Call], "Listener | Response | Awaitable[Response]"]

log = logging.getLogger(__name__)


class _Log(logging.LoggerAdapter[logging.Logger]):
    """picows tells every handshake and every fault of a client; only what fails in our own code matters."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(log)
        self._faults = faults

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # logging's name
        return level >= logging.ERROR

    def log(self, level: int, msg: object, *args: object, **_: Any) -> None:  # noqa: ANN401  # logging's signature
        if self.isEnabledFor(level) and not str(msg).startswith(FAULT_OF_CLIENT):
            self._faults.note(str(msg), *args)


class Connection(asyncio.Protocol):
    """A connection, from its first byte to the answer.

    Args:
        answer: Answers its request, perhaps after a while; it is given what follows the head where that says so, and
            where all came from: host and port.
        call: What the door knows of it.
        limits: How large messages may be, and how long it may take to ask and to read.
        faults: What counts errors that nobody foresaw.
    """

    def __init__(self, answer: Answer, call: Call, limits: Limits, faults: Faults) -> None:
        self._answer = answer
        self._call = call
        self._limits = limits
        self._faults = faults
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._head: Head | None = None  # while more is to follow it
        self._answered = False
        self._work: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._call.connected(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """End."""
        if self._work is not None:
            self._work.cancel()
        self._call.ended()

    def data_received(self, data: bytes) -> None:
        """Take bytes, until there is a whole request."""
        if self._answered:
            return  # closed with bytes unread, the connection would be reset, and the answer lost (RFC 9112, 9.6)
        received = self._received
        if self._head is not None:
            received += data
            self._answer_whole(self._head)
            return
        looked_at = max(0, len(received) - len(HEAD_END))
        received += data
        if not looked_at:
            del received[: len(received) - len(received.lstrip(b"\r\n"))]  # RFC 9112, 2.2
        end = received.find(HEAD_END, looked_at)
        if end < 0 and len(received) <= HEAD_BYTES and not received.startswith(TLS_HELLO):
            return
        try:
            head = read_head(bytes(received[:end] if end >= 0 else received))
        except Refused as refused:
            self._turn_down(refused, "GET")
            return
        del received[: end + len(HEAD_END)]
        self._head = head
        if head.headers.get("Expect", "").lower() == "100-continue":
            self._transport.write(CONTINUE)
        self._answer_whole(head)

    def _answer_whole(self, head: Head) -> None:
        """Answer a request, once all of it is there; whatever follows is for what it opens."""
        received = self._received
        try:
            length = head.length if head.method in CARRYING else 0
            if len(received) < length:
                return
            self._answered = True
            body, rest = bytes(received[:length]), bytes(received[length:])
            received.clear()
            answer = self._answer(head, body, self._call)
        except Refused as refused:
            self._turn_down(refused, head.method)
        except Exception:  # noqa: BLE001 - it is noted, and the client told
            self._faults.note("request of %s failed", self._call.host)
            self._fail(head.method)
        else:
            if isinstance(answer, Response):
                self._write(answer, head.method)
            elif isinstance(answer, Listener):
                self._upgrade(answer, head, rest)
            else:
                self._call.give(self._limits.answer)
                self._work = asyncio.create_task(self._wait(answer, head.method), name=f"request of {self._call.host}")

    async def _wait(self, answer: Awaitable[Response], method: str) -> None:
        try:
            self._write(await answer, method)
        except Refused as refused:
            self._turn_down(refused, method)
        except Exception:  # noqa: BLE001 - it is noted, and the client told
            self._faults.note("request of %s failed", self._call.host)
            self._fail(method)

    def _turn_down(self, refused: Refused, method: str) -> None:
        self._write(refuse(refused.status, refused.code, refused.message, refused.headers), method)

    def _fail(self, method: str) -> None:
        self._write(refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "The server failed"), method)

    def _write(self, response: Response, method: str) -> None:
        self._answered = True
        self._received.clear()
        self._call.give(self._limits.answer)
        self._transport.writelines(response.write(method))
        if self._transport.can_write_eof():
            self._transport.write_eof()  # and closed when the client has read it, and closes
        else:
            self._transport.close()

    def _upgrade(self, listener: "Listener", head: Head, rest: bytes) -> None:
        socket = _Socket(listener, self._call, self._limits, self._faults)
        self._transport.set_protocol(socket)
        socket.connection_made(self._transport)
        socket.feed(UPGRADE % (head.headers["Sec-WebSocket-Key"].encode(), rest))


class _Socket(WSProtocol):  # type: ignore[misc]  # untyped in picows' stub
    """A WebSocket of picows, whose request was looked at already."""

    def __init__(self, listener: "Listener", call: Call, limits: Limits, faults: Faults) -> None:
        super().__init__(
            None,  # host and path: it is a server's
            None,
            False,
            lambda _request: listener,
            _Log(faults),
            True,  # an error of ours closes the connection
            None,  # it has asked already
            False,  # no pings: the idle clock also closes those that answer pings and say nothing
            0,
            0,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # no pongs either: they would be written to whoever never reads them
            limits.message_bytes,
            None,
            READ_BUFFER,
        )
        self._listener = listener
        self._call = call
        self._room = HELD_FREE

    def feed(self, data: bytes) -> None:
        """Take bytes that were read before."""
        while data:
            buffer = self.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            self.buffer_updated(size)
            data = data[size:]

    def get_buffer(self, hint: int) -> memoryview:
        """Give room for what comes, and take note of how much there is: picows doubles it, and gives none back."""
        buffer: memoryview = super().get_buffer(hint)
        if len(buffer) > self._room:
            self._room = len(buffer)
            self._listener.hold_read(2 * len(buffer))  # more than half of it is free when it has grown
        return buffer

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        self._call.ended()


class Listener(WSListener):
    """A WebSocket: whole messages from frames, and an end that either side may ask for.

    Attributes:
        reason: Close code and reason; empty while it is open.
        slow: Whether it owes so much that it is looked after.
        waits: Bytes of its messages that wait for an answer of others.
    """

    __slots__ = (
        "_cut",
        "_limits",
        "_memory",
        "_parts",
        "_parts_kind",
        "_read",
        "_transport",
        "reason",
        "slow",
        "waits",
    )

    def __init__(self, limits: Limits, memory: Memory) -> None:
        self.reason = ""
        self.slow = False
        self.waits = 0
        self._limits = limits
        self._memory = memory
        self._read = 0
        self._transport: WSTransport
        self._parts: bytearray | None = None
        self._cut: asyncio.TimerHandle | None = None

    @property
    def ending(self) -> bool:
        """Whether it has been told to end."""
        return self._transport.is_close_frame_sent

    def take(self, data: bytes) -> None:
        """Take a message that came as text; it may still be no UTF-8."""

    def take_binary(self, data: bytes) -> None:
        """Take a message that came as binary."""

    def take_ping(self, data: bytes) -> None:
        """Take a ping (RFC 6455, 5.5.2)."""

    def afford(self) -> bool:
        """Whether it may send one more frame that is no message; where it may not, it has been told."""
        return True

    def hold_read(self, size: int) -> None:
        """Take note of what there is room for of messages that are not whole (bytes)."""
        self._read = size
        self.hold()

    def hold_waiting(self, size: int) -> None:
        """Take note of so many bytes more, or less, that wait for an answer of others."""
        self.waits += size
        if size > 0:
            self.hold()

    def hold(self) -> None:
        """Take note that more may be held for it; what is over holds nothing, whoever still has to do with it."""
        if not self.reason:
            self._memory.note(self)

    def owed(self) -> int:
        """Bytes that are written and that it did not read."""
        return self._transport.underlying_transport.get_write_buffer_size()

    def held(self) -> int:
        """Bytes that are held for it."""
        return self._read + len(self._parts or b"") + self.waits + (self.owed() if self.slow else 0)

    def let_go(self) -> None:
        """End it at once, as it holds the most while all hold too much."""
        self.end(CloseCode.TRY_AGAIN_LATER, "Too much is held")
        self._transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin."""
        self._transport = transport
        high = min(HELD_FREE, self._limits.buffered_bytes)
        transport.underlying_transport.set_write_buffer_limits(high=high)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a frame."""
        kind = frame.msg_type
        if kind is CLOSE:
            self._answer_close(frame)
        elif transport.is_close_frame_sent:
            return
        elif kind is TEXT and frame.fin and self._parts is None and not frame.rsv1:
            self.take(frame.get_payload_as_bytes())
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.end(CloseCode.PROTOCOL_ERROR, "Reserved bit set")
        elif kind is PING:
            self.take_ping(frame.get_payload_as_bytes())
        elif (kind is BINARY and frame.fin and self._parts is None) or self.afford():
            self._assemble(kind, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Give it a reason to have ended."""
        self._memory.forget(self)
        if self._cut:
            self._cut.cancel()
        handshake = cast("WSCloseHandshake | None", transport.close_handshake)
        close = (handshake.recv if handshake.recv_then_sent else handshake.sent) if handshake else None
        if close is None:
            self.reason = str(Close(CloseCode.ABNORMAL_CLOSURE, ""))
        else:
            self.reason = one_line(str(Close(_number(close.code) or CloseCode.NO_STATUS_RCVD, close.reason or "")))

    def pause_writing(self) -> None:
        """Take note that it reads slowly."""
        self.slow = True

    def resume_writing(self) -> None:
        """Take note that it has caught up."""
        self.slow = False

    def end(self, code: int, reason: str) -> None:
        """Close it, from wherever it is noticed that it must end; the first reason counts."""
        if not self._transport.is_close_frame_sent:
            self._write()
            text = reason.encode()[:CLOSE_REASON].decode(errors="ignore")
            self._transport.send_close(cast("WSCloseCode", code), text)
            if code in FAULTS:
                self._transport.underlying_transport.pause_reading()
        if self._cut is None:
            loop = asyncio.get_running_loop()
            self._cut = loop.call_later(self._limits.close, self._transport.disconnect, False)

    def _write(self) -> None:
        """Write all that waits to be written."""

    def _answer_close(self, frame: WSFrame) -> None:
        if not self._transport.is_close_frame_sent:
            self.end(_number(frame.get_close_code()) or CloseCode.NORMAL_CLOSURE, "")
        self._transport.disconnect()

    def _assemble(self, kind: WSMsgType, frame: WSFrame) -> None:
        if kind not in {TEXT, BINARY, CONTINUATION}:
            return  # a pong that nobody asked for
        if (kind is CONTINUATION) == (self._parts is None):
            self.end(CloseCode.PROTOCOL_ERROR, "Fragments out of order")
            return
        if self._parts is None:
            self._parts, self._parts_kind = bytearray(), kind
        self._parts += frame.get_payload_as_bytes()
        if len(self._parts) > self._limits.message_bytes:
            self.end(CloseCode.MESSAGE_TOO_BIG, "Message too big")
        elif not frame.fin:
            self.hold()
        else:
            data, self._parts = bytes(self._parts), None
            if self._parts_kind is TEXT:
                self.take(data)
            else:
                self.take_binary(data)


class Refusal(Listener):
    """A WebSocket that is closed as soon as it is open, for those who read the reason nowhere else."""

    def __init__(self, limits: Limits, memory: Memory, code: int, reason: str) -> None:
        super().__init__(limits, memory)
        self._code = code
        self._why = reason

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Close it."""
        super().on_ws_connected(transport)
        self.end(self._code, self._why)


def _number(code: WSCloseCode) -> int:
    return cast("int", code)  # an integer, which its stub does not say
