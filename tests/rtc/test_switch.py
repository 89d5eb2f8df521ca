"""Which stream one peer is sent."""

from collections.abc import Coroutine
from typing import Any

import turned
from frames import encoded

from synopticon_rtc.rtc.arrival import HOLD
from synopticon_rtc.rtc.backlog import Backlog
from synopticon_rtc.rtc.stream import EncodedFrame, VideoStream
from synopticon_rtc.rtc.switch import Switch

HELD = round(HOLD * 30)
"""Frames that are held at first at most."""


class Peer:
    """A peer of two streams, and what it is sent."""

    def __init__(self) -> None:
        self.asked = 0
        self.large, self.small = self._stream(), self._stream()
        self.backlog = Backlog()
        self.switch = Switch(self, self.backlog, self.take)
        self.switch.stream = self.large
        self.large.add_at_keyframe(self)
        self.came: list[EncodedFrame] = []
        self.asked = 0

    def _stream(self) -> VideoStream:
        return VideoStream("vp8", on_keyframe_request=self._ask)

    def _ask(self) -> None:
        self.asked += 1

    def take(self, frame: EncodedFrame) -> None:
        if self.backlog.put(frame):
            self.came.append(frame)

    def send_frame(self, frame: EncodedFrame) -> None:
        self.switch.take(frame)

    @property
    def numbers(self) -> list[int]:
        return [frame.timestamp // 3000 for frame in self.came]


def play(stream: VideoStream, number: int, *, keyframe: bool = False) -> EncodedFrame:
    frame = encoded(number, keyframe=keyframe)
    stream._publish(frame)
    return frame


def run(work: Coroutine[Any, Any, None]) -> None:
    turned.run(work)


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
        await turned.elapse(2)
        assert peer.numbers == [0, 1]

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
        await turned.elapse(2)
        assert peer.numbers == [0]

    run(walk())
