"""The client's session, which outlives its connections."""

import asyncio
import contextlib
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any

import jwt
import pytest
from waiting import PATIENCE, turns, until
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from synopticon_rtc.errors import InvalidURL, SignalingError
from synopticon_rtc.signaling import client as client_module
from synopticon_rtc.signaling import entry
from synopticon_rtc.signaling.client import COMPLAINTS, SignalingClient
from synopticon_rtc.signaling.messages import (
    AnyMessage,
    Error,
    Ice,
    Offer,
    PeerLeft,
    RequestOffer,
    Requirements,
    SessionDescription,
    Status,
)
from synopticon_rtc.signaling.server.server import SignalingServer
from synopticon_rtc.signaling.server.tokens import TokenKeys

DEEP = '{"type":"webrtc_ice","timestamp":' + "[" * 100_000


class Recorder:
    """A listener that keeps what it hears."""

    def __init__(
        self, *, takes: bool = True, role: str = "receive", name: str = "", tell: tuple[str, ...] = ()
    ) -> None:
        self.takes = takes
        self.requirements = Requirements(role=(role,), tell=tell, name=name)
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
async def joined(url: str, **options: Any) -> AsyncIterator[tuple[SignalingClient, Recorder]]:
    recorder = Recorder(**options)
    async with SignalingClient(url) as client:
        client.listen(recorder)
        async with asyncio.timeout(PATIENCE):
            await client.wait_open()
        yield client, recorder


async def within(recorder: Recorder, seconds: float = PATIENCE) -> AnyMessage:
    async with asyncio.timeout(seconds):
        return await recorder.messages.get()


