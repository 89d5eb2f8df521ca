"""The receiving end of one sound."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from synopticon_rtc.rtc.opus_decoder import Samples
from synopticon_rtc.rtc.opus_packet import RATE

MOST_WAITING = RATE
"""Samples that wait to be taken, one second; then the oldest go."""


@dataclass(frozen=True, slots=True, eq=False)
class ReceivedSound:
    """A piece of sound that is due, most often 20 ms."""

    samples: Samples
    """Of -1 to 1, 48,000 a second, of shape (n, channels)."""
    rtp_timestamp: int
    """Of the first, as it was on the wire, 0 to 2**32 - 1, in 1/48000 s."""
    concealed: bool
    """Whether it was made up, as a packet was lost or late. Silence that the sender left out is not, nor what the next
    packet held once more."""
    captured: float | None
    """When the first sample was captured, seconds since the epoch on the sender's clock, as it reports; None while
    there is none."""


@dataclass(frozen=True, slots=True)
class EncodedSound:
    """A packet of Opus that is due."""

    data: bytes
    """As its encoder made it (RFC 6716)."""
    rtp_timestamp: int
    """Of its first sample, as it was on the wire, 0 to 2**32 - 1, in 1/48000 s."""
    captured: float | None
    """When that was captured, seconds since the epoch on the sender's clock, as it reports; None while it has not."""
    lost: int = 0
    """Packets that are missing right before it: lost, or late. What a sender leaves out is not."""


class AudioTrack:
    """The sound of one track, for one consumer: ``async for received in track``.

    Pieces follow one another without holes, but where the sender sends nothing for more than a second, or begins anew.
    The iteration ends with the connection.
    """

    def __init__(self, mid: str) -> None:
        self.mid = mid
        """Which of the connection's media sections it is."""
        self.wanted: Callable[[], bool] = lambda: True
        """Tells whether anybody hears it; else nothing is decoded, nor given out."""
        self.skipped = 0
        """Pieces that nobody took in time."""
        self._waiting: deque[ReceivedSound] = deque()
        self._samples = 0
        self._changed = asyncio.Event()
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedSound:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._take()

    def put(self, received: ReceivedSound) -> None:
        """Offer a piece to the consumer."""
        self._waiting.append(received)
        self._samples += len(received.samples)
        while self._samples > MOST_WAITING:
            self.skipped += 1
            self._take()
        self._changed.set()

    def end(self) -> None:
        """End the iteration, after what may wait."""
        self._ended = True
        self._changed.set()

    def _take(self) -> ReceivedSound:
        received = self._waiting.popleft()
        self._samples -= len(received.samples)
        return received
