"""Who may connect to whom: rooms, roles, and a hook that may know better."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bare_client import Client, joined
from waiting import turns, until

from synopticon_rtc.signaling.server.access import Participant, Role, roles_meet
from synopticon_rtc.signaling.server.limits import Limits
from synopticon_rtc.signaling.server.server import SignalingServer
from synopticon_rtc.signaling.server.tokens import Claims, TokenKeys, make_token


def participant(room: str, *roles: Role) -> Participant:
    return Participant("ws_1_0", room=room, roles=frozenset(roles) or None)


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


def ice(target: Client, number: int = 0) -> dict[str, Any]:
    return {"type": "webrtc_ice", "targetSession": target.session, "n": number}


async def takes_role(client: Client, *roles: str) -> None:
    assert (await client.configure(role=list(roles)))["type"] == "configured"


class Hook:
    """An access hook that tells what it was asked, and answers when told to."""

    def __init__(self, *, at_once: bool | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.at_once = at_once
        self.answers: dict[tuple[str, str], asyncio.Future[bool]] = {}
        self.waiting = asyncio.Event()

    def __call__(self, source: Participant, target: Participant) -> Any:
        pair = source.session, target.session
        self.asked.append(pair)
        if self.at_once is not None:
            return self.at_once
        self.answers[pair] = asyncio.get_running_loop().create_future()
        self.waiting.set()
        return self.answers[pair]

    async def wait(self) -> tuple[str, str]:
        async with asyncio.timeout(20):
            await self.waiting.wait()
        self.waiting.clear()
        return self.asked[-1]


# Roles and rooms


@pytest.mark.parametrize(
    ("source", "target", "may"),
    [
        (("a",), ("a",), True),
        (("a", "broadcast"), ("a",), True),
        (("a",), ("a", "receive"), True),
        (("a", "broadcast"), ("a", "receive"), True),
        (("a", "receive"), ("a", "broadcast"), True),
        (("a", "record"), ("a", "broadcast"), True),
        (("a", "broadcast"), ("a", "record"), True),
        (("a", "record"), ("a", "receive"), False),
        (("a", "record"), ("a", "record"), False),
        (("a", "broadcast"), ("a", "broadcast"), False),
        (("a", "receive"), ("a", "receive"), False),
        (("a", "broadcast", "receive"), ("a", "receive"), True),
        (("a", "broadcast", "receive"), ("a", "broadcast"), True),
        (("a",), ("b",), False),
        (("a", "broadcast"), ("b", "receive"), False),
    ],
)
def test_a_broadcaster_and_a_receiver_of_one_room_may_connect(source: Any, target: Any, *, may: bool) -> None:
    assert roles_meet(participant(*source), participant(*target)) == may


async def test_messages_do_not_leave_the_room(server: SignalingServer) -> None:
    async with (
        joined(server, 2, query="?room=a") as [sender, other],
        joined(server, query="?room=b") as [away],
        joined(server) as [nowhere],
    ):
        await sender.send({"type": "request_offer"})
        assert (await other.receive())["sourceSession"] == sender.session
        await sender.send({"type": "webrtc_ice"})
        assert (await other.receive())["sourceSession"] == sender.session
        for target in (away, nowhere):
            await sender.send(ice(target))
        assert await sender.next_is_pong()
        assert await away.next_is_pong()
        assert await nowhere.next_is_pong()
        assert server.relayed == 2


async def test_a_room_is_forgotten_when_the_last_one_leaves(server: SignalingServer) -> None:
    for _ in range(3):
        async with joined(server, 2, query="?room=a") as [sender, other]:
            await sender.send(ice(other))
            await other.receive()
    async with joined(server) as [client]:
        assert await client.next_is_pong()
        await until(lambda: list(server._hub.rooms) == [""])


@pytest.mark.parametrize("kind", ["webrtc_seek_broadcaster", "request_offer"])
async def test_a_discovery_reaches_broadcasters_and_those_whose_role_is_not_known(
    server: SignalingServer, kind: str
) -> None:
    async with joined(server, 4) as [seeker, broadcaster, receiver, page]:
        await takes_role(broadcaster, "broadcast")
        await takes_role(receiver, "receive")
        for roles in ((), ("receive",)):
            if roles:
                await takes_role(seeker, *roles)
            await seeker.send({"type": kind})
            for reached in (broadcaster, page):
                assert (await reached.receive())["type"] == kind
            assert await receiver.next_is_pong()


async def test_receivers_do_not_reach_each_other(server: SignalingServer) -> None:
    async with joined(server, 3) as [one, other, page]:
        await takes_role(one, "receive")
        await takes_role(other, "receive")
        await one.send(ice(other))
        await one.send({"type": "webrtc_offer"})
        assert (await page.receive())["type"] == "webrtc_offer"
        assert await other.next_is_pong()
        assert server.relayed == 1


async def test_a_role_that_changes_opens_what_was_closed(server: SignalingServer) -> None:
    async with joined(server, 2) as [one, other]:
        await takes_role(one, "receive")
        await takes_role(other, "receive")
        await one.send(ice(other, 1))
        assert await one.next_is_pong()
        await takes_role(other, "broadcast")
        await one.send(ice(other, 2))
        assert (await other.receive())["n"] == 2


# The hook


async def test_the_hook_is_asked_once_for_a_pair_whoever_begins() -> None:
    hook = Hook(at_once=True)
    async with SignalingServer(port=0, can_connect=hook) as server, joined(server, 3) as [one, other, third]:
        for number in range(3):
            await one.send(ice(other, number))
            assert (await other.receive())["n"] == number
            await other.send(ice(one, number))
            assert (await one.receive())["n"] == number
        assert hook.asked == [(one.session, other.session)]
        await third.send(ice(one))
        await one.receive()
        assert hook.asked[1:] == [(third.session, one.session)]


async def test_the_hook_is_not_asked_for_messages_to_oneself() -> None:
    hook = Hook(at_once=False)
    async with SignalingServer(port=0, can_connect=hook) as server, joined(server) as [client]:
        await client.send(ice(client))
        assert (await client.receive())["sourceSession"] == client.session
        assert hook.asked == []


async def test_a_pair_that_may_not_connect_is_asked_about_once() -> None:
    hook = Hook(at_once=False)
    async with SignalingServer(port=0, can_connect=hook) as server, joined(server, 2) as [one, other]:
        for _ in range(3):
            await one.send(ice(other))
        assert await one.next_is_pong()
        assert await other.next_is_pong()
        assert hook.asked == [(one.session, other.session)]
        assert server.relayed == 0


async def test_the_hook_is_asked_for_every_discovery_and_each_that_it_may_reach() -> None:
    hook = Hook(at_once=True)
    async with SignalingServer(port=0, can_connect=hook) as server, joined(server, 3) as [seeker, one, receiver]:
        await takes_role(receiver, "receive")
        for _ in range(2):
            await seeker.send({"type": "request_offer"})
            await one.receive()
        assert hook.asked == [(seeker.session, one.session)] * 2


async def test_messages_of_a_pair_wait_in_order_for_an_answer_and_nobody_else_does() -> None:
    hook = Hook()
    async with SignalingServer(port=0, can_connect=hook) as server, joined(server, 2) as [one, other]:
        for number in range(3):
            await one.send(ice(other, number))
        pair = await hook.wait()
        await one.send({"type": "webrtc_seek_broadcaster", "n": 3})
        await one.send(ice(other, 4))
        assert await one.next_is_pong()
        assert await other.next_is_pong()
        hook.answers[pair].set_result(True)
        assert [(await other.receive())["n"] for _ in range(5)] == [0, 1, 2, 3, 4]
        await other.send(ice(one, 5))
        assert (await one.receive())["n"] == 5
        assert hook.asked == [(one.session, other.session)]


async def test_a_late_no_drops_what_waited() -> None:
    hook = Hook()
    async with SignalingServer(port=0, can_connect=hook) as server, joined(server, 2) as [one, other]:
        await one.send(ice(other))
        hook.answers[await hook.wait()].set_result(False)
        await one.send(ice(other))
        assert await one.next_is_pong()
        assert await other.next_is_pong()
        assert len(hook.asked) == 1


async def test_a_yes_the_other_way_opens_the_pair() -> None:
    hook = Hook()
    async with SignalingServer(port=0, can_connect=hook) as server, joined(server, 2) as [one, other]:
        await one.send(ice(other, 1))
        first = await hook.wait()
        await other.send(ice(one, 2))
        hook.answers[await hook.wait()].set_result(True)
        assert (await one.receive())["n"] == 2
        hook.answers[first].set_result(False)
        assert (await other.receive())["n"] == 1


async def test_only_so_many_messages_wait_for_an_answer() -> None:
    hook, limits = Hook(), Limits(pending=3)
    async with SignalingServer(port=0, can_connect=hook, limits=limits) as server, joined(server, 2) as [one, other]:
        await one.configure(tell=["errors"])
        for number in range(5):
            await one.send(ice(other, number))
        errors = [await one.receive() for _ in range(2)]
        assert [error["errorCode"] for error in errors] == ["rate_limited"] * 2
        hook.answers[await hook.wait()].set_result(True)
        assert [(await other.receive())["n"] for _ in range(3)] == [0, 1, 2]
        assert await other.next_is_pong()


@pytest.mark.parametrize("leaves", ["source", "target"])
async def test_who_leaves_before_the_answer_gets_and_sends_nothing(leaves: str) -> None:
    hook = Hook()
    async with SignalingServer(port=0, can_connect=hook) as server, joined(server) as [stays]:
        async with joined(server) as [gone]:
            one, other = (gone, stays) if leaves == "source" else (stays, gone)
            await one.send(ice(other))
            pair = await hook.wait()
        await until(lambda: gone.session not in server.sessions)
        hook.answers[pair].set_result(True)
        assert await stays.next_is_pong()
        assert server.sessions[stays.session].links == {}


async def test_an_error_in_the_hook_is_logged_and_means_no(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_source: Participant, _target: Participant) -> bool:
        raise LookupError("at once")

    async def broken_later(_source: Participant, _target: Participant) -> bool:
        await turns()
        raise LookupError("later")

    for hook in (broken, broken_later):
        async with SignalingServer(port=0, can_connect=hook) as server, joined(server, 2) as [one, other]:
            await one.configure(tell=["errors"])
            await one.send(ice(other))
            assert (await one.receive())["errorCode"] == "not_allowed"
            assert await other.next_is_pong()
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [str(record.exc_info[1]) for record in errors if record.exc_info] == ["at once", "later"]


async def test_a_hook_that_never_answers_holds_up_no_end() -> None:
    hook = Hook()
    async with SignalingServer(port=0, can_connect=hook) as server, joined(server, 2) as [one, other]:
        await one.send(ice(other))
        await hook.wait()
    assert hook.answers[one.session, other.session].cancelled()


async def test_messages_of_a_pair_keep_their_order_however_they_were_allowed() -> None:
    hook = Hook()
    async with SignalingServer(port=0, can_connect=hook) as server, joined(server, 2) as [one, other]:
        await takes_role(one, "broadcast")
        await takes_role(other, "receive")
        await one.send(ice(other, 1))
        slow = await hook.wait()
        await one.send(ice(other, 2))
        await other.send(ice(one, 0))
        hook.answers[await hook.wait()].set_result(True)
        assert (await one.receive())["n"] == 0
        await one.send(ice(other, 3))
        assert [(await other.receive())["n"] for _ in range(3)] == [1, 2, 3]
        hook.answers[slow].set_result(False)
        await one.send(ice(other, 4))
        assert (await other.receive())["n"] == 4


async def test_discoveries_wait_in_order_behind_one_question_a_pair() -> None:
    hook = Hook()
    async with SignalingServer(port=0, can_connect=hook) as server, joined(server, 2) as [seeker, one]:
        for number in range(3):
            await seeker.send({"type": "request_offer", "n": number})
        await seeker.send(ice(one, 3))
        assert await seeker.next_is_pong()
        assert hook.asked == [(seeker.session, one.session)]
        hook.answers[hook.asked[0]].set_result(True)
        assert [(await one.receive())["n"] for _ in range(4)] == [0, 1, 2, 3]


async def test_discoveries_that_wait_are_bounded_and_end_with_their_sender() -> None:
    asked: list[asyncio.Task[None] | None] = []

    async def hook(_source: Participant, _target: Participant) -> bool:
        asked.append(asyncio.current_task())
        await asyncio.Event().wait()
        return True

    limits = Limits(pending=10)
    async with SignalingServer(port=0, can_connect=hook, limits=limits) as server, joined(server) as [one]:
        async with joined(server) as [seeker]:
            for _ in range(500):
                await seeker.send({"type": "request_offer", "pad": "x" * 1000})
            assert await seeker.next_is_pong()
            assert len(asked) == 1
            assert 10_000 < server.sessions[seeker.session].waits < 12_000
        assert await one.next_is_pong()
        await until(lambda: all(task and task.done() for task in asked))
        assert server._hub._permissions._asked == {}
        assert server._hub._relay._queues == {}
        assert server._hub.memory.total == 0


async def test_who_configures_again_and_again_asks_no_more_than_one_question_a_pair() -> None:
    hook = Hook()
    async with SignalingServer(port=0, can_connect=hook) as server, joined(server, 2) as [watcher, one]:
        await takes_role(one, "broadcast")
        for _ in range(20):
            await watcher.configure(tell=["broadcasters"])
            assert (await watcher.receive())["broadcasters"] == []
        assert hook.asked == [(watcher.session, one.session)]
        hook.answers[hook.asked[0]].set_result(True)
        assert (await watcher.receive())["type"] == "broadcaster_available"
        assert await watcher.next_is_pong()


@pytest.mark.parametrize("who", [0, 1], ids=["source", "target"])
async def test_an_answer_that_is_older_than_a_role_is_asked_for_again(who: int) -> None:
    answers: list[tuple[bool, asyncio.Future[None]]] = []

    async def hook(source: Participant, target: Participant) -> bool:
        answers.append((roles_meet(source, target), asyncio.get_running_loop().create_future()))
        answer, given = answers[-1]
        await given
        return answer

    async with SignalingServer(port=0, can_connect=hook) as server, joined(server, 2) as clients:
        one, other = clients
        await one.configure(role="receive", tell=["errors"])
        await other.configure(role="receive")
        await one.send(ice(other, 1))
        assert await one.next_is_pong()
        await takes_role(clients[who], "broadcast")
        answers[0][1].set_result(None)
        assert await one.next_is_pong()
        assert [answer for answer, _ in answers] == [False, True]
        answers[1][1].set_result(None)
        assert (await other.receive())["n"] == 1


async def test_a_hook_that_is_cancelled_from_within_means_no() -> None:
    async def hook(_source: Participant, _target: Participant) -> bool:
        raise asyncio.CancelledError

    async with SignalingServer(port=0, can_connect=hook) as server, joined(server, 2) as [one, other]:
        await one.configure(tell=["errors"])
        await one.send(ice(other))
        assert (await one.receive())["errorCode"] == "not_allowed"


async def test_a_future_that_a_hook_keeps_is_not_ours_to_cancel() -> None:
    shared: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    server = SignalingServer(port=0, can_connect=lambda _source, _target: shared)
    async with server, joined(server, 2) as [one, other]:
        async with joined(server) as [gone]:
            await gone.send(ice(one))
            await one.send(ice(other, 1))
            assert await gone.next_is_pong()
            assert await one.next_is_pong()
        await until(lambda: gone.session not in server.sessions)
        shared.set_result(True)
        assert (await other.receive())["n"] == 1


async def test_a_target_that_leaves_is_told_to_who_waits_for_it() -> None:
    hook = Hook()
    async with SignalingServer(port=0, can_connect=hook) as server, joined(server) as [one]:
        await one.configure(tell=["errors"])
        async with joined(server) as [gone]:
            await one.send(ice(gone))
            await hook.wait()
        error = await one.receive()
        assert (error["errorCode"], error["targetSession"]) == ("target_not_found", gone.session)


# Roles that are given back, and those that a token only allows


async def test_a_role_that_is_given_back_ends_a_broadcaster_and_is_sought_no_more(server: SignalingServer) -> None:
    async with joined(server, 3) as [watcher, one, seeker]:
        await watcher.configure(role="receive", tell=["broadcasters"])
        assert (await watcher.receive())["broadcasters"] == []
        await takes_role(one, "broadcast")
        assert (await watcher.receive())["type"] == "broadcaster_available"
        await one.configure(role=[])
        assert await watcher.receive() == {"type": "broadcaster_gone", "session": one.session}
        await seeker.send({"type": "request_offer"})
        assert await one.next_is_pong()
        await takes_role(one, "broadcast")
        assert (await watcher.receive())["type"] == "broadcaster_available"


async def test_a_token_that_allows_both_announces_nobody_until_it_says_what_it_does() -> None:
    key = b"x" * 32
    both = make_token(key, Claims("a", roles=frozenset(["broadcast", "receive"])))
    async with (
        SignalingServer(port=0, tokens=TokenKeys(secret=key)) as server,
        joined(server, 4, query=f"?token={both}") as [watcher, receiver, broadcaster, page],
    ):
        await watcher.configure(role="receive", tell=["broadcasters"])
        assert (await watcher.receive())["broadcasters"] == []
        await takes_role(receiver, "receive")
        await takes_role(broadcaster, "broadcast")
        assert (await watcher.receive())["session"] == broadcaster.session
        await watcher.send({"type": "request_offer"})
        assert (await broadcaster.receive())["type"] == (await page.receive())["type"] == "request_offer"
        assert await receiver.next_is_pong()


async def test_a_watcher_whose_own_role_changes_is_told_who_is_news_to_it_now(server: SignalingServer) -> None:
    async with joined(server, 3) as [watcher, one, both]:
        await takes_role(one, "broadcast")
        await takes_role(both, "broadcast", "receive")
        await watcher.configure(role="receive", tell=["broadcasters"])
        known = {entry["session"] for entry in (await watcher.receive())["broadcasters"]}
        assert known == {one.session, both.session}
        await takes_role(watcher, "broadcast")
        assert await watcher.receive() == {"type": "broadcaster_gone", "session": one.session}
        await takes_role(both, "broadcast")
        assert await watcher.receive() == {"type": "broadcaster_gone", "session": both.session}
        await takes_role(watcher, "receive")
        assert {(await watcher.receive())["session"] for _ in range(2)} == known
