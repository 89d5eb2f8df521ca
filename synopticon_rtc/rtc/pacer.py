"""Peers take turns to be sent their bursts, so that neither they nor the event loop are flooded."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

from synopticon_rtc.basics import clock

BURST = 16
"""Packets that a peer is sent at once; a keyframe is more, and goes out in several turns."""
INTERVAL = 0.003
"""Seconds between two turns of a peer: a burst in each is about 50 Mbit/s."""
PACKET = 1200
"""Octets of a packet, about."""
SLICE = 0.001
"""Seconds of sending after which the event loop has its turn."""


def packets_a_turn(bitrate: float) -> int:
    """Return how many packets a peer must be sent in a turn to be sent this many bit/s."""
    return math.ceil(bitrate * INTERVAL / (8 * PACKET))


Turn = Callable[[float], bool]
"""Sends one burst, and returns whether there is more to send; it is passed the time, s, of :func:`.clock.monotonic`."""


class Pacer:
    """Runs turns: at once while there is time, else one after the other.

    Each runs, whether or not :meth:`run` is called: nobody waits for a stream that goes on without them, or does not.
    Those that run behind one another are passed the same time.
    """

    def __init__(self) -> None:
        self._due: deque[Turn] = deque()
        self._later: list[Turn] = []
        self._next: asyncio.Handle | None = None
        self._tick: asyncio.Handle | None = None

    def add(self, turn: Turn) -> None:
        """Have a turn run soon; :meth:`run` starts it now."""
        self._due.append(turn)
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self.run)

    def run(self) -> None:
        """Run the turns that are due, for as long as the event loop can wait."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        due, later = self._due, self._later
        now, until = clock.monotonic(), time.perf_counter() + SLICE
        try:
            while due:
                turn = due.popleft()
                if turn(now):
                    later.append(turn)
                if time.perf_counter() > until:
                    break
        finally:  # a turn that fails is none of the others' business
            if due and self._next is None:
                self._next = asyncio.get_running_loop().call_soon(self.run)
            if later and self._tick is None:
                self._tick = asyncio.get_running_loop().call_later(INTERVAL, self._resume)

    def _resume(self) -> None:
        self._tick = None
        self._due.extend(self._later)
        self._later.clear()
        self.run()
