"""Random walks of peers between layers, with skips, late encoders, refusals of the socket, joins and leaves."""

import asyncio
import random
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiortc.rtp import RTCP_PSFB_PLI, RTCP_RTPFB_NACK, RtcpPsfbPacket, RtcpRtpfbPacket
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.rtc.arrival import LONGEST_HOLD
from synopticon_rtc.rtc.pacer import Pacer
from synopticon_rtc.rtc.sender import BACKLOG_FRAMES, FanoutSender
from synopticon_rtc.rtc.stream import CLOCK_RATE, EncodedFrame, VideoStream

FPS = 30
TICKS = CLOCK_RATE // FPS
KEYFRAME_GAP = 9
"""Frames from one keyframe of an encoder to the next, at least."""
CALM = 3.0
"""Seconds after the last disturbance by which everybody is sent every frame again."""


class TurnedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to whatever is due next."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        select = self._selector.select  # type: ignore[attr-defined]

        def turn(timeout: float | None) -> Any:
            self.now += timeout or 0.0
            return select(0)

        self._selector.select = turn  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now


@dataclass(eq=False)
class Layer:
    """An encoder and its stream.

    Attributes:
        late: Frames by which it is later than the source.
    """

    late: int
    pacer: Pacer
    wanted: bool = False
    keyframed: int = -KEYFRAME_GAP
    keyframes: int = 0
    encoded: int = 0
    under_way: list[tuple[int, EncodedFrame]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stream = VideoStream("vp8", on_keyframe_request=self.want, pacer=self.pacer)

    def want(self) -> None:
        self.wanted = True

    def encode(self, number: int, *, skip: bool) -> None:
        """Encode a picture, or skip it, and hand out what is ready."""
        if self.stream.viewers and not skip:
            keyframe = self.encoded == 0 or (self.wanted and number - self.keyframed >= KEYFRAME_GAP)
            if keyframe:
                self.wanted, self.keyframed = False, number
                self.keyframes += 1
            payloads = [self.encoded.to_bytes(4, "big")] * (40 if keyframe else 3)
            bursts = [payloads[at : at + 16] for at in range(0, len(payloads), 16)]
            ntp = int(asyncio.get_running_loop().time() * 2**32)
            frame = EncodedFrame(payloads, bursts, 1000 * len(payloads), number * TICKS % 2**32, keyframe, ntp)
            self.under_way.append((number, frame))
            self.encoded += 1
        while self.under_way and self.under_way[0][0] <= number - self.late:
            self.stream._publish(self.under_way.pop(0)[1])


class Wire(FanoutSender):
    """A sender without a peer, which notes what it would have sent."""

    def __init__(self) -> None:
        self._set_up(ice=None, select=None)  # type: ignore[arg-type] # neither is used here
        self._ssrc = 1
        self.refuses = False
        self.sent: list[tuple[VideoStream, EncodedFrame]] = []

    def _send_packets(self, frame: EncodedFrame, position: int, ntp_time: int) -> bool:  # noqa: ARG002 - as it is called
        assert self.stream is not None
        if self.refuses:
            return False
        if position == 0:
            self._history.add(self._sequence_number, frame)
        self._sequence_number += len(frame.bursts[position])
        if position == len(frame.bursts) - 1:
            self.sent.append((self.stream, frame))
        return True

    def _resend(self, frame: EncodedFrame, index: int, sequence_number: int) -> int:  # noqa: ARG002 - as it is called
        return len(frame.payloads[index])

    def check(self) -> None:
        """See that nothing went backwards, came twice, or built on what was not sent."""
        before: tuple[VideoStream, int] | None = None
        newest = None
        for stream, frame in self.sent:
            number = int.from_bytes(frame.payloads[0], "big")
            if not frame.keyframe:
                assert before == (stream, number - 1), "a frame builds on one that was not sent"
            if newest is not None:
                assert 0 < (frame.timestamp - newest) % 2**32 < 2**31, "a frame went out behind a newer one"
            before, newest = (stream, number), frame.timestamp


class Show:
    """A source in layers, and peers that watch it."""

    def __init__(self, late: list[int], begin: int = 0) -> None:
        pacer = Pacer()
        self.layers = [Layer(each, pacer) for each in late]
        self.peers: list[Wire] = []
        self.number = begin

    def join(self) -> Wire:
        peer = Wire()
        peer.stream = self.layers[0].stream
        self.peers.append(peer)
        peer.stream.add(peer)
        return peer

    def leave(self, peer: Wire) -> None:
        self.peers.remove(peer)
        peer._leave()
        peer.check()

    async def play(self, seconds: float, skips: random.Random | None = None) -> None:
        for _ in range(round(seconds * FPS)):
            for layer in self.layers:
                layer.encode(self.number, skip=skips is not None and skips.random() < 0.3)
            self.number += 1
            await asyncio.sleep(1 / FPS)


@pytest.fixture(autouse=True)
def turned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let senders and streams read the clock of the loop that is turned."""
    real = time.monotonic

    class Clock:
        @staticmethod
        def monotonic() -> float:
            try:
                return asyncio.get_running_loop().time()
            except RuntimeError:
                return real()

    for module in "sender", "stream":
        monkeypatch.setattr(f"synopticon_rtc.rtc.{module}.time", Clock)
    monkeypatch.setattr("synopticon_rtc.rtc.stream._BEGUN", 0.0)


def turn(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=TurnedLoop) as runner:
        runner.run(work)


def peers_and(value: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[int, Any]]:
    return st.tuples(st.integers(0, 9), value)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("play"), peers_and(st.integers(1, 20))),
        st.tuples(st.just("play"), peers_and(st.integers(1, 20))),
        st.tuples(st.just("switch"), peers_and(st.integers(0, 2))),
        st.tuples(st.just("refuse"), peers_and(st.booleans())),
        st.tuples(st.just("join"), peers_and(st.none())),
        st.tuples(st.just("leave"), peers_and(st.none())),
        st.tuples(st.just("pli"), peers_and(st.none())),
        st.tuples(st.just("nack"), peers_and(st.integers(0, 65_535))),
        st.tuples(st.just("rate"), peers_and(st.sampled_from([50_000.0, 400_000.0, float("inf")]))),
    ),
    max_size=40,
)


async def disturb(show: Show, what: str, peer: Wire, value: Any) -> None:
    """Have something happen to a peer."""
    match what:
        case "switch":
            peer.switch(show.layers[value % len(show.layers)].stream)
        case "refuse":
            peer.refuses = value
        case "pli":
            await peer._handle_rtcp_packet(RtcpPsfbPacket(RTCP_PSFB_PLI, 0, 1))
        case "nack":
            lost = [(value + n) & 0xFFFF for n in range(50)]
            await peer._handle_rtcp_packet(RtcpRtpfbPacket(RTCP_RTPFB_NACK, 0, 1, lost))
        case "rate":
            peer.rate.estimate = value
        case "leave":
            show.leave(peer)


@pytest.mark.parametrize("layers", [2, 3])
@given(
    steps=STEPS,
    late=st.lists(st.integers(0, 20), min_size=3, max_size=3),
    skips=st.randoms(use_true_random=False),
    some=st.booleans(),
)
def test_whoever_is_due_frames_gets_them_in_order_and_once(
    layers: int, steps: list[tuple[str, tuple[int, Any]]], late: list[int], skips: random.Random, *, some: bool
) -> None:
    async def walk() -> None:
        show = Show(late[:layers], begin=2**32 // TICKS - 60)
        show.join()
        for what, (which, value) in steps:
            if what == "play":
                await show.play(value / FPS, skips if some else None)
            elif what == "join":
                show.join()
            elif show.peers:
                await disturb(show, what, show.peers[which % len(show.peers)], value)
            for each in show.peers:
                assert len(each._backlog) <= BACKLOG_FRAMES
                assert len(each._held) <= LONGEST_HOLD * FPS + 1
        for peer in show.peers:
            peer.refuses, peer.rate.estimate = False, float("inf")
        await show.play(CALM)
        before = [len(peer.sent) for peer in show.peers]
        await show.play(1.0)
        for peer, count in zip(show.peers, before, strict=True):
            assert len(peer.sent) - count >= FPS - LONGEST_HOLD * FPS, "a peer is not sent what it is due"
            age = (show.number * TICKS - peer.sent[-1][1].timestamp) % 2**32 / CLOCK_RATE
            assert age <= LONGEST_HOLD + (max(late) + 2) / FPS
            peer.check()

    turn(walk())


@pytest.mark.parametrize("skips", [False, True])
def test_a_peer_is_moved_where_nobody_else_is_left_behind(*, skips: bool) -> None:
    async def walk() -> None:
        show = Show([0, 0])
        peer = show.join()
        await show.play(1)
        peer.switch(show.layers[1].stream)
        show.layers[0].encode(show.number, skip=False)
        show.layers[1].encode(show.number, skip=skips)
        show.number += 1
        await show.play(1)
        assert peer.stream is show.layers[1].stream
        before = len(peer.sent)
        await show.play(1)
        assert len(peer.sent) == before + FPS
        peer.check()

    turn(walk())


@pytest.mark.parametrize("late", [0, 3, 5, 8, 14])
def test_a_layer_that_comes_late_is_reached(late: int) -> None:
    async def walk() -> None:
        show = Show([0, late])
        peer = show.join()
        await show.play(1)
        peer.switch(show.layers[1].stream)
        await show.play(5)
        assert peer.stream is show.layers[1].stream
        peer.check()

    turn(walk())


def test_a_layer_that_comes_far_too_late_costs_those_there_ever_fewer_keyframes() -> None:
    async def walk() -> None:
        show = Show([0, 2 * FPS])
        peer = show.join()
        await show.play(5)
        peer.switch(show.layers[1].stream)
        count = len(peer.sent)
        await show.play(60)
        assert peer.stream is show.layers[0].stream
        assert show.layers[1].keyframes <= 9
        assert len(peer.sent) - count >= 59 * FPS  # it goes on meanwhile
        peer.check()

    turn(walk())


def test_pictures_that_are_held_go_out_though_no_other_comes() -> None:
    async def walk() -> None:
        show = Show([0, 0])
        peer = show.join()
        await show.play(1)
        peer.switch(show.layers[1].stream)
        show.layers[0].encode(show.number, skip=False)
        held = show.number * TICKS
        assert peer.sent[-1][1].timestamp != held
        await asyncio.sleep(LONGEST_HOLD + 0.01)  # a source that shows nothing new
        assert peer.sent[-1][1].timestamp == held

    turn(walk())


def test_what_the_socket_refuses_takes_held_pictures_along() -> None:
    async def walk() -> None:
        show = Show([0, FPS])
        peer = show.join()
        await show.play(1)
        peer.switch(show.layers[1].stream)
        await show.play(0.1)
        assert peer._held
        peer.refuses = True
        await show.play(0.2)
        peer.refuses = False
        assert not peer._held
        await show.play(3)
        peer.check()

    turn(walk())


def test_a_peer_that_is_sent_nothing_is_noticed_told_of_once_and_set_going(caplog: pytest.LogCaptureFixture) -> None:
    async def walk() -> None:
        show = Show([0])
        peer = show.join()
        await show.play(1)
        peer._has_turn = True  # as if its turn had been lost
        await show.play(1.5)
        before = len(peer.sent)
        await show.play(1)
        assert len(peer.sent) == before + FPS
        peer.refuses = True
        await show.play(5)
        peer.refuses = False
        await show.play(3)
        assert len(peer.sent) > before + 3 * FPS
        peer.check()

    turn(walk())
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 2
    assert "wait for their turn" in told[0]
    assert "no keyframe" in told[1]


def test_an_error_at_one_frame_costs_the_peer_no_more_than_the_way_to_the_next_keyframe(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def walk() -> None:
        show = Show([0])
        peer = show.join()
        await show.play(1)
        send = peer._send_packets

        def fail(frame: EncodedFrame, position: int, ntp_time: int) -> bool:
            raise ValueError("libsrtp does not encrypt a packet", frame, position, ntp_time)

        peer._send_packets = fail  # type: ignore[method-assign]
        await show.play(0.5)
        peer._send_packets = send  # type: ignore[method-assign]
        await show.play(3)
        before = len(peer.sent)
        await show.play(1)
        assert len(peer.sent) == before + FPS
        peer.check()

    turn(walk())
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]
