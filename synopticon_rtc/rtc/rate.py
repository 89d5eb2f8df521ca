"""The rate that a peer's link bears, judged by what comes back."""

import math
from collections import deque

from synopticon_rtc.tracing import Note, Rate, ignore

WINDOW = 1.0
"""Seconds over which the rate that is sent is measured."""
RESOLUTION = WINDOW / 256
"""Seconds within which what is sent is noted as one."""
RTT_WINDOW = 10.0
"""Seconds for which the shortest round trip counts; a queue of ours is drained by then, whatever it takes."""
FUTILE = 2
"""Steps down that do not shorten the round trip, after which the path is taken to be that long."""
LOSS = 0.1
"""Share of packets lost above which a link is taken for congested (draft-ietf-rmcat-gcc-02 section 6)."""
REMEMBERED = 4
"""Reports whose losses are taken together: a full queue drops much of one second and little of the next."""
HEAVY_LOSS = 0.25
"""The same, believed at the first report; random loss does not reach it."""
QUEUEING = 0.2
"""Seconds of round trip above the shortest: a queue is filling up."""
QUEUEING_AT_A_TRY = 0.06
"""The same while more is tried: then it need not fill up before it is known whose doing that is."""
STEADY = 0.1
"""The share of a queue by which it grows or shrinks at least from one step down to the next, where it is one."""
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
    """What was sent in the last second, as sums that are kept up: to note and to ask cost the same at any rate.

    What is sent within a few milliseconds is one entry, so that there are never more than some hundred.
    """

    def __init__(self) -> None:
        self._entries: deque[list[float]] = deque()  # since when, how often, how many octets
        self._octets = 0.0
        self._count = 0.0

    def add(self, now: float, octets: int) -> None:
        self._forget(now)
        self._octets += octets
        self._count += 1
        if self._entries and now - self._entries[-1][0] < RESOLUTION:
            entry = self._entries[-1]
            entry[1] += 1
            entry[2] += octets
        else:
            self._entries.append([now, 1, octets])

    def octets(self, now: float) -> float:
        self._forget(now)
        return self._octets

    def count(self, now: float) -> float:
        self._forget(now)
        return self._count

    def _forget(self, now: float) -> None:
        entries = self._entries
        while entries and entries[0][0] < now - WINDOW:
            _, count, octets = entries.popleft()
            self._count -= count
            self._octets -= octets


