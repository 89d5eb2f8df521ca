"""The rate that a peer's link bears, judged by what comes back."""

import math
from collections import deque

WINDOW = 1.0
"""Seconds over which the rate that is sent is measured."""
MOST_FRAMES = 240
"""Frames of which it is known how large they were: more than a second of them."""
LOSS = 0.1
"""Share of packets lost above which a link is taken for congested (draft-ietf-rmcat-gcc-02 section 6)."""
HEAVY_LOSS = 0.25
"""The same, believed at the first report; random loss does not reach it."""
QUEUEING = 0.2
"""Seconds of round trip above the shortest: a queue is filling up."""
QUEUEING_AT_A_TRY = 0.06
"""The same while more is tried: then it need not fill up before it is known whose doing that is."""
BACK_OFF = 0.9
"""What is sent of what got through, so that queues drain."""
LOWEST = 50_000.0
"""Bit/s below which nothing is asked for."""
GROWTH = 1.5
"""How much more is tried from one second to the next, where nothing speaks against it."""
HOLD = 4.0
"""Seconds after congestion until more is tried; doubled each time that it fails."""
LONGEST_HOLD = 64.0
SETTLING = 1.5
"""Seconds after a step in which reports still speak of what was before."""
REPORTED = 3.0
"""Seconds without a report after which nothing more is tried."""
LIMITED = 0.75
"""The receiver's own estimate as a share of what is sent, below which it is believed; a busy receiver errs by less."""
REPEATS = 0.5
"""How much is sent again, at most, of what is sent: beyond that, repairs are what congests the link."""
FEWEST_REPEATS = 24_000
"""Octets a second that may be sent again in any case: a keyframe."""


class _Window:
    """Octets of the last second; noting them is all that is done for every frame."""

    def __init__(self) -> None:
        self._sent: deque[tuple[float, int]] = deque(maxlen=MOST_FRAMES)

    def add(self, now: float, octets: int) -> None:
        self._sent.append((now, octets))

    def recent(self, now: float) -> list[int]:
        return [octets for at, octets in self._sent if at >= now - WINDOW]


class RateControl:
    """Estimates what one link bears from loss, round-trip time and the receiver's own estimate.

    The estimate is infinite until something speaks against what is sent; then it follows what got through. To find out
    whether the link bears more, it grows again after a while, and asks for padding: packets that were sent already,
    whose loss harms nobody. It does no I/O, and time is passed in, in seconds.

    Attributes:
        estimate: What the link is thought to bear, bit/s.
        padding: What to send beyond the media to try it, bit/s.
    """

    def __init__(self) -> None:
        self.estimate = math.inf
        self.padding = 0.0
        self._media = _Window()
        self._repeats = _Window()
        self._padding = _Window()
        self._begun: float | None = None
        self._reported = -math.inf
        self._stepped = -math.inf
        self._hold = HOLD
        self._grown: float | None = None
        self._shortest = math.inf
        self._bad_reports = 0
        self._limit = math.inf
        self._highest = 0.0  # of the limits since the last step
        self._low_limits = 0
        self._falling = False  # the limits, since a step that they caused

    def sent(self, now: float, octets: int) -> None:
        """Note media that were sent."""
        if self._begun is None:
            self._begun = now
        self._media.add(now, octets)

    def repeated(self, now: float, octets: int) -> None:
        """Note what was sent again because it was lost."""
        self._repeats.add(now, octets)

    def padded(self, now: float, octets: int) -> None:
        """Note what was sent again as padding, which leaves repairs their share."""
        self._padding.add(now, octets)

    def may_repeat(self, now: float) -> bool:
        """Whether the link can bear that more is sent again."""
        most = max(FEWEST_REPEATS, REPEATS * sum(self._media.recent(now)))
        return sum(self._repeats.recent(now)) < most

    def media_rate(self, now: float) -> float:
        """What was sent of media in the last second, bit/s."""
        return sum(self._media.recent(now)) * 8 / self._span(now)

    def frame_rate(self, now: float) -> float:
        """How often media were sent in the last second, 1/s."""
        return len(self._media.recent(now)) / self._span(now)

    def _rate(self, now: float) -> float:
        windows = self._media, self._repeats, self._padding
        return sum(sum(window.recent(now)) for window in windows) * 8 / self._span(now)

    def _span(self, now: float) -> float:
        return min(WINDOW, max(0.1, now - self._begun)) if self._begun is not None else WINDOW

    def reported(self, now: float, loss: float, rtt: float | None) -> None:
        """Take a receiver report: the share of packets lost since the last, and the round trip in seconds."""
        self._reported = now
        tried = self._grown is not None
        queueing = False
        if rtt is not None:
            self._shortest = min(self._shortest, rtt)
            queueing = rtt > self._shortest + (QUEUEING_AT_A_TRY if tried else QUEUEING)
        if now - self._stepped < SETTLING:
            return
        if loss <= LOSS and not queueing:
            self._bad_reports = 0
            return
        self._bad_reports += 1
        if tried or loss > HEAVY_LOSS or self._bad_reports > 1:
            self._shrink(now, self._rate(now) * (1 - loss) * BACK_OFF)

    def limited(self, now: float, limit: float) -> None:
        """Take the receiver's own estimate (REMB), bit/s.

        Browsers let it grow slowly from what they are sent, so it means something only where it falls below that. It
        falls by and by to a little less than what gets through, and is followed there.
        """
        falls, self._limit = limit < self._limit, limit
        self._highest = max(self._highest, limit)
        if self._begun is None or now - self._begun < REPORTED:
            return
        if now - self._stepped < SETTLING:
            if self._falling and falls:
                self.estimate = max(LOWEST, min(self.estimate, limit))
        elif limit >= self._rate(now) * (LIMITED if self._grown is None else BACK_OFF):
            self._low_limits = 0
        elif limit < self._highest * BACK_OFF:
            self._low_limits += 1
            if self._low_limits > 1:
                self._shrink(now, limit)
                self._falling = True

    def _shrink(self, now: float, bearable: float) -> None:
        if self._grown is not None:
            self._hold = min(2 * self._hold, LONGEST_HOLD)
            self._grown = None
        self._bad_reports = 0
        self._low_limits = 0
        self._highest = self._limit
        self._falling = False
        self._stepped = now
        self.padding = 0.0
        self.estimate = max(LOWEST, min(self.estimate, bearable))

    def grow(self, now: float, enough: float) -> None:
        """Try more, if it is time to; call this a few times a second.

        Args:
            now: The time, s.
            enough: The rate that need not be exceeded, bit/s; a link that bears it is thought to bear everything.
        """
        if math.isinf(self.estimate):
            return
        if self._grown is None:
            if now - self._stepped < self._hold or now - self._reported > REPORTED:
                return
            self._grown = now
        if now - self._reported > REPORTED:
            self.padding = 0.0
            self._grown = now
            return
        self.estimate *= GROWTH ** (now - self._grown)
        self._grown = now
        if self.estimate >= enough:
            self.estimate = math.inf
            self.padding = 0.0
            self._grown = None
            self._hold = HOLD
        else:
            self.padding = max(0.0, self.estimate - self.media_rate(now))
