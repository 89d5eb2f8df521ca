"""What a client sees of a server, the same for the published ones and ours wherever the protocol asks for it."""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest
from bare_client import Client, joined
from pairs import Server
from published import V062, V063, PublishedServer
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from synopticon_rtc import SignalingServer
from synopticon_rtc.signaling.server.limits import Limits

PUBLISHED = {"0.6.2": V062, "0.6.3": V063}
ALL = [*PUBLISHED, "embedded"]
IDLE = 0.3  # seconds, of every clock, where a test needs one to run out
TICK = 0.01  # seconds


def opened(name: str, **limits: Any) -> AbstractAsyncContextManager[Server]:
    """Start a server of that name; limits by the names of ours, ``idle`` for both clocks of the published ones."""
    if name == "embedded":
        return SignalingServer(port=0, limits=Limits(**limits))
    if "idle" in limits:
        idle = limits.pop("idle")
        limits |= {"session_idle": idle, "relay_idle": idle, "watch": idle / 4}
    return PublishedServer(replace(PUBLISHED[name], **limits))


@pytest.fixture(params=ALL)
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    async with opened(request.param) as server:
        yield server


def is_now(timestamp: Any) -> bool:
    return isinstance(timestamp, int) and abs(timestamp - time.time() * 1000) < 5000


# Session


async def test_a_session_is_welcomed(server: Server) -> None:
    async with joined(server, 2) as [client, other]:
        assert list(client.welcome) == ["type", "sessionId", "capabilities", "serverVersion", "timestamp"]
        assert client.welcome["type"] == "connected"
        assert re.fullmatch(r"ws_\d{13}_[0-9a-f]{16}", client.session)
        assert isinstance(client.welcome["capabilities"], list)
        assert client.welcome["serverVersion"] == "2.0.0"
        assert is_now(client.welcome["timestamp"])
        assert client.session != other.session


async def test_pages_of_this_machine_are_welcome_and_nothing_is_negotiated(server: Server) -> None:
    offer = connect(server.url, compression="deflate", subprotocols=["x"], origin="http://localhost:5500")  # type: ignore[arg-type, list-item]  # NewTypes of str
    async with offer as websocket:
        assert json.loads(await websocket.recv())["type"] == "connected"
        assert websocket.subprotocol is None
        assert websocket.response
        assert "Sec-WebSocket-Extensions" not in websocket.response.headers


async def test_configure_tells_the_session(server: Server) -> None:
    async with joined(server) as [client]:
        await client.send({"type": "configure", "requirements": {"fps": 30}})
        answer = await client.receive()
        assert is_now(answer.pop("timestamp"))
        assert answer == {"type": "configured", "sessionId": client.session, "requirements": {"fps": 30}}


async def test_ping_is_answered(server: Server) -> None:
    async with joined(server) as [client]:
        await client.send({"type": "ping", "timestamp": 123})
        answer = await client.receive()
        assert is_now(answer.pop("serverTimestamp"))
        assert answer == {"type": "pong", "sessionId": client.session, "clientTimestamp": 123}


async def test_status_is_told(server: Server) -> None:
    async with joined(server, 2) as [client, _]:
        await client.send({"type": "nonsense"})
        await client.receive()
        await client.send({"type": "status"})
        answer = await client.receive()
        assert is_now(answer.pop("timestamp"))
        assert 0 <= answer["server"].pop("uptime") < 5
        assert 0 <= answer["session"].pop("age") < 5
        assert answer == {
            "type": "status",
            "sessionId": client.session,
            "server": {"activeConnections": 2, "totalSessions": 2, "pipelines": []},
            "session": {"id": client.session, "frameCount": 0, "messageCount": 2, "errors": 1},
        }


# Relay


@pytest.mark.parametrize("kind", ["request_offer", "webrtc_offer", "webrtc_answer", "webrtc_ice"])
async def test_a_targeted_message_goes_to_its_target_alone(server: Server, kind: str) -> None:
    async with joined(server, 3) as [sender, target, other]:
        message = {"type": kind, "targetSession": target.session, "unknown": {"key": [1, None, "ü"]}}
        await sender.send(message | {"sourceSession": "ws_forged"})
        assert await target.receive() == message | {"sourceSession": sender.session}
        assert await other.next_is_pong()
        assert await sender.next_is_pong()


