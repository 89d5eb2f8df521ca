"""Several servers on real NATS servers: clients of one are clients of all."""

import asyncio
import contextlib
import http.client
import itertools
import json
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from nats_servers import Cable, NatsServer, nats_servers
from waiting import turns, until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from synopticon_rtc.signaling.server import cluster as cluster_module
from synopticon_rtc.signaling.server.access import Participant
from synopticon_rtc.signaling.server.limits import Limits
from synopticon_rtc.signaling.server.nats import NatsBackplane
from synopticon_rtc.signaling.server.server import SignalingServer

TELLS = ["peers", "errors", "broadcasters"]


class Client:
    """A client that asked to be told of everything; what came to it can be awaited by type."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.session = ""

    async def send(self, kind: str, target: "Client | None" = None, **fields: Any) -> None:
        to = {"targetSession": target.session} if target else {}
        await self.websocket.send(json.dumps({"type": kind, **to, **fields}))

    async def next(self, kind: str) -> dict[str, Any]:
        """Wait for a message of one type; those of others that came before are not kept."""
        async with asyncio.timeout(20):
            while True:
                message: dict[str, Any] = json.loads(await self.websocket.recv())
                if message["type"] == kind:
                    return message

    async def hears_nothing(self) -> bool:
        """Whether nothing but answers came before the answer to a ping that is sent now."""
        await self.send("ping")
        async with asyncio.timeout(20):
            kind = json.loads(await self.websocket.recv())["type"]
        return bool(kind == "pong")


@contextlib.asynccontextmanager
async def client(url: str, room: str = "", role: str | None = None, name: str = "") -> AsyncIterator[Client]:
    async with connect(f"{url}?room={room}", compression=None) as websocket:
        one = Client(websocket)
        one.session = (await one.next("connected"))["sessionId"]
        role_said = {"role": role} if role else {}
        await one.send("configure", requirements={"tell": TELLS, "name": name, **role_said})
        await one.next("broadcasters")
        yield one


@contextlib.asynccontextmanager
async def server_on(urls: str | list[str], **options: Any) -> AsyncIterator[SignalingServer]:
    backplane = NatsBackplane(urls, reconnect_time_wait=0.05)
    async with SignalingServer(port=0, backplane=backplane, **options) as server:
        await until(lambda: backplane.connected)
        yield server


async def until_known(*servers: SignalingServer) -> None:
    """Wait until all know the sessions of all."""
    everybody = {session for server in servers for session in server.sessions}
    await until(lambda: all({*server.sessions, *server._hub.cluster.remote} == everybody for server in servers))


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    with nats_servers() as [nats]:
        yield nats


@pytest.fixture
def fast_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "BEAT", 0.25)


@pytest.fixture
def slow_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, no server is lost to another one."""
    monkeypatch.setattr(cluster_module, "BEAT", 60)


async def exchange(a: Client, b: Client) -> None:
    """Send a message each way, which arrives."""
    for source, target in (a, b), (b, a):
        await source.send("webrtc_ice", target, candidate="x")
        assert (await target.next("webrtc_ice"))["sourceSession"] == source.session


async def test_messages_pass_between_servers_in_order_and_whole(nats: NatsServer) -> None:
    async with (
        server_on(nats.url) as one,
        server_on(nats.url) as other,
        client(one.url) as a,
        client(other.url) as b,
        client(other.url) as c,
    ):
        await until_known(one, other)
        for number in range(500):
            await a.send("webrtc_ice", b, number=number, text="ü\u2028\U0001f600", sourceSession=c.session)
        for number in range(500):
            message = await b.next("webrtc_ice")
            assert (message["number"], message["sourceSession"]) == (number, a.session)
            assert message["text"] == "ü\u2028\U0001f600"
        assert await c.hears_nothing()


