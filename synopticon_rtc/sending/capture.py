"""Gives each frame of a source its times, and tells when none come."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import av

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.recent import Recent
from synopticon_rtc.events import Events, SourceEvent
from synopticon_rtc.media import FrameSource, Hint, frames_of, hint_of
from synopticon_rtc.sending.feed import Feed

CLOCK_RATE = 90_000  # of RTP video (RFC 7741, RFC 6184)
SILENCE = 3.0  # seconds without a frame after which it is told


@dataclass(frozen=True, slots=True)
class Captured:
    """A frame of a source, which is only read, and when it was captured.

    Attributes:
        frame: As the source gave it.
        ticks: Since the capture began, 1/90000 s.
        rtp_timestamp: The same as receivers see it: counted from a random origin, 0 to 2**32 - 1.
        time: Seconds since the epoch.
    """

    frame: av.VideoFrame
    ticks: int
    rtp_timestamp: int
    time: float


class Capture:
    """Asks one source for its frames.

    Args:
        source: Where they come from.
        faults: What counts errors that nobody foresaw.

    Attributes:
        events: When the source falls silent, and when it is heard again.
        hint: What it shows.
        origin: The RTP timestamp of the beginning, the same for all receivers.
        began: When that was, seconds since the epoch; None before.
        newest: The newest frame, None before the first.
        count: How many frames came.
        seconds: From the first frame to the newest.
    """

    def __init__(self, source: FrameSource, faults: Faults | None = None) -> None:
        self.events: Events[SourceEvent] = Events(faults=faults)
        self.hint: Hint = hint_of(source)
        self.origin = random.getrandbits(32)
        self.began: float | None = None
        self.newest: Captured | None = None
        self.count = 0
        self.seconds = 0.0
        self._source = source
        self._feed: Feed[av.VideoFrame] = Feed()
        self._begun: float | None = None  # when the source was asked for its first frame
        self._first = 0.0  # when that came
        self._came = 0.0  # when the newest came
        self._silent = False  # whether none has come for a while, which was told
        self._recent = Recent()

    async def run(self, take: Callable[[Captured, float], None]) -> None:
        """Hand on each frame with the time at which it came, by the loop's clock, until the source ends."""
        loop = asyncio.get_running_loop()
        self._begun, self.began = loop.time(), clock.now()

        def stamped(frame: av.VideoFrame) -> None:
            captured, now = clock.now(), loop.time()
            take(self.stamp(frame, captured, now), now)

        await self._feed.run(frames_of(self._source), stamped)

    async def replace(self, source: FrameSource) -> None:
        """Go on with another source, once it has given a frame; until then, and if it gives none, with this one.

        Raises:
            SourceError: The other source gives no frame, or this one has ended.
        """
        await self._feed.replace(frames_of(source))

    def stamp(self, frame: av.VideoFrame, captured: float, now: float) -> Captured:
        """Give a frame its times: no two have the same.

        Args:
            frame: It has just come.
            captured: Seconds since the epoch.
            now: Any clock in seconds that does not go back, the same at each call.
        """
        if self._begun is None:
            self._begun, self.began = now, captured
        if self._silent:
            self._silent = False
            self.events.emit(SourceEvent("flowing", "frames come again"))
        self._first = self._first if self.count else now
        self._came = now
        self._recent.add(now)
        self.count += 1
        self.seconds = now - self._first
        ticks = max(self.newest.ticks + 1 if self.newest else 0, round((now - self._begun) * CLOCK_RATE))
        self.newest = Captured(frame, ticks, (self.origin + ticks) % 2**32, captured)
        return self.newest

    def time(self, rtp_timestamp: int) -> float | None:
        """Return when the frame with this timestamp was captured, seconds since the epoch; None before the first."""
        if self.newest is None:
            return None
        ticks = (rtp_timestamp - self.newest.rtp_timestamp + 2**31) % 2**32 - 2**31
        return self.newest.time + ticks / CLOCK_RATE

    def watch(self, now: float) -> None:
        """Tell if frames have stopped coming; to be called now and then, from the first frame on.

        A screen may stay as it is.
        """
        if self.hint != "screen" and not self._silent and now - self._came > SILENCE:
            self._silent = True
            self.events.emit(SourceEvent("silent", f"no frame has come for {SILENCE:g} s"))

    def rate(self, now: float) -> float:
        """Return how many frames come in a second."""
        return self._recent.rate(now)