@pytest.mark.parametrize("target", [{}, *({"targetSession": value} for value in (None, "", 0, False))])
async def test_without_a_target_it_goes_to_all_others(server: Server, target: dict[str, Any]) -> None:
    async with joined(server, 3) as [sender, *others]:
        await sender.send({"type": "request_offer"} | target)
        for other in others:
            assert (await other.receive())["sourceSession"] == sender.session
        assert await sender.next_is_pong()


@pytest.mark.parametrize("target", ["ws_1700000000000_0123456789abcdef", 5, True, [], {}])
async def test_a_target_that_is_no_session_is_met_with_silence(server: Server, target: Any) -> None:
    async with joined(server, 2) as [sender, other]:
        await sender.send({"type": "webrtc_offer", "targetSession": target})
        assert await sender.next_is_pong()
        assert await other.next_is_pong()


async def test_a_target_that_is_gone_is_met_with_silence(server: Server) -> None:
    async with joined(server) as [sender]:
        async with joined(server) as [gone]:
            pass
        await sender.send({"type": "webrtc_offer", "targetSession": gone.session})
        assert await sender.next_is_pong()


async def test_a_message_to_oneself_comes_back(server: Server) -> None:
    async with joined(server) as [client]:
        await client.send({"type": "webrtc_ice", "targetSession": client.session})
        assert (await client.receive())["sourceSession"] == client.session


async def test_many_messages_in_one_segment_keep_their_order(server: Server) -> None:
    async with joined(server, 2) as [sender, target]:
        texts = [json.dumps({"type": "webrtc_ice", "targetSession": target.session, "n": n}) for n in range(200)]
        frames = [Frame(Opcode.TEXT, text.encode()).serialize(mask=True) for text in texts]
        sender.websocket.transport.write(b"".join(frames))
        assert [(await target.receive())["n"] for _ in texts] == list(range(200))


@pytest.mark.parametrize("name", ALL)
async def test_webrtc_seek_broadcaster_is_relayed_but_by_0_6_2(name: str) -> None:
    async with opened(name) as server, joined(server, 2) as [sender, other]:
        await sender.send({"type": "webrtc_seek_broadcaster"})
        if name == "0.6.2":
            assert (await sender.receive())["error"] == "Unknown message type: webrtc_seek_broadcaster"
            await sender.send({"type": "status"})
            assert (await sender.receive())["session"]["errors"] == 1
        else:
            assert (await other.receive())["sourceSession"] == sender.session
        assert await other.next_is_pong()


# Errors and limits


@pytest.mark.parametrize("data", ['{"type":"notification"}', "no JSON", "{", "[]", "1", "null", "{}", b"\xff"])
async def test_what_is_not_understood_is_an_error(server: Server, data: str | bytes) -> None:
    async with joined(server) as [client]:
        await client.send(data)
        answer = await client.receive()
        assert list(answer) == ["type", "sessionId", "error", "errorCode", "timestamp"]
        assert (answer["type"], answer["sessionId"]) == ("error", client.session)
        assert answer["errorCode"] == "MESSAGE_HANDLING_ERROR"
        assert is_now(answer["timestamp"])
        if "notification" in str(data):
            assert answer["error"] == "Unknown message type: notification"


async def test_the_tenth_error_is_the_last(server: Server) -> None:
    async with joined(server) as [client]:
        for _ in range(9):
            await client.send({"type": "notification"})
            assert (await client.receive())["type"] == "error"
            assert await client.next_is_pong()
        await client.send({"type": "notification"})
        with pytest.raises(ConnectionClosed):
            await client.receive()
        assert await client.closed() == (1011, "Too many errors")


def test_the_limits_are_the_same_but_for_messages_larger_than_any_in_use() -> None:
    limits = Limits()
    for profile in PUBLISHED.values():
        assert (profile.sessions, profile.message_bytes, profile.errors) == (100, 16 * 2**20, 10)
    assert (limits.sessions, limits.message_bytes, limits.errors) == (100, 2**20, 10)


@pytest.mark.parametrize("name", ALL)
async def test_one_session_too_many_is_turned_away(name: str) -> None:
    async with opened(name, sessions=3) as server, joined(server, 3):
        async with connect(server.url) as websocket:
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
        assert (websocket.close_code, websocket.close_reason) == (1013, "Server overloaded")