async def test_a_discovery_reaches_the_broadcasters_of_its_room_on_all_servers(nats: NatsServer) -> None:
    async with (
        server_on(nats.url) as one,
        server_on(nats.url) as two,
        server_on(nats.url) as three,
        client(one.url, "lab", "receive") as receiver,
        client(two.url, "lab", "broadcast") as here,
        client(three.url, "lab", "broadcast") as there,
        client(three.url, "lab") as page,
        client(three.url, "other", "broadcast") as elsewhere,
        client(two.url, "lab", "receive") as also,
    ):
        await until_known(one, two, three)
        await receiver.send("webrtc_seek_broadcaster")
        for broadcaster in here, there, page:
            assert (await broadcaster.next("webrtc_seek_broadcaster"))["sourceSession"] == receiver.session
            await broadcaster.send("webrtc_offer", receiver)
        assert {(await receiver.next("webrtc_offer"))["sourceSession"] for _ in range(3)} == {
            here.session,
            there.session,
            page.session,
        }
        assert await elsewhere.hears_nothing()
        await also.send("status")
        assert (await also.next("status"))["server"]["activeConnections"] == 2


async def test_broadcasters_on_all_servers_are_told_of(nats: NatsServer) -> None:
    async with (
        server_on(nats.url) as one,
        server_on(nats.url) as other,
        client(one.url, role="broadcast", name="first") as first,
        connect(other.url, compression=None) as websocket,
    ):
        await until_known(one, other)
        receiver = Client(websocket)
        await receiver.send("configure", requirements={"tell": TELLS, "role": "receive"})
        listed = await receiver.next("broadcasters")
        assert listed["broadcasters"] == [{"session": first.session, "name": "first"}]
        async with client(one.url, role="broadcast", name="second") as second:
            news = await receiver.next("broadcaster_available")
            assert (news["session"], news["name"]) == (second.session, "second")
        assert (await receiver.next("broadcaster_gone"))["session"] == second.session


async def test_a_peer_that_leaves_is_told_of_across_servers_at_once(nats: NatsServer) -> None:
    async with server_on(nats.url) as one, server_on(nats.url) as other, client(other.url) as b:
        async with client(one.url) as a:
            await until_known(one, other)
            await exchange(a, b)
        left = await b.next("peer_left")
        assert left["session"] == a.session
        assert left["reason"].startswith("1000")
        await b.send("webrtc_ice", a)
        error = await b.next("error")
        assert (error["errorCode"], error["targetSession"]) == ("target_not_found", a.session)


async def test_a_server_that_stops_takes_its_sessions_along(nats: NatsServer) -> None:
    async with server_on(nats.url) as one, client(one.url) as a:
        async with server_on(nats.url) as other, connect(other.url) as websocket:
            b = Client(websocket)
            b.session = (await b.next("connected"))["sessionId"]
            await until_known(one, other)
            await exchange(a, b)
        assert (await a.next("peer_left"))["session"] == b.session
        assert one._hub.cluster.remote == {}


async def test_rooms_and_addresses_have_their_limits_over_all_servers(nats: NatsServer) -> None:
    limits = Limits(room_sessions=2, address_sessions=4)
    async with (
        server_on(nats.url, limits=limits) as one,
        server_on(nats.url, limits=limits) as other,
        client(one.url, "lab"),
        client(other.url, "lab"),
        client(other.url, "other"),
    ):
        await until_known(one, other)
        assert await refused(one.url, "lab") == "Room full"
        assert await refused(other.url, "lab") == "Room full"
        async with client(one.url, "other"):
            await until_known(one, other)
            assert await refused(other.url, "third") == "Too many sessions from this address"


async def refused(url: str, room: str) -> str | None:
    async with connect(f"{url}?room={room}") as websocket:
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(websocket.recv(), 20)
        assert websocket.close_code == 1013
        return websocket.close_reason


