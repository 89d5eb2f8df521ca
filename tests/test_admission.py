"""Getting in: both ends with tokens, in rooms, and through a real TURN server, over a real signaling server."""

import asyncio
import contextlib
import json
import os
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from rtc_network import coturn, free_port
from waiting import until

from synopticon_rtc import Broadcaster, IceServer, Receiver, SignalingClient, SignalingServer, TestPattern
from synopticon_rtc.errors import NobodyAnswered, NoCandidates, SignalingError
from synopticon_rtc.rtc import PeerConnection
from synopticon_rtc.signaling import client as client_module
from synopticon_rtc.signaling import receiver_handshake
from synopticon_rtc.signaling.server.access import Participant, Role
from synopticon_rtc.signaling.server.ice import TurnServers
from synopticon_rtc.signaling.server.tokens import Claims, TokenKeys, make_token

SIZE = (320, 180)
CARD = ["--source", "test", "--size", "320x180", "--faces", "0"]
SECRET = b"a secret of thirty-two bytes, at least"


def token(*roles: Role, room: str | None = "lab", name: str = "", seconds: float = 3600) -> str:
    return make_token(SECRET, Claims("someone", room, frozenset(roles) or None, name, time.time() + seconds))


@pytest.fixture
async def guarded() -> AsyncIterator[SignalingServer]:
    """A server that lets in nobody without a token."""
    async with SignalingServer(port=0, tokens=TokenKeys(secret=SECRET)) as server:
        yield server


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


def card() -> TestPattern:
    return TestPattern(SIZE, 30)


