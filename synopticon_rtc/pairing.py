"""Brings each frame and its faces together again, whichever comes first."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Literal

import av
from typing_extensions import TypeVar  # whose type variables have defaults (PEP 696)

from synopticon_rtc.faces import Face
from synopticon_rtc.faces.wire import FacesMessage

F = TypeVar("F", default=av.VideoFrame)
F_co = TypeVar("F_co", default=av.VideoFrame, covariant=True)
V = TypeVar("V")

Sync = Literal["exact", "latest"]

CLOCK_RATE = 90_000  # of RTP video (RFC 7741, RFC 6184)
REMEMBERED = 128  # faces messages kept for frames that are yet to come, and frames kept for faces that are
TOO_LATE = 5  # times in a row that faces come after their frames have gone, and none is waited for any more


@dataclass(frozen=True, slots=True, eq=False)
class Moment(Generic[F_co]):
    """A frame with its faces.

    Attributes:
        frame: The decoded frame; its ``pts`` is the RTP timestamp, its ``time_base`` 1/90000 s. An
            :class:`~synopticon_rtc.EncodedVideoFrame` where the receiver does not decode, None where it takes no video.
        faces: The faces found in it, or with ``sync="latest"`` the newest known when it came.
        detected: Whether ``faces`` is what was found in this very frame: False where no detection ran on it, or its
            result was lost or late.
        captured: When the frame was captured, seconds since the epoch on the broadcaster's clock; None where it did not
            tell (yet).
        rtp_timestamp: That of the frame, 0 to 2**32 - 1, in 1/90000 s; None where there is no frame and the broadcaster
            did not tell.
        faces_age: Seconds by which the frame that ``faces`` were found in is older than this one: 0 where they are its
            own, None where there are none or the broadcaster did not tell.
    """

    frame: F_co
    faces: tuple[Face, ...]
    detected: bool
    captured: float | None
    rtp_timestamp: int | None
    faces_age: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[F]):
    frame: F
    timestamp: int
    came: float
    deadline: float


def _difference(one: int, other: int) -> int:
    """RTP timestamp ``one`` minus ``other``; they wrap at 2^32 (RFC 3550, section 5.1)."""
    return (one - other + 2**31) % 2**32 - 2**31


def _after(one: int, other: int) -> bool:
    return _difference(one, other) > 0


def _remember(table: dict[int, V], timestamp: int, value: V) -> None:
    """Keep a value, and the newest of those before it."""
    table[timestamp] = value
    while len(table) > REMEMBERED:
        del table[next(iter(table))]


class Pairing(Generic[F]):
    """Pairs the frames and the faces messages of one connection by their RTP timestamp.

    Both are fed in with the time, any clock in seconds, and moments come out in the order of their frames.

    Args:
        sync: ``exact`` holds a frame back until its faces are there, at most ``wait`` seconds, and not at all where
            faces keep coming later than that; ``latest`` gives it the newest faces at once.
        wait: How long a frame waits for its faces, seconds.
    """

    def __init__(self, sync: Sync = "exact", wait: float = 0.05) -> None:
        self.expected = False
        self._exact = sync == "exact"
        self._wait = wait
        self._waiting: deque[_Waiting[F]] = deque()
        self._messages: dict[int, FacesMessage] = {}
        self._newest: FacesMessage | None = None
        self._gone: dict[int, float] = {}  # frames that went without their faces: when they came, by timestamp
        self._late = 0

    @property
    def in_vain(self) -> bool:
        """Whether faces come so late that no frame waits for them."""
        return self._late >= TOO_LATE

    def next_tick(self) -> float:
        """When ``tick`` wants to be called, ``inf`` for never."""
        return self._waiting[0].deadline if self._waiting else float("inf")

    def frame(self, frame: F, timestamp: int, now: float) -> Iterator[Moment[F]]:
        """A frame came."""
        # A sender that gives its faces no timestamp can't be paired with, only followed.
        anonymous = self._newest is not None and self._newest.rtp_timestamp is None
        if not self._exact or not self.expected or anonymous:
            newest = self._newest
            own = newest is not None and newest.rtp_timestamp == timestamp
            captured = newest.capture_time if newest and own else None
            found = newest.rtp_timestamp if newest else None
            age = None if found is None else _difference(timestamp, found) / CLOCK_RATE
            yield Moment(frame, newest.faces if newest else (), own, captured, timestamp, age)
            return
        self._waiting.append(_Waiting(frame, timestamp, now, now if self.in_vain else now + self._wait))
        yield from self._release(now)

    def message(self, message: FacesMessage, now: float) -> Iterator[Moment[F]]:
        """A faces message came."""
        timestamp = message.rtp_timestamp
        newest = self._newest.rtp_timestamp if self._newest else None
        if message.detected and (timestamp is None or newest is None or _after(timestamp, newest)):
            self._newest = message
        if timestamp is not None and self._exact:
            came = self._gone.pop(timestamp, None)
            if came is not None and message.detected:
                self._late = self._late + 1 if now - came > self._wait else 0
            _remember(self._messages, timestamp, message)
            yield from self._release(now)

    def tick(self, now: float) -> Iterator[Moment[F]]:
        """Time has passed."""
        return self._release(now)

    def _release(self, now: float) -> Iterator[Moment[F]]:
        """Give out frames from the oldest on, up to the first that may yet get its faces."""
        while self._waiting:
            head = self._waiting[0]
            message = self._messages.pop(head.timestamp, None)
            if message is None and now < head.deadline and not self._overtaken(head.timestamp):
                return
            self._waiting.popleft()
            if message is None:
                _remember(self._gone, head.timestamp, head.came)
                yield Moment(head.frame, (), detected=False, captured=None, rtp_timestamp=head.timestamp)
            else:
                self._late = 0 if message.detected else self._late
                age = 0.0 if message.detected else None
                yield Moment(head.frame, message.faces, message.detected, message.capture_time, head.timestamp, age)

    def _overtaken(self, timestamp: int) -> bool:
        """Whether faces of a later frame are there: then none were looked for in this one, or they were lost."""
        newest = self._newest.rtp_timestamp if self._newest else None
        return newest is not None and _after(newest, timestamp)


class Unpaired(Pairing[None]):
    """Takes its place where there is no video: every message with what was found is a moment of its own."""

    def message(self, message: FacesMessage, now: float) -> Iterator[Moment[None]]:  # noqa: ARG002 - nothing waits
        """A faces message came."""
        timestamp = message.rtp_timestamp
        newest = self._newest.rtp_timestamp if self._newest else None
        overtaken = timestamp is not None and newest is not None and not _after(timestamp, newest)
        if message.detected and not overtaken:
            self._newest = message
            yield Moment(None, message.faces, True, message.capture_time, timestamp, 0.0)
