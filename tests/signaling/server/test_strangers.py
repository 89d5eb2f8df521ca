"""What strangers can do before they have proved anything is bounded, and honest sessions beside them do not feel it."""

import asyncio
import contextlib
import ctypes
import itertools
import json
import logging
import resource
import ssl
import struct
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiofastnet
import psutil
import pytest
from bare_client import Client, joined, object_of, until_open
from hypothesis import given
from hypothesis import strategies as st
from rtc_network import write_certificate
from waiting import turns, until
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

from synopticon_rtc.signaling.server import door
from synopticon_rtc.signaling.server.limits import ACCEPT_GRACE, SPARE_FILES, Limits
from synopticon_rtc.signaling.server.memory import Memory
from synopticon_rtc.signaling.server.server import SignalingServer

PATIENCE = 30.0  # seconds; a busy machine is no failure, a server that hangs is


@contextlib.asynccontextmanager
async def talking(server: SignalingServer) -> AsyncIterator[list[int]]:
    """Let two sessions talk all the while; the list grows with each message that has come."""
    async with joined(server, 2) as [one, other]:
        received: list[int] = []

        async def talk() -> None:
            for number in itertools.count():
                await one.send({"type": "webrtc_ice", "targetSession": other.session, "n": number})
                async with asyncio.timeout(PATIENCE):
                    message = object_of(str(await other.websocket.recv()))
                assert message["n"] == number
                received.append(number)
                await asyncio.sleep(0.005)

        task = asyncio.create_task(talk())
        yield received
        before = len(received)
        await until(lambda: task.done() or len(received) >= before + 3, PATIENCE)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])


# Messages that are not whole, and that nobody reads


def unfinished(_: Client) -> bytes:
    return b"\x81\xff" + struct.pack("!Q", 900_000) + bytes(4) + 899_999 * b"x"


def fragments(_: Client) -> bytes:
    parts = [Frame(Opcode.TEXT, b"{", fin=False), *(9 * [Frame(Opcode.CONT, 99_000 * b"x", fin=False)])]
    return b"".join(part.serialize(mask=True) for part in parts)


def deaf(client: Client) -> bytes:
    client.websocket.transport.pause_reading()
    message = {"type": "webrtc_ice", "targetSession": client.session, "x": 99_000 * "x"}
    return 60 * Frame(Opcode.TEXT, json.dumps(message).encode()).serialize(mask=True)


@pytest.mark.parametrize("attack", [unfinished, fragments, deaf])
async def test_what_is_held_for_all_sessions_together_is_bounded(attack: Callable[[Client], bytes]) -> None:
    limits = Limits(held_bytes=5_000_000, bytes=1e9)
    async with SignalingServer(port=0, limits=limits) as server, talking(server), joined(server, 12) as attackers:
        for client in attackers:
            client.websocket.transport.write(attack(client))

        def all_is_taken_that_will_be() -> bool:
            assert server._hub.memory.total <= limits.held_bytes
            return len(server.sessions) <= 2 + 11 and not any(
                client.session in server.sessions and client.websocket.transport.get_write_buffer_size() > 2**18
                for client in attackers
            )

        await until(all_is_taken_that_will_be, PATIENCE)
        left = [client for client in attackers if client.session in server.sessions]
        assert 0 < len(left) < len(attackers)
        for client in left:
            client.websocket.transport.abort()
        await until_open(server, 2)
        assert server._hub.memory.total == 0


async def test_who_holds_most_is_told_why_it_ends() -> None:
    limits = Limits(held_bytes=600_000)
    async with SignalingServer(port=0, limits=limits) as server, talking(server), joined(server) as [client]:
        client.websocket.transport.write(unfinished(client))
        assert await client.closed() == (1013, "Too much is held")


async def test_a_frame_that_is_too_large_is_not_taken_in() -> None:
    async with SignalingServer(port=0) as server, talking(server), joined(server) as [client]:
        client.websocket.transport.write(b"\x81\xff" + struct.pack("!Q", 2**40) + bytes(4))
        for _ in range(100):
            client.websocket.transport.write(2**16 * b"x")
            await turns()
        assert (await client.closed())[0] == 1009
        assert server._hub.memory.total < 2**21


async def test_nothing_is_held_for_who_goes_while_something_is_on_its_way_to_it() -> None:
    async with SignalingServer(port=0) as server, joined(server) as [client]:
        session = server.sessions[client.session]
        session.hold_read(2**20)
        session.slow = True
        session._transport.underlying_transport.abort()
        session.deliver(b"{}")  # written at the end of the turn, when the connection is gone
        await until_open(server, 0)
        await turns()
        assert server._hub.memory.total == 0


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc from 2.33 on")
async def test_what_was_held_for_strangers_goes_back_to_the_system() -> None:
    async with server_process(files=1024) as (url, process, _):
        await welcomed(url)
        before = process.memory_info().rss
        for attack in (fragments, unfinished, deaf):
            clients = [
                Client(one := await connect(url, proxy=None), object_of(str(await one.recv()))) for _ in range(60)
            ]
            for client in clients:
                client.websocket.transport.write(attack(client))
            await until(lambda: process.memory_info().rss >= before + 2**24, PATIENCE)
            for client in clients:
                client.websocket.transport.abort()
        await until(lambda: process.memory_info().rss <= 1.1 * before, PATIENCE)


