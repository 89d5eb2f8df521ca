"""Who may watch is the application's to say, and both ends are told: real ends over a real server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from waiting import until

from synopticon_rtc import Broadcaster, Receiver, SignalingServer, TestPattern, Visitor
from synopticon_rtc.errors import NobodyAnswered
from synopticon_rtc.events import StateEvent

CARD = TestPattern((320, 180), 30)
REFUSED = "the broadcaster does not admit you"


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


def states(events: list[Any]) -> list[tuple[str, str]]:
    return [(event.state, event.reason) for event in events]


async def test_each_session_is_asked_about_once_and_the_others_do_not_wait(server: SignalingServer) -> None:
    asked: list[Visitor] = []

    async def admit(visitor: Visitor) -> bool:
        asked.append(visitor)
        if len(asked) == 1:
            await asyncio.Event().wait()  # for ever
        return True

    async with Broadcaster(server.url, CARD, admit=admit) as broadcaster, Receiver(server.url) as waits:
        await until(lambda: len(asked) == 1)
        async with asyncio.timeout(20), Receiver(server.url) as receiver:
            await anext(receiver)
            assert [visitor.session for visitor in asked] == [waits.signaling.session, receiver.signaling.session]
            assert broadcaster.peers == (receiver.signaling.session,)


async def test_who_is_not_admitted_learns_it_and_is_not_connected(server: SignalingServer) -> None:
    async def admit(_: Visitor) -> bool:
        return False

    told: list[Any] = []
    heard: list[StateEvent] = []
    async with Broadcaster(server.url, CARD, admit=admit) as broadcaster:
        broadcaster.events.subscribe(told.append)
        async with Receiver(server.url, timeout=0.5) as receiver:
            receiver.events.subscribe(heard.append)
            with pytest.raises(NobodyAnswered, match=REFUSED):
                await anext(receiver)
    assert states(told) == [("refused", "the receiver is not admitted")]
    assert states(heard)[-2:] == [("refused", REFUSED), ("seeking", REFUSED)]


@pytest.mark.parametrize("error", [LookupError("a bug"), asyncio.CancelledError()], ids=repr)
async def test_where_the_application_fails_nobody_is_admitted(server: SignalingServer, error: BaseException) -> None:
    async def admit(_: Visitor) -> bool:
        raise error

    async with Broadcaster(server.url, CARD, admit=admit) as broadcaster, Receiver(server.url) as receiver:
        async with asyncio.timeout(10):
            async for event in receiver.events:
                if event.state == "refused":
                    break
        assert broadcaster.stats.faults == isinstance(error, Exception)


async def test_who_is_sent_away_is_told_why_and_served_again_in_a_new_session_alone(server: SignalingServer) -> None:
    heard: list[StateEvent] = []
    async with asyncio.timeout(20), Broadcaster(server.url, CARD) as broadcaster:
        async with Receiver(server.url) as receiver:
            receiver.events.subscribe(heard.append)
            await anext(receiver)
            broadcaster.send_away(broadcaster.peers[0], "the lesson is over")
            await until(lambda: "refused" in [event.state for event in heard])
            assert states(heard)[-2:] == [
                (state, "the broadcaster has sent you away: the lesson is over") for state in ("refused", "seeking")
            ]
            assert broadcaster.peers == ()
        async with Receiver(server.url) as receiver:
            await anext(receiver)


async def test_only_an_open_broadcaster_sends_away_and_only_functions_admit() -> None:
    with pytest.raises(RuntimeError, match="not open"):
        Broadcaster("ws://127.0.0.1:9/ws", CARD).send_away("ws_r")
    with pytest.raises(TypeError, match="admit must be an async function, not 'yes'"):
        Broadcaster("ws://127.0.0.1:9/ws", CARD, admit="yes")  # type: ignore[arg-type]