class _RoundTrips:
    """Those of the last seconds, of which the shortest counts."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[float, float]] = deque()  # one entry for each that had one: since when, and how long

    def add(self, now: float, rtt: float) -> None:
        seconds = self._seconds
        while seconds and seconds[0][0] < now - RTT_WINDOW:
            seconds.popleft()
        if seconds and now - seconds[-1][0] < 1:
            since, shortest = seconds[-1]
            seconds[-1] = since, min(shortest, rtt)
        else:
            seconds.append((now, rtt))

    def shortest(self) -> float:
        return min((rtt for _, rtt in self._seconds), default=math.inf)

    def forget(self) -> None:
        self._seconds.clear()


class RateControl:
    """Estimates what one link bears from loss, round-trip time and the receiver's own estimate.

    The estimate is infinite until something speaks against what is sent; then it follows what got through. To find out
    whether the link bears more, it grows again after a while, and asks for padding: packets that were sent already,
    whose loss harms nobody. It does no I/O, and time is passed in, in seconds.

    Args:
        note: Told of each decision.

    Attributes:
        estimate: What the link is thought to bear, bit/s.
        padding: What to send beyond the media to try it, bit/s.
    """

    def __init__(self, note: Note = ignore) -> None:
        self.estimate = math.inf
        self._note = note
        self.padding = 0.0
        self._media = _Window()
        self._repeats = _Window()
        self._padding = _Window()
        self._begun: float | None = None
        self._reported = -math.inf
        self._stepped = -math.inf
        self._hold = HOLD
        self._grown: float | None = None
        self._round_trips = _RoundTrips()
        self._rtt_before: float | None = None  # the last step down, where that was for a queue
        self._futile = 0
        self._bad_reports = 0
        self._losses: deque[float] = deque(maxlen=REMEMBERED)  # of the last reports
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
        return self._repeats.octets(now) < max(FEWEST_REPEATS, REPEATS * self._media.octets(now))

    def media_rate(self, now: float) -> float:
        """What was sent of media in the last second, bit/s."""
        return self._media.octets(now) * 8 / self._span(now)

    def frame_rate(self, now: float) -> float:
        """How often media were sent in the last second, 1/s."""
        return self._media.count(now) / self._span(now)

    def _rate(self, now: float) -> float:
        windows = self._media, self._repeats, self._padding
        return sum(window.octets(now) for window in windows) * 8 / self._span(now)

    def _span(self, now: float) -> float:
        return min(WINDOW, max(0.1, now - self._begun)) if self._begun is not None else WINDOW

    def reported(self, now: float, loss: float, rtt: float | None) -> None:
        """Take a receiver report: the share of packets lost since the last, and the round trip in seconds."""
        self._reported = now
        tried = self._grown is not None
        queueing = False
        if rtt is not None:
            self._round_trips.add(now, rtt)
            queueing = rtt > self._shortest + (QUEUEING_AT_A_TRY if tried else QUEUEING)
        if now - self._stepped < SETTLING:
            return
        self._losses.append(loss)
        if len(self._losses) == REMEMBERED and (mean := sum(self._losses) / REMEMBERED) > LOSS:
            self._congested(now, mean, rtt)  # however it is shared out among them
            return
        if loss <= LOSS and (rtt is None or not queueing):
            self._bad_reports = 0
            self._rtt_before = None
            return
        self._bad_reports += 1
        if not (tried or loss > HEAVY_LOSS or self._bad_reports > 1):
            return
        if loss > LOSS or rtt is None:
            self._rtt_before = None
        elif self._in_vain(rtt):
            self._round_trips.forget()
            self._round_trips.add(now, rtt)
            self._bad_reports = 0
            return
        self._congested(now, loss, rtt)

    def _congested(self, now: float, loss: float, rtt: float | None) -> None:
        """Ask for no more than what got through, without what was sent twice: that the link has to bear beside it."""
        through = self._rate(now) * (1 - loss) - self._repeats.octets(now) * 8 / self._span(now)
        what = "packets are lost" if loss > LOSS else "a queue fills up"
        self._shrink(now, through * BACK_OFF, f"{what}: {loss:.0%} lost, round trip {_ms(rtt)}")

    @property
    def _shortest(self) -> float:
        return self._round_trips.shortest()

    def rerouted(self) -> None:
        """Forget what was known of the path: it is another one."""
        self._round_trips.forget()
        self._rtt_before = None

    def _in_vain(self, rtt: float) -> bool:
        """Whether steps down have not changed the round trip: then it is no queue of ours that makes it long."""
        before, self._rtt_before = self._rtt_before, rtt
        if before is None or abs(rtt - before) > STEADY * (before - self._shortest):
            self._futile = 0
            return False
        self._futile += 1
        return self._futile >= FUTILE

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
                self._tell("the peer's own estimate falls on")
        elif limit >= self._rate(now) * (LIMITED if self._grown is None else BACK_OFF):
            self._low_limits = 0
        elif limit < self._highest * BACK_OFF:
            self._low_limits += 1
            if self._low_limits > 1:
                self._shrink(now, limit, "the peer's own estimate is below what is sent")
                self._falling = True

    def _shrink(self, now: float, bearable: float, reason: str) -> None:
        if self._grown is not None:
            self._hold = min(2 * self._hold, LONGEST_HOLD)
            self._grown = None
        self._bad_reports = 0
        self._losses.clear()
        self._low_limits = 0
        self._highest = self._limit
        self._falling = False
        self._stepped = now
        self.padding = 0.0
        self.estimate = max(LOWEST, min(self.estimate, bearable))
        self._tell(reason)

    def _tell(self, reason: str) -> None:
        self._note(Rate(bearable=None if math.isinf(self.estimate) else self.estimate, reason=reason))

    def rest(self, now: float) -> None:
        """Note that there is nothing to send, which tells nothing of what the link bears; call this instead of grow."""
        self.padding = 0.0
        if self._grown is not None:
            self._grown = now

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
            self._tell("nothing has spoken against it for a while: more is tried")
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
            self._tell("it bears all that is sent")
        else:
            self.padding = max(0.0, self.estimate - self.media_rate(now))


def _ms(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds * 1000:.0f} ms"
