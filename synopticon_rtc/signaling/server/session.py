"""One client of the server, from its welcome to its end."""

import functools
import time
from typing import Protocol

import msgspec
from picows import WSFrame, WSTransport
from websockets.frames import CloseCode

from synopticon_rtc.signaling.server import answers
from synopticon_rtc.signaling.server.access import Participant
from synopticon_rtc.signaling.server.connection import Listener
from synopticon_rtc.signaling.server.envelope import stamp
from synopticon_rtc.signaling.server.limits import TURN_MESSAGES, Budget, Limits
from synopticon_rtc.signaling.server.memory import Memory
from synopticon_rtc.signaling.server.turn import Turn


class Peer(Protocol):
    """A session as another one sees it, on this server or elsewhere.

    Attributes:
        who: What is known of it.
        links: The sessions with which it exchanges targeted messages, by id.
    """

    who: Participant
    links: "dict[str, Peer]"

    def deliver(self, message: bytes, source: str) -> None:
        """Send it a message of that session, without waiting."""

    def lost(self, session: str, reason: str) -> None:
        """Take note that one of its links ended."""


class Host(Protocol):
    """Who is told that sessions begin and end."""

    def opened(self, session: "Session") -> None:
        """It is there."""

    def closed(self, session: "Session") -> None:
        """It is gone, and has its reason."""


class Handler(Protocol):
    """Who takes the messages of sessions."""

    def take(self, session: "Session", data: bytes) -> None:
        """It sent a message, in text that may be no UTF-8."""

    def take_binary(self, session: "Session", data: bytes) -> None:
        """It sent a message in a binary frame."""

    def take_ping(self, session: "Session", data: bytes) -> None:
        """It sent a ping."""

    def take_frame(self, session: "Session") -> bool:
        """It sent a frame that is no message; whether it may."""
        ...


class Session(Listener):
    """One client.

    Attributes:
        id: What other clients know it by.
        who: What else is known of it.
        granted: What its token fixes of that.
        address: Its end of the connection, ``host:port``, or the host alone behind a proxy.
        opened: When it came, on the monotonic clock (s).
        heard: When its last message came, on the same clock.
        messages: Messages that came from it.
        errors: How many of them the server did not take.
        reason: Close code and reason; empty while it is open.
        expires: When its token ends (s since the epoch), if it does.
        budget: What it may send now.
        signature: What makes a message one of its own, in place of the closing brace.
        tells: What it asked to be told of.
        links: The sessions with which it exchanges targeted messages, by id.
        denied: The sessions that may have none.
        announced: The broadcasters that it was told of, by id, with their names.
        parted: Whether it said itself that it ends.
        sought: When it began to look for a broadcaster, until it has answered one; 0 while it does not.
    """

    __slots__ = (
        "_handler",
        "_host",
        "_out",
        "_turn",
        "address",
        "announced",
        "budget",
        "denied",
        "errors",
        "expires",
        "granted",
        "heard",
        "id",
        "links",
        "messages",
        "opened",
        "parted",
        "signature",
        "sought",
        "tells",
        "who",
    )

    def __init__(
        self,
        who: Participant,
        address: str,
        expires: float | None,
        host: Host,
        handler: Handler,
        turn: Turn,
        limits: Limits,
        memory: Memory,
    ) -> None:
        super().__init__(limits, memory)
        self.id = who.session
        self.granted = who
        # A token that lets its bearer do both does not say what the bearer does.
        undecided = who.roles is not None and len(who.roles) > 1
        self.who = msgspec.structs.replace(who, roles=None) if undecided else who
        self.address = address
        self.opened = self.heard = time.monotonic()
        self.messages = 0
        self.errors = 0
        self.expires = expires
        self.budget = Budget(limits)
        self.signature = stamp(self.id)
        self.tells: frozenset[str] = frozenset()
        self.links: dict[str, Peer] = {}
        self.denied: set[str] = set()
        self.announced: dict[str, str] = {}
        self.parted = False
        self.sought = 0.0
        self._host = host
        self._handler = handler
        self._turn = turn
        self._out: list[bytes] = []

    @property
    def age(self) -> float:
        """Seconds since it came."""
        return time.monotonic() - self.opened

    def deliver(self, message: bytes, source: str = "") -> None:  # noqa: ARG002  # it is in the message
        """Send it a message when the turn ends, so that no reader holds up another."""
        out = self._out
        if not out:
            self._turn.add(self)
        elif len(out) > 2 * TURN_MESSAGES:
            self.flush()
        out.append(_header(len(message)))
        out.append(message)

    def flush(self) -> None:
        """Write all that was delivered in this turn, or let go whoever reads too slowly."""
        if self.slow and self.owed() > self._limits.buffered_bytes:
            self._out.clear()
            self.end(CloseCode.POLICY_VIOLATION, "Too slow")
            return
        self._write()
        if self.slow:
            self.hold()

    def lost(self, session: str, reason: str) -> None:
        """Take note that one of its links ended, and tell it if it wants to know."""
        del self.links[session]
        if "peers" in self.tells:
            self.deliver(answers.message("peer_left", session=session, reason=reason))

    def take(self, data: bytes) -> None:
        """Hand a message on."""
        self._handler.take(self, data)

    def take_binary(self, data: bytes) -> None:
        """Hand a message on."""
        self._handler.take_binary(self, data)

    def take_ping(self, data: bytes) -> None:
        """Hand it on."""
        self._handler.take_ping(self, data)

    def afford(self) -> bool:
        """Whether it may send one more frame."""
        return self._handler.take_frame(self)

    def pong(self, data: bytes) -> None:
        """Answer a ping when the turn ends."""
        if not self._out:
            self._turn.add(self)
        self._out.append(bytes((0x8A, len(data))) + data)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin."""
        super().on_ws_connected(transport)
        self._host.opened(self)

    def _answer_close(self, frame: WSFrame) -> None:
        self.parted = not self.ending
        super()._answer_close(frame)

    def _write(self) -> None:
        transport = self._transport
        if self._out and not (transport.is_close_frame_sent or transport.is_disconnected):
            transport.underlying_transport.write(b"".join(self._out))
        self._out.clear()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """End."""
        super().on_ws_disconnected(transport)
        self._host.closed(self)


@functools.lru_cache(4096)
def _header(size: int) -> bytes:
    # Frames of a server are not masked (RFC 6455, 5.1 and 5.2), so that all receivers may have the same bytes.
    if size < 126:  # noqa: PLR2004  # the RFC's
        return bytes((0x81, size))
    if size < 2**16:
        return b"\x81\x7e" + size.to_bytes(2)
    return b"\x81\x7f" + size.to_bytes(8)
