"""When each packet of sound is due, and what is to be made up in its place where it is not there."""

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from synopticon_rtc.rtc.opus_packet import GRAIN, RATE, duration, repeats_last

START = 0.04
"""Seconds that the first packet waits, as nobody knows yet how even they come."""
MARGIN = 0.005
"""Seconds that are waited beyond what nearly all packets need."""
ENOUGH = 0.97
"""The share of packets that the delay is long enough for. Where more are lost than the rest, and each holds the one
before once more (FEC), it is long enough for that."""
WINDOW = 5.0
"""Seconds over which it is measured how even packets come."""
MOST_MEASURED = 2048
FALL = 0.05
"""Seconds by which the delay gets shorter in a second, so that whoever plays it can keep up unheard."""
LONGEST_DELAY = 0.5
"""Seconds by which the delay may exceed that of the fastest packet. What is further away than this is left out."""
LATE_FOR, LATE_RUN = 0.03, 3
"""Seconds and packets, all of them late, after which the delay follows at once: the way has become longer."""
ASTRAY = 0.1
"""Seconds after which timestamps that lead elsewhere are followed: the sender has begun anew."""
REST = 1.0
"""Seconds without a packet after which nothing is made up any more, until there is one."""
MADE_UP = 960
"""Samples that are made up at a time where it is not known how many will be."""
MOST_HELD = 256
SIGN_OF_LIFE = 2
"""Bytes of a packet that says that there is silence (DTX)."""

