"""An HTTP proxy in the environment."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import pytest
from calls import PICTURE, receives, run, running
from rtc_network import free_port

pytestmark = pytest.mark.field

DEAD = "http://127.0.0.1:9"


class Proxy:
    """An HTTP proxy (RFC 9110, 9.3.6) that knows one host: this machine, by a name that nobody else knows."""

    def __init__(self, port: int) -> None:
        self.asked: list[str] = []
        self.listens = threading.Event()
        self.loop: asyncio.AbstractEventLoop
        self._port = port
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until it is stopped."""
        self.loop = asyncio.get_running_loop()
        async with await asyncio.start_server(self._serve, "127.0.0.1", self._port):
            self.listens.set()
            await self._stop.wait()

    def stop(self) -> None:
        """End it, from another thread."""
        self.loop.call_soon_threadsafe(self._stop.set)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            target = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            self.asked.append(target)
            if not target.startswith("camera.test:"):
                writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                return
            there, back = await asyncio.open_connection("127.0.0.1", int(target.rpartition(":")[2]))
            with contextlib.closing(back):
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

    @staticmethod
    async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()


@contextlib.contextmanager
def proxy() -> Iterator[tuple[Proxy, str]]:
    """Run a proxy beside the test."""
    port = free_port()
    proxy = Proxy(port)
    thread = threading.Thread(target=lambda: asyncio.run(proxy.run()))
    thread.start()
    assert proxy.listens.wait(20)
    try:
        yield proxy, f"http://127.0.0.1:{port}"
    finally:
        proxy.stop()
        thread.join()


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"])
def test_a_broadcaster_reaches_its_own_server_whatever_the_proxy(variable: str) -> None:
    env = {variable: DEAD}
    with running("broadcast", *PICTURE, "--serve", f"127.0.0.1:{free_port()}", **env) as broadcast:
        broadcast.next("ready")


def test_a_call_on_this_machine_plays_with_a_dead_proxy_in_the_environment() -> None:
    env = {"HTTPS_PROXY": DEAD, "HTTP_PROXY": DEAD}
    with running("broadcast", *PICTURE, "--serve", str(free_port()), **env) as broadcast:
        assert receives("--url", broadcast.next("ready")["url"], **env) == 5


def test_a_call_plays_by_the_proxy_that_alone_knows_the_server() -> None:
    with running("signaling", "--port", "0") as server, proxy() as (asked, address):
        port = server.next("ready")["url"].rpartition(":")[2].partition("/")[0]
        url, env = f"ws://camera.test:{port}/ws", {"HTTPS_PROXY": address}
        with running("broadcast", *PICTURE, "--url", url, **env) as broadcast:
            broadcast.next("ready")
            assert receives("--url", url, **env) == 5
    assert set(asked.asked) >= {f"camera.test:{port}"}


def test_a_proxy_that_is_not_there_is_named_and_tried_again() -> None:
    url = "ws://camera.test/ws"
    env = {"HTTPS_PROXY": "http://me:secret@127.0.0.1:9"}
    code, _, err = run("receive", "--url", url, "--timeout", "1", **env)
    assert code == 1
    assert "trying again" in err
    assert "http://127.0.0.1:9" in err.splitlines()[-1]
    assert "secret" not in err


def test_a_proxy_that_refuses_is_quoted_at_once() -> None:
    with proxy() as (_, address):
        code, _, err = run("receive", "--url", "wss://elsewhere.test/ws", HTTPS_PROXY=address)
    assert code == 1
    (line,) = err.splitlines()
    assert "HTTP 403 Forbidden" in line
    assert address in line


@pytest.mark.parametrize("address", ["ftp://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_proxy_of_another_kind_is_named(address: str) -> None:
    code, _, err = run("receive", "--url", "wss://elsewhere.test/ws", "--timeout", "1", HTTPS_PROXY=address)
    assert code == 1
    assert address in err.splitlines()[-1]
    assert "Traceback" not in err
