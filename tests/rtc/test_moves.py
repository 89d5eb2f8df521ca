"""Random walks of peers between layers, with skips, late encoders, refusals of the socket, joins and leaves."""

import asyncio
import math
import random
from typing import Any

import pytest
from aiortc.rtp import RTCP_PSFB_PLI, RTCP_RTPFB_NACK, RtcpPsfbPacket, RtcpRtpfbPacket
from hypothesis import given, settings
from hypothesis import strategies as st
from turned import elapse, run
from walking import FPS, TICKS, Show, Wire

from synopticon_rtc.rtc.arrival import LONGEST_HOLD
from synopticon_rtc.rtc.backlog import BACKLOG_FRAMES
from synopticon_rtc.rtc.stream import CLOCK_RATE, EncodedFrame

CALM = 3.0
"""Seconds after the last disturbance by which everybody is sent every frame again."""


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
@settings(deadline=None)
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
        show.join(Wire())
        for what, (which, value) in steps:
            if what == "play":
                await show.play(value / FPS, skips if some else None)
            elif what == "join":
                show.join(Wire())
            elif show.peers:
                await disturb(show, what, show.peers[which % len(show.peers)], value)
            for each in show.peers:
                assert len(each._backlog.frames) <= BACKLOG_FRAMES
                assert len(each._switch.held) <= LONGEST_HOLD * FPS + 1
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

    run(walk())


@pytest.mark.parametrize("skips", [False, True])
def test_a_peer_is_moved_where_nobody_else_is_left_behind(*, skips: bool) -> None:
    async def walk() -> None:
        show = Show([0, 0])
        peer = show.join(Wire())
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

    run(walk())


@pytest.mark.parametrize("late", [0, 3, 5, 8, 12])
def test_a_layer_that_comes_late_is_reached(late: int) -> None:
    async def walk() -> None:
        show = Show([0, late])
        peer = show.join(Wire())
        await show.play(1)
        peer.switch(show.layers[1].stream)
        await show.play(5)
        assert peer.stream is show.layers[1].stream
        peer.check()

    run(walk())


def test_a_layer_that_comes_far_too_late_costs_those_there_ever_fewer_keyframes() -> None:
    async def walk() -> None:
        show = Show([0, 2 * FPS])
        peer = show.join(Wire())
        await show.play(5)
        peer.switch(show.layers[1].stream)
        count = len(peer.sent)
        await show.play(60)
        assert peer.stream is show.layers[0].stream
        assert show.layers[1].keyframes <= 9
        assert len(peer.sent) - count >= 59 * FPS  # it goes on meanwhile
        peer.check()

    run(walk())


def test_pictures_that_are_held_go_out_though_no_other_comes() -> None:
    async def walk() -> None:
        show = Show([0, 0])
        peer = show.join(Wire())
        await show.play(1)
        peer.switch(show.layers[1].stream)
        show.layers[0].encode(show.number, skip=False)
        held = show.number * TICKS
        assert peer.sent[-1][1].timestamp != held
        await elapse(LONGEST_HOLD + 0.01)  # a source that shows nothing new
        assert peer.sent[-1][1].timestamp == held

    run(walk())


def test_what_the_socket_refuses_takes_held_pictures_along() -> None:
    async def walk() -> None:
        show = Show([0, FPS])
        peer = show.join(Wire())
        await show.play(1)
        peer.switch(show.layers[1].stream)
        await show.play(0.1)
        assert peer._switch.held
        peer.refuses = True
        await show.play(0.2)
        peer.refuses = False
        assert not peer._switch.held
        await show.play(3)
        peer.check()

    run(walk())


def test_a_peer_that_is_sent_nothing_is_noticed_told_of_once_and_set_going(caplog: pytest.LogCaptureFixture) -> None:
    async def walk() -> None:
        show = Show([0])
        peer = show.join(Wire())
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

    run(walk())
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 2
    assert "wait for their turn" in told[0]
    assert "no keyframe" in told[1]


