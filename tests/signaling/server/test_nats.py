import asyncio
import contextlib
import importlib
import logging
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nats_servers import Cable, NatsServer, nats_servers
from rtc_network import free_port, write_certificate
from waiting import turns, until

from synopticon_rtc.errors import InvalidURL, MissingExtra
from synopticon_rtc.signaling.server import nats as nats_module
from synopticon_rtc.signaling.server.backplane import Backplane
from synopticon_rtc.signaling.server.nats import NatsBackplane

LOGGER = "synopticon_rtc.signaling.server.nats"


class End:
    """A backplane and what came by it."""

    def __init__(self, backplane: Backplane) -> None:
        self.backplane = backplane
        self.messages: list[tuple[str, bytes]] = []
        self.states: list[bool] = []
        self._changed = asyncio.Event()

    def hear(self, subject: str, payload: bytes) -> None:
        self.messages.append((subject, payload))
        self._changed.set()

    def connect(self, connected: bool) -> None:  # noqa: FBT001  # a callback
        assert self.backplane.connected is connected
        self.states.append(connected)
        self._changed.set()

    async def until(self, condition: Callable[["End"], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()


@contextlib.asynccontextmanager
async def joined(servers: str | list[str], *subjects: str, **options: Any) -> AsyncIterator[End]:
    end = End(NatsBackplane(servers, **{"reconnect_time_wait": 0.05, **options}))
    await end.backplane.open(subjects or ("all.>",), end.hear, end.connect)
    try:
        yield end
    finally:
        await end.backplane.close()


@pytest.fixture
def server() -> Iterator[NatsServer]:
    with nats_servers() as [server]:
        yield server


async def test_what_one_publishes_the_others_hear_in_order(server: NatsServer) -> None:
    async with (
        joined(server.url, "one.*", "all.>") as a,
        joined(server.url, "two.*", "all.>") as b,
        joined(server.url, "none") as c,
    ):
        for end in a, b, c:
            await end.until(lambda end: end.states == [True])
        for number in range(2000):
            a.backplane.publish("two.x", b"%d" % number)
            if number % 7 == 0:
                await turns()
        a.backplane.publish("all.of.them", b"\x00\xff\r\n")
        await b.until(lambda end: len(end.messages) == 2001)
        assert [message for message in b.messages if message[0] == "two.x"] == [
            ("two.x", b"%d" % number) for number in range(2000)
        ]
        assert ("all.of.them", b"\x00\xff\r\n") in b.messages
        assert a.messages == c.messages == []


async def test_what_is_published_last_is_sent_before_it_closes(server: NatsServer) -> None:
    async with joined(server.url) as b:
        async with joined(server.url) as a:
            await a.until(lambda end: end.states == [True])
            await b.until(lambda end: end.states == [True])
            a.backplane.publish("all.x", b"bye")
        assert not a.backplane.connected
        await b.until(lambda end: end.messages == [("all.x", b"bye")])


async def test_it_waits_for_a_nats_server_that_is_not_there_yet(
    server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.kill()
    async with joined([server.url, f"nats://127.0.0.1:{free_port()}"]) as a:
        assert not a.backplane.connected
        a.backplane.publish("all.x", b"too early")
        await asyncio.sleep(0.3)  # for a few attempts
        assert a.states == []
        assert 1 <= len(caplog.messages) <= 2  # told once of each server
        assert "Connect call failed" in caplog.text
        server.start()
        await a.until(lambda end: end.states == [True])


async def test_it_connects_again_when_nats_restarts(server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with joined(server.url) as a, joined(server.url) as b:
        for end in a, b:
            await end.until(lambda end: end.states == [True])
        server.kill()
        for end in a, b:
            await end.until(lambda end: end.states == [True, False])
        a.backplane.publish("all.x", b"lost")
        server.start()
        for end in a, b:
            await end.until(lambda end: end.states == [True, False, True])
        a.backplane.publish("all.x", b"back")
        await b.until(lambda end: end.messages == [("all.x", b"back")])
    told = caplog.messages
    assert told.count("connection to NATS lost; connecting again") == 2
    assert told.count(f"connected to NATS at 127.0.0.1:{server.port}") == 4


async def test_a_nats_server_that_hangs_is_noticed_by_pings(server: NatsServer) -> None:
    async with joined(server.url, ping_interval=0.1) as a:
        await a.until(lambda end: end.states == [True])
        server.freeze()
        await a.until(lambda end: end.states == [True, False])
        server.thaw()
        await a.until(lambda end: end.states == [True, False, True])


async def test_it_closes_in_time_though_nats_hangs(server: NatsServer) -> None:
    async with joined(server.url) as a:
        await a.until(lambda end: end.states == [True])
        server.freeze()
        while not a.backplane._transport.owed:  # type: ignore[attr-defined]  # more than the kernel takes
            a.backplane.publish("all.x", bytes(2**20))
            await turns()
        async with asyncio.timeout(10):
            await a.backplane.close()


async def test_one_that_is_cut_off_comes_back(server: NatsServer) -> None:
    async with Cable(server.port) as cable, joined(cable.url) as a, joined(server.url) as b:
        for end in a, b:
            await end.until(lambda end: end.states == [True])
        await cable.cut()
        await a.until(lambda end: end.states == [True, False])
        b.backplane.publish("all.x", b"lost")
        await asyncio.sleep(0.2)
        await cable.mend()
        await a.until(lambda end: end.states == [True, False, True])
        a.backplane.publish("all.x", b"1")
        b.backplane.publish("all.x", b"2")
        await a.until(lambda end: end.messages == [("all.x", b"2")])
        await b.until(lambda end: end.messages == [("all.x", b"1")])
        assert b.states == [True]


async def test_it_asks_again_where_something_else_listens_until_nats_is_back(server: NatsServer) -> None:
    asked = asyncio.Event()

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.close()
        await writer.wait_closed()

    async with joined(server.url) as a:
        await a.until(lambda end: end.states == [True])
        server.kill()
        async with await asyncio.start_server(hang_up, "127.0.0.1", server.port):
            await asyncio.wait_for(asked.wait(), 20)
        server.start()
        await a.until(lambda end: end.states == [True, False, True])


async def test_it_speaks_tls_where_nats_wants_it(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    write_certificate(certificate, key)
    trusted = ssl.create_default_context(cafile=certificate)
    options = ["--tls", "--tlscert", str(certificate), "--tlskey", str(key)]
    with nats_servers(options=options) as [server]:
        url = server.url.replace("nats://127.0.0.1", "tls://localhost")
        async with joined(url, tls=trusted) as a, joined(url, tls=trusted) as b, joined(url) as stranger:
            for end in a, b:
                await end.until(lambda end: end.states == [True])
            for number in range(100):
                a.backplane.publish("all.x", bytes([number]) * 5000)
            await b.until(lambda end: len(end.messages) == 100)
            assert b.messages[-1] == ("all.x", bytes([99]) * 5000)
            assert stranger.states == []


async def test_in_a_cluster_of_nats_servers_it_moves_to_one_that_lives() -> None:
    with nats_servers(3) as servers:
        async with joined([servers[0].url], ping_interval=1) as a, joined([servers[1].url]) as b:
            for end in a, b:
                await end.until(lambda end: end.states == [True])
            # The servers of a cluster take a moment to know each other, and their clients with them.

            def arrived() -> bool:
                a.backplane.publish("all.x", b"first")
                return bool(b.messages)

            await until(arrived)
            servers[0].kill()
            await a.until(lambda end: end.states == [True, False, True])
            a.backplane.publish("all.x", b"moved")
            await b.until(lambda end: end.messages[-1] == ("all.x", b"moved"))
            assert b.states == [True]


async def test_a_message_that_nats_does_not_take_is_told_and_the_others_go_on(
    server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined(server.url) as a, joined(server.url) as b:
        for end in a, b:
            await end.until(lambda end: end.states == [True])
        a.backplane.publish("all.x", bytes(2**20 + 1))
        a.backplane.publish("all.x", b"next")
        await b.until(lambda end: end.messages == [("all.x", b"next")])
        assert caplog.messages == ["NATS: nats: maximum payload exceeded"]


async def test_what_nats_does_not_read_in_time_is_dropped(
    server: NatsServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_module, "OWED_BYTES", 2**20)
    async with joined(server.url) as a:
        await a.until(lambda end: end.states == [True])
        server.freeze()
        for _ in range(300):  # more than the kernel takes
            a.backplane.publish("all.x", bytes(2**17))
            await turns()
        assert a.backplane._transport.owed < 2**21  # type: ignore[attr-defined]  # of NatsBackplane
        assert caplog.messages == ["NATS: nats: outbound buffer limit exceeded"]
        server.thaw()


async def test_one_that_may_not_come_in_is_told_why_and_not_with_what_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    with nats_servers(options=["--user", "synopticon", "--pass", "secret"]) as [server]:
        url = server.url.replace("//", "//synopticon:{}@")
        async with joined(url.format("wrong")) as a:
            await until(lambda: "Authorization Violation" in caplog.text)
            assert a.states == []
        async with joined(url.format("secret")) as a:
            await a.until(lambda end: end.states == [True])
    assert caplog.messages[-1] == f"connected to NATS at 127.0.0.1:{server.port}"
    assert "wrong" not in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "url",
    ["", "localhost:4222", "http://localhost:4222", "nats://", "nats://:4222", "nats://localhost:99999", "nats://["],
)
def test_an_address_of_another_kind_is_an_error(url: str) -> None:
    with pytest.raises(InvalidURL, match=r"give nats://HOST:PORT"):
        NatsBackplane(["nats://127.0.0.1:4222", url])


def test_an_address_that_is_none_is_shown_without_its_password() -> None:
    with pytest.raises(InvalidURL, match=r"'nats://localhost:99999'"):
        NatsBackplane("nats://synopticon:s/ec@ret@localhost:99999")


@pytest.mark.parametrize("subject", ["a b", "a\r\nPUB b 0\r\n", "a\n", "", "\u2028"])
def test_a_subject_that_is_no_word_is_an_error(subject: str) -> None:
    with pytest.raises(ValueError, match="is no subject"):
        NatsBackplane("nats://127.0.0.1:4222").publish(subject, b"")


def test_no_address_is_an_error() -> None:
    with pytest.raises(InvalidURL, match=r"give nats://HOST:PORT"):
        NatsBackplane([])


def test_an_option_that_nats_py_does_not_have_is_an_error() -> None:
    with pytest.raises(TypeError, match="user_credential'"):
        NatsBackplane("nats://127.0.0.1:4222", user_credential="file")


def test_without_nats_py_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nats.aio.client", None)
    monkeypatch.delitem(sys.modules, nats_module.__name__)
    with pytest.raises(MissingExtra, match=r'^the NATS backplane needs an extra: .*"\.\[nats\]"$'):
        importlib.import_module(nats_module.__name__)
