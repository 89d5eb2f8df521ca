"""What the server tells those that ask for it, and that others see nothing of it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bare_client import Client, joined
from waiting import turns
from websockets.frames import Frame, Opcode

from synopticon_rtc.signaling.server.access import Participant
from synopticon_rtc.signaling.server.ice import TurnServers
from synopticon_rtc.signaling.server.limits import Limits
from synopticon_rtc.signaling.server.server import SignalingServer
from synopticon_rtc.signaling.server.tokens import Claims, TokenKeys, make_token

SECRET = b"a secret of thirty-two bytes....."


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


def ice(target: Client | str) -> dict[str, Any]:
    return {"type": "webrtc_ice", "targetSession": target if isinstance(target, str) else target.session}


async def speak(one: Client, other: Client) -> None:
    """Let a message pass from one to the other."""
    await one.send(ice(other))
    assert (await other.receive())["sourceSession"] == one.session


def broadcaster(client: Client, name: str = "") -> dict[str, str]:
    return {"session": client.session, "name": name}


# What is asked for


async def test_the_answer_says_what_will_be_told(server: SignalingServer) -> None:
    async with joined(server) as [client]:
        requirements = {"tell": ["errors", "weather", 7, "peers", "ice"], "role": "receive", "fps": 30}
        answer = await client.configure(**requirements)
        assert answer["requirements"] == requirements
        assert answer["tells"] == ["peers", "errors"]  # it has no ICE servers
        assert list(answer) == ["type", "sessionId", "requirements", "tells", "timestamp"]
        assert (await client.configure(tell=[]))["tells"] == []
        assert list(await client.configure(fps=30)) == ["type", "sessionId", "requirements", "timestamp"]


@pytest.mark.parametrize(
    "requirements",
    ["7", '"tell"', "[]", "null", '{"tell":{}}', '{"tell":"peers"}', '{"role":7,"name":[]}', '{"role":["x",{}]}'],
)
async def test_requirements_of_any_other_kind_ask_for_nothing(server: SignalingServer, requirements: str) -> None:
    async with joined(server) as [client]:
        await client.send(f'{{"type":"configure","requirements":{requirements}}}')
        assert list(await client.receive()) == ["type", "sessionId", "requirements", "timestamp"]
        session = server.sessions[client.session]
        assert (session.tells, session.who.roles, session.who.name) == (frozenset(), None, "")


async def test_no_depth_of_requirements_is_more_than_an_error(server: SignalingServer) -> None:
    async with joined(server, 2) as [client, other]:
        for depth in range(800, 1100, 50):  # about as deep as Python reads
            await client.send('{"type":"configure","requirements":{"tell":' + "[" * depth + "]" * depth + "}}")
            text = await client.receive_text()  # an echo may be too deep for us to read
            assert text.startswith(('{"type":"configured"', '{"type":"error"'))
        assert await other.next_is_pong()


async def test_who_asks_for_nothing_sees_nothing(server: SignalingServer) -> None:
    async with joined(server, 2) as [page, other]:
        await other.configure(role="broadcast", name="lab")
        async with joined(server) as [gone]:
            await gone.configure(role="broadcast")
            await speak(gone, page)
            await speak(page, gone)
        await page.send(ice("ws_1_0"))
        await page.send(ice(gone))
        await other.configure(role="receive")
        assert await page.next_is_pong()


# Peers


async def left(client: Client, gone: Client) -> str:
    """Be told that a peer is gone; return why."""
    told = await client.receive()
    reason: str = told.pop("reason")
    assert told == {"type": "peer_left", "session": gone.session}
    return reason


@pytest.mark.parametrize("begins", ["who stays", "who leaves"])
async def test_peers_that_spoke_with_a_session_are_told_that_it_left(server: SignalingServer, begins: str) -> None:
    async with joined(server, 2) as [peer, stranger]:
        for client in (peer, stranger):
            await client.configure(tell=["peers"])
        async with joined(server) as [leaving]:
            await speak(*((peer, leaving) if begins == "who stays" else (leaving, peer)))
        assert await left(peer, leaving) == "1000 (OK)"
        assert await stranger.next_is_pong()
        assert await peer.next_is_pong()


@pytest.mark.parametrize("end", ["cut", "ended", "errors", "flood", "idle", "token"])
async def test_they_are_told_whatever_the_end_was(end: str) -> None:
    limits = Limits(idle=1 if end == "idle" else 30, messages=100, burst=1)
    tokens = TokenKeys(secret=SECRET)
    expires = time.time() + (3 if end == "token" else 60)
    async with (
        SignalingServer(port=0, limits=limits, tokens=tokens) as server,
        joined(server, query=f"?token={make_token(SECRET, Claims())}") as [peer],
        joined(server, query=f"?token={make_token(SECRET, Claims(expires=expires))}") as [leaving],
    ):
        await peer.configure(tell=["peers"])
        await speak(leaving, peer)
        match end:
            case "cut":
                leaving.websocket.transport.abort()
            case "ended":
                server.sessions[leaving.session].end(4000, "enough")
            case "errors":
                for _ in range(10):
                    await leaving.send("?")
            case "flood":
                flood = b'{"type":"webrtc_ice","targetSession":"ws_1_0"}'  # which nobody answers
                leaving.websocket.transport.write(200 * Frame(Opcode.TEXT, flood).serialize(mask=True))
        reasons = {"ended": "4000", "errors": "1011", "flood": "1008", "token": "4401", "cut": "1006", "idle": "1000"}
        async with asyncio.TaskGroup() as group:
            alive = group.create_task(stay(peer))
            assert (await left(peer, leaving)).startswith(reasons[end])
            alive.cancel()


async def stay(client: Client) -> None:
    """Keep a session from being idle, in silence."""
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await client.send(ice("ws_1_0"))
            await asyncio.sleep(0.2)


async def test_a_discovery_alone_makes_no_peers(server: SignalingServer) -> None:
    async with joined(server) as [peer]:
        await peer.configure(tell=["peers"])
        async with joined(server) as [seeker]:
            await seeker.send({"type": "request_offer"})
            assert (await peer.receive())["type"] == "request_offer"
        assert await peer.next_is_pong()


# Errors


async def test_errors_have_codes_and_do_not_count(server: SignalingServer) -> None:
    async with joined(server, 2) as [client, other]:
        await client.configure(tell=["errors"], role="receive")
        await other.configure(role="receive")
        for target, code in [("ws_1_0", "target_not_found"), (other.session, "not_allowed")] * 10:
            await client.send(ice(target))
            error = await client.receive()
            assert list(error) == ["type", "sessionId", "error", "errorCode", "targetSession", "timestamp"]
            assert (error["type"], error["sessionId"]) == ("error", client.session)
            assert (error["errorCode"], error["targetSession"]) == (code, target)
        await client.send('{"type":"webrtc_ice","targetSession":[7]}')
        error = await client.receive()
        assert (error["errorCode"], "targetSession" in error) == ("target_not_found", False)
        await client.send({"type": "status"})
        assert (await client.receive())["session"]["errors"] == 0


async def test_messages_too_many_are_told_of_and_count() -> None:
    async with SignalingServer(port=0, limits=Limits(messages=1, burst=10)) as server, joined(server) as [client]:
        await client.configure(tell=["errors"])
        client.websocket.transport.write(30 * Frame(Opcode.TEXT, b'{"type":"ping"}').serialize(mask=True))
        kinds = [(await client.receive()).get("errorCode") for _ in range(18)]
        assert kinds == [None] * 9 + ["rate_limited"] * 9
        assert await client.closed() == (1008, "Too many messages")


async def test_a_role_that_the_token_does_not_give_is_not_taken() -> None:
    token = make_token(SECRET, Claims(roles=frozenset({"receive"}), name="lab-1"))
    async with (
        SignalingServer(port=0, tokens=TokenKeys(secret=SECRET)) as server,
        joined(server, query=f"?token={token}") as [client],
    ):
        answer = await client.configure(tell=["errors"], role="broadcast", name="lab-2")
        assert answer["type"] == "configured"
        assert (await client.receive())["errorCode"] == "not_allowed"
        who = server.sessions[client.session].who
        assert (who.roles, who.name) == (frozenset({"receive"}), "lab-1")


async def test_of_several_roles_that_the_token_gives_one_may_be_taken() -> None:
    token = make_token(SECRET, Claims(roles=frozenset({"receive", "broadcast"})))
    async with (
        SignalingServer(port=0, tokens=TokenKeys(secret=SECRET)) as server,
        joined(server, query=f"?token={token}") as [client],
    ):
        await client.configure(role="receive", name="x" * 200)
        who = server.sessions[client.session].who
        assert (who.roles, who.name) == (frozenset({"receive"}), "x" * 100)


# Broadcasters


async def watch(client: Client, **requirements: Any) -> list[dict[str, str]]:
    """Ask for broadcasters; return those that are there."""
    await client.configure(tell=["broadcasters"], **requirements)
    told = await client.receive()
    assert list(told) == ["type", "broadcasters"]
    assert told["type"] == "broadcasters"
    listed: list[dict[str, str]] = told["broadcasters"]
    return listed


async def test_broadcasters_are_listed_and_announced_as_they_come_and_go(server: SignalingServer) -> None:
    async with joined(server, 3) as [watcher, one, page]:
        await one.configure(role="broadcast", name="one")
        assert await watch(watcher) == [broadcaster(one, "one")]
        async with joined(server) as [other]:
            await other.configure(role=["broadcast", "receive"])
            assert await watcher.receive() == {"type": "broadcaster_available", **broadcaster(other)}
        assert await watcher.receive() == {"type": "broadcaster_gone", "session": other.session}
        await one.configure(role="receive")
        assert await watcher.receive() == {"type": "broadcaster_gone", "session": one.session}
        await one.configure(role="broadcast", name="again")
        assert await watcher.receive() == {"type": "broadcaster_available", **broadcaster(one, "again")}
        await one.configure(name="renamed")
        assert await watcher.receive() == {"type": "broadcaster_available", **broadcaster(one, "renamed")}
        await one.configure(name="renamed")
        await page.configure(role="receive")
        assert await watcher.next_is_pong()


async def test_broadcasters_by_token_need_not_say_so() -> None:
    def token(**claims: Any) -> str:
        return f"?token={make_token(SECRET, Claims(**claims))}"

    async with (
        SignalingServer(port=0, tokens=TokenKeys(secret=SECRET)) as server,
        joined(server, query=token(roles=frozenset({"receive"}))) as [watcher],
    ):
        assert await watch(watcher) == []
        async with joined(server, query=token(roles=frozenset({"broadcast"}), name="lab")) as [one]:
            assert await watcher.receive() == {"type": "broadcaster_available", **broadcaster(one, "lab")}
        assert (await watcher.receive())["type"] == "broadcaster_gone"


async def test_only_those_it_may_connect_to_are_told_of(server: SignalingServer) -> None:
    async with joined(server, 2, query="?room=a") as [watcher, one], joined(server, query="?room=b") as [away]:
        await one.configure(role="broadcast")
        await away.configure(role="broadcast")
        assert await watch(watcher, role="receive") == [broadcaster(one)]
        assert await watch(watcher, role="broadcast") == []
        await away.configure(role="receive")
        assert await watcher.next_is_pong()


async def test_one_is_not_told_of_oneself_nor_after_one_has_asked_for_no_more(server: SignalingServer) -> None:
    async with joined(server, 2) as [watcher, one]:
        assert await watch(watcher, role=["broadcast", "receive"]) == []
        assert (await watcher.configure(tell=["peers"]))["tells"] == ["peers"]
        await one.configure(role="broadcast")
        assert await watcher.next_is_pong()


async def test_a_broadcaster_is_announced_once_the_hook_has_agreed() -> None:
    answers: list[asyncio.Future[bool]] = []

    def hook(_source: Participant, _target: Participant) -> asyncio.Future[bool]:
        answers.append(asyncio.get_running_loop().create_future())
        return answers[-1]

    async with SignalingServer(port=0, can_connect=hook) as server, joined(server, 3) as [watcher, one, other]:
        for client in (one, other):
            await client.configure(role="broadcast")
        assert await watch(watcher) == []
        answers[0].set_result(False)
        answers[1].set_result(True)
        assert await watcher.receive() == {"type": "broadcaster_available", **broadcaster(other)}
        assert await watcher.next_is_pong()


# ICE servers


async def test_ice_servers_are_in_the_welcome_and_fresh_ones_to_be_had_at_any_time() -> None:
    servers = TurnServers(stun=["stun:192.0.2.1:3478"], turn=["turn:192.0.2.1:3478"], secret=b"s", ttl=600)
    async with SignalingServer(port=0, ice_servers=servers) as server, joined(server) as [client]:
        stun, turn = client.welcome["iceServers"]
        assert stun == {"urls": ["stun:192.0.2.1:3478"]}
        assert turn["urls"] == ["turn:192.0.2.1:3478"]
        assert client.welcome["iceServersTtl"] == 600
        ends, _, whom = turn["username"].partition(":")
        assert abs(int(ends) - time.time() - 600) < 5
        assert whom == client.session
        answer = await client.configure(tell=["ice"])
        assert answer["tells"] == ["ice"]
        assert answer["iceServersTtl"] == 600
        assert answer["iceServers"][1]["username"].endswith(client.session)
        assert "iceServers" not in await client.configure()


# Draining


async def test_before_a_restart_those_that_asked_are_told_and_all_have_time_to_go(server: SignalingServer) -> None:
    async with joined(server, 3) as [told, page, stays]:
        await told.configure(tell=["peers"])
        draining = asyncio.create_task(server.drain(0.5))
        assert await told.receive() == {"type": "draining", "seconds": 0.5}
        assert await page.next_is_pong()
        await told.websocket.close()
        assert await stays.closed() == (1012, "Service restart")
        await draining


async def test_a_server_that_nobody_is_left_on_need_not_wait(server: SignalingServer) -> None:
    async with joined(server, 2):
        draining = asyncio.create_task(server.drain(60))
        await turns()
    async with asyncio.timeout(20):
        await draining
        await server.drain(60)