@pytest.mark.parametrize("name", ALL)
async def test_a_message_too_large_ends_its_session(name: str) -> None:
    async with opened(name, message_bytes=10_000) as server, joined(server) as [client]:
        await client.send("#" * 10_000)
        assert (await client.receive())["type"] == "error"
        await client.send("#" * 10_001)
        assert (await client.closed())[0] == 1009


async def test_a_binary_frame_is_taken_and_answered_in_text(server: Server) -> None:
    async with joined(server, 2) as [sender, target]:
        await sender.send(b'{"type":"webrtc_ice","targetSession":"%b"}' % target.session.encode())
        assert (await target.receive())["sourceSession"] == sender.session
        await sender.send(b'{"type":"ping"}')
        assert (await sender.receive())["type"] == "pong"


# The two idle clocks


@pytest.fixture
async def unhurried(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """While a busy machine lets nobody work, the clock of this process stands still, but for a moment."""
    real = time.monotonic
    seen = now = real()

    def monotonic() -> float:
        nonlocal seen, now
        seen, before = real(), seen
        now += min(seen - before, 2 * TICK)
        return now

    async def look() -> None:
        while True:  # noqa: ASYNC110 - nothing is waited for
            await asyncio.sleep(TICK)

    monkeypatch.setattr(time, "monotonic", monotonic)
    looking = asyncio.create_task(look())
    yield
    looking.cancel()


async def act(client: Client, messages: Sequence[dict[str, Any]], seconds: float) -> None:
    """Send these again and again, more often than any clock runs out."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for message in messages:
            await client.send(message)
        await asyncio.sleep(IDLE / 6)


async def echo(client: Client) -> bool:
    """Whether a message to itself comes back, whatever else is still to be read."""
    await client.send({"type": "webrtc_ice", "targetSession": client.session, "last": True})
    await client.send({"type": "ping", "timestamp": "last"})
    while True:
        message = await client.receive()
        if message.get("last") or message.get("clientTimestamp") == "last":
            return "last" in message


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("name", ALL)
async def test_a_silent_session_times_out(name: str) -> None:
    async with opened(name, idle=IDLE) as server, joined(server) as [client]:
        assert await client.closed() == (1000, "Session timeout")


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("feed", ["ping", "configure"])
async def test_both_kinds_of_message_keep_a_session_alive_and_hearing(name: str, feed: str) -> None:
    async with opened(name, idle=IDLE) as server, joined(server) as [client]:
        relayed = {"type": "webrtc_ice", "targetSession": client.session}
        await act(client, [{"type": feed, "requirements": {}}, relayed], 3 * IDLE)
        assert await echo(client)


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("name", PUBLISHED)
async def test_relayed_messages_alone_do_not_keep_a_published_session(name: str) -> None:
    async with opened(name, idle=IDLE) as server, joined(server) as [client]:
        with contextlib.suppress(ConnectionClosed):
            await act(client, [{"type": "webrtc_ice", "targetSession": client.session}], 3 * IDLE)
        assert await client.closed() == (1000, "Session timeout")


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("name", PUBLISHED)
async def test_a_published_session_that_only_pings_goes_deaf_for_good(name: str) -> None:
    async with opened(name, idle=IDLE) as server, joined(server) as [deaf], joined(server) as [other]:
        relayed = {"type": "webrtc_ice", "targetSession": other.session}
        async with asyncio.TaskGroup() as group:
            group.create_task(act(deaf, [{"type": "ping"}], 2 * IDLE))
            group.create_task(act(other, [{"type": "ping"}, relayed], 2 * IDLE))
        assert await echo(other)
        assert not await echo(deaf)
        await deaf.send({"type": "webrtc_ice", "targetSession": other.session})
        await deaf.send({"type": "request_offer"})
        await other.send({"type": "webrtc_ice", "targetSession": deaf.session})
        await other.send({"type": "request_offer"})
        assert await deaf.next_is_pong()
        assert await other.next_is_pong()
        assert not await echo(deaf)


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("message", [{"type": "ping"}, {"type": "webrtc_ice"}, {"type": "status"}])
async def test_ours_is_never_deaf_and_any_message_keeps_it(message: dict[str, Any]) -> None:
    async with opened("embedded", idle=IDLE) as server, joined(server) as [client]:
        await act(client, [message], 3 * IDLE)
        assert await echo(client)
