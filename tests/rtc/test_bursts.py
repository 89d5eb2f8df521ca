"""Bursts of datagrams over real sockets."""

import asyncio
import contextlib
import errno
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import turns, until

from synopticon_rtc.rtc.bursts import SEGMENTS, BurstSocket, runs


class Inbox(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: list[bytes] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:  # noqa: ARG002 - asyncio passes it
        self.received.append(data)


@contextlib.asynccontextmanager
async def pair(host: str = "127.0.0.1") -> AsyncIterator[tuple[BurstSocket, Inbox]]:
    loop = asyncio.get_running_loop()
    receiving, inbox = await loop.create_datagram_endpoint(Inbox, local_addr=(host, 0))
    sending, _ = await loop.create_datagram_endpoint(Inbox, local_addr=(host, 0))
    burst = BurstSocket(sending, receiving.get_extra_info("sockname")[:2])  # type: ignore[arg-type] # asyncio's own class
    try:
        yield burst, inbox
    finally:
        burst.close()
        sending.close()
        receiving.close()
        await turns()


def send(burst: BurstSocket, packets: list[bytes]) -> bool:
    return burst.send(memoryview(b"".join(packets)), runs([len(packet) for packet in packets]))


MIXED = [bytes([n]) * size for n, size in enumerate([1200, 1200, 700, 1200, 1200, 1200, 1300, 40, 40])]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_datagrams_arrive_one_by_one_as_they_were_sent(host: str) -> None:
    async with pair(host) as (burst, inbox):
        assert burst.is_ready()
        assert send(burst, MIXED)
        await until(lambda: len(inbox.received) >= len(MIXED))
        assert inbox.received == MIXED


async def test_a_system_that_does_not_cut_bursts_is_sent_datagrams(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def refuse(*_: object) -> int:
        nonlocal calls
        calls += 1
        raise OSError(errno.EIO, "no such offload on this interface")

    async with pair() as (burst, inbox):
        assert burst._socket is not None
        monkeypatch.setattr(socket.socket, "sendmsg", refuse)
        assert send(burst, MIXED)
        assert send(burst, MIXED)
        await until(lambda: len(inbox.received) >= 2 * len(MIXED))
        assert inbox.received == MIXED * 2
        assert calls == 1  # once is enough to know


async def test_what_the_system_does_not_take_is_not_queued(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        full.bind(str(tmp_path / "full"))
        sender.setblocking(False)

        class Transport:
            def get_extra_info(self, _: str) -> socket.socket:
                return sender

            def get_write_buffer_size(self) -> int:
                return 0

            def sendto(self, data: bytes, addr: object) -> None:
                raise AssertionError((data, addr))  # it would queue

        burst = BurstSocket(Transport(), str(tmp_path / "full"))  # type: ignore[arg-type] # a name in place of an address
        while send(burst, [b"x" * 1000]):
            pass
        assert not send(burst, [b"more"])
        full.recv(2000)
        assert send(burst, [b"more"])
        burst.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux cuts bursts")
async def test_one_call_carries_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    sendmsg = socket.socket.sendmsg

    def count(self: socket.socket, buffers: Any, *rest: Any) -> int:
        calls.append(len(buffers[0]))
        return sendmsg(self, buffers, *rest)

    monkeypatch.setattr(socket.socket, "sendmsg", count)
    async with pair() as (burst, inbox):
        frame = [b"x" * 1200] * 5 + [b"end"]
        assert send(burst, frame)
        await until(lambda: len(inbox.received) >= len(frame))
        assert calls == [6003]
        assert inbox.received == frame


@given(st.lists(st.integers(1, 4), max_size=3 * SEGMENTS))
def test_runs_are_of_one_length_but_for_a_shorter_end(sizes: list[int]) -> None:
    cut = []
    reached = 0
    for start, end, size in runs(sizes):
        assert start == reached
        assert 0 < end - start <= SEGMENTS * size
        cut += [min(size, end - at) for at in range(start, end, size)]
        reached = end
    assert cut == sizes