class Holder:
    def __init__(self) -> None:
        self.size = 0
        self.gone = False

    def held(self) -> int:
        return self.size

    def let_go(self) -> None:
        self.gone = True


@given(steps=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 100), st.booleans()), max_size=50))
def test_memory_never_holds_more_than_its_bound_and_lets_the_largest_go(steps: list[tuple[int, int, bool]]) -> None:
    memory, holders = Memory(150), [Holder() for _ in range(5)]
    for number, size, told in steps:
        holder = holders[number]
        if holder.gone:
            holders[number] = holder = Holder()
        if size < holder.size and not told:
            holder.size = size  # nobody tells of less
            continue
        holder.size = size
        before = [(other, other.size) for other in holders if not other.gone]
        memory.note(holder)
        gone = [held for other, held in before if other.gone]
        assert sum(other.size for other in holders if not other.gone) <= memory.total <= 150
        assert all(held >= max((other.size for other, _ in before if not other.gone), default=0) for held in gone)


# Connections that ask for nothing


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    files = tmp_path_factory.mktemp("cert") / "cert.pem", tmp_path_factory.mktemp("key") / "key.pem"
    write_certificate(*files)
    return files


@contextlib.asynccontextmanager
async def server_process(
    *options: str, files: int = 128
) -> AsyncIterator[tuple[str, psutil.Process, asyncio.Task[bytes]]]:
    """Run a server that may have so many descriptors; yields its address, itself, and what it writes to stderr."""
    command = [sys.executable, "-m", "synopticon_rtc.signaling", "--port", "0", "--json", *options]
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command, stdout=PIPE, stderr=PIPE
    )
    assert process.stdout
    assert process.stderr
    url = json.loads(await process.stdout.readline())["url"]
    reading = asyncio.create_task(process.stdout.read())
    errors = asyncio.create_task(process.stderr.read())
    try:
        yield url, psutil.Process(process.pid), errors
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        await reading
        await errors


async def welcomed(url: str, **options: Any) -> bool:
    async with connect(url, open_timeout=PATIENCE, proxy=None, **options) as websocket:
        kind: str = object_of(str(await websocket.recv()))["type"]
        return kind == "connected"