Kind = Literal["packet", "recovered", "lost", "quiet"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the sound that is due.

    Attributes:
        timestamp: That of its first sample, 1/48000 s, counted on where 32 bits wrap.
        count: Its samples; a multiple of 120.
        kind: ``packet`` is to be decoded. ``recovered`` is lost, but the packet after it holds it once more; ``lost``
            has to be made up. ``quiet`` has to be made up too, and is what the sender left out as there was silence.
        payload: The packet, or the one after it; None for the others.
        number: The sequence number of a packet that is to be decoded.
    """

    timestamp: int
    count: int
    kind: Kind
    payload: bytes | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class _Packet:
    number: int
    count: int
    payload: bytes


class JitterBuffer:
    """Gives out the packets of one source evenly: each with the same delay since its capture, lost ones as gaps.

    The pieces follow one another without holes or overlap, so the samples are true to the sender's clock. The delay
    follows how uneven packets come by giving out later, or sooner: nothing is stretched or cut here, which is for the
    loudspeaker to do. It has to keep in step with another clock anyway.

    Time is any clock in seconds, and passed in.

    Attributes:
        late: Packets that came after their time; something was made up in their place.
        refused: Packets left out, as they were none, or their timestamps led elsewhere.
    """

    def __init__(self) -> None:
        self.late = 0
        self.refused = 0
        self._held: dict[int, _Packet] = {}  # by timestamp
        self._met: dict[int, None] = {}  # timestamps of late, so that none comes twice
        self._newest = 0  # the timestamp of the latest
        self._number = 0  # its sequence number
        self._position: int | None = None  # the timestamp that is due next; None while it rests
        self._end: int | None = None  # of what was given out
        self._heard_until = 0  # the end of the latest packet
        self._last: _Packet | None = None  # that was given out
        self._shift = 0.0  # what is due when, less its timestamp
        self._shifted = 0.0  # when that was looked at
        self._transits: deque[tuple[float, float]] = deque()  # when a packet came, and that less its timestamp
        self._sorted: list[float] = []  # the latter
        self._stray: tuple[float, float] | None = None
        self._late_run: list[float] = []
        self._late_since = 0.0

    @property
    def delay(self) -> float:
        """By how much longer sound takes than the fastest packet of late, seconds."""
        return self._shift - self._sorted[0] if self._sorted else 0.0

    def next_due(self) -> float:
        """When ``take`` wants to be called, ``inf`` for never."""
        return float("inf") if self._position is None else self._due(self._position)

    def put(self, number: int, timestamp: int, payload: bytes, now: float) -> None:
        """Take a packet, with its sequence number and timestamp as they are on the wire."""
        try:
            packet = _Packet(number, duration(payload), payload)
        except ValueError:
            self.refused += 1
            return
        self._forget(now)
        at = self._newest + ((timestamp - self._newest + 2**31) & 0xFFFFFFFF) - 2**31
        transit = now - at / RATE
        if not self._sorted:
            self._begin(at, number, transit, now)
        elif abs(transit - self._shift) > LONGEST_DELAY and not self._follow(at, number, transit, now):
            self.refused += 1
            return
        if self._stray is not None and now < self._stray[0] + ASTRAY and transit > self._shift:
            self.late += 1  # the end of what was held up for too long to wait for the like of it
            return
        self._stray = None
        if at in self._met or len(self._held) >= MOST_HELD:
            return
        self._meet(at, packet, transit, now)
        if self._is_late(at, now):
            self.late += 1
            self._note_late(transit, now)
        else:
            self._late_run.clear()
            self._held[at] = packet
            if self._position is None:
                self._position = at if self._end is None or abs(at - self._end) > REST * RATE else max(at, self._end)

    def _meet(self, at: int, packet: _Packet, transit: float, now: float) -> None:
        """Learn from a packet that comes for the first time."""
        self._met[at] = None
        if len(self._met) > MOST_HELD:
            del self._met[next(iter(self._met))]
        self._measure(transit, now)
        if at <= self._newest:
            return
        missing = (packet.number - self._number - 1) & 0xFFFF
        if 0 < missing < MOST_HELD and repeats_last(packet.payload):
            self._measure(transit + packet.count / RATE, now)  # so the one before has come after all
        self._newest, self._number, self._heard_until = at, packet.number, at + packet.count

    def take(self, now: float) -> Iterator[Piece]:
        """Give out what is due."""
        if self._position is not None and (behind := now - self._due(self._position)) > LONGEST_DELAY:
            self._position += int(behind * RATE) // GRAIN * GRAIN  # nobody was there to take it
        while self._position is not None and self._due(self._position) <= now:
            piece = self._next(self._position)
            if piece is None:
                continue
            self._position = self._end = piece.timestamp + piece.count
            yield piece

    def _due(self, at: int) -> float:
        return at / RATE + self._shift

    def _next(self, position: int) -> Piece | None:  # noqa: PLR0911 - one for each thing that it may be
        """Return the piece at a position; None where that has changed."""
        self._held = {at: packet for at, packet in self._held.items() if at >= position}
        packet = self._held.pop(position, None)
        if packet is not None:
            self._last = packet
            return Piece(position, packet.count, "packet", packet.payload, packet.number)
        usual = self._last.count if self._last is not None else MADE_UP
        silent = self._last is not None and len(self._last.payload) <= SIGN_OF_LIFE
        if not self._held:
            if position - self._heard_until >= REST * RATE:
                self._position = None
                return None
            return Piece(position, min(usual, MADE_UP), "quiet" if silent else "lost")
        at = min(self._held)
        gap = at - position
        if gap < GRAIN:
            self._position = at
            return None
        count = min(gap, usual) // GRAIN * GRAIN
        following = self._held[at]
        if silent or (self._last is not None and (following.number - self._last.number) & 0xFFFF == 1):
            return Piece(position, count, "quiet")
        if count == gap and repeats_last(following.payload):
            return Piece(position, count, "recovered", following.payload)
        return Piece(position, count, "lost")

    # How long the delay has to be

    def _is_late(self, at: int, now: float) -> bool:
        if self._position is None:
            return self._due(at) < now
        return at < self._position

    def _begin(self, at: int, number: int, transit: float, now: float) -> None:
        """Begin anew with a packet: what was measured before tells nothing."""
        self._newest, self._number = at - 1, number - 1 & 0xFFFF
        self._shift, self._shifted = transit + START, now
        self._transits.clear()
        self._sorted.clear()
        self._held.clear()
        self._met.clear()
        self._late_run.clear()
        self._position = self._last = None

    def _follow(self, at: int, number: int, transit: float, now: float) -> bool:
        """Whether to follow a packet that is far from when it should have come; if so, begin anew with it."""
        since, other = self._stray or (now, transit)
        if abs(transit - other) > LONGEST_DELAY / 2:
            since, other = now, transit
        self._stray = since, other
        if now - since < ASTRAY:
            return False
        self._begin(at, number, transit, now)
        return True

    def _measure(self, transit: float, now: float) -> None:
        self._transits.append((now, transit))
        insort(self._sorted, transit)
        needed = self._sorted[math.ceil(ENOUGH * len(self._sorted)) - 1] + MARGIN
        fallen = self._shift - FALL * (now - self._shifted)
        self._shifted = now
        self._shift = min(max(needed, fallen), self._sorted[0] + LONGEST_DELAY)

    def _forget(self, now: float) -> None:
        while self._transits and (self._transits[0][0] <= now - WINDOW or len(self._transits) >= MOST_MEASURED):
            del self._sorted[bisect_left(self._sorted, self._transits.popleft()[1])]

    def _note_late(self, transit: float, now: float) -> None:
        """Follow at once where all packets are late, and not only those that one hold-up has brought together."""
        if not self._late_run:
            self._late_since = now
        self._late_run.append(transit)
        if len(self._late_run) >= LATE_RUN and now - self._late_since >= LATE_FOR:
            self._shift = max(self._shift, min(min(self._late_run) + MARGIN, self._sorted[0] + LONGEST_DELAY))
            self._late_run.clear()
