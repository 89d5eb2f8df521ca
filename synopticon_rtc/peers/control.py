"""The control channel between peers of this package: signs of life, two clocks' offset, the sender's delays, streams.

Both sides send ``{"type": "ping", "t": T}`` about once a second and answer the other's with
``{"type": "pong", "t": T, "time": NOW, "error": E}``, times in ms. NOW is by the clock that captures what is sent: for
a relay that is another machine's, of which it may be wrong by E at most, 0 where that is left out. The offset is NTP's
(RFC 5905, section 8): half the round trip is taken off, which is also by how much it may be wrong. The clocks may go
apart meanwhile, so a sample is believed until another one is surer, or contradicts it. A receiver's ping also says
``"recording": true`` while it records what it is sent, and a broadcaster's while anybody records what that sends. With
its ping a broadcaster sends a :class:`Report` of each video. What both tell of streams stands in
:mod:`~synopticon_rtc.peers.published`.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Annotated, NamedTuple

import msgspec

from synopticon_rtc.basics import clock
from synopticon_rtc.peers.published import MAX_NAME, Told
from synopticon_rtc.rtc import Channel

LABEL = "control"
PROTOCOL = "control/1"
PING_INTERVAL = 0.7  # seconds
SILENCE = 2.0  # seconds without any datagram after which the other side is gone
DRIFT = 1e-4  # by how much two clocks go apart at most, seconds a second
LATEST = 1e15  # ms since the epoch: beyond it is no time


class _Ping(msgspec.Struct, tag="ping", omit_defaults=True):
    t: float
    recording: bool = False


class _Pong(msgspec.Struct, tag="pong", omit_defaults=True):
    t: float
    time: Annotated[float, msgspec.Meta(ge=-LATEST, le=LATEST)]
    error: Annotated[float, msgspec.Meta(ge=0, le=60_000)] = 0.0


_Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=60_000)]


class Report(msgspec.Struct, tag="report", rename="camel", frozen=True):
    """What a broadcaster knows of the delay of its frames, ms; what is None, it does not know.

    Attributes:
        rtp_timestamp: That of one of its frames, so that the capture times of all can be told.
        captured: When this frame was captured, since the epoch on the broadcaster's clock.
        capture: From the capture of a frame to the begin of its encoding.
        encoding: From there to its end.
        detection: From the capture of a frame until its faces are found.
        stream: The name of the stream that it is about; None for the one that the first offer carries.
    """

    rtp_timestamp: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    captured: Annotated[float, msgspec.Meta(ge=-LATEST, le=LATEST)]
    capture: _Milliseconds | None = None
    encoding: _Milliseconds | None = None
    detection: _Milliseconds | None = None
    stream: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] | None = None


_decoder = msgspec.json.Decoder(_Ping | _Pong | Report | Told)


class _Sample(NamedTuple):
    taken: float  # by our clock
    offset: float  # the other side's clock minus ours
    error: float  # by how much that may have been wrong then

    def error_at(self, now: float) -> float:
        return self.error + DRIFT * (now - self.taken)


def _ignore(_: object) -> None:
    """Take the place of who was told."""


class Control:
    """One side of a control channel.

    Args:
        channel: The open or opening channel.
        gone: Called once when the other side has been silent for too long, with the reason.
        opened: Called when messages can be sent.
        reports: Gives what to report, or to tell, with each ping.
        reported: Called with what the other side reports.
        told: Called with what the other side tells of streams.
        records: Tells whether our side records, or is recorded.
        recording: Called when the other side begins to record, or to be recorded, and when that ends.
        time: Gives what time it is by the clock that captures what is sent, seconds since the epoch, and by how much
            that may be wrong, seconds.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        gone: Callable[[str], None],
        opened: Callable[[], None] | None = None,
        reports: Callable[[], Iterable[Report | Told]] = tuple,
        reported: Callable[[Report], None] = lambda _: None,
        told: Callable[[Told], None] = lambda _: None,
        records: Callable[[], bool] = lambda: False,
        recording: Callable[[bool], None] = lambda _: None,
        time: Callable[[], tuple[float, float]] = lambda: (clock.now(), 0.0),
    ) -> None:
        self._channel = channel
        self._gone = gone
        self._reports = reports
        self._reported = reported
        self._told = told
        self._records = records
        self._recording = recording
        self._time = time
        self._is_recording = False  # the other side, as far as it was told
        self._news_from = float("-inf")  # when the next change of that is told
        self._heard = float("inf")
        self._came = channel.came
        self._sample: _Sample | None = None  # the surest
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._timer = self._loop.call_at(self._due, self._tick)
        channel.on_open = opened
        channel.on_message = self._received
        channel.on_close = self.close  # whoever opens another one has another Control

    @property
    def offset(self) -> float | None:
        """The other side's clock minus ours, seconds, None while it is not known."""
        return None if self._sample is None else self._sample.offset

    @property
    def error(self) -> float | None:
        """By how much :attr:`offset` is wrong at most, seconds, None while it is not known."""
        return None if self._sample is None else self._sample.error_at(clock.now())

    @property
    def is_recording(self) -> bool:
        """Whether the other side records, or is recorded."""
        return self._is_recording

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._channel.is_open

    def close(self) -> None:
        """Ping and watch no more, and let go of who is told: they hold this."""
        self._timer.cancel()
        self._reports = tuple
        self._gone = self._reported = self._told = self._recording = _ignore

    def _tick(self) -> None:
        now = self._loop.time()
        came, self._came = self._came, self._channel.came
        # Messages may wait behind a file; and where it was us who stood still, what came meanwhile is yet to be read.
        if self._came > came or now - self._due > PING_INTERVAL:
            self._heard = max(self._heard, now)  # not before the first message, as it takes a while to connect
        if now - self._heard > SILENCE:
            self._gone(f"nothing heard for {SILENCE:g} s")
            return
        self._due = now + PING_INTERVAL
        self._timer = self._loop.call_at(self._due, self._tick)
        self._send(_Ping(clock.now() * 1000, self._records()))
        for report in self._reports():
            self._send(report)

    def tell(self, message: Told) -> None:
        """Tell the other side something of streams, if the channel is open."""
        self._send(message)

    def _send(self, message: _Ping | _Pong | Report | Told) -> None:
        self._channel.send(msgspec.json.encode(message).decode())

    def _received(self, data: str | bytes) -> None:
        self._heard = self._loop.time()
        try:
            message = _decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):  # also of a later version
            return
        match message:
            case _Ping(t=sent, recording=recording):
                now, error = self._time()
                self._send(_Pong(sent, now * 1000, error * 1000))
                if recording != self._is_recording and self._heard >= self._news_from:  # the next ping says it too
                    self._is_recording, self._news_from = recording, self._heard + PING_INTERVAL / 2
                    self._recording(recording)
            case _Pong(t=sent, time=theirs, error=error):
                now = clock.now() * 1000
                if 0 <= now - sent < 60_000:  # noqa: PLR2004 - a minute: no answer to a ping of ours
                    offset = (theirs - (sent + now) / 2) / 1000
                    self._believe(_Sample(now / 1000, offset, (now - sent) / 2000 + error / 1000))
            case Report():
                self._reported(message)
            case _:
                self._told(message)

    def _believe(self, new: _Sample) -> None:
        """Take a sample where it is surer than the one that is believed, or where not both can be true."""
        old = self._sample
        if old is not None:
            error = old.error_at(new.taken)
            if new.error > error and abs(new.offset - old.offset) <= new.error + error:
                return
        self._sample = new