async def silent(url: str, count: int) -> list[asyncio.StreamWriter]:
    port = int(url.rpartition(":")[2].partition("/")[0])
    return [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(count)]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_silent_connections_take_no_place_of_others_and_write_no_log(
    certificate: tuple[Path, Path], *, tls: bool
) -> None:
    options = ["--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1])] if tls else []
    context = {"ssl": ssl.create_default_context(cafile=certificate[0])} if tls else {}
    async with server_process(*options) as (url, process, errors):
        async with connect(url, proxy=None, **context) as websocket:  # type: ignore[arg-type]  # ssl alone
            await websocket.recv()
            writers = await silent(url, 300)
            for _ in range(3):
                assert await welcomed(url, **context)
            await websocket.send('{"type":"ping"}')
            assert object_of(str(await websocket.recv()))["type"] == "pong"
            assert process.num_fds() <= 128
            for writer in writers:
                writer.close()
        process.terminate()
        log = await errors
        assert len(log) < 2000, log
        assert b"Traceback" not in log


async def test_without_descriptors_it_waits_says_so_once_and_goes_on() -> None:
    async with server_process(files=1024) as (url, process, errors):
        async with connect(url, proxy=None) as websocket:
            await websocket.recv()
            process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds(), 1024))
            writers = await silent(url, 20)
            before = process.cpu_times().user
            await asyncio.sleep(0.5)
            await websocket.send('{"type":"ping"}')
            assert object_of(str(await websocket.recv()))["type"] == "pong"
            assert process.cpu_times().user - before < 0.4  # it does not spin
            process.rlimit(psutil.RLIMIT_NOFILE, (1024, 1024))
            assert await welcomed(url)
            for writer in writers:
                writer.close()
        process.terminate()
        log = await errors
        assert log.count(b"no connection can be taken: Too many open files") == log.count(b"\n") == 1


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_who_says_nothing_or_little_is_cut(certificate: tuple[Path, Path], *, tls: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
    if context:
        context.load_cert_chain(*certificate)
    async with SignalingServer(port=0, tls=context, limits=Limits(handshake=0.2)) as server:
        for said in (b"", b"\x16\x03\x01" if tls else b"GET / HTTP"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(said)
            async with asyncio.timeout(PATIENCE):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            writer.close()


async def test_who_hangs_up_in_the_midst_of_tls_leaves_no_trace_in_the_log(
    certificate: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    async with SignalingServer(port=0, tls=context) as server:
        for said in (b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"):
            for abort in (False, True):
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(said)
                await turns(20)
                if abort:
                    writer.transport.abort()
                writer.close()
        assert await welcomed(server.url, ssl=ssl.create_default_context(cafile=certificate[0]))
        await until(lambda: not server._server._calls, PATIENCE)
    assert caplog.records == []


async def test_aiofastnet_still_tells_of_who_hangs_up_in_the_midst_of_tls_by_a_class(
    certificate: tuple[Path, Path],
) -> None:
    """Once it gives an error, `_Quiet` is not needed any more."""
    loop, told = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any]]()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    loop.set_exception_handler(lambda _, context: told.put_nowait(context))
    server = await aiofastnet.create_server(loop, asyncio.Protocol, "127.0.0.1", 0, ssl=context)
    try:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.close()
        async with asyncio.timeout(PATIENCE):
            assert (await told.get())["exception"] is ConnectionResetError
    finally:
        server.close()
        await server.wait_closed()


async def test_a_slow_request_has_no_more_time_than_a_silent_one() -> None:
    async with SignalingServer(port=0, limits=Limits(handshake=0.3)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        drip = asyncio.create_task(reader.read())
        for byte in itertools.cycle(b"GET / HTTP/1.1\r\nX: "[:18] + b"y"):
            writer.write(bytes([byte]))
            if (await asyncio.wait([drip], timeout=0.02))[0]:
                break
        writer.close()


async def test_one_address_has_its_share_of_connections_that_ask_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "is_loopback", lambda _: False)  # as if all came from elsewhere
    limits = Limits(requests=20, address_requests=5)
    async with SignalingServer(port=0, limits=limits) as server, talking(server):
        there: Any = {"local_addr": ("127.0.0.2", 0)}
        opened = [await asyncio.open_connection("127.0.0.1", server.port, **there) for _ in range(15)]
        async with asyncio.timeout(PATIENCE):
            assert [await reader.read() for reader, _ in opened[5:]] == 10 * [b""]
        for number in range(3, 6):  # others do not notice
            async with joined(server, local_addr=(f"127.0.0.{number}", 0)) as [client]:
                assert await client.next_is_pong()
        await asyncio.sleep(ACCEPT_GRACE)
        async with joined(server, **there) as [client]:  # it takes the place of a silent one
            assert await client.next_is_pong()
        for _, writer in opened:
            writer.close()


async def test_an_honest_one_gets_in_where_silent_ones_take_all_there_is() -> None:
    async with SignalingServer(port=0, limits=Limits(requests=10)) as server, talking(server):
        opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(40)]
        for _ in range(3):
            async with asyncio.timeout(PATIENCE), joined(server) as [client]:
                assert await client.next_is_pong()
        assert len(server._server._waiting) <= 10
        for _, writer in opened:
            writer.close()


async def test_where_all_descriptors_are_sessions_one_more_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (SPARE_FILES + 3, 1024))
    async with SignalingServer(port=0) as server, joined(server, 3) as clients:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        assert [await client.next_is_pong() for client in clients] == 3 * [True]


# Lines of the log


async def test_who_sends_what_is_no_message_in_ever_new_sessions_writes_a_line_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with SignalingServer(port=0) as server:
        started = time.monotonic()
        for _ in range(20):
            async with joined(server) as [client]:
                await client.send("no message")
                assert (await client.receive())["type"] == "error"
        lines = [record for record in caplog.records if "dropped" in record.message]
        assert 1 <= len(lines) <= 1 + (time.monotonic() - started)


async def test_what_a_client_says_when_it_goes_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ended: list[str] = []
    async with SignalingServer(port=0, on_session=lambda session: ended.append(session.reason)) as server:
        async with joined(server) as [client]:
            await client.websocket.close(1000, "bye\n2026 CRITICAL \x1b[31m\x9b")
        await until_open(server, 0)
    assert ended[-1].endswith(r"bye\n2026 CRITICAL \x1b[31m\x9b")
    assert all(record.message.isprintable() for record in caplog.records)


async def test_a_hook_that_always_fails_writes_one_trace(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> bool:
        raise RuntimeError("no database")

    async with SignalingServer(port=0, can_connect=fail) as server, joined(server, 2) as [one, other]:
        for _ in range(50):
            await one.send({"type": "request_offer"})
        assert await one.next_is_pong()
        assert await other.next_is_pong()
    (line,) = [record for record in caplog.records if "can_connect failed" in record.message]
    assert line.exc_info


async def test_who_is_refused_again_and_again_writes_a_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    async with SignalingServer(port=0, limits=Limits(sessions=1)) as server, joined(server):
        started = time.monotonic()
        for _ in range(20):
            async with connect(server.url) as websocket:
                await websocket.wait_closed()
        lines = [record for record in caplog.records if "refused" in record.message]
        assert 1 <= len(lines) <= 1 + (time.monotonic() - started)