async def test_an_access_hook_is_asked_with_both_ends_wherever_they_are(nats: NatsServer) -> None:
    asked: list[tuple[str, str]] = []

    async def only_a(source: Participant, target: Participant) -> bool:
        asked.append((source.session, target.session))
        await turns()
        return source.name == "a"

    async with (
        server_on(nats.url, can_connect=only_a) as one,
        server_on(nats.url, can_connect=only_a) as other,
        client(one.url, name="a") as a,
        client(other.url, name="b") as b,
        client(one.url, name="c") as c,
    ):
        await until_known(one, other)
        await until(lambda: all(who.name for who in other._hub.cluster.remote.values()))
        asked.clear()
        await c.send("webrtc_offer", b)
        assert (await c.next("error"))["errorCode"] == "not_allowed"
        await a.send("webrtc_offer", b)
        await b.next("webrtc_offer")
        await b.send("webrtc_answer", a)  # the pair is allowed by now
        await a.next("webrtc_answer")
        assert asked == [(c.session, b.session), (a.session, b.session)]


@pytest.mark.usefixtures("slow_beats")
async def test_when_nats_restarts_no_session_is_lost_and_messages_wait(nats: NatsServer) -> None:
    async with (
        server_on(nats.url) as one,
        server_on(nats.url) as other,
        client(one.url) as a,
        client(other.url) as b,
    ):
        await until_known(one, other)
        await exchange(a, b)
        nats.kill()
        await until(lambda: not one._hub.cluster.connected and not other._hub.cluster.connected)
        await a.send("webrtc_ice", b, candidate="meanwhile")
        nats.start()
        assert (await b.next("webrtc_ice"))["candidate"] == "meanwhile"
        assert await b.hears_nothing()
        await exchange(a, b)


@pytest.mark.usefixtures("fast_beats")
async def test_a_server_that_is_cut_off_goes_on_by_itself_and_comes_back(nats: NatsServer) -> None:
    async with (
        Cable(nats.port) as cable,
        server_on(cable.url) as one,
        server_on(nats.url) as other,
        client(one.url) as a,
        client(one.url) as also,
        client(other.url) as b,
    ):
        await until_known(one, other)
        await exchange(a, b)
        await cable.cut()
        assert (await a.next("peer_left"))["session"] == b.session
        assert (await b.next("peer_left"))["session"] == a.session
        assert not one._hub.cluster.connected
        assert (await readiness(one), await readiness(other)) == (503, 200)
        await exchange(a, also)
        async with client(one.url) as late, client(other.url) as newcomer:
            await a.send("webrtc_ice", b)
            assert (await a.next("error"))["errorCode"] == "target_not_found"
            await cable.mend()
            await until_known(one, other)
            assert await readiness(one) == 200
            await exchange(a, b)
            await exchange(late, newcomer)


async def readiness(server: SignalingServer) -> int:
    """Ask whether it takes new sessions: an HTTP status."""

    def ask() -> int:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
            connection.request("GET", "/readyz")
            return connection.getresponse().status

    return await asyncio.to_thread(ask)


@pytest.mark.usefixtures("slow_beats")
async def test_in_a_cluster_of_nats_servers_one_may_be_killed() -> None:
    with nats_servers(3) as [first, second, third]:
        async with (
            server_on(first.url) as one,
            server_on([second.url, third.url]) as other,
            client(one.url) as a,
            client(other.url) as b,
        ):
            await until_known(one, other)
            await exchange(a, b)
            for nats in first, second:
                nats.kill()
                await until(lambda: one._hub.cluster.connected and other._hub.cluster.connected)
                await until_known(one, other)
                await until_delivered(a, b)
                await until_delivered(b, a)


async def until_delivered(source: Client, target: Client) -> None:
    """Send until something arrives: what was on its way when a NATS server died is lost."""

    async def send() -> None:
        while True:
            await source.send("webrtc_ice", target)
            await asyncio.sleep(0.05)

    sending = asyncio.create_task(send())
    try:
        await target.next("webrtc_ice")
    finally:
        sending.cancel()