@pytest.mark.parametrize(
    "url", ["http://localhost/ws", "localhost:8081", "", "ws://", "wss:///ws", "ws://[/ws", "ws://host:x/ws"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidURL, match="ws://localhost:8081/ws"):
        SignalingClient(url)


async def test_messages_reach_the_other_client_in_order(server: SignalingServer) -> None:
    async with joined(server.url) as (one, _), joined(server.url, role="broadcast") as (two, heard):
        for number in range(100):
            one.send(Ice(target_session=two.session, name=str(number)))
        names = [message.name for message in [await within(heard) for _ in range(100)] if isinstance(message, Ice)]
        assert names == [str(number) for number in range(100)]


async def test_a_message_goes_to_the_first_listener_that_takes_it(server: SignalingServer) -> None:
    async with joined(server.url) as (one, _), joined(server.url, takes=False, role="broadcast") as (two, passing):
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
    async with joined(server.url) as (one, _), joined(server.url, takes=False, role="broadcast") as (two, passing):
        other = Recorder(takes=False)
        two.listen(other)
        one.send(RequestOffer())
        await within(other)
        assert len(passing.left) == len(other.left) == 1


async def test_its_own_echo_and_pongs_are_not_passed_on(server: SignalingServer) -> None:
    async with joined(server.url) as (one, heard), joined(server.url, role="broadcast") as (two, asked):
        one.send(Ice(target_session=one.session))
        one.send(RequestOffer())
        await within(asked)  # by now its echo is on its way
        two.send(Offer(target_session=one.session, sdp=SessionDescription("offer", "v=0")))
        assert isinstance(await within(heard), Offer)
        assert heard.messages.empty()


async def test_it_comes_back_with_a_new_session_when_the_server_does() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with SignalingServer(port=0) as server:
            client, recorder = await stack.enter_async_context(joined(server.url))
            first = client.session
        recorder.opening.clear()
        async with SignalingServer(port=server.port), asyncio.timeout(PATIENCE):
            await recorder.opening.wait()
            assert client.session != first
            assert recorder.sessions == [first, client.session]


async def test_it_waits_for_a_server_and_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[str] = []

    def counted(url: str, **options: Any) -> connect:
        attempts.append(url)
        return connect(url, **options)

    monkeypatch.setattr(client_module, "connect", counted)
    async with SignalingServer(port=0) as server:
        port = server.port
    async with SignalingClient(f"ws://127.0.0.1:{port}/ws") as client:
        await until(lambda: len(attempts) > 2)
        warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(warnings) == 1
        assert "is not there" in warnings[0].getMessage()
        async with SignalingServer(port=port), asyncio.timeout(PATIENCE):
            assert await client.wait_open() == client.session


async def test_what_is_no_signaling_server_is_said_and_not_tried_for_ever(server: SignalingServer) -> None:
    recorder = Recorder()
    async with SignalingClient(server.url.replace("/ws", "/nothing")) as client, asyncio.timeout(PATIENCE):
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
            async with asyncio.timeout(PATIENCE):
                await recorder.opening.wait()
            assert time.monotonic() - begun < 10
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


async def test_what_a_server_says_writes_so_many_lines_and_each_is_one(caplog: pytest.LogCaptureFixture) -> None:
    async def hostile(connection: ServerConnection) -> None:
        await connection.send('{"type":"connected","sessionId":"ws_1"}')
        for number in range(3 * COMPLAINTS):
            await connection.send(json.dumps({"type": f"news {number}"}))
        await connection.close(1008, "go\nERROR \x1b[31m away")

    async with serve(hostile, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with SignalingClient(f"ws://127.0.0.1:{port}/ws") as client, asyncio.timeout(PATIENCE):
            await until(lambda: "away" in client.reason)
            assert client.reason.isprintable()
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert COMPLAINTS < len(lines) < COMPLAINTS + 10
    assert all(line.isprintable() for line in lines)


async def test_a_shared_client_closes_with_its_last_user(server: SignalingServer) -> None:
    client = SignalingClient(server.url)
    async with client:
        async with client:
            await client.wait_open()
        assert client.session is not None
        client.send(RequestOffer())
        await client.flush()


async def test_a_client_that_is_entered_again_is_as_good_as_new() -> None:
    async with SignalingServer(port=0) as server:
        client = SignalingClient(server.url)
        async with client:
            first = await client.wait_open()
        assert client.session is None
        async with client, asyncio.timeout(PATIENCE):
            second = await client.wait_open()
            assert second != first
            assert second in server.sessions
    async with client:
        client.send(RequestOffer())  # dropped: nobody is there
        assert client.session is None
        assert client._outgoing.empty()


async def test_a_client_that_was_refused_may_be_entered_again() -> None:
    server = Scripted()
    async with server.running():
        server.refusals = [(403, '{"error": "wrong_room", "message": "no"}')]
        client = SignalingClient(server.url)
        recorder = Recorder()
        async with client, asyncio.timeout(PATIENCE):
            with pytest.raises(SignalingError, match="wrong_room"):
                await client.wait_open()
        async with client, asyncio.timeout(PATIENCE):
            client.listen(recorder)
            await client.wait_open()
        assert recorder.failures == []


async def test_who_waits_for_a_session_is_told_when_the_client_is_left() -> None:
    async with SignalingServer(port=0) as server:
        port = server.port
    client = SignalingClient(f"ws://127.0.0.1:{port}/ws")
    async with client:
        waiting = asyncio.create_task(client.wait_open())
        await turns()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(SignalingError, match="left"):
            await waiting


async def test_a_listener_that_fails_ends_signaling_for_nobody(
    server: SignalingServer, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Recorder):
        def opened(self, session: str) -> None:
            raise KeyError(session)

        def received(self, message: AnyMessage) -> bool:
            raise KeyError(message)

    async with SignalingClient(server.url) as client, asyncio.timeout(PATIENCE):
        client.listen(Failing())
        recorder = Recorder(tell=("broadcasters",))
        client.listen(recorder)
        await recorder.opening.wait()
        assert await recorder.messages.get()  # the list of broadcasters
    assert sum("could not be handled" in record.getMessage() for record in caplog.records) >= 2


class Scripted:
    """A server that does what a test tells it to, at :attr:`url`.

    Attributes:
        tokens: What each request had for ``Authorization``.
        heard: The messages of all sessions, but for what keeps them alive.
    """

    def __init__(self, welcome: dict[str, Any] | None = None) -> None:
        self.welcome = {"type": "connected", "sessionId": "ws_1"} | (welcome or {})
        self.refusals: list[tuple[int, str]] = []
        self.tokens: list[str | None] = []
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.session: ServerConnection | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with serve(self._converse, "127.0.0.1", 0, process_request=self._admit) as server:
            self.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws"
            yield

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.tokens.append(request.headers.get("Authorization"))
        if not self.refusals:
            return None
        status, body = self.refusals.pop(0)
        return connection.respond(HTTPStatus(status), body)

    async def _converse(self, connection: ServerConnection) -> None:
        self.session = connection
        await connection.send(json.dumps(self.welcome))
        async for text in connection:
            message = json.loads(text)
            if message.get("targetSession") == self.welcome["sessionId"]:
                await connection.send(json.dumps(message | {"sourceSession": self.welcome["sessionId"]}))
            elif message["type"] != "ping":
                self.heard.put_nowait(message)

    async def say(self, **message: Any) -> None:
        assert self.session is not None
        await self.session.send(json.dumps(message))

    async def next(self, kind: str, seconds: float = 5) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while True:
                message = await self.heard.get()
                if message["type"] == kind:
                    return message


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    server = Scripted()
    async with server.running():
        yield server


# What it says and is told


async def test_it_says_first_of_all_who_listens_and_what_they_want(scripted: Scripted) -> None:
    client = SignalingClient(scripted.url)
    sends = Recorder(role="broadcast", name="lab-1", tell=("peers", "ice"))
    receives = Recorder(role="receive", name="", tell=("peers", "broadcasters"))
    client.listen(receives)
    async with client:
        await client.wait_open()
        client.send(RequestOffer())
        async with asyncio.timeout(PATIENCE):
            assert await scripted.heard.get() == {
                "type": "configure",
                "requirements": {"role": ["receive"], "tell": ["peers", "broadcasters"]},
            }
        client.listen(sends)
        assert (await scripted.next("configure"))["requirements"] == {
            "role": ["receive", "broadcast"],
            "tell": ["peers", "broadcasters", "ice"],
            "name": "lab-1",
        }
        client.leave(receives)
        assert (await scripted.next("configure"))["requirements"]["role"] == ["broadcast"]
        client.leave(sends)
        assert (await scripted.next("configure"))["requirements"] == {"role": [], "tell": []}


async def test_news_of_the_server_reach_every_listener(scripted: Scripted) -> None:
    async with joined(scripted.url) as (client, first):
        second = Recorder()
        client.listen(second)
        await scripted.say(type="peer_left", session="ws_2", reason="closed")
        for recorder in (first, second):
            assert await within(recorder) == PeerLeft(session="ws_2", reason="closed")


async def test_credentials_of_ice_servers_are_renewed_before_they_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "KEEPALIVE", 0.05)
    old, new = [{"urls": "turn:h", "username": name, "credential": "c"} for name in ("old", "new")]
    scripted = Scripted({"iceServers": [old], "iceServersTtl": 0.4})
    async with scripted.running(), joined(scripted.url) as (client, recorder):
        await scripted.next("configure")
        await scripted.say(type="configured", sessionId="ws_1", tells=[])  # says nothing of them, changes nothing
        assert client.ice_servers == [old]
        begun = time.monotonic()
        await scripted.next("configure")
        assert time.monotonic() - begun > 0.2
        await scripted.say(type="configured", sessionId="ws_1", tells=["ice"], iceServers=[new], iceServersTtl=3600)
        await scripted.say(type="peer_left", session="ws_2", reason="")
        await within(recorder)
        assert client.ice_servers == [new]
        assert scripted.heard.empty()


async def test_it_falls_silent_for_a_while_when_it_is_too_fast(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "FIRST_PAUSE", 0.3)
    async with joined(scripted.url) as (client, recorder):
        for _ in range(3):  # of one burst: it waits once
            await scripted.say(type="error", error="slow down", errorCode="rate_limited")
            assert isinstance(await within(recorder), Error)
        begun = time.monotonic()
        client.send(RequestOffer())
        await scripted.next("request_offer")
        assert time.monotonic() - begun > 0.25
        await scripted.say(type="error", error="slow down", errorCode="rate_limited")
        await within(recorder)
        begun = time.monotonic()
        client.send(RequestOffer())
        await scripted.next("request_offer")
        assert time.monotonic() - begun > 0.55  # told again so soon, twice as long


# Getting in


@pytest.mark.parametrize("given", ["argument", "address", "function", "coroutine function"])
async def test_a_token_goes_into_the_header_and_into_no_log(
    scripted: Scripted, given: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def later() -> str:
        await turns()
        return "to.ke-n"

    client = {
        "argument": SignalingClient(f"{scripted.url}?room=lab", token="to.ke-n"),  # noqa: S106 - a token for this test
        "address": SignalingClient(f"{scripted.url}?room=lab&token=to.ke-n"),
        "function": SignalingClient(f"{scripted.url}?room=lab", token=lambda: "to.ke-n"),
        "coroutine function": SignalingClient(f"{scripted.url}?room=lab", token=later),
    }[given]
    assert client.url == f"{scripted.url}?room=lab"
    async with client, asyncio.timeout(PATIENCE):
        await client.wait_open()
    assert scripted.tokens == ["Bearer to.ke-n"]
    ours = [record for record in caplog.records if not record.name.startswith("websockets.server")]
    assert ours
    assert not any("to.ke-n" in record.getMessage() for record in ours)


@pytest.mark.parametrize(
    ("url", "room", "expected"),
    [
        ("ws://host/ws", "", "ws://host/ws"),
        ("ws://host:1/ws?a=b", "", "ws://host:1/ws?a=b"),
        ("wss://host/ws", "a room", "wss://host/ws?room=a+room"),
        ("wss://host/ws?room=one&token=x", "two", "wss://host/ws?room=two"),
    ],
)
def test_a_room_goes_into_the_address(url: str, room: str, expected: str) -> None:
    assert SignalingClient(url, room=room).url == expected


@pytest.mark.parametrize("url", ["http://host/ws?token=to.ke-n", "host?token=to.ke-n"])
def test_a_token_is_not_shown_in_an_address_that_is_none(url: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        SignalingClient(url)
    assert "to.ke-n" not in str(caught.value)


def refusal(code: str, message: str = "so it is") -> str:
    return json.dumps({"error": code, "message": message})


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, refusal("token_expired", "The token has expired"), ["The token has expired (token_expired)"]),
        (401, refusal("token_missing"), ["token_missing", "SYNOPTICON_TOKEN"]),
        (401, refusal("token_immature"), ["token_immature", "the clock of whoever made it"]),
        (400, refusal("some_other"), ["so it is (some_other)"]),
        (401, "no", ["401"]),
        (404, '{"error": "Not found"}', ["404", "no signaling server"]),
    ],
)
async def test_a_server_that_does_not_let_it_in_is_not_tried_again(
    scripted: Scripted, status: int, body: str, words: list[str]
) -> None:
    scripted.refusals = [(status, body)]
    recorder = Recorder()
    async with SignalingClient(scripted.url, token="old") as client, asyncio.timeout(PATIENCE):  # noqa: S106 - of this test
        client.listen(recorder)
        with pytest.raises(SignalingError) as caught:
            await client.wait_open()
    assert [str(error) for error in recorder.failures] == [str(caught.value)]
    for word in (scripted.url, *words):
        assert word in str(caught.value)
    assert len(scripted.tokens) == 1


