"""Which stream one peer is sent."""

import dataclasses
import itertools
import random

from frames import encoded
from hypothesis import given, settings
from hypothesis import strategies as st
from turned import elapse, run
from walking import FPS, Layer

from synopticon_rtc.rtc.arrival import HOLD, LONGEST_HOLD
from synopticon_rtc.rtc.backlog import BACKLOG_FRAMES, Backlog
from synopticon_rtc.rtc.pacer import Pacer
from synopticon_rtc.rtc.stream import EncodedFrame, VideoStream, ntp_time
from synopticon_rtc.rtc.switch import Switch

HELD = round(HOLD * 30)
"""Frames that are held at first at most."""


class Peer:
    """A peer of two streams, and what it is sent."""

    def __init__(self, *streams: VideoStream) -> None:
        self.asked = 0
        self.large, self.small = streams or (self._stream(), self._stream())
        self.backlog = Backlog()
        self.switch = Switch(self, self.backlog, self.take)
        self.switch.stream = self.large
        self.large.add_at_keyframe(self)
        self.came: list[EncodedFrame] = []
        self.streams: list[VideoStream | None] = []  # that they are of
        self.asked = 0

    def _stream(self) -> VideoStream:
        return VideoStream("vp8", on_keyframe_request=self._ask)

    def _ask(self) -> None:
        self.asked += 1

    def take(self, frame: EncodedFrame) -> None:
        if self.backlog.put(frame):
            self.backlog.advance()
            self.came.append(frame)
            self.streams.append(self.switch.stream)

    def send_frame(self, frame: EncodedFrame, now: float) -> None:  # noqa: ARG002 - as viewers are called
        self.switch.take(frame)

    @property
    def numbers(self) -> list[int]:
        return [frame.timestamp // 3000 for frame in self.came]


def play(stream: VideoStream, number: int, *, keyframe: bool = False) -> EncodedFrame:
    frame = encoded(number, keyframe=keyframe)
    stream._publish(frame)
    return frame


def test_a_peer_changes_at_a_keyframe_and_sees_every_picture_once() -> None:
    async def walk() -> None:
        peer = Peer()
        play(peer.large, 0, keyframe=True)
        peer.switch.move(peer.small)
        assert peer.switch.next_stream is peer.small
        assert peer.switch.stream is peer.large
        assert peer.asked == 1
        for number in (1, 2):  # the small ones come later
            play(peer.large, number)
        play(peer.small, 1)
        play(peer.small, 2, keyframe=True)
        assert peer.switch.stream is peer.small
        play(peer.large, 3)
        play(peer.small, 3)
        assert peer.numbers == [0, 1, 2, 3]
        assert (peer.large.viewers, peer.small.viewers) == (0, 1)

    run(walk())


def test_a_move_to_where_the_peer_is_changes_nothing() -> None:
    async def walk() -> None:
        peer = Peer()
        peer.switch.move(peer.large)
        assert not peer.switch.is_moving
        assert peer.asked == 0

    run(walk())


def test_a_move_that_is_taken_back_sends_what_was_held() -> None:
    async def walk() -> None:
        peer = Peer()
        play(peer.large, 0, keyframe=True)
        peer.switch.move(peer.small)
        play(peer.large, 1)
        assert peer.numbers == [0]
        peer.switch.move(peer.large)
        assert peer.numbers == [0, 1]
        assert (peer.large.viewers, peer.small.viewers) == (1, 0)

    run(walk())


def test_pictures_are_held_no_longer_than_a_keyframe_is_hoped_for() -> None:
    async def walk() -> None:
        peer = Peer()
        play(peer.large, 0, keyframe=True)
        peer.switch.move(peer.small)
        for number in range(1, HELD + 2):
            play(peer.large, number)
        assert peer.numbers == list(range(HELD + 2))
        play(peer.large, HELD + 2)
        assert peer.numbers[-1] == HELD + 2  # nothing more is held

    run(walk())


def test_pictures_go_out_though_no_other_comes() -> None:
    async def walk() -> None:
        peer = Peer()
        play(peer.large, 0, keyframe=True)
        peer.switch.move(peer.small)
        play(peer.large, 1)
        await elapse(2)
        assert peer.numbers == [0, 1]

    run(walk())


def test_a_picture_is_held_for_its_own_time_and_not_for_that_of_an_earlier_one() -> None:
    async def walk() -> None:
        peer = Peer()
        play(peer.large, 0, keyframe=True)
        for number in 1, 2:
            peer.switch.move(peer.small)
            peer.large._publish(dataclasses.replace(encoded(number), ntp_time=ntp_time()))
            await elapse(0.8 * LONGEST_HOLD)
            assert peer.numbers[-1] == number - 1
            if number == 1:
                peer.switch.move(peer.large)
        await elapse(0.3 * LONGEST_HOLD)
        assert peer.numbers == [0, 1, 2]

    run(walk())


def test_a_keyframe_that_is_too_late_costs_no_picture_and_another_is_asked_for() -> None:
    async def walk() -> None:
        peer = Peer()
        play(peer.large, 0, keyframe=True)
        peer.switch.move(peer.small)
        play(peer.large, 1)
        for number in range(2, 10):
            play(peer.large, number)
        asked = peer.asked
        play(peer.small, 5, keyframe=True)
        assert peer.switch.stream is peer.large
        assert peer.asked == asked + 1
        assert peer.numbers == list(range(10))

    run(walk())


def test_what_is_dropped_is_counted() -> None:
    async def walk() -> None:
        peer = Peer()
        play(peer.large, 0, keyframe=True)
        peer.switch.move(peer.small)
        play(peer.large, 1)
        peer.switch.drop()
        assert peer.backlog.dropped == 1
        peer.switch.abandon()
        assert peer.numbers == [0]

    run(walk())


def test_a_peer_that_leaves_is_in_no_stream_and_sent_nothing() -> None:
    async def walk() -> None:
        peer = Peer()
        play(peer.large, 0, keyframe=True)
        peer.switch.move(peer.small)
        play(peer.large, 1)
        peer.switch.leave()
        assert (peer.large.viewers, peer.small.viewers) == (0, 0)
        assert peer.switch.stream is peer.switch.next_stream is None
        await elapse(2)
        assert peer.numbers == [0]

    run(walk())


def test_a_peer_that_needs_a_keyframe_does_not_wait_for_that_of_the_other_stream() -> None:
    async def walk() -> None:
        peer = Peer()
        play(peer.large, 0, keyframe=True)
        peer.switch.move(peer.small)
        peer.backlog.drop()
        play(peer.large, 1, keyframe=True)
        assert peer.numbers == [0, 1]

    run(walk())


def test_few_pictures_are_held_however_close_they_are() -> None:
    async def walk() -> None:
        peer = Peer()
        play(peer.large, 0, keyframe=True)
        peer.switch.move(peer.small)
        for ticks in range(1, BACKLOG_FRAMES + 1):
            assert len(peer.came) == 1
            peer.large._publish(dataclasses.replace(encoded(0), timestamp=ticks))
        assert len(peer.came) == BACKLOG_FRAMES + 1

    run(walk())


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("play"), st.integers(1, 12)),
        st.tuples(st.just("play"), st.integers(1, 12)),
        st.tuples(st.just("move"), st.integers(0, 1)),
        st.tuples(st.just("pause"), st.integers(1, 30)),
        st.tuples(st.just("drop"), st.just(0)),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(steps=STEPS, late=st.tuples(st.integers(0, 6), st.integers(0, 6)), skips=st.randoms(use_true_random=False))
