"""Everybody in a room: real broadcasters and receivers in memory, on machines with clocks of their own."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, assert_type

import av
import numpy as np
import pytest
from lobby import FPS, Lobby, clocks
from turned import elapse, turned
from waiting import turns

import synopticon_rtc.room
from synopticon_rtc import (
    Broadcaster,
    EncodedVideoFrame,
    Face,
    FaceLandmarker,
    Participant,
    ParticipantMoment,
    Receiver,
    Room,
    SignalingClient,
    SignalingServer,
    TestPattern,
)
from synopticon_rtc.basics import clock
from synopticon_rtc.errors import SignalingError
from synopticon_rtc.events import ParticipantEvent, StateEvent
from synopticon_rtc.signaling.messages import Offer, SessionDescription
from synopticon_rtc.signaling.server.tokens import TokenKeys

__all__ = ["clocks"]
FACE = Face(np.full((478, 3), 0.5, np.float32), {})
URL = "ws://127.0.0.1:1/ws"


class Told(list[tuple[str, str]]):
    """What a room tells: state and name."""

    def __call__(self, event: ParticipantEvent) -> None:
        self.append((event.state, event.name))


async def seen(room: Room[Any], seconds: float, within: float = 0.1) -> list[ParticipantMoment[Any]]:
    """Take the moments of some seconds."""
    moments: list[ParticipantMoment[Any]] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for moment in room.moments(within=within):
                moments.append(moment)  # noqa: PERF401 - those that came before the time was over
    return moments


def names(moments: list[ParticipantMoment[Any]]) -> set[str]:
    return {moment.participant.name for moment in moments}


@turned
async def test_people_come_and_go_and_the_room_tells() -> None:
    lobby, told = Lobby(), Told()
    come: list[str] = []

    async def meet(room: Room[Any]) -> None:
        async for participant in room:
            come.append(participant.name)
            async for moment in participant.receiver:
                assert isinstance(moment.frame, av.VideoFrame)
            come.append(f"{participant.name} has left")

    async with lobby.broadcasting("Ada"):
        async with lobby.room() as room:
            room.events.subscribe(told)
            meeting = asyncio.create_task(meet(room))
            await elapse(2)
            async with lobby.broadcasting("Bo"):
                await elapse(2)
                assert [participant.name for participant in room.participants] == ["Ada", "Bo"]
                assert all(participant.is_here for participant in room.participants)
                assert names(await seen(room, 1)) == {"Ada", "Bo"}
            await elapse(1)
            assert [repr(each) for each in room.participants] == ["<Participant 'Ada', connected>", *away("Bo")]
            await elapse(10)
            assert [participant.name for participant in room.participants] == ["Ada"]
        await meeting
    assert told == [("joined", "Ada"), ("joined", "Bo"), ("away", "Bo"), ("left", "Bo"), ("left", "Ada")]
    assert come == ["Ada", "Ada has left"]


@turned
async def test_all_who_are_there_already_are_found_at_once() -> None:
    lobby = Lobby()
    async with contextlib.AsyncExitStack() as stack:
        for number in range(12):
            await stack.enter_async_context(lobby.broadcasting(f"person {number}"))
        await elapse(1)
        async with lobby.room() as room:
            await elapse(1)
            assert len(names(await seen(room, 0.5))) == len(room.participants) == 12
            assert sum(place.is_looking for place in room._places) == 1


@pytest.mark.long
@turned
async def test_a_crowd_is_connected_to_a_few_at_a_time() -> None:
    lobby, most = Lobby(), 0
    async with contextlib.AsyncExitStack() as stack:
        for number in range(40):
            await stack.enter_async_context(lobby.broadcasting(f"person {number}"))
        await elapse(1)
        async with lobby.room() as room:
            while len(room.participants) < 40:
                most = max(most, sum(not (place.found or place.is_looking) for place in room._places))
                await elapse(0.01)
    assert 1 < most <= synopticon_rtc.room.AT_ONCE + 1  # who looks may have found somebody, too


@turned
async def test_all_who_come_back_at_once_have_their_places() -> None:
    lobby, told = Lobby(), Told()
    async with lobby.room() as room:
        room.events.subscribe(told)
        for _ in range(2):
            async with contextlib.AsyncExitStack() as stack:
                for number in range(9):
                    await stack.enter_async_context(lobby.broadcasting(f"person {number}"))
                await elapse(3)
            await elapse(1)
    states = [state for state, _ in told]
    assert (states.count("joined"), states.count("returned")) == (9, 9)


@turned
async def test_nobody_waits_for_what_is_made_beside_the_receivers_of_others() -> None:
    lobby = Lobby()

    @contextlib.asynccontextmanager
    async def beside(_: Participant[Any]) -> AsyncIterator[None]:
        await elapse(0.9)
        yield

    async with contextlib.AsyncExitStack() as stack:
        for number in range(6):
            await stack.enter_async_context(lobby.broadcasting(f"person {number}"))
        async with lobby.room(beside=beside) as room:
            await elapse(2.5)
            assert len(room.participants) == 6


@turned
async def test_who_waited_for_too_long_for_its_receiver_is_asked_anew() -> None:
    lobby, told = Lobby(), Told()
    slow = asyncio.Event()

    @contextlib.asynccontextmanager
    async def beside(_: Participant[Any]) -> AsyncIterator[None]:
        if len(room._places) > 1:
            await slow.wait()
        yield

    async with lobby.broadcasting("Ada"), contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(lobby.broadcasting("Bo", delay=0.02))
        async with lobby.room(beside=beside) as room:
            room.events.subscribe(told)
            await elapse(2)
            (kept,) = [place.came[0] for place in room._places if place.came]
            assert isinstance(kept, Offer)
            await elapse(5)  # after which no broadcaster waits for an answer
            assert not any(place.came for place in room._places)
            slow.set()
            await elapse(3)
            assert len(room.participants) == 2
    assert sorted(told) == [("joined", "Ada"), ("joined", "Bo"), ("left", "Ada"), ("left", "Bo")]


@turned
async def test_what_came_over_a_session_that_is_gone_is_forgotten() -> None:
    lobby = Lobby()

    @contextlib.asynccontextmanager
    async def beside(_: Participant[Any]) -> AsyncIterator[None]:
        await elapse(0.5)
        yield

    async with lobby.room(beside=beside) as room:
        await elapse(1)
        room.signaling._hand_round(Offer(source_session="ws_1", sdp=SessionDescription("offer", "v=0")))
        room.signaling._hand_round(Offer(source_session="ws_2", sdp=SessionDescription("offer", "v=0")))
        assert sum(bool(place.came) for place in room._places) == 1
        for listener in list(room.signaling._listeners):
            listener.opened("ws_another")
        assert not any(place.came for place in room._places)
        await elapse(2)
        assert sum(place.is_looking for place in room._places) == 1


def ada(*states: str) -> list[tuple[str, str]]:
    return [(state, "Ada") for state in states]


def away(name: str) -> list[str]:
    return [f"<Participant {name!r}, seeking>"]


@turned
async def test_who_comes_back_soon_by_the_same_name_goes_on_as_the_same() -> None:
    lobby, told = Lobby(), Told()
    async with lobby.room() as room:
        room.events.subscribe(told)
        async with lobby.broadcasting("Ada"):
            await elapse(5)
            (before,) = room.participants
            session = before.session
        await elapse(5)
        async with lobby.broadcasting("Ada"):
            await elapse(12)
            assert room.participants == (before,)
            assert before.session != session
            assert {moment.participant for moment in await seen(room, 1)} == {before}
    assert told == [*ada("joined", "away", "returned"), *ada("away", "left")]


@turned
async def test_who_comes_back_in_the_very_moment_in_which_it_is_given_up_is_found_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lobby, told = Lobby(), Told()
    async with lobby.room() as room:
        room.events.subscribe(told)
        async with lobby.broadcasting("Ada"):
            await elapse(5)
        await elapse(1)
        (place,) = [place for place in room._places if place.found]
        assert place.limit is not None
        given_up = place.limit.when()
        assert given_up is not None
        back = StateEvent("connected", "", "ws_9", "Ada")
        loop, emit = asyncio.get_running_loop(), place.participant.receiver.events.emit
        loop.call_at(given_up, loop.call_soon, emit, back)  # after the limit, and before the task that it ends
        await elapse(12)
        async with lobby.broadcasting("Ada"):
            await elapse(5)
            assert [participant.name for participant in room.participants] == ["Ada"]
    assert told == [*ada("joined", "away", "left"), *ada("joined", "away", "left")]
    assert not caplog.records


@pytest.mark.usefixtures("clocks")
@turned
async def test_moments_come_in_the_order_of_their_capture_whatever_clocks_and_ways_are_like() -> None:
    lobby = Lobby()
    async with (
        lobby.broadcasting("near", delay=0.002, clock_ahead=50.0),
        lobby.broadcasting("far", delay=0.08, clock_ahead=-3000.0),
        lobby.broadcasting("between", delay=0.03, fps=FPS + 3),
        lobby.room() as room,
    ):
        await elapse(3)
        offsets = {each.name: each.receiver.clock_offset for each in room.participants}
        assert offsets == pytest.approx({"near": 50, "far": -3000, "between": 0}, abs=1e-3)
        errors = {each.name: each.receiver.clock_error for each in room.participants}
        assert errors == pytest.approx({"near": 0.002, "far": 0.08, "between": 0.03}, abs=2e-3)
        begun = clock.now()
        moments = await seen(room, 3)
    assert names(moments) == {"near", "far", "between"}
    captured = [moment.captured for moment in moments if moment.captured is not None]
    assert len(captured) == len(moments) > 2.8 * (3 * FPS + 3)
    assert captured == sorted(captured)
    assert begun - 0.2 < captured[0] < captured[-1] < begun + 3
    assert not any(moment.late for moment in moments)


@pytest.mark.usefixtures("clocks")
@turned
async def test_moments_of_many_whose_clocks_are_wrong_by_hours_are_in_order() -> None:
    lobby, people = Lobby(), 20
    async with contextlib.AsyncExitStack() as stack:
        for number in range(people):
            far = lobby.broadcasting(
                f"person {number}",
                fps=5 + number % 3,
                delay=0.001 + 0.003 * number,
                clock_ahead=3600.0 * (number - people // 2) + 0.123 * number,
            )
            await stack.enter_async_context(far)
        room = await stack.enter_async_context(lobby.room())
        await elapse(4)
        for number, each in enumerate(sorted(room.participants, key=lambda one: int(one.name.split()[1]))):
            offset, error = each.receiver.clock_offset, each.receiver.clock_error
            assert offset is not None
            assert error is not None
            assert abs(offset - (3600.0 * (number - people // 2) + 0.123 * number)) <= error < 0.07
        begun = clock.now()
        moments = await seen(room, 2)
    assert len(names(moments)) == people
    captured = [moment.captured for moment in moments if moment.captured is not None and not moment.late]
    assert len(captured) == len(moments) > 2 * people * 4
    assert captured == sorted(captured)
    assert begun - 0.2 < captured[0] < captured[-1] < begun + 2


@pytest.mark.usefixtures("clocks")
@turned
async def test_what_is_known_better_of_a_clock_puts_no_moment_before_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lobby = Lobby()
    async with lobby.broadcasting("Ada", clock_ahead=7.0, delay=0.1), lobby.room() as room:
        await elapse(3)
        receiver = type(room.participants[0].receiver)
        with monkeypatch.context() as at_first:
            at_first.setattr(receiver, "clock_offset", 6.92)
            at_first.setattr(receiver, "clock_error", 0.15)
            before = (await seen(room, 0.5))[-1]
        moments = await seen(room, 1)
    captured = [moment.captured for moment in (before, *moments) if moment.captured is not None]
    assert captured == sorted(captured)
    assert before.error == moments[0].error == 0.15  # as the time of the one before stands for it
    for moment in (before, *moments):
        assert moment.captured is not None
        assert moment.moment.captured is not None
        assert moment.error is not None
        assert abs(moment.captured - (moment.moment.captured - 7.0)) <= moment.error
    assert moments[-1].error is not None
    assert moments[-1].error < 0.11


@pytest.mark.usefixtures("clocks")
@turned
async def test_who_is_later_than_the_others_by_more_than_they_wait_is_late() -> None:
    lobby = Lobby()
    async with (
        lobby.broadcasting("near"),
        lobby.broadcasting("far", delay=0.3, clock_ahead=7.0),
        lobby.room() as room,
    ):
        await elapse(4)
        moments = await seen(room, 2)
        assert {moment.participant.name for moment in moments if moment.late} == {"far"}
        near = [moment.captured for moment in moments if moment.participant.name == "near"]
        assert len(near) > 1.8 * FPS
        patient = await seen(room, 2, within=0.5)
    assert names(patient) == {"near", "far"}
    assert not any(moment.late for moment in patient)


@turned
async def test_moments_of_who_falls_silent_hold_up_nobody_for_longer_than_they_wait() -> None:
    lobby = Lobby()
    async with lobby.broadcasting("Ada"), lobby.broadcasting("Bo") as bo, lobby.room() as room:
        await elapse(2)
        bo.down.up = False
        delays = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                async for moment in room.moments(within=0.25):
                    assert moment.captured is not None
                    delays.append(clock.now() - moment.captured)
    assert 0.25 < max(delays) < 0.3
    assert len(delays) > 0.6 * FPS


@turned
async def test_encoded_moments_keep_together_and_are_not_asked_for_anew() -> None:
    lobby = Lobby()
    async with lobby.broadcasting("Ada"), lobby.room(decode=False) as room:
        await elapse(3)
        moments = await seen(room, 3)
    assert all(isinstance(moment.moment.frame, EncodedVideoFrame) for moment in moments)
    steps = [later.rtp_timestamp - earlier.rtp_timestamp for earlier, later in pairs(moments)]
    assert set(steps) == {90_000 // FPS}
    assert sum(moment.moment.frame.keyframe for moment in moments) <= 1


@turned
async def test_who_is_slow_with_encoded_moments_goes_on_with_a_keyframe() -> None:
    lobby = Lobby()
    async with lobby.broadcasting("Ada"), lobby.room(decode=False) as room:
        await elapse(3)
        moments = room.moments()
        before: Any = (await anext(moments)).moment
        await elapse(3)
        taken: list[Any] = [(await anext(moments)).moment for _ in range(3 * FPS)]
    assert taken[0].frame.keyframe
    assert taken[0].rtp_timestamp - before.rtp_timestamp > 90_000
    steps = {later.rtp_timestamp - earlier.rtp_timestamp for earlier, later in itertools.pairwise(taken)}
    assert steps == {90_000 // FPS}


def pairs(moments: list[ParticipantMoment[Any]]) -> list[tuple[Any, Any]]:
    return list(itertools.pairwise(moment.moment for moment in moments))


@turned
async def test_only_so_many_are_there_at_once_and_others_when_one_is_gone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(synopticon_rtc.room, "MOST", 1)
    lobby = Lobby()
    async with lobby.room() as room, lobby.broadcasting("Ada"):
        await elapse(1)
        async with lobby.broadcasting("Bo"):
            await elapse(3)
            assert [participant.name for participant in room.participants] == ["Ada"]
            (ada,) = room.participants
            await ada.receiver.aclose()
            await elapse(3)
            assert len(room.participants) == 1
    told = [record.message for record in caplog.records if record.name == synopticon_rtc.room.__name__]
    assert set(told) == {"there are 1 participants: others have to wait until one is gone"}


@turned
async def test_one_looks_for_the_next_also_after_somebody_could_not_be_connected_with() -> None:
    async with Lobby().room() as room:
        await elapse(0.1)
        (first,) = room._places
        first.participant._changed(StateEvent("connecting", "somebody answered"))
        room._changed(first, first.participant.state)
        assert [place.is_looking for place in room._places] == [False, True]
        await elapse(0.1)
        first.participant._changed(StateEvent("seeking", "no connection within 15 s"))
        room._changed(first, first.participant.state)
        await elapse(0.1)
        assert room._places == [first]


class Counting:
    """Finds one face in each frame, and counts."""

    def __init__(self) -> None:
        self.looked_at = 0

    async def detect(self, _: av.VideoFrame) -> tuple[Face]:
        self.looked_at += 1
        return (FACE,)


@turned
async def test_each_has_a_detector_of_its_own() -> None:
    lobby, made = Lobby(), list[Counting]()

    def make() -> Counting:
        made.append(Counting())
        return made[-1]

    async with (
        lobby.broadcasting("Ada"),
        lobby.broadcasting("Bo", fps=FPS / 2),
        lobby.room(detector=make, return_faces=True) as room,
    ):
        await elapse(2)
        moments = await seen(room, 2)
        assert names(moments) == {"Ada", "Bo"}
        assert all(moment.moment.detected and moment.moment.faces for moment in moments)
        assert len(made) == 3  # one is for whoever comes next
        counts = sorted(each.looked_at for each in made)
    assert counts[0] == 0 < counts[1] < 0.7 * counts[2]


@turned
async def test_what_is_beside_a_receiver_is_there_before_it_and_after_it() -> None:
    lobby, order = Lobby(), []

    @contextlib.asynccontextmanager
    async def beside(participant: Participant[Any]) -> AsyncIterator[str]:
        order.append(f"enter {participant.state.state}")
        try:
            yield "beside"
        finally:
            order.append(f"leave {participant.state.state}")

    async with lobby.broadcasting("Ada"), lobby.room(beside=beside) as room:
        await elapse(1)
        assert [participant.beside for participant in room.participants] == ["beside"]
    assert [*order[:2], *sorted(order[2:])] == [*["enter seeking"] * 2, "leave closed", "leave seeking"]


@turned
async def test_what_fails_beside_a_receiver_ends_the_room() -> None:
    @contextlib.asynccontextmanager
    async def beside(_: Participant[Any]) -> AsyncIterator[None]:
        raise OSError("nothing goes")
        yield

    async with Lobby().room(beside=beside) as room:
        for ending in (room.wait_closed(), anext(aiter(room)), anext(aiter(room.moments()))):
            with pytest.raises(OSError, match="nothing goes"):
                await ending


async def test_a_server_that_refuses_ends_it() -> None:
    secret = b"a secret of thirty-two bytes, at least"
    async with (
        SignalingServer(port=0, tokens=TokenKeys(secret=secret)) as server,
        Room(server.url) as room,
        asyncio.timeout(30),
    ):
        for ending in (anext(aiter(room)), anext(aiter(room.moments())), room.wait_closed()):
            with pytest.raises(SignalingError, match="A token is needed"):
                await ending
        assert not room.participants


async def test_a_token_that_is_refused_before_anybody_is_looked_for_ends_it() -> None:
    async with Room(URL, token=lambda: "of two lines\n") as room, asyncio.timeout(30):
        for ending in (anext(aiter(room)), anext(aiter(room.moments())), room.wait_closed()):
            with pytest.raises(SignalingError, match="the token is malformed"):
                await ending


async def test_iterations_over_streams_that_begin_after_a_refusal_end_with_it() -> None:
    client = SignalingClient(URL, token=lambda: "of two lines\n")
    async with Receiver(client) as receiver, asyncio.timeout(30):
        with pytest.raises(SignalingError, match="the token is malformed"):
            await anext(receiver)
        for ending in (anext(receiver.moments("screen")), anext(receiver.audio())):
            with pytest.raises(SignalingError, match="the token is malformed"):
                await ending


async def test_one_port_is_enough_for_all() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    here = ["127.0.0.1"]
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, TestPattern((64, 48)), name="Ada", interfaces=here),
        Broadcaster(server.url, TestPattern((64, 48)), name="Bo", interfaces=here),
        Room(server.url, udp_ports=(port, port), interfaces=here) as room,
        asyncio.timeout(30),
    ):
        found = aiter(room)
        assert {(await anext(found)).name for _ in range(2)} == {"Ada", "Bo"}


async def test_it_is_entered_once_and_used_inside() -> None:
    async with SignalingServer(port=0) as server:
        room = Room(server.url)
        for use in (room.wait_closed(), anext(aiter(room)), anext(aiter(room.moments()))):
            with pytest.raises(RuntimeError, match="this Room is not open"):
                await use
        async with room:
            with pytest.raises(RuntimeError, match="entered only once"):
                await room.start()
            events = aiter(room.events)
            waiting = [asyncio.ensure_future(anext(each)) for each in (aiter(room), aiter(room.moments()), events)]
            await asyncio.sleep(0)
        for ended in waiting:
            with pytest.raises(StopAsyncIteration):
                await ended
        await room.wait_closed()
        with pytest.raises(RuntimeError, match="this Room is not open"):
            await anext(aiter(room))
        await room.aclose()


@pytest.mark.parametrize("after", [1, 2, 3, 5, 8])
@turned
async def test_whoever_is_cancelled_while_it_is_left_leaves_nothing_behind(after: int) -> None:
    lobby = Lobby()
    async with lobby.broadcasting("Ada"), lobby.broadcasting("Bo"):
        room = await lobby.room().start()
        await elapse(2)
        events = asyncio.create_task(drain(room.events))
        leaving = asyncio.create_task(room.aclose())
        await turns(after)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert leaving.cancelled()
        assert room._tasks == set()
        await events
        assert room.signaling.session is None


@turned
async def test_whoever_closes_it_once_more_waits_for_the_first() -> None:
    lobby = Lobby()
    async with lobby.broadcasting("Ada"):
        room = await lobby.room().start()
        await elapse(2)
        first = asyncio.create_task(room.aclose())
        await turns(1)
        await room.aclose()
        assert room.signaling.session is None
        await first


@turned
async def test_what_is_beside_a_receiver_does_not_wait_for_the_room_which_waits_for_it() -> None:
    lobby = Lobby()

    @contextlib.asynccontextmanager
    async def beside(_: Participant[Any]) -> AsyncIterator[None]:
        yield
        await room.aclose()

    room = lobby.room(beside=beside)
    async with room:
        async with lobby.broadcasting("Ada"):
            await elapse(4)
        with pytest.raises(RuntimeError, match="what is beside a receiver cannot close the room"):
            await room.wait_closed()


async def drain(events: AsyncIterable[Any]) -> None:
    async for _ in events:
        pass


def test_what_no_room_can_be_is_refused() -> None:
    with pytest.raises(TypeError, match="room and token belong to the SignalingClient"):
        Room(SignalingClient(URL), room="lab")
    with pytest.raises(TypeError, match="signaling must be an address"):
        Room(7)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="detector must be what makes one for each participant"):
        Room(URL, detector=FaceLandmarker())  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="faces_wait must be 0 or more"):
        Room(URL, faces_wait=-1)
    assert Room(URL, room="lab", token=lambda: "secret").signaling.url.endswith("room=lab")


async def test_nobody_waits_for_less_than_no_time() -> None:
    async with SignalingServer(port=0) as server, Room(server.url) as room:
        with pytest.raises(ValueError, match="within must be 0 or more"):
            await anext(aiter(room.moments(within=-1)))


def test_types_follow_what_is_asked_for() -> None:
    assert_type(Room(URL), Room[av.VideoFrame])
    assert_type(Room(URL, decode=False), Room[EncodedVideoFrame])
    assert_type(Room(URL, video=False), Room[None])