@contextlib.asynccontextmanager
async def server_process(nats: NatsServer) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A server that can be killed, and its address."""
    command = [sys.executable, "-u", "-m", "synopticon_rtc.signaling", "--port", "0", "--backplane", nats.url]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout
        yield process, (await process.stdout.readline()).decode().split()[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_the_sessions_of_a_server_that_is_killed_are_gone_and_clients_find_another(nats: NatsServer) -> None:
    async with (
        server_process(nats) as (process, url),
        server_on(nats.url) as one,
        client(one.url) as a,
        client(one.url, role="receive") as watcher,
    ):
        async with connect(url) as websocket:
            b = Client(websocket)
            b.session = (await b.next("connected"))["sessionId"]
            await b.send("configure", requirements={"role": "broadcast"})
            assert (await watcher.next("broadcaster_available"))["session"] == b.session
            await exchange(a, b)
            process.send_signal(signal.SIGKILL)
            left = await a.next("peer_left")
            assert (left["session"], left["reason"]) == (b.session, "Server lost")
            assert (await watcher.next("broadcaster_gone"))["session"] == b.session
        async with client(one.url, role="broadcast") as again:
            assert (await watcher.next("broadcaster_available"))["session"] == again.session
            await exchange(a, again)


@pytest.mark.slow
async def test_a_server_that_hangs_is_given_up_and_taken_back(nats: NatsServer) -> None:
    async with (
        server_process(nats) as (process, url),
        server_on(nats.url) as one,
        client(one.url) as a,
        client(url, role="broadcast") as b,
        client(one.url, role="receive") as watcher,
    ):
        await until(lambda: b.session in one._hub.cluster.remote)
        await exchange(a, b)
        process.send_signal(signal.SIGSTOP)
        assert (await watcher.next("broadcaster_gone"))["session"] == b.session
        assert (await a.next("peer_left"))["session"] == b.session
        process.send_signal(signal.SIGCONT)
        assert (await watcher.next("broadcaster_available"))["session"] == b.session
        await exchange(a, b)


@pytest.mark.slow
@pytest.mark.usefixtures("fast_beats")
async def test_three_servers_agree_after_half_a_minute_of_failures_and_of_clients_that_come_and_go() -> None:
    chance = random.Random(6)  # noqa: S311  # a test
    with nats_servers(3) as natses:
        async with contextlib.AsyncExitStack() as stack:
            cables = [await stack.enter_async_context(Cable(nats.port)) for nats in natses]
            servers = [await stack.enter_async_context(server_on(cable.url)) for cable in cables]
            stop = asyncio.Event()

            async def come_and_go() -> None:
                while not stop.is_set():
                    server = chance.choice(servers)
                    async with client(server.url, chance.choice(["", "lab"]), "broadcast") as one:
                        for _ in range(chance.randrange(5)):
                            if others := list(server._hub.cluster.remote):
                                await one.websocket.send(
                                    json.dumps({"type": "webrtc_ice", "targetSession": chance.choice(others)})
                                )
                            await asyncio.sleep(chance.random() / 5)

            async def fail() -> None:
                while not stop.is_set():
                    number = chance.randrange(3)
                    if chance.random() < 0.5:
                        await cables[number].cut()
                        await asyncio.sleep(chance.choice([0.05, 0.6]))
                        await cables[number].mend()
                    else:
                        natses[number].kill()
                        await asyncio.sleep(chance.choice([0.05, 0.6]))
                        await asyncio.to_thread(natses[number].start)
                    await asyncio.sleep(chance.random())

            async with asyncio.TaskGroup() as tasks:
                for _ in range(10):
                    tasks.create_task(come_and_go())
                tasks.create_task(fail())
                await asyncio.sleep(30)
                stop.set()
            clients = [await stack.enter_async_context(client(server.url)) for server in servers]
            await until(lambda: all(server._hub.cluster.connected for server in servers))
            await until_known(*servers)
            for source, target in itertools.permutations(clients, 2):
                await until_delivered(source, target)