@pytest.mark.parametrize("seconds", [0.04, 0.5, 5.0])
@pytest.mark.parametrize("moving", [False, True])
def test_an_error_of_a_peer_does_not_end_its_video(seconds: float, *, moving: bool) -> None:
    async def walk() -> None:
        show = Show([0, 3])
        peer, other = show.join(Wire()), show.join(Wire())
        await show.play(1)
        if moving:
            peer.switch(show.layers[1].stream)

        def fail(frame: EncodedFrame) -> None:
            raise LookupError(frame)

        step = "_hold" if moving else "_send"
        right = getattr(peer._switch, step)
        setattr(peer._switch, step, fail)
        await show.play(seconds)
        setattr(peer._switch, step, right)
        await show.play(3)
        before = len(peer.sent)
        await show.play(1)
        assert len(peer.sent) == before + FPS
        peer.check()
        other.check()
        assert len(other.sent) == show.number

    run(walk())


async def look(peer: Wire) -> None:
    """See to a peer as the ladder does."""
    while True:
        await elapse(0.25)
        peer.watch(asyncio.get_running_loop().time())


def test_a_peer_that_its_stream_does_not_know_is_told_of_and_joins_again(caplog: pytest.LogCaptureFixture) -> None:
    async def walk() -> None:
        show = Show([0])
        peer = show.join(Wire())
        show.join(Wire())
        looking = asyncio.create_task(look(peer))
        await show.play(3)
        show.layers[0].stream.remove(peer)  # as if by a fault of ours
        await show.play(2)
        before = len(peer.sent)
        await show.play(1)
        assert len(peer.sent) == before + FPS
        assert show.layers[0].stream.viewers == 2
        peer.check()
        looking.cancel()

    run(walk())
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == ["a peer gets no frames, though the source has some: its stream does not know it"]


def test_a_peer_whose_frames_are_not_encoded_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async def walk() -> None:
        show = Show([0])
        peer = show.join(Wire())
        looking = asyncio.create_task(look(peer))
        await show.play(3)
        await elapse(5)
        await show.play(3)
        assert len(peer.sent) == show.number
        peer._leave()
        await elapse(5)  # it is due nothing any more
        looking.cancel()

    run(walk())
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == ["a peer gets no frames, though the source has some: none is encoded"]


def test_an_error_at_one_frame_costs_the_peer_no_more_than_the_way_to_the_next_keyframe(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def walk() -> None:
        show = Show([0])
        peer = show.join(Wire())
        await show.play(1)
        send = peer.write

        def fail(frame: EncodedFrame, position: int, first: int) -> bool:
            raise ValueError("libsrtp does not encrypt a packet", frame, position, first)

        peer.write = fail  # type: ignore[method-assign]
        await show.play(0.5)
        peer.write = send  # type: ignore[method-assign]
        await show.play(3)
        before = len(peer.sent)
        await show.play(1)
        assert len(peer.sent) == before + FPS
        peer.check()

    run(walk())
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]


async def fill(show: Show) -> Wire:
    """Have a peer join whose link takes nothing after a second, so that as much waits as may."""
    peer = show.join(Wire())
    await show.play(1)
    peer._pause_until = math.inf
    await show.play(BACKLOG_FRAMES / FPS)
    assert peer._backlog.is_full()
    return peer


def test_where_too_much_waits_a_keyframe_is_asked_for_at_once() -> None:
    async def walk() -> None:
        show = Show([0])
        peer = await fill(show)
        show.layers[0].encode(show.number, skip=False)
        assert show.layers[0].wanted
        assert peer.dropped == BACKLOG_FRAMES + 1

    run(walk())


def test_where_too_much_waits_nothing_is_held_that_builds_on_it() -> None:
    async def walk() -> None:
        show = Show([0, FPS])
        peer = await fill(show)
        peer.switch(show.layers[1].stream)
        await show.play(3 / FPS)
        assert len(peer._switch.held) == 3
        peer._switch._release(until=peer._switch.held[0].timestamp)
        assert not peer._switch.held
        assert peer.dropped == BACKLOG_FRAMES + 3

    run(walk())


def test_frames_behind_a_newer_one_cost_nobody_keyframes() -> None:
    async def walk() -> None:
        show = Show([0])
        peer = show.join(Wire())
        await show.play(1)
        peer._backlog.newest = (show.number + 2 * FPS) * TICKS
        keyframes = show.layers[0].keyframes
        await show.play(1)  # all that comes is older
        assert show.layers[0].keyframes == keyframes
        await show.play(3)
        before = len(peer.sent)
        await show.play(1)
        assert len(peer.sent) == before + FPS

    run(walk())