async def take(receiver: Receiver, count: int = 3, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        async for _ in receiver:
            count -= 1
            if count == 0:
                break


# Tokens


async def test_both_ends_meet_in_the_room_that_their_tokens_are_for(guarded: SignalingServer) -> None:
    sends = SignalingClient(guarded.url, room="lab", token=token("broadcast"))
    receives = SignalingClient(guarded.url, room="lab", token=token("receive"))
    async with Broadcaster(sends, card()), Receiver(receives) as receiver:
        await take(receiver)


@pytest.mark.parametrize(
    ("room", "given", "code"),
    [
        ("lab", None, "token_missing"),
        ("lab", token("receive", seconds=-60), "token_expired"),
        ("lab", token("receive")[:-2] + "AA", "token_invalid"),
        ("attic", token("receive"), "wrong_room"),
    ],
)
async def test_who_is_not_let_in_is_told_why(guarded: SignalingServer, room: str, given: str | None, code: str) -> None:
    async with Receiver(SignalingClient(guarded.url, room=room, token=given)) as receiver:
        with pytest.raises(SignalingError, match=code):
            await take(receiver)
        with pytest.raises(SignalingError, match=code):  # also who iterates anew
            await anext(receiver.moments())
    async with Broadcaster(SignalingClient(guarded.url, room=room, token=given), card()) as broadcaster:
        with pytest.raises(SignalingError, match=code):
            await broadcaster.wait_closed()


async def test_who_may_not_do_what_it_wants_is_told_so(guarded: SignalingServer) -> None:
    async with Receiver(SignalingClient(guarded.url, token=token("broadcast"))) as receiver:
        with pytest.raises(SignalingError, match="not allowed"):
            await take(receiver)
    async with Broadcaster(SignalingClient(guarded.url, token=token("receive")), card()) as broadcaster:
        with pytest.raises(SignalingError, match="not allowed"):
            await broadcaster.wait_closed()


async def test_who_may_do_one_of_two_things_does_it(guarded: SignalingServer) -> None:
    async with (
        SignalingClient(guarded.url, token=token("broadcast")) as client,
        Broadcaster(client, card(), name="shared"),
        Receiver(client) as receiver,
        Receiver(SignalingClient(guarded.url, token=token("receive")), broadcaster="shared") as other,
    ):
        with pytest.raises(SignalingError, match="does not give the role receive"):
            await take(receiver)
        await take(other)


async def test_a_broadcaster_is_found_by_the_name_in_its_token(guarded: SignalingServer) -> None:
    async with (
        Broadcaster(SignalingClient(guarded.url, token=token("broadcast", name="lab-1")), card()),
        Broadcaster(SignalingClient(guarded.url, token=token("broadcast", name="lab-2")), card()) as second,
        Receiver(SignalingClient(guarded.url, token=token("receive")), broadcaster="lab-2") as receiver,
    ):
        await take(receiver)
        assert len(second.peers) == 1


async def test_media_play_on_when_a_token_ends_and_another_takes_its_place(guarded: SignalingServer) -> None:
    client = SignalingClient(guarded.url, token=lambda: token("broadcast", seconds=2))
    receives = SignalingClient(guarded.url, token=token("receive"))
    async with Broadcaster(client, card()) as broadcaster, Receiver(receives) as receiver:
        states: list[str] = []
        receiver.events.subscribe(lambda event: states.append(event.state))
        await take(receiver)
        first = client.session
        async with asyncio.timeout(20):
            while client.session in (None, first):
                await take(receiver)
        await take(receiver, 45)  # longer than it takes to find out that a peer is gone
        assert states == ["seeking", "connecting", "connected"]
        assert len(broadcaster.peers) == 1


async def test_receivers_are_served_to_their_end_when_a_token_ends_for_good(guarded: SignalingServer) -> None:
    sends = SignalingClient(guarded.url, token=token("broadcast", seconds=2))
    async with Broadcaster(sends, card()) as broadcaster:
        async with Receiver(SignalingClient(guarded.url, token=token("receive"))) as receiver:
            await take(receiver)
            async with asyncio.timeout(20):
                while "token_expired" not in sends.reason:
                    await take(receiver)
            await take(receiver, 45)
            assert len(broadcaster.peers) == 1
        with pytest.raises(SignalingError, match="token_expired"):
            await broadcaster.wait_closed()


@pytest.mark.parametrize("whose", ["broadcaster", "receiver"])
async def test_media_play_on_when_the_server_lets_go_of_one_of_them(server: SignalingServer, whose: str) -> None:
    async with Broadcaster(server.url, card()) as broadcaster, Receiver(server.url) as receiver:
        states: list[str] = []
        receiver.events.subscribe(lambda event: states.append(event.state))
        await take(receiver)
        signaling = broadcaster.signaling if whose == "broadcaster" else receiver.signaling
        before = await signaling.wait_open()
        server.sessions[before].end(1012, "Service restart")
        await take(receiver, 45)  # longer than it takes to find out that a peer is gone
        assert await signaling.wait_open() != before
        assert states == ["seeking", "connecting", "connected"]
        assert len(broadcaster.peers) == 1


# Rooms, and news of those in them


async def test_rooms_do_not_see_each_other(server: SignalingServer) -> None:
    async with (
        Broadcaster(SignalingClient(server.url, room="attic"), card()),
        Receiver(SignalingClient(server.url, room="cellar"), timeout=1) as receiver,
    ):
        with pytest.raises(NobodyAnswered):
            await take(receiver)


@pytest.mark.parametrize("want", [None, "card"])
async def test_a_receiver_need_not_ask_again_and_again_for_a_broadcaster_to_come(
    server: SignalingServer, want: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_handshake, "SLOW_SEEK", 1000)
    async with Receiver(server.url, broadcaster=want) as receiver:
        loop, asks = asyncio.get_running_loop(), receiver._negotiator.handshake
        await until(lambda: loop.time() + 500 < asks.next_tick() < float("inf"))
        async with (
            Broadcaster(server.url, card(), name="another"),
            Broadcaster(server.url, card(), name="card") as broadcaster,
        ):
            await take(receiver)
            assert want is None or len(broadcaster.peers) == 1
        async with Broadcaster(server.url, card(), name="card"):
            await take(receiver)


async def test_a_session_that_is_not_there_is_said_to_be_missing(server: SignalingServer) -> None:
    async with Receiver(server.url, broadcaster="ws_1_none", timeout=1) as receiver:
        reasons: list[str] = []
        receiver.events.subscribe(lambda event: reasons.append(event.reason))
        with pytest.raises(NobodyAnswered, match=f"'ws_1_none' answered within 1 s: {server.url} says"):
            await take(receiver)
    assert reasons == ["looking for a broadcaster", "the signaling server: No such session"]


async def test_a_hook_may_keep_two_apart() -> None:
    def apart(source: Participant, target: Participant) -> bool:
        return "card" not in (source.name, target.name)

    async with (
        SignalingServer(port=0, can_connect=apart) as server,
        Broadcaster(server.url, card(), name="card") as forbidden,
        Broadcaster(server.url, card(), name="other") as allowed,
        Receiver(server.url) as receiver,
    ):
        await take(receiver)
        assert (len(forbidden.peers), len(allowed.peers)) == (0, 1)


# TURN


async def test_peers_meet_through_a_turn_server_with_the_credentials_that_signaling_gives(tmp_path: Path) -> None:
    secret = "shared with coturn"  # noqa: S105 - for this test
    async with coturn(tmp_path, secret=secret) as turn:
        ice_servers = TurnServers(turn=[turn.turn("udp").url], secret=secret.encode())
        async with (
            SignalingServer(port=0, ice_servers=ice_servers) as server,
            Broadcaster(server.url, card(), relay_only=True) as broadcaster,
            Receiver(server.url, relay_only=True) as receiver,
        ):
            await take(receiver)
            (stats,) = broadcaster.peer_stats().values()
            assert (stats.local_candidate, stats.remote_candidate) == ("relay", "relay")


async def test_a_connection_made_later_gets_credentials_that_still_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "KEEPALIVE", 0.2)
    secret = "shared with coturn"  # noqa: S105 - for this test
    async with coturn(tmp_path, secret=secret) as turn:
        ice_servers = TurnServers(turn=[turn.turn("udp").url], secret=secret.encode(), ttl=2)
        async with (
            SignalingServer(port=0, ice_servers=ice_servers) as server,
            Broadcaster(server.url, card(), relay_only=True) as broadcaster,
        ):
            await broadcaster.signaling.wait_open()
            (old,) = broadcaster.signaling.ice_servers
            await asyncio.sleep(
                int(old["username"].partition(":")[0]) + 2.5 - time.time()
            )  # coturn looks once a second
            stale = IceServer(old["urls"][0], old["username"], old["credential"])
            late = PeerConnection(ice_servers=[stale], relay_only=True)
            late.add_channel("faces")
            with pytest.raises(NoCandidates):
                await late.offer()
            await late.close()
            async with Receiver(server.url, relay_only=True) as receiver:
                await take(receiver)


