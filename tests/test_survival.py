"""What is passed in fails, everywhere that it can: that is counted, and nothing else is disturbed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import av
import pytest
from bare_client import fetch, joined
from waiting import until

from synopticon_rtc import Broadcaster, Face, Receiver, SignalingClient, SignalingServer, TestPattern
from synopticon_rtc.rtc import FanoutSender, PeerConnection
from synopticon_rtc.rtc.receiver import VideoReceiver
from synopticon_rtc.signaling.messages import Requirements
from synopticon_rtc.signaling.server.backplane import Backplane
from synopticon_rtc.signaling.server.desk import Desk

PATTERN = TestPattern((320, 240), 30)


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


def fail(*_: object, **__: object) -> bool:
    raise LookupError("a bug")


class Failing:
    """A detector that fails at every second frame."""

    def __init__(self) -> None:
        self.failures = 0
        self._calls = 0

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - it sees nothing
        self._calls += 1
        if self._calls % 2:
            self.failures += 1
            fail()
        return ()


async def counted(server: SignalingServer) -> int:
    _, body = await fetch(server, "/metrics")
    (line,) = [line for line in body.decode().splitlines() if line.startswith("synopticon_signaling_faults_total")]
    return int(float(line.split()[1]))


# At the two ends


async def test_a_subscriber_of_a_broadcaster_that_fails_disturbs_nobody(server: SignalingServer) -> None:
    heard: list[str] = []
    async with Broadcaster(server.url, PATTERN) as broadcaster, asyncio.timeout(20):
        broadcaster.events.subscribe(fail)
        broadcaster.events.subscribe(lambda event: heard.append(event.state))
        async with Receiver(server.url) as receiver:
            await anext(aiter(receiver))
            await until(lambda: "connected" in heard)
            assert broadcaster.stats.faults == len(heard)
            assert receiver.stats.faults == 0


async def test_a_subscriber_of_a_receiver_that_fails_disturbs_nobody(server: SignalingServer) -> None:
    heard: list[str] = []
    async with Broadcaster(server.url, PATTERN) as broadcaster, Receiver(server.url) as receiver, asyncio.timeout(20):
        receiver.events.subscribe(fail)
        receiver.events.subscribe(lambda event: heard.append(event.state))
        await anext(aiter(receiver))
        assert receiver.stats.faults == len(heard) > 0
        assert broadcaster.stats.faults == 0


async def test_a_detector_that_fails_costs_the_faces_of_those_frames(server: SignalingServer) -> None:
    detector = Failing()
    async with (
        Broadcaster(server.url, PATTERN, faces=detector) as broadcaster,
        Receiver(server.url) as receiver,
        asyncio.timeout(20),
    ):
        async for moment in receiver:
            if moment.detected and detector.failures > 1:
                break
        assert broadcaster.stats.faults == detector.failures
        assert next(iter(broadcaster.peer_stats().values())).faults == 0


async def test_a_source_that_fails_ends_its_broadcaster_and_says_why(server: SignalingServer) -> None:
    async def source() -> AsyncIterator[av.VideoFrame]:
        for _ in range(3):
            yield av.VideoFrame(320, 240, "yuv420p")
        fail()

    async with Broadcaster(server.url, source()) as broadcaster, asyncio.timeout(20):
        with pytest.raises(LookupError, match="a bug"):
            await broadcaster.wait_closed()


async def test_a_bug_at_one_peer_is_told_by_an_event_and_ends_no_other(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons: list[str] = []
    async with Broadcaster(server.url, PATTERN) as broadcaster, Receiver(server.url) as first, asyncio.timeout(20):
        moments = aiter(first)
        await anext(moments)
        broadcaster.events.subscribe(lambda event: reasons.append(event.reason))
        with monkeypatch.context() as patch:
            patch.setattr(PeerConnection, "offer", fail)
            async with Receiver(server.url):
                await until(lambda: "an error of ours, see the log" in reasons)
        assert broadcaster.stats.faults > 0
        await anext(moments)


@pytest.mark.parametrize(
    ("kind", "method"), [(VideoReceiver, "_handle_rtp_packet"), (FanoutSender, "_handle_rtcp_packet")]
)
async def test_a_packet_that_an_end_fails_at_is_counted_and_costs_that_packet(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch, kind: type, method: str
) -> None:
    async with Broadcaster(server.url, PATTERN) as broadcaster, Receiver(server.url) as receiver, asyncio.timeout(20):
        moments = aiter(receiver)
        await anext(moments)
        with monkeypatch.context() as patch:
            patch.setattr(kind, method, fail)
            await until(lambda: (receiver if kind is VideoReceiver else broadcaster).stats.faults)
        for _ in range(30):
            await anext(moments)


async def test_a_message_that_a_peer_fails_at_is_counted_for_that_peer_and_the_next_comes() -> None:
    opened, came = asyncio.Event(), list[bytes | str]()

    def take(message: bytes | str) -> None:
        came.append(message)
        if message == "one":
            fail()

    def arrive(channel: Any) -> None:
        channel.on_message = take

    one, two = PeerConnection(), PeerConnection(on_channel=arrive)
    sent = one.add_channel("any")
    sent.on_open = opened.set
    async with asyncio.timeout(20):
        await one.set_answer(await two.answer(await one.offer()))
        await opened.wait()
        sent.send("one")
        sent.send("two")
        await until(lambda: len(came) == 2)
        assert (one.stats().faults, two.stats().faults) == (0, 1)
        await one.close()
        await two.close()


async def test_a_listener_of_signaling_that_fails_is_counted_by_its_client(server: SignalingServer) -> None:
    class Listener:
        requirements = Requirements(role=(), tell=(), name="")
        received = unclaimed = opened = failed = staticmethod(fail)

    async with SignalingClient(server.url) as client, asyncio.timeout(20):
        client.listen(cast("Any", Listener()))
        await client.wait_open()
        await until(lambda: client.faults)
        async with Broadcaster(client, PATTERN) as broadcaster, Receiver(server.url) as receiver:
            await anext(aiter(receiver))
            assert broadcaster.stats.faults == client.faults > 0


# At the server


async def test_a_server_counts_what_its_hooks_fail_at() -> None:
    async with SignalingServer(port=0, on_session=fail, can_connect=fail) as server:
        assert await counted(server) == 0
        async with joined(server, 2) as [one, other]:
            assert await counted(server) == 2
            await one.send({"type": "webrtc_offer", "targetSession": other.session})
            assert await one.next_is_pong()
            assert await other.next_is_pong()
            assert await counted(server) == 3


async def test_a_bug_at_one_session_ends_no_other_and_is_counted(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(server, 2) as [one, other]:
        with monkeypatch.context() as patch:
            patch.setattr(Desk, "answer", fail)
            await one.send({"type": "status"})
            await one.websocket.wait_closed()
        assert one.websocket.close_code == 1011
        assert await other.next_is_pong()
        assert await counted(server) == 1


async def test_a_request_that_the_server_fails_at_is_answered_and_counted(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(server._site, "respond", fail)
        response, _ = await fetch(server, "/")
    assert response.status == 500
    assert await counted(server) == 1


class Foreign:
    """A backplane of an application's own."""

    connected = True

    def publish(self, *_: object) -> None:
        fail()

    async def open(self, *_: object) -> None:
        pass

    async def close(self) -> None:
        pass


async def test_a_backplane_that_fails_costs_no_session() -> None:
    async with SignalingServer(port=0, backplane=cast("Backplane", Foreign())) as server, joined(server) as [client]:
        assert await client.next_is_pong()
