"""A real broadcaster and real receivers over a real server, in one process."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Collection

import av
import numpy as np
import pytest
from number_face import NumberFace, number_of
from waiting import until

from synopticon_rtc import (
    Broadcaster,
    Moment,
    Receiver,
    SignalingClient,
    SignalingServer,
    TestPattern,
)
from synopticon_rtc.errors import ConnectionLost, NobodyAnswered, SourceError
from synopticon_rtc.rtc import PeerConnection

SIZE = (320, 180)
FPS = 30


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


@contextlib.asynccontextmanager
async def broadcasting(
    signaling: str | SignalingClient,
    *,
    name: str = "",
    seconds: float = 0.0,
    faces: bool = True,
    size: tuple[int, int] = SIZE,
) -> AsyncIterator[Broadcaster]:
    source = TestPattern(size, FPS)
    detector = NumberFace(seconds) if faces else None
    async with Broadcaster(signaling, source, faces=detector, name=name) as broadcaster:
        yield broadcaster


async def take(receiver: Receiver, count: int, seconds: float = 20) -> list[Moment]:
    moments: list[Moment] = []
    async with asyncio.timeout(seconds):
        async for moment in receiver:
            moments.append(moment)
            if len(moments) == count:
                break
    return moments


async def until_closed(broadcaster: Broadcaster) -> None:
    async for event in broadcaster.events:
        if event.state == "closed":
            break


async def test_frames_come_with_the_faces_that_were_found_in_them(server: SignalingServer) -> None:
    async with broadcasting(server.url, name="card"), Receiver(server.url) as receiver:
        moments = await take(receiver, 90)
    assert {(moment.frame.width, moment.frame.height) for moment in moments} == {SIZE}
    paired = [moment for moment in moments[FPS:] if moment.faces]
    assert len(paired) >= 0.9 * len(moments[FPS:])
    for moment in paired:
        assert moment.detected
        assert number_of(moment.faces[0]) == TestPattern.read_number(moment.frame.to_ndarray(format="gray"))
    assert receiver.stats.first_frame is not None
    assert receiver.stats.first_frame < 5


async def test_events_tell_both_sides_what_happens(server: SignalingServer) -> None:
    async with broadcasting(server.url, name="card") as broadcaster, asyncio.timeout(10):
        closed = asyncio.create_task(until_closed(broadcaster))
        peers: list[tuple[str, str]] = []
        broadcaster.events.subscribe(lambda event: peers.append((event.session, event.state)))
        receiver = Receiver(server.url)
        states: list[str] = []
        receiver.events.subscribe(lambda event: states.append(event.state))
        async with receiver:
            await take(receiver, 5)
            session = receiver.signaling.session
            assert broadcaster.peers == (session,)
        await closed
    assert states == ["seeking", "connecting", "connected", "closed"]
    assert peers == [(session, "connecting"), (session, "connected"), (session, "closed")]


async def test_a_detector_slower_than_the_video_does_not_hold_it_up(server: SignalingServer) -> None:
    async with broadcasting(server.url, seconds=0.2) as broadcaster, Receiver(server.url, faces_wait=0.3) as receiver:
        moments = await take(receiver, 20)
        assert broadcaster.stats.detected < broadcaster.stats.frames / 3
    paired = [moment for moment in moments if moment.detected]
    assert 1 <= len(paired) < 20
    for moment in paired:
        assert number_of(moment.faces[0]) == TestPattern.read_number(moment.frame.to_ndarray(format="gray"))


async def test_latest_gives_the_newest_faces_without_waiting(server: SignalingServer) -> None:
    async with broadcasting(server.url, seconds=0.2), Receiver(server.url, sync="latest") as receiver:
        moments = (await take(receiver, 60))[30:]
    assert all(moment.faces for moment in moments)
    ages = [
        (TestPattern.read_number(moment.frame.to_ndarray(format="gray")) or 0) - number_of(moment.faces[0])
        for moment in moments
    ]
    assert 3 <= max(ages) <= 30


async def test_video_alone_waits_for_no_faces(server: SignalingServer) -> None:
    async with broadcasting(server.url, faces=False) as broadcaster, Receiver(server.url) as receiver:
        moments = await take(receiver, 10)
        assert broadcaster.stats.faces_messages == 0
    assert not any(moment.faces or moment.detected for moment in moments)


async def test_a_broadcaster_nobody_watches_neither_encodes_nor_detects(server: SignalingServer) -> None:
    detector = NumberFace()
    async with Broadcaster(server.url, TestPattern(SIZE, FPS), faces=detector) as broadcaster:
        await until(lambda: broadcaster.stats.frames > 5)
        assert (broadcaster.stats.encoded, detector.calls) == (0, 0)


async def test_many_receivers_are_served_and_one_that_leaves_disturbs_nobody(server: SignalingServer) -> None:
    async with broadcasting(server.url) as broadcaster, contextlib.AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(Receiver(server.url)) for _ in range(3)]
        await asyncio.gather(*(take(receiver, 10) for receiver in receivers))
        async with Receiver(server.url) as leaving:
            await take(leaving, 10)
            assert len(broadcaster.peers) == 4
        numbers = [
            TestPattern.read_number(moment.frame.to_ndarray(format="gray")) or 0
            for moment in (await asyncio.gather(*(take(receiver, 30) for receiver in receivers)))[0]
        ]
        assert 0 < min(np.diff(numbers)) <= max(np.diff(numbers)) < FPS


async def test_statistics_tell_what_each_receiver_is_sent(server: SignalingServer) -> None:
    async with broadcasting(server.url) as broadcaster, Receiver(server.url) as one, Receiver(server.url) as two:
        assert broadcaster.peer_stats() == {}
        await asyncio.gather(take(one, 20), take(two, 20))
        stats = broadcaster.peer_stats()
        assert set(stats) == set(broadcaster.peers)
        assert len(stats) == 2
        for peer in stats.values():
            assert (peer.codec, peer.scale) == ("vp8", 1)
            assert peer.frames_sent >= 20
            assert peer.packets_sent >= peer.frames_sent
            assert 5 < peer.fps < 60  # a joiner is sent the frames since the last keyframe at once
            assert peer.bitrate > 10_000
            assert peer.encode_ms > 0
            assert peer.bearable > 1e9


async def test_faces_stay_with_their_frames_in_a_smaller_layer(server: SignalingServer) -> None:
    width, height = 640, 360  # large enough for two layers
    async with (
        broadcasting(server.url, size=(width, height)) as broadcaster,
        Receiver(server.url) as slow,
        Receiver(server.url) as fast,
    ):
        await asyncio.gather(take(slow, 10), take(fast, 10))
        peer = next(iter(broadcaster._peers.values()))
        peer.connection.senders[0].rate.estimate = 200_000
        seen = {slow: set[int](), fast: set[int]()}
        async with asyncio.timeout(20):
            while seen[slow] | seen[fast] != {width, width // 2}:
                for receiver in slow, fast:
                    for moment in await take(receiver, 10):
                        seen[receiver].add(moment.frame.width)
                        number = TestPattern.read_number(moment.frame.to_ndarray(format="gray"))
                        assert not moment.faces or number_of(moment.faces[0]) == number
        assert sorted(map(len, seen.values())) == [1, 2]  # the other sees nothing of it
        assert sorted(peer.scale or 0 for peer in broadcaster.peer_stats().values()) == [1, 2]


@pytest.mark.parametrize("by", ["name", "session"])
async def test_the_wanted_broadcaster_is_taken(server: SignalingServer, by: str) -> None:
    async with broadcasting(server.url, name="one"), broadcasting(server.url, name="two", faces=False) as two:
        wanted = "two" if by == "name" else await two.signaling.wait_open()
        async with Receiver(server.url, broadcaster=wanted) as receiver:
            await take(receiver, 5)
            assert len(two.peers) == 1


async def test_an_unknown_broadcaster_is_named_in_the_error(server: SignalingServer) -> None:
    async with Receiver(server.url, broadcaster="nobody", timeout=1) as receiver:
        with pytest.raises(NobodyAnswered, match="'nobody'"):
            await take(receiver, 1)


async def test_a_missing_server_is_named_in_the_error() -> None:
    async with SignalingServer(port=0) as server:
        url = server.url
    async with Receiver(url, timeout=0.5) as receiver:
        with pytest.raises(NobodyAnswered, match=r"signaling server .* was not there"):
            await take(receiver, 1)


async def test_a_receiver_finds_a_broadcaster_that_comes_later_and_one_that_comes_back(server: SignalingServer) -> None:
    async with Receiver(server.url) as receiver:
        events = receiver.events
        states: list[str] = []
        events.subscribe(lambda event: states.append(event.state))
        await until(lambda: server.relayed)  # it has looked for one
        async with broadcasting(server.url):
            await take(receiver, 10)
        async with broadcasting(server.url):
            await take(receiver, 10)
    turns = [state for state in states if state in ("connected", "interrupted")]
    assert turns[:3] == ["connected", "interrupted", "connected"]


async def test_why_a_dtls_handshake_failed_is_told(server: SignalingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = PeerConnection.answer

    async def answer_another(
        self: PeerConnection, offer: str, taken: Collection[str] | None = None, *, whole: bool = False
    ) -> str:
        return await answer(self, re.sub(r"(a=fingerprint:\S+ )..", r"\g<1>00", offer), taken, whole=whole)

    monkeypatch.setattr(PeerConnection, "answer", answer_another)
    reason = ""
    async with broadcasting(server.url), Receiver(server.url) as receiver:
        async with asyncio.timeout(20):
            async for event in receiver.events:
                if "certificate" in (reason := event.reason):
                    break
    assert reason == "the peer's certificate is not the one that its session description names"


async def test_a_connection_lost_for_good_ends_the_iteration(server: SignalingServer) -> None:
    async with Receiver(server.url, timeout=3) as receiver:
        async with broadcasting(server.url):
            await take(receiver, 3)
        with pytest.raises(ConnectionLost, match="gone"):
            await take(receiver, 1000)


async def test_media_play_on_while_signaling_is_gone() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with SignalingServer(port=0) as server:
            broadcaster = await stack.enter_async_context(broadcasting(server.url))
            receiver = await stack.enter_async_context(Receiver(server.url))
            await take(receiver, 5)
        await take(receiver, 25)
        async with SignalingServer(port=server.port), Receiver(server.url) as another:
            await take(another, 5)
            await take(receiver, 15)
            assert len(broadcaster.peers) == 2


async def test_one_process_can_broadcast_and_receive_over_one_signaling_connection(server: SignalingServer) -> None:
    async with (
        SignalingClient(server.url) as client,
        broadcasting(server.url, name="other"),
        broadcasting(client, name="own"),
        Receiver(client) as receiver,
        Receiver(server.url, broadcaster="own") as outside,
    ):
        await take(receiver, 5)
        await take(outside, 5)


async def test_receivers_that_share_a_signaling_connection_take_a_broadcaster_each(server: SignalingServer) -> None:
    async with (
        broadcasting(server.url, name="one") as one,
        broadcasting(server.url, name="two") as two,
        SignalingClient(server.url) as client,
        Receiver(client) as first,
        Receiver(client) as second,
    ):
        await asyncio.gather(take(first, 5), take(second, 5))
        assert (len(one.peers), len(two.peers)) == (1, 1)
        await asyncio.gather(take(first, 30), take(second, 30))


async def test_a_receiver_that_is_left_ends_its_iteration(server: SignalingServer) -> None:
    receiver = Receiver(server.url)
    async with broadcasting(server.url):
        async with receiver:
            await take(receiver, 3)
        async with asyncio.timeout(20):
            while await anext(receiver, None) is not None:
                pass  # it came just before the receiver was left


class Failing:
    """A source that breaks."""

    def __init__(self, frames: int) -> None:
        self._frames = frames

    async def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        for _ in range(self._frames):
            yield av.VideoFrame(64, 64, "yuv420p")
        raise SourceError("the lens fell off")


async def test_a_source_that_gives_no_frame_is_an_error_at_once(server: SignalingServer) -> None:
    with pytest.raises(SourceError, match="lens"):
        async with Broadcaster(server.url, Failing(0)):
            pass


async def test_a_source_that_breaks_closes_the_broadcaster(server: SignalingServer) -> None:
    async with Broadcaster(server.url, Failing(3)) as broadcaster:
        with pytest.raises(SourceError, match="lens"):
            await broadcaster.wait_closed()


async def test_a_source_that_ends_closes_the_broadcaster(server: SignalingServer) -> None:
    async def three() -> AsyncIterator[av.VideoFrame]:
        for _ in range(3):
            yield av.VideoFrame(64, 64, "yuv420p")

    async with Broadcaster(server.url, three()) as broadcaster, asyncio.timeout(20):
        await broadcaster.wait_closed()


async def test_the_servers_that_signaling_names_are_asked_and_nonsense_is_not() -> None:
    negotiator = Broadcaster("ws://127.0.0.1:1/ws", TestPattern(SIZE, FPS))._negotiator
    client = negotiator._client
    assert negotiator.ice_servers() == ()
    client.ice_servers = [
        {"urls": ["stun:127.0.0.1:1", "stuns:h"]},  # browsers know more kinds
        {"urls": "turn:h", "username": "u", "credential": "c"},
    ]
    assert [server.url for server in negotiator.ice_servers()] == ["stun:127.0.0.1:1", "turn:h"]
    for nonsense in (3, "stun:h", [{"urls": 3}], [{"urls": "http://h"}], [{"urls": "turn:h"}]):
        client.ice_servers = nonsense
        assert negotiator.ice_servers() == ()


async def test_a_relay_only_broadcaster_without_a_relay_tells_nobody_its_address(server: SignalingServer) -> None:
    reasons: list[str] = []
    async with (
        Broadcaster(server.url, TestPattern(SIZE, FPS), relay_only=True) as broadcaster,
        Receiver(server.url, timeout=1) as receiver,
    ):
        broadcaster.events.subscribe(lambda event: reasons.append(event.reason))
        with pytest.raises(NobodyAnswered):
            await take(receiver, 1)
    assert any("TURN" in reason for reason in reasons)
