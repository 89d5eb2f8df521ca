"""The control channel between peers of this package: signs of life, and the offset between two clocks.

Both sides send ``{"type": "ping", "t": T}`` about once a second and answer the other's with
``{"type": "pong", "t": T, "time": NOW}``, times in ms. The offset is NTP's (RFC 5905, section 8): half the round trip
is taken off, and the sample with the shortest round trip of the last few is believed.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from synopticon_rtc.rtc import Channel

LABEL = "control"
PROTOCOL = "control/1"
PING_INTERVAL = 0.7  # seconds
SILENCE = 2.0  # seconds without a message after which the other side is gone
SAMPLES = 10


class Control:
    """One side of a control channel.

    Args:
        channel: The open or opening channel.
        gone: Called once when the other side has been silent for too long, with the reason.
    """

    def __init__(self, channel: Channel, *, gone: Callable[[str], None]) -> None:
        self._channel = channel
        self._gone = gone
        self._heard = float("inf")
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._timer = self._loop.call_at(self._due, self._tick)
        channel.on_message = self._received

    @property
    def offset(self) -> float | None:
        """The other side's clock minus ours, seconds, None while it is not known."""
        return min(self._samples)[1] if self._samples else None

    @property
    def round_trip(self) -> float | None:
        """The shortest round trip of the last few, seconds, None while it is not known."""
        return min(self._samples)[0] if self._samples else None

    def close(self) -> None:
        """Ping and watch no more."""
        self._timer.cancel()

    def _tick(self) -> None:
        now = self._loop.time()
        if now - self._due > PING_INTERVAL:  # it was us who stood still: what came meanwhile is yet to be read
            self._heard = now
        if now - self._heard > SILENCE:
            self._gone(f"nothing heard for {SILENCE:g} s")
            return
        self._due = now + PING_INTERVAL
        self._timer = self._loop.call_at(self._due, self._tick)
        self._send({"type": "ping", "t": time.time() * 1000})

    def _send(self, message: dict[str, Any]) -> None:
        self._channel.send(msgspec.json.encode(message).decode())

    def _received(self, data: str | bytes) -> None:
        self._heard = self._loop.time()
        try:
            message = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError):
            return
        match message:
            case {"type": "ping", "t": int() | float() as sent}:
                self._send({"type": "pong", "t": sent, "time": time.time() * 1000})
            case {"type": "pong", "t": int() | float() as sent, "time": int() | float() as theirs}:
                now = time.time() * 1000
                if 0 <= now - sent < 60_000:  # noqa: PLR2004 - a minute: no answer to a ping of ours
                    self._samples.append(((now - sent) / 1000, (theirs - (sent + now) / 2) / 1000))
            case _:
                pass
