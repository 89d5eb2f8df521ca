"""The client's session, which outlives its connections."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.server import ServerConnection, serve

from synopticon_rtc.errors import InvalidURL, SignalingError
from synopticon_rtc.signaling import client as client_module
from synopticon_rtc.signaling.client import SignalingClient
from synopticon_rtc.signaling.messages import AnyMessage, Ice, Offer, RequestOffer, SessionDescription
from synopticon_rtc.signaling.server import SignalingServer

DEEP = '{"type":"webrtc_ice","timestamp":' + "[" * 100_000


class Recorder:
    """A listener that keeps what it hears."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.sessions: list[str] = []
        self.messages: asyncio.Queue[AnyMessage] = asyncio.Queue()
        self.left: list[AnyMessage] = []
        self.failures: list[SignalingError] = []
        self.opening = asyncio.Event()

    def opened(self, session: str) -> None:
        self.sessions.append(session)
        self.opening.set()

    def received(self, message: AnyMessage) -> bool:
        self.messages.put_nowait(message)
        return self.takes

    def unclaimed(self, message: AnyMessage) -> bool:
        self.left.append(message)
        return False

    def failed(self, error: SignalingError) -> None:
        self.failures.append(error)


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


@contextlib.asynccontextmanager
async def joined(url: str, *, takes: bool = True) -> AsyncIterator[tuple[SignalingClient, Recorder]]:
    recorder = Recorder(takes=takes)
    async with SignalingClient(url) as client:
        client.listen(recorder)
        async with asyncio.timeout(5):
            await client.wait_open()
        yield client, recorder


async def within(recorder: Recorder, seconds: float = 5) -> AnyMessage:
    async with asyncio.timeout(seconds):
        return await recorder.messages.get()


@pytest.mark.parametrize("url", ["http://localhost/ws", "localhost:8081", "", "ws://", "wss:///ws"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidURL, match="ws://localhost:8081/ws"):
        SignalingClient(url)


async def test_messages_reach_the_other_client_in_order(server: SignalingServer) -> None:
    async with joined(server.url) as (one, _), joined(server.url) as (two, heard):
        for number in range(100):
            one.send(Ice(target_session=two.session, name=str(number)))
        names = [message.name for message in [await within(heard) for _ in range(100)] if isinstance(message, Ice)]
        assert names == [str(number) for number in range(100)]


async def test_a_message_goes_to_the_first_listener_that_takes_it(server: SignalingServer) -> None:
    async with joined(server.url) as (one, _), joined(server.url, takes=False) as (two, passing):
        taking, idle = Recorder(), Recorder()
        two.listen(taking)
        two.listen(idle)
        one.send(RequestOffer())
        await within(taking)
        await within(passing)
        assert idle.messages.empty()
        assert taking.left == idle.left == []
        assert idle.sessions == [two.session]


async def test_a_message_that_nobody_takes_is_told_to_all(server: SignalingServer) -> None:
    async with joined(server.url) as (one, _), joined(server.url, takes=False) as (two, passing):
        other = Recorder(takes=False)
        two.listen(other)
        one.send(RequestOffer())
        await within(other)
        assert len(passing.left) == len(other.left) == 1


async def test_its_own_echo_and_pongs_are_not_passed_on(server: SignalingServer) -> None:
    async with joined(server.url) as (one, heard), joined(server.url) as (two, _):
        one.send(Ice(target_session=one.session))
        await asyncio.sleep(0.1)
        two.send(Offer(target_session=one.session, sdp=SessionDescription("offer", "v=0")))
        assert isinstance(await within(heard), Offer)
        assert heard.messages.empty()


async def test_it_comes_back_with_a_new_session_when_the_server_does() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with SignalingServer(port=0) as server:
            client, recorder = await stack.enter_async_context(joined(server.url))
            first = client.session
        recorder.opening.clear()
        async with SignalingServer(port=server.port), asyncio.timeout(10):
            await recorder.opening.wait()
            assert client.session != first
            assert recorder.sessions == [first, client.session]


async def test_it_waits_for_a_server_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    async with SignalingServer(port=0) as server:
        port = server.port
    async with SignalingClient(f"ws://127.0.0.1:{port}/ws") as client:
        await asyncio.sleep(1)
        warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(warnings) == 1
        assert "is not there" in warnings[0].getMessage()
        async with SignalingServer(port=port), asyncio.timeout(10):
            assert await client.wait_open() == client.session


async def test_what_is_no_signaling_server_is_said_and_not_tried_for_ever(server: SignalingServer) -> None:
    recorder = Recorder()
    async with SignalingClient(server.url.replace("/ws", "/nothing")) as client, asyncio.timeout(5):
        client.listen(recorder)
        with pytest.raises(SignalingError, match="no signaling server"):
            await client.wait_open()
    assert len(recorder.failures) == 1


async def test_a_deaf_session_is_noticed_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "KEEPALIVE", 0.1)
    monkeypatch.setattr(client_module, "SILENCE", 0.4)
    sessions = 0

    async def deaf(connection: ServerConnection) -> None:
        nonlocal sessions
        sessions += 1
        await connection.send(f'{{"type":"connected","sessionId":"ws_{sessions}"}}')
        async for _ in connection:
            await connection.send('{"type":"pong"}')

    async with serve(deaf, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with joined(f"ws://127.0.0.1:{port}/ws") as (client, recorder):
            recorder.opening.clear()
            begun = time.monotonic()
            async with asyncio.timeout(5):
                await recorder.opening.wait()
            assert time.monotonic() - begun < 2
            assert client.session == "ws_2"


async def test_a_hostile_message_is_dropped_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def hostile(connection: ServerConnection) -> None:
        await connection.send('{"type":"connected","sessionId":"ws_1"}')
        for _ in range(3):
            for text in ("{", "[]", '{"type":"webrtc_offer","sdp":3}', '{"type":"news"}', DEEP):
                await connection.send(text)
        await connection.send('{"type":"request_offer","sourceSession":"ws_2"}')
        await connection.wait_closed()

    async with serve(hostile, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with joined(f"ws://127.0.0.1:{port}/ws") as (_, recorder):
            assert isinstance(await within(recorder), RequestOffer)
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 5


async def test_a_shared_client_closes_with_its_last_user(server: SignalingServer) -> None:
    client = SignalingClient(server.url)
    async with client:
        async with client:
            await client.wait_open()
        assert client.session is not None
        client.send(RequestOffer())
        await client.flush()
