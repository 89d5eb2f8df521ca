"""The jitter buffer of sound, a packet at a time: what comes out is whole, in order, even, and soon."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opus_helpers import COUNT, packet

from synopticon_rtc.rtc.jitter import LONGEST_DELAY, REST, START, WINDOW, JitterBuffer, Piece
from synopticon_rtc.rtc.opus_packet import GRAIN, RATE

STEP = COUNT / RATE
BEGIN = 2**32 - 10 * COUNT
"""A timestamp that wraps soon."""


@dataclass
class Line:
    """A sender of packets, what becomes of them on the way, and the buffer."""

    buffer: JitterBuffer = field(default_factory=JitterBuffer)
    pieces: list[tuple[float, Piece]] = field(default_factory=list)
    _coming: list[tuple[float, int, int, bytes]] = field(default_factory=list)
    _until: float = 0.0

    def send(self, number: int, at: float, *, position: int | None = None, repeats: bool = True) -> None:
        """Have a packet arrive, by default with the timestamp that goes with its number."""
        timestamp = BEGIN + (number if position is None else position) * COUNT
        self._coming.append((at, number & 0xFFFF, timestamp & 0xFFFFFFFF, packet(number, repeats=repeats)))

    def run(self, until: float = float("inf")) -> None:
        """Let time pass."""
        coming, self._coming = sorted(self._coming), []
        for at, number, timestamp, payload in coming:
            self._take(at)
            self.buffer.put(number, timestamp, payload, at)
        self._take(until)

    def _take(self, until: float) -> None:
        while (due := self.buffer.next_due()) <= until and due != float("inf"):
            now = max(due, self._until)
            self._until = now
            self.pieces += [(now, piece) for piece in self.buffer.take(now)]

    def kinds(self) -> list[str]:
        return [piece.kind for _, piece in self.pieces]

    def delay(self, since: float, until: float = float("inf")) -> float:
        """Return the mean delay of what came out in a time, against a way that takes none."""
        first = self.pieces[0][1].timestamp
        delays = [now - (piece.timestamp - first) / RATE for now, piece in self.pieces if since <= now < until]
        return sum(delays) / len(delays)


def stream(
    seconds: float,
    way: Callable[[int], float | None] = lambda _: 0.0,
    *,
    repeats: bool = True,
) -> Line:
    """Send packets over a way that says of each how long it takes, None for ever, and play them."""
    line = Line()
    for number in range(round(seconds / STEP)):
        takes = way(number)
        if takes is not None:
            line.send(number, number * STEP + takes, repeats=repeats)
    line.run()
    return line


def whole(pieces: list[tuple[float, Piece]]) -> bool:
    """Whether pieces follow one another without holes or overlap, and in time."""
    return all(
        one.timestamp + one.count == other.timestamp and at <= later
        for (at, one), (later, other) in itertools.pairwise(pieces)
    )


def test_on_an_even_way_nearly_nothing_is_waited_for() -> None:
    line = stream(5)
    assert line.kinds()[:250] == ["packet"] * 250
    assert whole(line.pieces)
    assert line.delay(0, 0.1) == pytest.approx(START, abs=0.01)
    assert line.delay(2, 5) == pytest.approx(0.005, abs=0.001)


def test_it_waits_as_long_as_nearly_all_packets_need_and_no_longer_afterwards() -> None:
    chance = random.Random(1)  # noqa: S311 - no secret
    line = stream(30, lambda number: chance.uniform(0, 0.06) if 250 <= number < 750 else 0.0)
    assert 0.05 < line.delay(10, 15) < 0.07
    assert line.delay(25, 30) < 0.01
    assert line.kinds()[350:1500].count("lost") < 0.03 * 500
    assert whole(line.pieces)


def test_a_lost_packet_is_made_up_and_costs_no_delay() -> None:
    line = stream(6, lambda number: None if number == 150 else 0.0, repeats=False)
    assert [kind for kind in line.kinds()[:300] if kind != "packet"] == ["lost"]
    assert line.kinds()[150] == "lost"
    assert line.delay(5, 6) == pytest.approx(line.delay(2, 3), abs=0.001)


def test_where_many_are_lost_it_waits_for_the_packets_that_hold_them_once_more() -> None:
    chance = random.Random(2)  # noqa: S311 - no secret
    line = stream(60, lambda _: None if chance.random() < 0.05 else 0.0)
    kinds = [piece.kind for now, piece in line.pieces if 5 < now < 60]
    assert kinds.count("recovered") > 3 * kinds.count("lost")
    assert line.delay(50, 60) == pytest.approx(line.delay(0, 10), abs=0.02)
    assert line.delay(50, 60) < 0.03
    assert whole(line.pieces)


def test_packets_in_a_wrong_order_are_put_right() -> None:
    line = stream(10, lambda number: 0.03 if number % 10 == 5 else 0.0)
    assert set(line.kinds()[50:500]) == {"packet"}
    assert whole(line.pieces)


def test_what_comes_twice_goes_out_once() -> None:
    line = Line()
    for number in range(50):
        line.send(number, number * STEP)
        line.send(number, number * STEP + 0.004)
        line.send(number, number * STEP + 0.15)
    line.run()
    payloads = [piece.payload for _, piece in line.pieces if piece.kind == "packet"]
    assert len(payloads) == len(set(payloads)) == 50
    assert line.buffer.late == 0


def test_silence_that_the_sender_leaves_out_is_no_loss() -> None:
    line = Line()
    for number in range(10):
        line.send(number, number * STEP)
    line.run(10 * STEP)  # it has to make up something, as it cannot know yet
    for number in range(10, 20):
        line.send(number, (number + 5) * STEP, position=number + 5)
    line.run()
    assert set(line.kinds()[10:15]) <= {"lost", "quiet"}
    assert "quiet" in line.kinds()
    assert whole(line.pieces)


def test_what_follows_a_sign_of_life_is_silence() -> None:
    buffer = JitterBuffer()
    buffer.put(1, 0, b"\xf8", 0.0)
    kinds = [piece.kind for now in (0.05, 0.07, 0.09) for piece in buffer.take(now)]
    assert kinds == ["packet", "quiet", "quiet"]


def test_when_nothing_comes_it_rests_and_begins_again_with_the_next_packet() -> None:
    line = Line()
    for number in range(10):
        line.send(number, number * STEP)
    for number in range(500, 510):
        line.send(number, number * STEP)
    line.run()
    positions = [piece.timestamp for _, piece in line.pieces]
    gaps = [other - one for one, other in itertools.pairwise(positions) if other - one > COUNT]
    assert len(gaps) == 1
    made_up = [piece for _, piece in line.pieces if piece.kind == "lost"]
    assert sum(piece.count for piece in made_up) == pytest.approx(2 * REST * RATE, abs=2 * COUNT)
    assert line.kinds().count("packet") == 20
    assert line.buffer.next_due() == float("inf")


def test_a_stall_makes_nothing_late_for_good() -> None:
    line = stream(20, lambda number: max(0.0, 8.0 - number * STEP) if number * STEP > 5.0 else 0.0)
    assert line.delay(9, 20) < 0.01
    assert max(now - (piece.timestamp - line.pieces[0][1].timestamp) / RATE for now, piece in line.pieces) < 0.6


def test_a_way_that_gets_longer_is_followed_at_once_and_one_that_gets_shorter_soon() -> None:
    line = stream(30, lambda number: 0.2 if 500 <= number < 1000 else 0.0)
    assert line.delay(11, 20) == pytest.approx(0.205, abs=0.01)
    assert line.delay(29, 30) < 0.01
    assert line.kinds()[:1000].count("lost") < 15
    far = stream(30, lambda number: 2.0 if number >= 500 else 0.0)
    assert far.delay(13, 30) == pytest.approx(2.01, abs=0.04)


def test_a_sender_that_begins_anew_is_followed_and_a_stray_packet_is_not() -> None:
    line = Line()
    for number in range(100):
        line.send(number, number * STEP)
    line.send(100, 100 * STEP, position=500_000)
    for number in range(101, 200):
        line.send(number, number * STEP)
    for number in range(200, 300):
        line.send(number, number * STEP, position=number - 5_000_000)
    line.run()
    assert line.kinds()[:200].count("packet") == 199
    assert 6 <= line.buffer.refused <= 7
    assert line.kinds().count("packet") == 300 - line.buffer.refused


def test_a_packet_of_another_length_may_follow() -> None:
    buffer = JitterBuffer()
    buffer.put(1, 0, packet(1), 0.0)
    buffer.put(2, 960, b"\xfb\x06" + bytes(9), 0.01)  # six frames of 20 ms
    buffer.put(3, 960 + 5760, b"\xe0" + bytes(9), 0.02)  # 2.5 ms
    buffer.put(4, 960 + 5760 + 120 + 60, packet(4), 0.03)  # half a frame further on
    pieces = [piece for now in (0.05, 0.07, 0.19, 0.2) for piece in buffer.take(now)]
    assert [(piece.timestamp, piece.count) for piece in pieces] == [(0, 960), (960, 5760), (6720, 120), (6900, 960)]


def test_what_nobody_took_for_long_is_left_out() -> None:
    buffer = JitterBuffer()
    for number in range(20):
        buffer.put(number, number * COUNT, packet(number), number * STEP)
    pieces = list(buffer.take(10.0))
    assert sum(piece.count for piece in pieces) < 2 * COUNT


def test_what_is_no_packet_is_refused() -> None:
    buffer = JitterBuffer()
    buffer.put(1, 0, b"\xff\x00", 0.0)
    assert buffer.refused == 1
    assert buffer.next_due() == float("inf")
    assert buffer.delay == 0.0


def test_what_is_held_is_bounded_and_so_is_what_is_remembered() -> None:
    buffer = JitterBuffer()
    for number in range(20_000):
        buffer.put(number, number, packet(number), number / RATE)
    assert len(buffer._held) <= 256
    assert len(buffer._sorted) == len(buffer._transits) <= 2048


Way = tuple[float, bool, bool, int]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 0.3),  # how much longer it takes
            st.booleans(),  # whether it takes longer
            st.sampled_from([False, False, False, True]),  # whether it is lost
            st.sampled_from([0, 0, 0, 0, 0, 7, 100]),  # packets of silence before it
        ),
        min_size=1,
        max_size=120,
    )
)
def test_nothing_comes_twice_time_never_goes_back_and_delay_is_bounded(ways: list[Way]) -> None:
    line = Line()
    position = 0
    for number, (longer, takes_longer, lost, silence) in enumerate(ways):
        position += 1 + silence
        if not lost:
            line.send(number, position * STEP + longer * takes_longer, position=position)
    line.run()
    payloads = [piece.payload for _, piece in line.pieces if piece.kind == "packet"]
    assert len(payloads) == len(set(payloads))
    for (at, one), (later, other) in itertools.pairwise(line.pieces):
        assert at <= later
        hole = other.timestamp - one.timestamp - one.count
        assert hole == 0 or (hole > 0 and one.kind != "packet")  # where nothing came for a second
    assert all(piece.count % GRAIN == 0 for _, piece in line.pieces)
    for now, piece in line.pieces:
        if piece.kind == "packet":
            sent = ((piece.timestamp - BEGIN + 2**31) % 2**32 - 2**31) / RATE
            assert -1e-6 <= now - sent <= 0.3 + LONGEST_DELAY + START


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=6), st.floats(0, 2)))
)
def test_whatever_a_stranger_sends_it_stays_in_bounds(packets: list[tuple[int, int, bytes, float]]) -> None:
    buffer = JitterBuffer()
    now = 0.0
    for number, timestamp, payload, passed in packets:
        now += passed
        buffer.put(number, timestamp, payload, now)
        assert sum(piece.count for piece in buffer.take(now)) <= (LONGEST_DELAY + START + REST) * RATE + 2 * 5760
        assert now < buffer.next_due()
        assert buffer.next_due() == float("inf") or buffer.next_due() < now + 2 * LONGEST_DELAY + 0.2
    assert WINDOW > 0
