"""The life of a receiver: entered once, left cleanly, and what its broadcaster sends beside frames and faces."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import av
import pytest
from waiting import turns, until

from synopticon_rtc import Broadcaster, EncodedVideoFrame, Face, Moment, Receiver, SignalingServer, TestPattern
from synopticon_rtc.peers import control as control_channel
from synopticon_rtc.rtc import Channel, PeerConnection

SIZE = (320, 240)
LONG = 60.0  # seconds: whoever waits so long is found out


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


class Stuck:
    """Finds out in a few frames that there is no face, and of the next one never."""

    def __init__(self) -> None:
        self._left = 5

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - whichever it is
        self._left -= 1
        if self._left < 0:
            await asyncio.Event().wait()
        return ()


class Talkative(Broadcaster):
    """Opens a channel of its own beside those of every broadcaster."""

    label, protocol = "chat", ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.channels: list[Channel] = []

    def _open_peer(self, way: Any, action: Any) -> PeerConnection:
        connection = super()._open_peer(way, action)
        self.channels.append(connection.add_channel(self.label, protocol=self.protocol))
        return connection


class TwiceControlled(Talkative):
    label, protocol = control_channel.LABEL, control_channel.PROTOCOL


# Entering and leaving


async def test_a_connection_that_cannot_be_made_leaves_no_claim(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = asyncio.Event()

    def fail_once(**options: Any) -> PeerConnection:
        if not failed.is_set():
            failed.set()
            raise LookupError("no entropy left for a certificate")
        return PeerConnection(**options)

    monkeypatch.setattr("synopticon_rtc.receiver.PeerConnection", fail_once)
    async with Broadcaster(server.url, TestPattern(SIZE)), Receiver(server.url, timeout=LONG) as receiver:
        await failed.wait()
        assert receiver.signaling.claimed == set()
        assert receiver._peers == {}
        await anext(receiver)  # it asked again


async def test_it_can_be_entered_only_once(server: SignalingServer) -> None:
    receiver = Receiver(server.url)
    async with receiver:
        with pytest.raises(RuntimeError, match="can be entered only once"):
            await receiver.__aenter__()
    with pytest.raises(RuntimeError, match="can be entered only once"):
        await receiver.__aenter__()
    with pytest.raises(RuntimeError, match="async with"):
        aiter(receiver)


async def test_who_forgets_to_enter_it_is_told(server: SignalingServer) -> None:
    receiver = Receiver(server.url)
    with pytest.raises(RuntimeError, match="async with"):
        async for _ in receiver:
            pass
    with pytest.raises(RuntimeError, match="async with"):
        await anext(receiver)


@pytest.mark.parametrize("after", range(6))
async def test_it_leaves_nothing_behind_when_it_is_cancelled_while_it_leaves(
    server: SignalingServer, after: int
) -> None:
    async with Broadcaster(server.url, TestPattern(SIZE, 30)) as broadcaster:
        receiver = Receiver(server.url)

        async def use() -> None:
            async with receiver:
                await asyncio.Event().wait()

        async def drain(iteration: Any) -> None:
            async for _ in iteration:
                pass

        using = asyncio.create_task(use())
        await until(lambda: receiver._entered)
        iterations = [asyncio.create_task(drain(receiver)), asyncio.create_task(drain(receiver.events))]
        await until(lambda: broadcaster.peers)
        using.cancel()
        await turns(after)
        using.cancel()
        await asyncio.wait([using])
        assert using.cancelled()
        async with asyncio.timeout(20):
            await asyncio.gather(*iterations)
        assert (receiver.signaling._task, receiver.signaling.claimed) == (None, set())
        assert (receiver._playing, receiver._negotiator._peers, receiver._negotiator._closing) == (set(), {}, set())
        await until(lambda: not broadcaster.peers)


async def test_it_does_not_start_if_it_is_closed_before_that_is_done(server: SignalingServer) -> None:
    entered, may_go_on = asyncio.Event(), asyncio.Event()

    class Slow:
        async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - it sees nothing
            return ()

        async def __aenter__(self) -> None:
            entered.set()
            await may_go_on.wait()

        async def __aexit__(self, *_: object) -> None:
            entered.clear()

    receiver = Receiver(server.url, detector=Slow())
    starting = asyncio.create_task(receiver.start())
    await entered.wait()
    await receiver.aclose()
    may_go_on.set()
    with pytest.raises(RuntimeError, match="this Receiver is not open"):
        await starting
    assert not entered.is_set()
    assert receiver.signaling._task is None


# The end of a connection


async def test_frames_that_wait_for_faces_are_given_out_when_their_broadcaster_leaves(server: SignalingServer) -> None:
    moments: list[Moment[EncodedVideoFrame]] = []

    async def take(receiver: Receiver[EncodedVideoFrame]) -> None:
        async for moment in receiver:
            moments.append(moment)  # noqa: PERF401 - they are looked at meanwhile

    async with Receiver(server.url, decode=False, faces_wait=LONG) as receiver:
        taking = asyncio.create_task(take(receiver))
        async with Broadcaster(server.url, TestPattern(SIZE, 30), faces=Stuck()):
            await until(lambda: receiver.stats.frames - len(moments) >= 5)
            first = len(moments)
            stream = next(iter(receiver._peers.values())).first
        await until(lambda: not receiver._peers)
        count = receiver.stats.frames
        await until(lambda: len(moments) == count)
        assert count - first >= 5
        assert moments[0].frame.keyframe
        stamps = [moment.frame.rtp_timestamp for moment in moments]
        assert all((later - earlier) % 2**32 < 2**31 for earlier, later in itertools.pairwise(stamps))
        # A connection may still give out what it has while it closes.
        stream.encoded(moments[-1].frame)
        stream.message('{"landmarks": []}')
        receiver._while_open(0, receiver._add_channel)(Channel.__new__(Channel))
        await turns(20)
        assert (len(moments), receiver.stats.frames, stream._timer is None or stream._timer.cancelled()) == (
            count,
            count,
            True,
        )
    await taking


async def test_what_is_held_back_for_its_rhythm_is_given_out_at_the_end(server: SignalingServer) -> None:
    async with Receiver(server.url, decode=False, jitter_ms=LONG * 1000) as receiver:
        async with Broadcaster(server.url, TestPattern(SIZE, 30)):
            await until(lambda: receiver.stats.frames >= 5)
        await until(lambda: not receiver._peers)
        async with asyncio.timeout(20):
            for _ in range(receiver.stats.frames):
                await anext(receiver)


# What else a broadcaster sends


async def test_a_channel_that_is_not_for_faces_delays_no_frame(server: SignalingServer) -> None:
    async with (
        Talkative(server.url, TestPattern(SIZE, 30)) as broadcaster,
        Receiver(server.url, faces_wait=LONG) as receiver,
        asyncio.timeout(20),
    ):
        for _ in range(5):
            await anext(receiver)
        await until(lambda: broadcaster.channels[0].send("hello"))
        await until(lambda: receiver.stats.invalid_faces == 1)
        for _ in range(5):
            await anext(receiver)


async def test_messages_that_are_no_faces_are_counted_and_disturb_nothing(server: SignalingServer) -> None:
    nonsense = [
        "",
        "[" * 50_000,
        '{"landmarks":' + "[" * 50_000,
        '{"landmarks": 7}',
        '{"landmarks": [[]]}',
        '{"landmarks": [[{"x": 1e999, "y": 0}]]}',
        '{"landmarks": [' + "[]," * 20_000 + "[]]}",
        b"",
        b"\xfa\x01\x00\x20" + b"\xff" * 50_000,
        b"\xff" * 1000,
    ]
    async with (
        Talkative(server.url, TestPattern(SIZE, 30)) as broadcaster,
        Receiver(server.url) as receiver,
        asyncio.timeout(20),
    ):
        await anext(receiver)
        for count, message in enumerate(nonsense, 1):
            await until(lambda message=message: broadcaster.channels[0].send(message))  # type: ignore[misc]
            await until(lambda count=count: receiver.stats.invalid_faces == count)  # type: ignore[misc]
        moment = await anext(receiver)
        assert (moment.faces, receiver.stats.faces_messages) == ((), 0)


async def test_only_one_control_channel_is_listened_to(server: SignalingServer) -> None:
    async with (
        TwiceControlled(server.url, TestPattern(SIZE, 30)),
        Receiver(server.url) as receiver,
        asyncio.timeout(20),
    ):
        async for moment in receiver:
            if receiver.age(moment) is not None:
                break
        ages = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                async for moment in receiver:
                    ages.append(receiver.age(moment))  # noqa: PERF401 - it is interrupted
    assert ages
    assert None not in ages
