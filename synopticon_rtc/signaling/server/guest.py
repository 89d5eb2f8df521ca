"""A session whose client speaks another protocol than ours, and is spoken for by this server."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close, CloseCode

from synopticon_rtc.errors import SignalingError
from synopticon_rtc.signaling.client import SignalingClient
from synopticon_rtc.signaling.messages import Message, encode
from synopticon_rtc.signaling.server.http import Refused
from synopticon_rtc.signaling.server.session import Session

WAITING = 256  # messages that wait for whoever speaks for it


class Guest(Session):
    """A session without a connection: the room sees one as all others, with the same rights and limits."""

    __slots__ = ("_code", "_messages")

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401  # those of Session
        super().__init__(*arguments)
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._code: int = CloseCode.NORMAL_CLOSURE

    @property
    def ending(self) -> bool:
        """Whether it has been told to end."""
        return bool(self.reason)

    def enter(self) -> None:
        """Begin."""
        self._host.opened(self)

    def say(self, message: Message) -> None:
        """Take a message of whoever is spoken for."""
        if not self.reason:
            self.take(encode(message).encode())

    async def recv(self) -> str:
        """Wait for the next message to it.

        Raises:
            ConnectionClosedError: It has ended.
        """
        data = await self._messages.get()
        if data is None:
            self._messages.put_nowait(None)
            raise ConnectionClosedError(Close(self._code, self.reason), None)
        return data.decode()

    async def send(self, text: str) -> None:
        """Take a message of whoever is spoken for, as a client's connection does."""
        if not self.reason:
            self.take(text.encode())

    async def close(self) -> None:
        """End, as a client's connection does."""
        self.end(CloseCode.NORMAL_CLOSURE, "")

    def deliver(self, message: bytes, source: str = "") -> None:  # noqa: ARG002  # as for Session
        """Keep a message for whoever speaks for it."""
        if self.reason:
            return
        if self._messages.qsize() >= WAITING:
            self.end(CloseCode.POLICY_VIOLATION, "Too slow")
        else:
            self._messages.put_nowait(message)

    def pong(self, data: bytes) -> None:
        """Do nothing: no connection carries pings."""

    def owed(self) -> int:
        """Nothing is written to anybody."""
        return 0

    def flush(self) -> None:
        """Do nothing: nothing is written to anybody."""

    def let_go(self) -> None:
        """End."""
        self.end(CloseCode.TRY_AGAIN_LATER, "Too much is held")

    def end(self, code: int, reason: str) -> None:
        """End; the first reason counts."""
        if not self.reason:
            self._code, self.reason = code, str(Close(code, reason))
            self._memory.forget(self)
            self._messages.put_nowait(None)
            # Whoever ends it may be at work on the sessions of its room.
            asyncio.get_running_loop().call_soon(self._host.closed, self)


class InsideClient(SignalingClient):
    """A client of this very server, without a connection, for what runs within it.

    Args:
        first: Its session.
        enter: Lets one more in where that is lost; it raises where that may not be.
    """

    def __init__(self, first: Guest, enter: Callable[[], Guest]) -> None:
        super().__init__("ws://localhost/ws")
        self._first: Guest | None = first
        self._enter = enter

    async def _connect(self, proxy: str | None) -> ClientConnection:  # noqa: ARG002  # as for SignalingClient
        try:
            guest, self._first = self._first or self._enter(), None
        except Refused as refused:
            raise ConnectionError(refused.message) from refused
        if guest.expires is not None and guest.expires < time.time():
            await guest.close()
            raise SignalingError("the token has expired")
        return cast("ClientConnection", guest)