async def test_a_token_that_is_none_is_not_sent(scripted: Scripted) -> None:
    async with SignalingClient(scripted.url, token="a\r\nb") as client, asyncio.timeout(PATIENCE):  # noqa: S106 - of this test
        with pytest.raises(SignalingError, match="the token"):
            await client.wait_open()
    assert scripted.tokens == []


def one_after_the_other(*tokens: str | Exception) -> Callable[[], str]:
    remaining = iter(tokens)

    def token() -> str:
        token = next(remaining)
        if isinstance(token, Exception):
            raise token
        return token

    return token


async def test_a_function_is_asked_for_another_token_once(scripted: Scripted) -> None:
    scripted.refusals = [(401, refusal("token_invalid"))]
    async with (
        SignalingClient(scripted.url, token=one_after_the_other("bad", "new")) as client,
        asyncio.timeout(PATIENCE),
    ):
        await client.wait_open()
    scripted.refusals = [(401, refusal("token_invalid"))] * 2
    token = one_after_the_other("bad", "worse")
    async with SignalingClient(scripted.url, token=token) as client, asyncio.timeout(PATIENCE):
        with pytest.raises(SignalingError, match="token_invalid"):
            await client.wait_open()
    assert scripted.tokens == [f"Bearer {token}" for token in ("bad", "new", "bad", "worse")]


