"""Brings each frame and its faces together again, whichever comes first."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Literal

import av
from typing_extensions import TypeVar  # whose type variables have defaults (PEP 696)

from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.faces.wire import FacesMessage

F = TypeVar("F", default=av.VideoFrame)

Sync = Literal["exact", "latest"]

CLOCK_RATE = 90_000  # of RTP video (RFC 7741, RFC 6184)
REMEMBERED = 128  # frames that wait for faces, frames that went without, and messages whose frames are yet to come
MOST_FACES = 1024  # in those messages: a face takes some 9 KB
KEPT = 2.0  # seconds that a message waits for its frame, and that frames go on waiting when messages stop
SWAPPED = 0.015  # seconds: faces that later ones have overtaken come within these, or are lost
BACK, AHEAD = 0.5, 10.0  # seconds that timestamps go back, or ahead of time, only where a sender starts them anew
TOO_LATE = 5  # times in a row that faces come after their frames have gone, and none is waited for any more


@dataclass(slots=True, eq=False)
class _Waiting(Generic[F]):
    frame: F
    timestamp: int
    came: float
    deadline: float
    message: FacesMessage | None


def _ahead(one: int, other: int) -> float:
    """Seconds from RTP timestamp ``other`` to ``one``; they wrap at 2^32 (RFC 3550, section 5.1)."""
    return ((one - other + 2**31) % 2**32 - 2**31) / CLOCK_RATE


class Pairing(Generic[F]):
    """Pairs the frames and the faces messages of one connection by their RTP timestamp.

    Both are fed in with the time, any clock in seconds, and moments come out in the order in which their frames came.
    A sender that starts its timestamps anew, further back or far ahead, is followed. One whose faces carry none cannot
    be paired with: every frame gets the newest faces.

    Args:
        sync: ``exact`` holds a frame back until its faces are there, at most ``wait`` seconds, and not at all where
            faces keep coming later than that, or come no more; ``latest`` gives it the newest faces at once.
        wait: How long a frame waits for its faces, seconds.

    Attributes:
        wait: As above; it may change.
        expected: Whether faces will come: set by the first that do, or before by who knows.
        late: How often faces came after their frame had gone out without them.
    """

    def __init__(self, sync: Sync = "exact", wait: float = 0.05) -> None:
        self.expected = False
        self._exact = sync == "exact"
        self.wait = wait
        self._waiting: deque[_Waiting[F]] = deque()
        self._messages: dict[int, tuple[float, FacesMessage]] = {}  # when they came, for frames that are yet to come
        self._newest: FacesMessage | None = None
        self._newest_came = 0.0
        self._last: tuple[int, float] | None = None  # timestamp of the last frame, and when it came
        self._heard: float | None = None  # when the last faces message came, or else the first frame
        self._gone: dict[int, float] = {}  # frames that went without their faces: when they came, by timestamp
        self._late = 0
        self.late = 0

    @property
    def in_vain(self) -> bool:
        """Whether faces come so late that no frame waits for them."""
        return self._late >= TOO_LATE

    def next_tick(self) -> float:
        """When ``tick`` wants to be called, ``inf`` for never."""
        return self._waiting[0].deadline if self._waiting else float("inf")

    def frame(self, frame: F, timestamp: int, now: float) -> Iterator[Moment[F]]:
        """A frame came."""
        self._follow(timestamp, now)
        self._forget(timestamp, now)
        _, message = self._messages.pop(timestamp, (now, None))
        self._waiting.append(_Waiting(frame, timestamp, now, now + self._patience(timestamp, now), message))
        if len(self._waiting) > REMEMBERED:
            self._waiting[0].deadline = now
        return self._release(now)

    def message(self, message: FacesMessage, now: float) -> Iterator[Moment[F]]:
        """A faces message came."""
        self._heard = now
        if message.detected and self._is_newest(message, now):
            self._newest, self._newest_came = message, now
        if self._anonymous:
            self._let_go(now)
        elif message.rtp_timestamp is not None and self._exact:
            self.expected = True
            self._take(message, message.rtp_timestamp, now)
        return self._release(now)

    def tick(self, now: float) -> Iterator[Moment[F]]:
        """Time has passed; ``inf`` gives out all that waits."""
        return self._release(now)

    def begin_anew(self) -> Iterator[Moment[F]]:
        """Give out all that waits, and forget all messages: what comes from now on has other timestamps."""
        self._messages.clear()
        self._gone.clear()
        return self._release(float("inf"))

    @property
    def _anonymous(self) -> bool:
        """Whether the sender gives its faces no timestamps."""
        return self._newest is not None and self._newest.rtp_timestamp is None

    def _follow(self, timestamp: int, now: float) -> None:
        """Take note of a frame's timestamp, and forget what belongs to those of before where they start anew."""
        if self._last is not None:
            last, came = self._last
            step = _ahead(timestamp, last)
            leapt = step > now - came + AHEAD
            if step < 0 or leapt:
                self._gone.clear()
                self._messages = {
                    other: entry for other, entry in self._messages.items() if not 0 < _ahead(other, last) <= KEPT
                }
            if (step < -BACK or leapt) and not self._anonymous:
                self._newest = None
        self._last = timestamp, now
        self._heard = now if self._heard is None else self._heard

    def _forget(self, timestamp: int, now: float) -> None:
        """Drop the messages whose frames will not come: a later one has, or it is too long ago."""
        if self._messages:
            self._messages = {
                other: (came, message)
                for other, (came, message) in self._messages.items()
                if now - came <= KEPT and not -KEPT <= _ahead(other, timestamp) < 0
            }

    def _patience(self, timestamp: int, now: float) -> float:
        """How long a frame that has just come may wait for its faces, seconds."""
        if not self._exact or not self.expected or self._anonymous or self.in_vain:
            return 0.0
        if self._heard is not None and now - self._heard > KEPT + self.wait:
            return 0.0  # they have stopped
        later = (
            0 < _ahead(other, timestamp) <= KEPT and message.detected for other, (_, message) in self._messages.items()
        )
        return 0.0 if any(later) else self.wait  # those of later frames came before it: its own are lost

    def _is_newest(self, message: FacesMessage, now: float) -> bool:
        """Whether faces are of a later frame than the newest, or of a new start: those are nearer to the last frame."""
        newest = self._newest.rtp_timestamp if self._newest else None
        timestamp = message.rtp_timestamp
        if newest is None or timestamp is None:
            return True
        step = _ahead(timestamp, newest)
        if self._last is None:
            return step > 0 or step < -BACK
        last, _ = self._last
        nearer = abs(_ahead(newest, last)) - abs(_ahead(timestamp, last))
        if abs(nearer) > BACK:
            return nearer > 0 or now - self._newest_came > BACK  # it is not only one that comes very late
        return step > 0

    def _take(self, message: FacesMessage, timestamp: int, now: float) -> None:
        """Give a message to its frame, or keep it until that comes."""
        for position, waiting in enumerate(self._waiting):
            if waiting.timestamp == timestamp:
                if waiting.message is None or not waiting.message.detected:
                    waiting.message = message
                if message.detected:
                    self._let_go(now + SWAPPED, position)
                return
        if timestamp in self._gone:
            came = self._gone.pop(timestamp)
            if message.detected:
                self.late += 1
                self._late = self._late + 1 if now - came > self.wait else 0
            return
        if message.detected and self._last is not None and 0 < _ahead(timestamp, self._last[0]) <= KEPT:
            self._let_go(now)  # faces run ahead of the frames, so these would have had theirs
        if message.detected or timestamp not in self._messages:
            self._messages[timestamp] = now, message
        faces = sum(len(kept.faces) for _, kept in self._messages.values())
        while len(self._messages) > REMEMBERED or faces > MOST_FACES:
            _, oldest = self._messages.pop(next(iter(self._messages)))
            faces -= len(oldest.faces)

    def _let_go(self, deadline: float, before: int | None = None) -> None:
        """Have the frames before one, or all, wait no longer than that."""
        for waiting in islice(self._waiting, before):
            waiting.deadline = min(waiting.deadline, deadline)

    def _release(self, now: float) -> Iterator[Moment[F]]:
        """Give out frames from the oldest on, up to the first that may yet get its faces."""
        while self._waiting and (self._waiting[0].message is not None or self._waiting[0].deadline <= now):
            yield self._moment(self._waiting.popleft())

    def _moment(self, waiting: _Waiting[F]) -> Moment[F]:
        frame, timestamp, message = waiting.frame, waiting.timestamp, waiting.message
        if message is not None:
            self._late = 0 if message.detected else self._late
            age = 0.0 if message.detected else None
            return Moment(frame, message.faces, message.detected, message.capture_time, timestamp, age)
        if self._exact and not self._anonymous:
            self._gone[timestamp] = waiting.came
            if len(self._gone) > REMEMBERED:
                del self._gone[next(iter(self._gone))]
            return Moment(frame, (), detected=False, captured=None, rtp_timestamp=timestamp)
        newest = self._newest
        if newest is None or (
            self._anonymous and waiting.came - self._newest_came > KEPT
        ):  # nothing else tells its age
            return Moment(frame, (), detected=False, captured=None, rtp_timestamp=timestamp)
        found = newest.rtp_timestamp
        own = found == timestamp
        age = None if found is None else _ahead(timestamp, found)
        return Moment(frame, newest.faces, own, newest.capture_time if own else None, timestamp, age)


class Unpaired(Pairing[None]):
    """Takes its place where there is no video: every message with what was found is a moment of its own."""

    def message(self, message: FacesMessage, now: float) -> Iterator[Moment[None]]:
        """A faces message came."""
        if message.detected and self._is_newest(message, now):
            self._newest = message
            yield Moment(None, message.faces, True, message.capture_time, message.rtp_timestamp, 0.0)