def test_whichever_stream_is_ahead_pictures_go_out_in_order_and_build_on_what_was_sent(
    steps: list[tuple[str, int]], late: tuple[int, int], skips: random.Random
) -> None:
    async def walk() -> None:
        layers = [Layer(each, Pacer()) for each in late]
        peer = Peer(*(layer.stream for layer in layers))
        numbers = itertools.count()
        for what, value in steps:
            if what == "play":
                for number in itertools.islice(numbers, value):
                    for layer in layers:
                        layer.encode(number, skip=skips.random() < 0.2)
                    await elapse(1 / FPS)
            elif what == "move":
                peer.switch.move(layers[value].stream)
            elif what == "pause":
                await elapse(value / FPS)
            else:
                peer.switch.drop()
                peer.backlog.drop()
                for layer in layers:
                    layer.want()
            assert len(peer.switch.held) <= LONGEST_HOLD * FPS
            assert peer.switch.is_moving or not peer.switch.held
        assert peer.numbers == sorted(set(peer.numbers))
        before = None
        for stream, frame in zip(peer.streams, peer.came, strict=True):
            place = int.from_bytes(frame.payloads[0], "big")  # among those that its layer encoded
            assert frame.keyframe or before == (stream, place - 1)
            before = stream, place

    run(walk())