# Command lines


@contextlib.asynccontextmanager
async def process(module: str, *args: str, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, "-m", f"synopticon_rtc.{module}", *args, "--json"]
    child = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env={**os.environ, **env})
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.communicate()


async def event(child: asyncio.subprocess.Process, name: str) -> dict[str, Any]:
    assert child.stdout is not None
    async with asyncio.timeout(20):
        async for line in child.stdout:
            fields: dict[str, Any] = json.loads(line)
            if fields["event"] == name:
                return fields
    pytest.fail(f"no {name} event")


async def test_the_commands_take_a_token_that_others_cannot_read(guarded: SignalingServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{token('broadcast')}\n")
    secret = token("receive")
    async with (
        process("broadcast", "--url", guarded.url, "--room", "lab", "--token-file", str(file), *CARD) as broadcast,
        process("receive", "-v", "--url", guarded.url, "--room", "lab", SYNOPTICON_TOKEN=secret) as receive,
    ):
        assert (await event(broadcast, "ready"))["url"] == f"{guarded.url}?room=lab"
        while (await event(receive, "state"))["state"] != "connected":
            pass
        assert secret not in psutil.Process(receive.pid).cmdline()
        receive.terminate()
        out, err = await receive.communicate()
        assert receive.returncode == 0
        assert secret.encode() not in out + err


async def test_a_command_that_is_not_let_in_says_so_in_one_line(guarded: SignalingServer) -> None:
    for command in ("receive", "--url", guarded.url), ("broadcast", "--url", guarded.url, *CARD):
        async with process(*command, SYNOPTICON_TOKEN="x.y.z") as child:  # noqa: S106 - none
            _, err = await child.communicate()
        assert child.returncode == 1
        assert len(err.splitlines()) == 1
        assert b"token_invalid" in err


async def test_a_room_of_ones_own_server_is_in_the_address_of_the_viewer() -> None:
    async with process("broadcast", "--serve", str(free_port()), "--room", "the attic", *CARD) as broadcast:
        ready = await event(broadcast, "ready")
        assert ready["viewer"].endswith("/?room=the+attic")
        async with Receiver(ready["url"]) as receiver:
            await take(receiver)
