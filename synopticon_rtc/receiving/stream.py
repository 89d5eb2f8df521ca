"""A stream as its receiver sees it: frames and faces come in, and moments go out when they are due."""

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import av

from synopticon_rtc.errors import InvalidFaces
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.faces.wire import FacesMessage, decode, decode_json
from synopticon_rtc.peers import faces_beside
from synopticon_rtc.peers.control import Report
from synopticon_rtc.receiving.latency import Latency, age
from synopticon_rtc.receiving.lips import Held, Lips
from synopticon_rtc.receiving.pairing import Pairing, Sync, Unpaired
from synopticon_rtc.receiving.playout import Playout
from synopticon_rtc.receiving.stats import ReceiverStats
from synopticon_rtc.rtc import EncodedVideoFrame, Received

logger = logging.getLogger(__name__)

INSIDE_WAIT = 0.25  # seconds that a frame waits for faces at least that come inside a later one


class Looking(Protocol):
    """What looks for faces where the sender sends none."""

    def offer(self, received: Received, now: float) -> None:
        """Take a frame, before it is paired with its faces, at a time by the loop's clock."""

    def close(self) -> None:
        """Look no more."""


class Stream:
    """One stream of one connection: each frame meets its faces, and both are given out together.

    Args:
        video: Whether it has frames. Else it has faces alone, each message of which is a moment.
        sync: How frames and faces are paired (see :class:`~synopticon_rtc.receiving.pairing.Pairing`).
        faces_wait: Seconds that a frame waits for its faces at most.
        jitter: Seconds of delay that are traded for smoothness, 0 for none.
        totals: Where it counts what comes in and goes out.
        latency: Where it notes how long that took.
        heard: Called at each frame, or without video at each faces message, with the time.
        give: Called with each moment when it is due.
        lips: What keeps it in step with the sound; None where it is not.
        told: Called with each faces message, as it came; as None if it did not come like this, or was found here.
        tapped: Called with each frame as it came, and :meth:`captured`, which says when it was captured.

    Attributes:
        offset: Gives the sender's clock minus ours, seconds, None while it is not known.
        shift: What a server on the way has added to the RTP timestamps of frames, which faces come without.
        has_faces: Whether the sender sends faces, as far as is known.
        inside: Whether they come inside the video.
        look: What looks for faces as long as it does not; None where nobody does.
        closed: Whether it was closed; what comes in later is left out.
    """

    def __init__(
        self,
        *,
        video: bool,
        sync: Sync,
        faces_wait: float,
        jitter: float,
        totals: ReceiverStats,
        latency: Latency,
        heard: Callable[[float], None],
        give: Callable[[Moment[Any]], None],
        lips: Lips | None = None,
        told: Callable[[FacesMessage, str | bytes | None], None] = lambda _message, _data: None,
        tapped: Callable[[EncodedVideoFrame, Callable[[int], float | None]], None] = lambda _frame, _captured: None,
    ) -> None:
        self.offset: Callable[[], float | None] = lambda: None
        self.shift = 0
        self.has_faces = False
        self.inside = False
        self.look: Looking | None = None
        self.closed = False
        self._video = video
        self._faces_wait = faces_wait
        self._pairing: Pairing[Any] = Pairing(sync, faces_wait) if video else Unpaired()
        self._playout: Playout[Moment[Any]] | None = Playout(jitter) if jitter else None
        self._held: Held[Moment[Any]] = Held(lips.video if lips is not None else lambda _, now: now, self._give_out)
        self._totals = totals
        self._latency = latency
        self._heard = heard
        self._give = give
        self._told_faces = told
        self._tapped = tapped
        self._loop = asyncio.get_running_loop()
        # By RTP timestamp, when a frame arrived and was decoded, and what its RTP says of its capture.
        self._times: dict[int, tuple[float, float, float | None]] = {}
        self._timer: asyncio.TimerHandle | None = None  # for what waits
        self._told = False  # that faces come too late

    def expect_faces(self) -> None:
        """Have frames wait for faces of the sender from the first on, which come over a channel."""
        self.inside = False
        self.has_faces = self._pairing.expected = True
        self._pairing.wait = self._faces_wait

    def look_here(self, wait: float) -> None:
        """Have frames wait for faces that are looked for at this end, so many seconds at most."""
        self._pairing.expected = True
        self._pairing.wait = wait

    def begin_anew(self) -> None:
        """Take note that timestamps from now on are other ones."""
        if not self.closed:
            self._go_on(self._pairing.begin_anew(), self._loop.time())

    def reported(self, report: Report) -> None:
        """Take what the sender reports of its part in the delay."""
        self._latency.reported(report)

    # What comes in

    def came(self, frame: EncodedVideoFrame) -> None:
        """Take note of a frame as it came, to be decoded or not, with faces of frames before it that are inside it."""
        if frame.codec == "h264" and (self.inside or not self.has_faces):
            for data in faces_beside.read(frame):
                self.take_inside(data)
        self._tapped(frame, self.captured)

    def take_inside(self, data: bytes) -> None:
        """Take a faces message that came inside the video, with a frame after its own."""
        if not self.inside:
            self.inside, self._faces_wait = True, max(self._faces_wait, INSIDE_WAIT)
        self.take_faces(data, self._loop.time())

    def decoded(self, received: Received) -> None:
        """Take a frame that was decoded."""
        self._totals.width, self._totals.height = received.frame.width, received.frame.height
        now = self._loop.time()
        if self.look is not None:
            self.look.offer(received, now)
        self.take_frame(received.frame, received.rtp_timestamp, received.arrived, now, received.captured)

    def encoded(self, frame: EncodedVideoFrame) -> None:
        """Take a frame that is not to be decoded."""
        self.take_frame(frame, frame.rtp_timestamp, frame.arrived, self._loop.time(), frame.captured)

    def message(self, data: str | bytes) -> None:
        """Take a message of a data channel."""
        self.take_faces(data, self._loop.time())

    def take_frame(
        self,
        frame: av.VideoFrame | EncodedVideoFrame,
        rtp_timestamp: int,
        arrived: float,
        now: float,
        captured: float | None = None,
    ) -> None:
        """Take a frame.

        Args:
            frame: The frame, decoded or not.
            rtp_timestamp: By which its faces are found.
            arrived: When its last packet came, by the loop's clock.
            now: By the same clock.
            captured: When it was captured, as its RTP tells, seconds since the epoch on the broadcaster's clock.
        """
        if self.closed:
            return
        self._times[rtp_timestamp] = arrived, now, captured
        self._totals.frames += 1
        self._heard(now)
        self._go_on(self._pairing.frame(frame, rtp_timestamp, now), now)

    def take_faces(self, data: str | bytes, now: float) -> None:
        """Take a faces message, or what pretends to be one, at a time by the loop's clock."""
        if self.closed:
            return
        totals = self._totals
        try:
            message = decode_json(data) if isinstance(data, str) else decode(data)
        except InvalidFaces as error:
            totals.invalid_faces += 1
            logger.debug("%s", error)
            return
        if self.shift and message.rtp_timestamp is not None:
            message = dataclasses.replace(message, rtp_timestamp=(message.rtp_timestamp + self.shift) % 2**32)
        self.has_faces, self._pairing.wait = True, self._faces_wait
        self._told_faces(message, None if self.shift else data)
        totals.faces_messages += message.detected
        if not self._video:
            totals.width, totals.height = message.width, message.height
            self._heard(now)
        self._pair(message, now)

    def found(self, message: FacesMessage, now: float, seconds: float) -> None:
        """Take what was found at this end in a frame, or that it was not looked at.

        Args:
            message: It.
            now: By the loop's clock.
            seconds: How long ago the frame was decoded.
        """
        if message.detected:
            self._totals.looked_at += 1
            self._latency.found(now, seconds)
        self._told_faces(message, None)
        self._pair(message, now)

    def _pair(self, message: FacesMessage, now: float) -> None:
        late = self._pairing.late
        self._go_on(self._pairing.message(message, now), now)
        self._totals.faces_late += self._pairing.late - late
        if self._pairing.in_vain and not self._told:
            self._told = True
            logger.warning(
                "faces come more than %g s after their frames, which are given out without them: "
                "a larger faces_wait gets them, or sync='latest'",
                self._pairing.wait,
            )

    # What goes out

    def captured(self, rtp_timestamp: int) -> float | None:
        """Return when a frame was captured, as the sender reports it; None before it does."""
        return self._latency.captured(rtp_timestamp)

    def age(self, moment: Moment[Any]) -> float | None:
        """Return how long ago a moment was captured, in seconds by aligned clocks; None where that is not known."""
        return age(moment.captured, self.offset())

    def close(self) -> None:
        """Give out what waits for faces or for its time, neither of which will come, and take nothing more."""
        if self.look is not None:
            self.look.close()
            self.look = None
        now = self._loop.time()
        self._go_on(self._pairing.tick(float("inf")), now)
        for moment in self._playout.tick(float("inf")) if self._playout else ():
            self._hold(moment)
        self._held.close()
        self.closed = True  # the connection says goodbye meanwhile, and more may come in
        offset = self.offset()
        self.offset, self._give = lambda: offset, lambda _: None  # they hold the peer, and that holds this
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        now = self._loop.time()
        self._go_on(self._pairing.tick(now), now)

    def _go_on(self, moments: Iterable[Moment[Any]], now: float) -> None:
        """Give out what is due, and see to it that the rest will be."""
        if self._playout is not None:
            moments = _hold_back(self._playout, moments, now)
        for moment in moments:
            self._hold(moment)
        if self._timer is not None:
            self._timer.cancel()
        due = min(self._pairing.next_tick(), self._playout.next_tick() if self._playout else float("inf"))
        self._timer = None if due == float("inf") else self._loop.call_at(due, self._tick)

    def _hold(self, moment: Moment[Any]) -> None:
        """Have a moment wait for the sound of its time, where there is one."""
        timestamp = moment.rtp_timestamp
        if moment.captured is None and timestamp is not None:
            captured = self._latency.captured(timestamp)
            if captured is None and timestamp in self._times:
                *_, captured = self._times[timestamp]
            moment = dataclasses.replace(moment, captured=captured)
        self._held.put(moment)

    def _give_out(self, moment: Moment[Any]) -> None:
        now = self._loop.time()
        totals = self._totals
        totals.faces = len(moment.faces)
        totals.frames_with_faces += bool(moment.faces)
        timestamp = moment.rtp_timestamp
        arrived, decoded, _ = self._times.pop(-1 if timestamp is None else timestamp, (now, now, None))
        self._latency.add(now, delay=self.age(moment), decoding=decoded - arrived, waiting=now - decoded)
        self._give(moment)


def _hold_back(playout: Playout[Moment[Any]], moments: Iterable[Moment[Any]], now: float) -> Iterator[Moment[Any]]:
    """Give each moment the rhythm in which its frame was captured."""
    for moment in moments:
        if moment.rtp_timestamp is None:
            yield from playout.tick(float("inf"))  # in order, though it has no time
            yield moment
        else:
            playout.put(moment, moment.rtp_timestamp, now)
    yield from playout.tick(now)