@pytest.mark.parametrize("code", ["token_expired", "token_immature"])
async def test_a_function_is_asked_again_while_its_token_comes_too_late_or_too_early(
    scripted: Scripted, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.refusals = [(401, refusal(code))] * 3
    async with SignalingClient(scripted.url, token=lambda: "same") as client, asyncio.timeout(PATIENCE):
        await client.wait_open()
    assert scripted.tokens == ["Bearer same"] * 4
    monkeypatch.setattr(client_module, "RENEW_WITHIN", 0.5)
    monkeypatch.setattr(client_module, "_retry_delays", lambda: itertools.repeat(0.05))
    scripted.refusals = [(401, refusal(code))] * 99
    async with SignalingClient(scripted.url, token=lambda: "same") as client, asyncio.timeout(PATIENCE):
        with pytest.raises(SignalingError, match=code):
            await client.wait_open()


async def test_a_refusal_of_long_ago_does_not_count(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "RENEW_WITHIN", 0.05)
    monkeypatch.setattr(client_module, "_retry_delays", lambda: itertools.repeat(0.1))
    away = [(503, refusal("draining"))] * 2
    scripted.refusals = [(401, refusal("token_expired")), *away, (401, refusal("token_expired")), *away]
    async with SignalingClient(scripted.url, token=lambda: "same") as client, asyncio.timeout(PATIENCE):
        await client.wait_open()
    assert len(scripted.tokens) == 7


@pytest.mark.parametrize("code", ["token_expired", "token_immature"])
async def test_a_token_from_a_server_whose_clock_is_ahead_or_that_is_renewed_late_gets_in(code: str) -> None:
    secret = b"x" * 32
    begun = time.time()
    claims: dict[str, Any] = {"exp": begun - 1} if code == "token_expired" else {"iat": begun + 6.5}  # 5 s are let pass

    def token() -> str:
        renewed = code == "token_expired" and time.time() > begun + 1
        return jwt.encode({} if renewed else claims, secret, algorithm="HS256")

    async with (
        SignalingServer(port=0, tokens=TokenKeys(secret=secret)) as server,
        SignalingClient(server.url, token=token) as client,
        asyncio.timeout(PATIENCE),
    ):
        await client.wait_open()


async def test_a_token_whose_making_is_cancelled_is_asked_for_again(
    scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0

    async def token() -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            shared = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(shared.cancel)
            await shared
        return "new"

    async with SignalingClient(scripted.url, token=token) as client, asyncio.timeout(PATIENCE):
        await client.wait_open()
    assert scripted.tokens == ["Bearer new"]
    assert "no token could be had" in caplog.text


async def test_a_token_that_never_comes_is_asked_for_again(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "TOKEN_WITHIN", 0.1)
    calls = 0

    async def token() -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.get_running_loop().create_future()
        return "new"

    async with SignalingClient(scripted.url, token=token) as client, asyncio.timeout(PATIENCE):
        await client.wait_open()


async def test_leaving_does_not_wait_for_a_token(scripted: Scripted) -> None:
    async def token() -> str:
        await asyncio.get_running_loop().create_future()
        return ""

    async with asyncio.timeout(PATIENCE), SignalingClient(scripted.url, token=token):
        await turns()


async def test_a_token_that_is_no_text_is_not_sent(scripted: Scripted) -> None:
    async with SignalingClient(scripted.url, token=lambda: 3) as client, asyncio.timeout(PATIENCE):  # type: ignore[arg-type]
        with pytest.raises(SignalingError, match="the token"):
            await client.wait_open()


async def test_a_session_that_ends_with_its_token_goes_on_with_another(scripted: Scripted) -> None:
    async with joined(scripted.url) as (_, recorder):
        pass
    recorder = Recorder()
    async with SignalingClient(scripted.url, token=one_after_the_other("first", "second")) as client:
        client.listen(recorder)
        async with asyncio.timeout(PATIENCE):
            await client.wait_open()
            recorder.opening.clear()
            assert scripted.session is not None
            await scripted.session.close(4401, "Token expired")
            await recorder.opening.wait()
    assert scripted.tokens[1:] == ["Bearer first", "Bearer second"]


async def test_a_function_that_fails_is_asked_again(scripted: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    token = one_after_the_other(RuntimeError("no network"), "new")
    async with SignalingClient(scripted.url, token=token) as client, asyncio.timeout(PATIENCE):
        await client.wait_open()
    assert scripted.tokens == ["Bearer new"]
    assert "no network" in caplog.text


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_takes_nobody_just_now_is_tried_again(
    scripted: Scripted, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.refusals = [(status, refusal("draining", "The server is ending"))] * 2
    async with SignalingClient(scripted.url) as client, asyncio.timeout(PATIENCE):
        await client.wait_open()
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "The server is ending (draining)" in warnings[0]


@pytest.mark.parametrize("code", [1012, 1013])
async def test_a_session_that_the_server_closes_for_its_own_reasons_is_replaced(scripted: Scripted, code: int) -> None:
    async with joined(scripted.url) as (_, recorder):
        recorder.opening.clear()
        assert scripted.session is not None
        await scripted.session.close(code, "Service restart")
        async with asyncio.timeout(PATIENCE):
            await recorder.opening.wait()


async def test_it_waits_for_the_successor_of_a_server_that_drains(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with contextlib.AsyncExitStack() as stack:
        async with SignalingServer(port=0) as server:
            client, recorder = await stack.enter_async_context(joined(server.url, tell=("peers",)))
            client.send(Status())  # when that is answered, what the client wants to be told is known
            await within(recorder)
            recorder.opening.clear()
            await server.drain(0.5)
            await until(lambda: "(draining)" in client.reason)
        async with SignalingServer(port=server.port), asyncio.timeout(PATIENCE):
            await recorder.opening.wait()
    assert "it ends in 0.5 s" in caplog.text
    assert "Service restart" in caplog.text


@pytest.mark.parametrize("welcome", [False, True])
async def test_a_server_that_closes_at_once_is_not_asked_in_a_loop(welcome: bool) -> None:  # noqa: FBT001 - a parameter
    asked = 0

    async def overloaded(connection: ServerConnection) -> None:
        nonlocal asked
        asked += 1
        if welcome:
            await connection.send('{"type":"connected","sessionId":"ws_1"}')
        await connection.close(1013, "Server overloaded")

    async with serve(overloaded, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with SignalingClient(f"ws://127.0.0.1:{port}/ws"):
            await asyncio.sleep(1)
    assert 1 < asked < 8
