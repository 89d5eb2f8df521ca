"""The receiving end of one video track."""

import asyncio
from typing import Self

from synopticon_rtc.rtc.decoder import Received


class VideoTrack:
    """The decoded frames of one video track, for one consumer: ``async for received in track``.

    The newest frame wins: one that nobody took is replaced by the next. The iteration ends with the
    connection: a peer that stops sending may begin again.
    """

    def __init__(self, mid: str) -> None:
        self.mid = mid
        """Which of the connection's media sections it is."""
        self.decoded = 0
        """Frames decoded."""
        self.skipped = 0
        """Frames decoded that nobody took in time."""
        self._newest: Received | None = None
        self._changed = asyncio.Event()
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        while self._newest is None:
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        received, self._newest = self._newest, None
        return received

    def put(self, received: Received) -> None:
        """Offer a frame to the consumer."""
        self.decoded += 1
        self.skipped += self._newest is not None
        self._newest = received
        self._changed.set()

    def end(self) -> None:
        """End the iteration, after the frame that may wait."""
        self._ended = True
        self._changed.set()
