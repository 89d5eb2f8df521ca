"""Where the time between capture and display goes."""

from dataclasses import dataclass

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.recent import Recent
from synopticon_rtc.peers.control import Report

CLOCK_RATE = 90_000  # of RTP video (RFC 7741, RFC 6184)


def age(captured: float | None, offset: float | None) -> float | None:
    """Return how long ago something was captured, in seconds; None where that is not known.

    Args:
        captured: When, seconds since the epoch on the broadcaster's clock.
        offset: That clock minus ours, seconds.
    """
    if captured is None or offset is None:
        return None
    return max(0.0, clock.now() + offset - captured)  # the clocks are aligned to half a round trip


@dataclass(frozen=True, slots=True)
class Delays:
    """Parts of the delay of late, each the mean of two seconds, in seconds; None where it is not known.

    All but ``detection`` follow one another and make up the delay; that runs beside ``encoding``, ``network`` and
    ``decoding``, and where it takes longer than they, a frame waits for its faces.

    Attributes:
        capture: From the capture of a frame to the begin of its encoding.
        encoding: From there to its end.
        network: From there to the arrival of the last packet, by aligned clocks; pacing and retransmissions are part of
            it. Without video from the finding of faces to their arrival.
        decoding: From there to the decoded frame.
        waiting: From there to its being given out: for its faces, and with ``jitter_ms`` for its time.
        detection: From the capture of a frame until its faces are found; where this receiver looks for them itself,
            from the decoded frame until then, which is a part of ``waiting``.
    """

    capture: float | None = None
    encoding: float | None = None
    network: float | None = None
    decoding: float | None = None
    waiting: float | None = None
    detection: float | None = None


class Latency:
    """Measures the delay of the frames of one connection, together with what the broadcaster reports of its part.

    Args:
        video: Whether it has frames. Else it has faces alone, which are given out when they arrive.

    Attributes:
        report: The last report of the broadcaster, None before the first.
    """

    def __init__(self, *, video: bool = True) -> None:
        self._video = video
        self.report: Report | None = None
        self._delay, self._decoding, self._waiting = Recent(), Recent(), Recent()
        self._detection = Recent()  # at this end
        self._now = 0.0

    def reported(self, report: Report) -> None:
        """Take a report of the broadcaster."""
        self.report = report

    def captured(self, rtp_timestamp: int) -> float | None:
        """Return when a frame was captured, in seconds since the epoch on the broadcaster's clock."""
        if self.report is None:
            return None
        ticks = (rtp_timestamp - self.report.rtp_timestamp + 2**31) % 2**32 - 2**31  # they wrap at 2^32
        return self.report.captured / 1000 + ticks / CLOCK_RATE

    def add(self, now: float, *, delay: float | None, decoding: float, waiting: float) -> None:
        """Take what was measured of one moment.

        Args:
            now: When it is given out, any clock in seconds.
            delay: Since its capture, seconds; None where that is not known.
            decoding: From its arrival until it was decoded, seconds.
            waiting: Since then, seconds.
        """
        self._now = now
        if delay is not None:
            self._delay.add(now, delay)
        self._decoding.add(now, decoding)
        self._waiting.add(now, waiting)

    def found(self, now: float, seconds: float) -> None:
        """Take note that faces were found at this end, so many seconds after their frame was decoded."""
        self._detection.add(now, seconds)

    @property
    def delay(self) -> float | None:
        """From capture to being given out, seconds, the mean of the last two seconds in which there were moments."""
        return self._delay.mean(self._now)

    @property
    def delays(self) -> Delays:
        """The parts of it."""
        report = self.report or Report(0, 0)
        capture, encoding, detection = (
            None if part is None else part / 1000 for part in (report.capture, report.encoding, report.detection)
        )
        if not self._video:
            return Delays(network=self._rest(detection), detection=detection)
        if (here := self._detection.mean(self._now)) is not None:
            detection = here
        decoding, waiting = self._decoding.mean(self._now), self._waiting.mean(self._now)
        network = self._rest(capture, encoding, decoding, waiting)
        return Delays(capture, encoding, network, decoding, waiting, detection)

    def _rest(self, *parts: float | None) -> float | None:
        """What these parts leave of the delay, None where one is not known."""
        if self.delay is None or None in parts:
            return None
        # The clocks are aligned to within half a round trip: a short way may seem to take less than no time.
        return max(0.0, self.delay - sum(part for part in parts if part is not None))
