"""What goes is noticed, and comes back: processes are killed and stopped, hosts change their address."""

import asyncio
import contextlib
import itertools
import json
import signal
import sys
import threading
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from typing import Any, Self

import pytest
from networks import Host, hosts, rules
from networks import connect as lay_cable
from waiting import until
from websockets.asyncio.client import ClientConnection, connect

from synopticon_rtc import Broadcaster, Receiver, SignalingServer, TestPattern
from synopticon_rtc.signaling import handshake

SIZE = (320, 180)
THREADS = 3
"""That a frame goes through, each of which a busy machine may hold up: one draws it, one encodes it, one decodes it."""
CARD = ["--source", "test", "--size", "320x180", "--faces", "0"]


class Log:
    """A receiver's frames and states, with their times."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.frames: list[float] = []
        self.states: list[tuple[str, float]] = []
        receiver.events.subscribe(lambda event: self.states.append((event.state, time.monotonic())))

    async def follow(self) -> None:
        async for _ in self.receiver:
            self.note()

    def note(self) -> None:
        self.frames.append(time.monotonic())

    def longest_gap(self, since: float) -> float:
        return longest_gap(self.frames, since)

    async def frames_after(self, at: float, count: int = 5, seconds: float = 20) -> None:
        await until(lambda: sum(frame > at for frame in self.frames) >= count, seconds)

    async def reached(self, state: str, after: float, seconds: float = 20) -> float:
        """When the state came, as seconds after a moment."""
        await until(lambda: any(name == state and at > after for name, at in self.states), seconds)
        return next(at - after for name, at in self.states if name == state and at > after)


def longest_gap(times: Sequence[float], since: float) -> float:
    return max(later - earlier for earlier, later in itertools.pairwise(at for at in times if at >= since))


class Pace:
    """A thread that works as long as a frame takes, as often as frames come: it tells what a busy machine holds up."""

    WORK, PAUSE = 0.005, 0.03

    def __init__(self) -> None:
        self._beats: list[float] = []
        self._left = threading.Event()

    def _work(self) -> None:
        while not self._left.wait(self.PAUSE):
            done = time.thread_time() + self.WORK
            while time.thread_time() < done:
                pass
            self._beats.append(time.monotonic())

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()

    def held_up(self, since: float) -> float:
        """How long the machine kept it from its work at the most, s."""
        return max(0.0, longest_gap(self._beats, since) - self.WORK - self.PAUSE)


@contextlib.asynccontextmanager
async def received(url: str, **options: Any) -> AsyncIterator[Log]:
    async with Receiver(url, **options) as receiver:
        log = Log(receiver)
        following = asyncio.create_task(log.follow())
        try:
            yield log
        finally:
            following.cancel()
            await asyncio.wait([following])


@contextlib.asynccontextmanager
async def process(module: str, *args: str, prefix: tuple[str, ...] = ()) -> AsyncIterator[Process]:
    command = [*prefix, sys.executable, "-m", f"synopticon_rtc.{module}", *args, "--json"]
    child = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.communicate()


async def event(child: Process, name: str) -> dict[str, Any]:
    assert child.stdout is not None
    async for line in child.stdout:
        fields: dict[str, Any] = json.loads(line)
        if fields["event"] == name:
            return fields
    pytest.fail(f"no {name} event")


async def states_until_connected(receive: Process) -> list[str]:
    states: list[str] = []
    while not states or states[-1] != "connected":
        states.append((await event(receive, "state"))["state"])
    return states


async def test_a_killed_broadcaster_is_noticed_and_its_successor_taken() -> None:
    async with SignalingServer(port=0) as server, received(server.url) as log:
        async with process("broadcast", "--url", server.url, *CARD) as broadcast:
            await log.frames_after(0)
            killed = time.monotonic()
            broadcast.kill()
            assert await log.reached("interrupted", killed) < 1.8  # 0.6 s on an idle machine
        async with process("broadcast", "--url", server.url, *CARD) as broadcast:
            await event(broadcast, "ready")
            back = time.monotonic()
            await log.frames_after(back, count=1, seconds=5)


@pytest.mark.long
async def test_a_stopped_broadcaster_is_noticed_and_taken_again_once() -> None:
    async with (
        SignalingServer(port=0) as server,
        received(server.url) as log,
        process("broadcast", "--url", server.url, *CARD) as broadcast,
    ):
        await log.frames_after(0)
        stopped = time.monotonic()
        broadcast.send_signal(signal.SIGSTOP)
        assert await log.reached("interrupted", stopped) < 3.5
        await asyncio.sleep(2)
        broadcast.send_signal(signal.SIGCONT)
        await log.frames_after(time.monotonic() + 2)
        async with asyncio.timeout(10):
            while (await event(broadcast, "stats"))["peers"] != 1:
                pass


async def test_a_killed_receiver_is_dropped_and_the_others_notice_nothing() -> None:
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, TestPattern(SIZE, 30)) as broadcaster,
        received(server.url) as log,
        process("receive", "--url", server.url) as other,
    ):
        await states_until_connected(other)
        await log.frames_after(0)
        assert len(broadcaster.peers) == 2
        with Pace() as pace:
            killed = time.monotonic()
            other.kill()
            async with asyncio.timeout(1.8):
                async for left in broadcaster.events:
                    if left.state == "closed":
                        break
            assert len(broadcaster.peers) == 1
            await log.frames_after(time.monotonic())
            assert log.longest_gap(killed) < 0.5 + THREADS * pace.held_up(killed)


async def test_signaling_that_is_killed_and_comes_back_leaves_no_gap() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with process("signaling", "--port", "0") as server:
            url = (await event(server, "ready"))["url"]
            await stack.enter_async_context(Broadcaster(url, TestPattern(SIZE, 30)))
            log = await stack.enter_async_context(received(url))
            pace = stack.enter_context(Pace())
            await log.frames_after(0)
            killed = time.monotonic()
            server.kill()
            await log.frames_after(killed + 1)
        port = url.rsplit(":", 1)[1].split("/")[0]
        async with process("signaling", "--port", port) as server, received(url) as another:
            await event(server, "ready")
            await another.frames_after(0, seconds=10)
            await log.frames_after(time.monotonic())
            assert log.longest_gap(killed) < 0.5 + THREADS * pace.held_up(killed)
            assert [state for state, at in log.states if at > killed] == []


async def greet(socket: ClientConnection) -> str:
    session: str = json.loads(await socket.recv())["sessionId"]
    return session


async def next_of(socket: ClientConnection, kind: str, seconds: float = 10) -> dict[str, Any]:
    async with asyncio.timeout(seconds):
        while True:
            message: dict[str, Any] = json.loads(await socket.recv())
            if message["type"] == kind:
                return message


async def test_an_offer_without_reaction_is_repeated_once_then_given_up_with_an_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handshake, "REPEAT_AFTER", 0.2)
    monkeypatch.setattr(handshake, "GIVE_UP_AFTER", 1.0)
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, TestPattern(SIZE, 30)) as broadcaster,
        connect(server.url) as silent,
    ):
        events: list[tuple[str, str]] = []
        broadcaster.events.subscribe(lambda peer: events.append((peer.state, peer.reason)))
        await greet(silent)
        await silent.send('{"type":"request_offer","accept":{"control":["control/1"]}}')
        first = await next_of(silent, "webrtc_offer")
        second = await next_of(silent, "webrtc_offer")
        assert second["sdp"] == first["sdp"]
        await until(lambda: len(events) > 1)
        assert [state for state, _ in events] == ["connecting", "closed"]
        assert "no answer" in events[-1][1]
        await silent.send('{"type":"ping"}')
        kinds = [""]
        while kinds[-1] != "pong":
            kinds.append(json.loads(await silent.recv())["type"])
        assert "webrtc_offer" not in kinds


async def test_an_answer_without_reaction_is_repeated_once() -> None:
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, TestPattern(SIZE, 30)) as broadcaster,
        connect(server.url) as silent,
        connect(server.url) as thief,
    ):
        # A real offer, made for somebody else, from a peer that never takes part in it.
        session = await greet(silent)
        await greet(thief)
        await broadcaster.signaling.wait_open()
        await thief.send('{"type":"request_offer"}')
        stolen = await next_of(thief, "webrtc_offer")
        async with Receiver(server.url, broadcaster=session) as receiver:
            asked = await next_of(silent, "webrtc_seek_broadcaster")  # the thief has sent the other kind
            offer = {"type": "webrtc_offer", "targetSession": asked["sourceSession"], "sdp": stolen["sdp"]}
            await silent.send(json.dumps(offer | {"accept": {"control": ["control/1"]}}))
            first = await next_of(silent, "webrtc_answer")
            second = await next_of(silent, "webrtc_answer")
            assert first["sdp"] == second["sdp"]
            assert receiver.stats.frames == 0


# Hosts of their own: two network namespaces, joined by a cable.


def on(host: Host) -> tuple[str, ...]:
    return ("ip", "netns", "exec", host.name)


async def media_come_back(here: Host, there: Host, *, moving: str) -> None:
    # Signaling stays where it is; who moves sits at the other end of the cable.
    url = "ws://198.51.100.1:8081/ws"
    _, cable = lay_cable(here, "198.51.100.1/24", there, "198.51.100.2/24")
    broadcasting, receiving = (here, there) if moving == "receiver" else (there, here)
    async with (
        process("signaling", "--host", "0.0.0.0", "--insecure", prefix=on(here)) as server,  # noqa: S104 - a test's own
        process("broadcast", "--url", url, *CARD, prefix=on(broadcasting)) as broadcast,
        process("receive", "--url", url, "--timeout", "60", prefix=on(receiving)) as receive,
        asyncio.timeout(60),
    ):
        await event(server, "ready")
        await event(broadcast, "ready")
        assert (await states_until_connected(receive))[-2:] == ["connecting", "connected"]
        await event(receive, "stats")
        there.run("ip", "addr", "del", "198.51.100.2/24", "dev", cable)
        there.run("ip", "addr", "add", "198.51.100.77/24", "dev", cable)
        moved = time.monotonic()
        states = await states_until_connected(receive)
        assert states[0] == "interrupted"
        assert time.monotonic() - moved < 30
        decoded = (await event(receive, "stats"))["decoded"]
        while (await event(receive, "stats"))["decoded"] == decoded:
            pass


@pytest.mark.long
async def test_media_come_back_when_a_host_changes_its_address() -> None:
    with hosts(4) as (one, two, three, four):
        async with asyncio.TaskGroup() as at_once:  # each waits long for signs of life
            at_once.create_task(media_come_back(one, two, moving="receiver"))
            at_once.create_task(media_come_back(three, four, moving="broadcaster"))


@pytest.mark.long
@pytest.mark.parametrize("seconds", [6, 13])
async def test_what_is_published_by_whip_is_seen_again_once_its_way_is_open_again(seconds: float) -> None:
    """ICE cannot be restarted: it is another session, whose offer meets a server that may know of the first one."""
    with hosts(2) as (here, there):
        lay_cable(here, "198.51.100.1/24", there, "198.51.100.2/24")
        room, whip = "ws://198.51.100.1:8081/ws", "whip+http://198.51.100.1:8081/whip/lab/cam"
        listening = ("--host", "0.0.0.0", "--insecure", "--whip")  # noqa: S104 - a test's own
        async with (
            process("signaling", *listening, prefix=on(here)) as server,
            process("broadcast", "--url", whip, *CARD, prefix=on(there)) as broadcast,
            process("receive", "--url", room, "--room", "lab", "--timeout", "60", prefix=on(here)) as receive,
            asyncio.timeout(90),
        ):
            await event(server, "ready")
            await event(broadcast, "ready")
            assert (await states_until_connected(receive))[-1] == "connected"
            while not (await event(receive, "stats"))["decoded"]:
                pass
            rules(
                there, "add table inet cut; add chain inet cut way { type filter hook input priority 0; policy drop; }"
            )
            await asyncio.sleep(seconds)  # for which the way is closed
            rules(there, "delete table inet cut")
            opened = time.monotonic()
            assert (await states_until_connected(receive))[-1] == "connected"
            decoded = (await event(receive, "stats"))["decoded"]
            while (await event(receive, "stats"))["decoded"] == decoded:
                pass
            assert time.monotonic() - opened < 5 + 2  # with two reports of one a second
