"""Addresses of ICE servers, and looking them up."""

import asyncio
import socket
import threading
import time
from typing import Any

import pytest
from waiting import until

from synopticon_rtc.errors import InvalidIceServer
from synopticon_rtc.rtc import IceServer
from synopticon_rtc.rtc.servers import addresses_of


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("stun:stun.test", ("stun.test", 3478, False, False, False)),
        ("stun:stun.test:99", ("stun.test", 99, False, False, False)),
        ("turn:turn.test", ("turn.test", 3478, True, False, False)),
        ("turn:turn.test?transport=udp", ("turn.test", 3478, True, False, False)),
        ("turn:turn.test:99?transport=tcp", ("turn.test", 99, True, True, False)),
        ("turn:[2001:db8::1]:99", ("2001:db8::1", 99, True, False, False)),
        ("stun:[::1]", ("::1", 3478, False, False, False)),
        ("turns:turn.test", ("turn.test", 5349, True, True, True)),
    ],
)
def test_addresses_of_all_kinds_are_read(url: str, expected: tuple[str, int, bool, bool, bool]) -> None:
    server = IceServer(url, "user", "secret")
    assert (server.host, server.port, server.turn, server.tcp, server.tls) == expected
    assert "secret" not in repr(server)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "stun",
        "stun:",
        "http://stun.test",
        "stun:a:b",
        "stun:a:70000",
        "stun:a:0",
        "stuns:a",
        "stun:a?transport=tcp",
        "turn:a?transport=sctp",
        "turns:a?transport=udp",
        "turn:::1",
        "turn:[::1",
        "turn:user:wrong@a",
    ],
)
def test_other_addresses_raise_a_clear_error(url: str) -> None:
    with pytest.raises(InvalidIceServer, match="turns:HOST:PORT") as error:
        IceServer(url, "user", "secret")
    assert "wrong" not in str(error.value)


def test_a_turn_server_needs_credentials() -> None:
    with pytest.raises(InvalidIceServer, match="credential"):
        IceServer("turn:turn.test")


async def test_names_are_looked_up_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await addresses_of("127.0.0.1", 7) == [("127.0.0.1", 7)]
    assert ("127.0.0.1", 7) in await addresses_of("localhost", 7)
    release = threading.Event()
    asked: list[str] = []

    def hang(host: str, *_: Any, **__: Any) -> Any:
        asked.append(host)
        release.wait(60)
        raise socket.gaierror(-3, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    hanging = asyncio.create_task(addresses_of("hangs.test", 7))
    given_up = asyncio.create_task(addresses_of("hangs.test", 8))
    await until(lambda: len(asked) == 2)
    given_up.cancel()
    # The default executor is free for others.
    async with asyncio.timeout(20):
        await asyncio.gather(*(asyncio.to_thread(time.monotonic) for _ in range(40)))
    release.set()
    with pytest.raises(OSError, match="no answer"):
        await hanging
    with pytest.raises(asyncio.CancelledError):
        await given_up
