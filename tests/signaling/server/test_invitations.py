"""Links for one person: who may use one, who may come back, and what others are told."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bare_client import joined, object_of
from test_gate import SECRET, token
from waiting import until
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from synopticon_rtc import SignalingClient
from synopticon_rtc.errors import SignalingError
from synopticon_rtc.signaling.server import invitations
from synopticon_rtc.signaling.server.access import Participant
from synopticon_rtc.signaling.server.server import SignalingServer
from synopticon_rtc.signaling.server.tokens import Claims, TokenKeys, make_token


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0, tokens=TokenKeys(secret=SECRET)) as server:
        yield server


def link(holder: str = "", **claims: Any) -> str:
    return f"?token={token(invitation='i1', **claims)}" + (holder and f"&holder={holder}")


async def refused(server: SignalingServer, query: str) -> str:
    """Try to come in; return the words."""
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"{server.url}{query}", proxy=None)
    answer = object_of(bytes(caught.value.response.body or b"").decode())
    assert (caught.value.response.status_code, answer["error"]) == (403, "invitation_used")
    words: str = answer["message"]
    return words


async def lose(server: SignalingServer, session: str) -> None:
    """Lose its connection, as where a phone has no net: nobody says anything."""
    server.sessions[session]._transport.disconnect(graceful=False)
    await until(lambda: session not in server.sessions)


def test_a_token_says_that_it_is_an_invitation() -> None:
    claims = Claims(room="lab", invitation="i1", expires=float(int(time.time()) + 60))
    assert TokenKeys(secret=SECRET).check(make_token(SECRET, claims)) == claims


async def test_a_link_that_is_in_use_is_refused_in_words(server: SignalingServer) -> None:
    async with joined(server, query=link("phone")) as [client]:
        for other in (link("laptop"), link(), link("phonetic")):
            words = await refused(server, other)
            assert "in use in another browser or on another device" in words
            assert "ask for a link of your own" in words
        assert await client.next_is_pong()
        async with joined(server, query=f"?token={token(invitation='i2')}&holder=laptop"):
            pass  # another link


async def test_of_those_who_open_a_link_at_the_same_moment_one_comes_in(server: SignalingServer) -> None:
    tried = (connect(f"{server.url}{link(f'device{number}')}", proxy=None) for number in range(5))
    came = await asyncio.gather(*tried, return_exceptions=True)
    refusals = [each for each in came if isinstance(each, InvalidStatus)]
    (let_in,) = [each for each in came if not isinstance(each, BaseException)]
    await let_in.close()
    assert [each.response.status_code for each in refusals] == [403] * 4


async def test_who_does_not_say_who_it_is_cannot_come_back(server: SignalingServer) -> None:
    async with joined(server, query=link()):
        await refused(server, link())


async def test_the_same_browser_takes_its_own_place(server: SignalingServer) -> None:
    async with joined(server, query=link("phone")) as [old], joined(server, query=link("phone")) as [new]:
        code, reason = await old.closed()
        assert (code, reason) == (4409, "The link was opened once more in this browser: go on there")
        await refused(server, link("laptop"))
        assert await new.next_is_pong()


async def test_who_lost_its_connection_finds_its_place_kept_for_a_while(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(server, query=link("phone")) as [client]:
        await lose(server, client.session)
        await refused(server, link("laptop"))
    async with joined(server, query=link("phone")) as [client]:
        monkeypatch.setattr(invitations, "KEPT", 0.0)
        await lose(server, client.session)
        async with asyncio.timeout(20), joined(server, query=link("laptop")):
            pass


async def test_who_says_that_it_goes_leaves_its_place_at_once(server: SignalingServer) -> None:
    async with joined(server, query=link("phone")) as [client]:
        session = client.session
    await until(lambda: session not in server.sessions)
    async with joined(server, query=link("laptop")):
        await refused(server, link("phone"))


async def test_one_that_is_in_use_at_another_server_is_refused_too(server: SignalingServer) -> None:
    for holder, invitation in (("phone", "i1"), ("somebody", "i2")):
        who = Participant(f"ws_{holder}", "", "lab", invitation=invitation, holder=holder)
        server._hub.appeared(who)
    await refused(server, link("laptop", room="lab"))
    async with joined(server, query=link("phone", room="lab")):
        pass


async def test_a_client_in_python_comes_back_and_another_is_told(server: SignalingServer) -> None:
    invited = token(invitation="i1")
    async with SignalingClient(server.url, token=invited) as client:
        session = await client.wait_open()
        await lose(server, session)
        await until(lambda: client.session not in {session, None})
        assert "holder" not in client.url
        async with SignalingClient(server.url, token=invited) as other:
            with pytest.raises(SignalingError, match="in use in another browser"):
                await other.wait_open()
