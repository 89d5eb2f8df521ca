"""What carries out a handshake: nothing that one peer, or a part of ours, gets wrong holds up the rest."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import pytest
from bare_client import Client, joined, until_open
from waiting import turns, until

from synopticon_rtc.errors import SignalingError, SynopticonError
from synopticon_rtc.peers import negotiator as negotiator_module
from synopticon_rtc.peers.negotiator import Negotiator
from synopticon_rtc.rtc import PeerConnection
from synopticon_rtc.signaling.actions import CreateAnswer, CreateOffer, Notify
from synopticon_rtc.signaling.broadcaster_handshake import BroadcasterHandshake
from synopticon_rtc.signaling.client import SignalingClient
from synopticon_rtc.signaling.handshake import Handshake
from synopticon_rtc.signaling.receiver_handshake import ReceiverHandshake
from synopticon_rtc.signaling.server.server import SignalingServer

HOST = {"candidate": "candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host", "sdpMid": "0", "sdpMLineIndex": 0}


def broadcasting() -> BroadcasterHandshake:
    return BroadcasterHandshake(name="cam", accept={}, timestamp=lambda: 0)


def receiving() -> ReceiverHandshake:
    return ReceiverHandshake(accept={}, timestamp=lambda: 0)


class User:
    """Whoever holds a negotiator: opens what it is asked for, and keeps what it is told."""

    def __init__(self, make: Callable[[], PeerConnection] = PeerConnection) -> None:
        self.make = make
        self.told: list[Notify] = []
        self.changed = asyncio.Event()
        self.opened = 0

    def open_peer(self, action: CreateOffer | CreateAnswer) -> PeerConnection:  # noqa: ARG002 - all alike
        self.opened += 1
        connection = self.make()
        connection.add_channel("faces")
        return connection

    def notify(self, change: Notify) -> None:
        self.told.append(change)
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Stuck(PeerConnection):
    """A connection that never gets closed."""

    async def close(self) -> None:
        await super().close()
        await asyncio.get_running_loop().create_future()


class Broken(PeerConnection):
    """A connection that cannot be closed."""

    async def close(self) -> None:
        await super().close()
        raise LookupError


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


@contextlib.asynccontextmanager
async def negotiating(url: str, handshake: Handshake, user: User) -> AsyncIterator[Negotiator]:
    client = SignalingClient(url)

    def failed(error: SignalingError) -> None:
        raise error

    async with Negotiator(
        client, handshake, open_peer=user.open_peer, close_peer=lambda _: None, notify=user.notify, failed=failed
    ) as negotiator:
        await client.wait_open()
        yield negotiator


async def seek(client: Client) -> None:
    await client.send({"type": "request_offer"})


async def test_a_connection_that_is_never_closed_holds_up_no_end(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(negotiator_module, "CLOSE_WITHIN", 0.1)
    user = User(Stuck)
    async with asyncio.timeout(10):
        async with negotiating(server.url, broadcasting(), user) as negotiator, joined(server) as [client]:
            await seek(client)
            await user.until(lambda: bool(user.told))
        (late,) = negotiator._closing
    assert f"closing {client.session} takes more than 0.1 s" in caplog.text
    late.cancel()
    await asyncio.wait([late])


async def test_a_connection_that_cannot_be_closed_is_logged(
    server: SignalingServer, caplog: pytest.LogCaptureFixture
) -> None:
    user = User(Broken)
    async with negotiating(server.url, broadcasting(), user), joined(server) as [client]:
        await seek(client)
        await user.until(lambda: bool(user.told))
    assert f"peer {client.session} could not be closed" in caplog.text


async def test_candidates_of_a_link_that_cannot_be_opened_are_dropped(
    server: SignalingServer, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> PeerConnection:
        raise SynopticonError("not today")

    user = User(refuse)
    async with negotiating(server.url, receiving(), user) as negotiator, joined(server) as [client]:
        to = {"targetSession": negotiator.handshake.session}
        await client.send({"type": "webrtc_ice", "candidate": HOST} | to)
        await client.send({"type": "webrtc_offer", "sdp": {"type": "offer", "sdp": "v=0"}} | to)
        await user.until(lambda: any(change.reason == "not today" for change in user.told))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_candidates_that_are_none_are_told_of_once(
    server: SignalingServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "synopticon_rtc.peers.negotiator")
    user = User()
    async with negotiating(server.url, broadcasting(), user) as negotiator, joined(server) as [client]:
        await seek(client)
        offer = await client.receive()
        while offer["type"] != "webrtc_offer":
            offer = await client.receive()
        junk = {"type": "webrtc_ice", "candidate": HOST | {"candidate": "candidate:what?"}}
        for _ in range(20):
            await client.send(junk | {"targetSession": negotiator.handshake.session})
        await until(lambda: caplog.text.count("what?") >= 20)
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1


async def test_time_goes_on_after_an_error_of_ours(server: SignalingServer, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(User):
        def notify(self, change: Notify) -> None:
            self.told.append(change)
            if len(self.told) == 1:
                raise LookupError(change.reason)

    user = Failing()
    handshake = receiving()
    async with negotiating(server.url, handshake, user) as negotiator:
        assert len(user.told) == 1
        assert negotiator._timer is not None
        assert negotiator._timer.when() == handshake.next_tick()
    assert "LookupError" in caplog.text


async def test_whoever_opens_and_closes_connections_in_a_loop_is_let_wait(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(negotiator_module, "CLOSING", 3)
    release = asyncio.Event()

    class Slow(PeerConnection):
        async def close(self) -> None:
            await release.wait()
            await super().close()

    user = User(Slow)
    async with negotiating(server.url, broadcasting(), user) as negotiator, joined(server) as [client]:
        answer = {"type": "webrtc_answer", "sdp": {"type": "answer", "sdp": "v=0"}}
        for _ in range(3):
            await seek(client)
            offer = await client.receive()
            while offer["type"] != "webrtc_offer":
                offer = await client.receive()
            await client.send(answer | {"targetSession": offer["sourceSession"]})
            await user.until(lambda: user.told[-1].state == "closed")  # it is no answer
        assert len(negotiator._closing) == 3
        await seek(client)
        assert await client.next_is_pong()
        await turns(20)
        assert user.opened == 3
        release.set()
        await asyncio.wait(negotiator._closing)
        await seek(client)
        await user.until(lambda: user.opened == 4)


async def test_leaving_that_is_cancelled_twice_leaves_nothing(server: SignalingServer) -> None:
    user = User()
    client = SignalingClient(server.url)
    inside = asyncio.Event()
    negotiator = Negotiator(
        client,
        broadcasting(),
        open_peer=user.open_peer,
        close_peer=lambda _: None,
        notify=user.notify,
        failed=lambda _: None,
    )

    async def use() -> None:
        async with negotiator:
            await client.wait_open()
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(use())
    async with asyncio.timeout(10):
        await inside.wait()
        async with joined(server) as [other]:
            await seek(other)
            await user.until(lambda: bool(user.told))
            for _ in range(3):
                task.cancel()
                await turns()
            await asyncio.wait([task])
            assert client.session is None
            assert client._listeners == []
            assert negotiator._peers == {}
            while negotiator._closing:
                await asyncio.wait(negotiator._closing)
            await until_open(server, 1)


async def test_so_many_ice_servers_of_a_signaling_server_are_asked_and_no_more(
    server: SignalingServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with negotiating(server.url, broadcasting(), User()) as negotiator:
        negotiator._client.ice_servers = [{"urls": ["stuns:h"] * 8 + [f"stun:h{number}" for number in range(999)]}] * 9
        assert [one.url for one in negotiator.ice_servers()] == [f"stun:h{number}" for number in range(8)]
    assert sum("is not used" in record.getMessage() for record in caplog.records) == 8
