"""One TCP connection to the server: what it asks for, and its WebSocket if it becomes one.

picows carries both. Its own ``ws_create_server`` answers a request without knowing who asks; here its protocol is told.
"""

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any, cast

from picows import WSAutoPingStrategy, WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # as picows.api has it; not in its stub
from websockets.frames import Close, CloseCode

from synopticon_rtc.signaling.http import Response
from synopticon_rtc.signaling.limits import Limits

if TYPE_CHECKING:
    from picows.picows import WSCloseHandshake

READ_BUFFER = 2048  # bytes; it grows with what comes
CLOSE_REASON = 123  # bytes: what a close frame has room for (RFC 6455, 5.5)
FAULT_OF_CLIENT = "WS parser error"
TEXT, BINARY, CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
PING, CLOSE = WSMsgType.PING, WSMsgType.CLOSE

Answer = Callable[[WSUpgradeRequest, asyncio.Transport], "Listener | Response"]


class _Faults(logging.LoggerAdapter[logging.Logger]):
    """picows tells every handshake and every fault of a client; only what fails in our own code matters."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # logging's name
        return level >= logging.ERROR

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:  # noqa: ANN401  # logging's signature
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401  # logging's signature
        if self.isEnabledFor(level) and not str(msg).startswith(FAULT_OF_CLIENT):
            super().log(level, msg, *args, **kwargs)


_faults = _Faults(logging.getLogger(__name__))


class Connection(WSProtocol):  # type: ignore[misc]  # untyped in picows' stub
    """A connection, from its first byte.

    Args:
        answer: Answers its request, and is given the transport that it came by.
        limits: How large messages may be, and how long it may take to ask.
    """

    def __init__(self, answer: Answer, limits: Limits) -> None:
        super().__init__(
            None,  # host and path: it is a server's
            None,
            False,
            self._respond,
            _faults,
            True,  # an error of ours closes the connection
            limits.handshake,
            False,  # no pings: the idle clock also closes those that answer pings and say nothing
            0,
            0,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # no pongs either: they would be written to whoever never reads them
            limits.message_bytes,
            None,
            READ_BUFFER,
        )
        self._answer = answer

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take note of who is there."""
        super().connection_made(transport)
        self._transport = transport

    def _respond(self, request: WSUpgradeRequest) -> "Listener | Response":
        if "upgrade" in request.headers.get("Connection", "").lower():
            request.headers["Connection"] = "upgrade"  # Firefox's "keep-alive, Upgrade" is more than picows takes
        answer = self._answer(request, self._transport)
        del self._transport, self._answer
        return answer


class Listener(WSListener):
    """A WebSocket: whole messages from frames, and an end that either side may ask for.

    Attributes:
        reason: Close code and reason; empty while it is open.
        slow: Whether it owes more than a slow reader may.
    """

    __slots__ = ("_cut", "_limits", "_parts", "_parts_kind", "_transport", "reason", "slow")

    def __init__(self, limits: Limits) -> None:
        self.reason = ""
        self.slow = False
        self._limits = limits
        self._transport: WSTransport
        self._parts: bytearray | None = None
        self._cut: asyncio.TimerHandle | None = None

    def take(self, data: bytes) -> None:
        """Take a message that came as text; it may still be no UTF-8."""

    def take_binary(self, data: bytes) -> None:
        """Take a message that came as binary."""

    def take_ping(self, data: bytes) -> None:
        """Take a ping (RFC 6455, 5.5.2)."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin."""
        self._transport = transport
        transport.underlying_transport.set_write_buffer_limits(high=self._limits.buffered_bytes)

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
        elif kind in {TEXT, BINARY, CONTINUATION}:
            self._assemble(kind, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Give it a reason to have ended."""
        if self._cut:
            self._cut.cancel()
        handshake = cast("WSCloseHandshake | None", transport.close_handshake)
        close = (handshake.recv if handshake.recv_then_sent else handshake.sent) if handshake else None
        if close is None:
            self.reason = str(Close(CloseCode.ABNORMAL_CLOSURE, ""))
        else:
            self.reason = str(Close(_number(close.code) or CloseCode.NO_STATUS_RCVD, close.reason or ""))

    def pause_writing(self) -> None:
        """Take note that it owes too much: the next message is one too many."""
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
        if (kind is CONTINUATION) == (self._parts is None):
            self.end(CloseCode.PROTOCOL_ERROR, "Fragments out of order")
            return
        if self._parts is None:
            self._parts, self._parts_kind = bytearray(), kind
        self._parts += frame.get_payload_as_bytes()
        if len(self._parts) > self._limits.message_bytes:
            self.end(CloseCode.MESSAGE_TOO_BIG, "Message too big")
        elif frame.fin:
            data, self._parts = bytes(self._parts), None
            if self._parts_kind is TEXT:
                self.take(data)
            else:
                self.take_binary(data)


class Refusal(Listener):
    """A WebSocket that is closed as soon as it is open, for those who read the reason nowhere else."""

    def __init__(self, limits: Limits, code: int, reason: str) -> None:
        super().__init__(limits)
        self._code = code
        self._why = reason

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Close it."""
        super().on_ws_connected(transport)
        self.end(self._code, self._why)


def _number(code: WSCloseCode) -> int:
    return cast("int", code)  # an integer, which its stub does not say
