"""Plain HTTP on the port of the signaling, as RFC 9110 and RFC 9112 have it, whatever is asked."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from bare_client import fetch
from hypothesis import given
from hypothesis import strategies as st
from waiting import turns, until

from synopticon_rtc.signaling.addresses import read_address, source_of
from synopticon_rtc.signaling.server.http import Refused, read_head
from synopticon_rtc.signaling.server.limits import HEAD_BYTES, HEAD_FIELDS, Limits
from synopticon_rtc.signaling.server.server import SignalingServer

UPGRADE = "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
KEY = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
VERSION = "Sec-WebSocket-Version: 13\r\n"


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


async def ask(server: SignalingServer, request: str | bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a request as it is, and read until the server has said all."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request.encode("latin-1") if isinstance(request, str) else request)
    async with asyncio.timeout(20):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    line, *fields = head.decode().split("\r\n")
    return int(line.split()[1]), dict(field.split(": ", 1) for field in fields), body


@pytest.mark.parametrize("path", ["/", "/index.html", "/healthz", "/readyz", "/metrics", "/nowhere", "/ws"])
async def test_head_tells_what_get_would_and_sends_no_body(server: SignalingServer, path: str) -> None:
    status, fields, body = await ask(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    same, same_fields, nothing = await ask(server, f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    volatile = {"Date"} | ({"Content-Length"} if path == "/metrics" else set())
    assert (same, nothing) == (status, b"")
    assert int(fields["Content-Length"]) == len(body)
    assert all(same_fields[name] == value for name, value in fields.items() if name not in volatile)


@pytest.mark.parametrize("head", ["GET /healthz HTTP/1.0\r\n", "HEAD /healthz HTTP/1.0\r\nHost: x\r\n"])
async def test_http_1_0_is_answered(server: SignalingServer, head: str) -> None:
    status, fields, body = await ask(server, head + "\r\n")
    assert (status, fields["Content-Length"], fields["Connection"]) == (200, "6", "close")
    assert body == (b"alive\n" if head.startswith("GET") else b"")


async def test_what_is_not_modified_has_no_length(server: SignalingServer) -> None:
    _, fields, _ = await ask(server, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    for tag in (fields["ETag"], f"W/{fields['ETag']}", "*"):
        status, unchanged, body = await ask(server, f"GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n\r\n")
        assert (status, body, unchanged["ETag"]) == (304, b"", fields["ETag"])
        assert "Content-Length" not in unchanged


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        ("OPTIONS /ws HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        ("BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        ("get / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        ("GET /healthz HTTP/1.7\r\nHost: x\r\n\r\n", 200),
        ("\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost:\r\n\r\n", 200),
        ("GET http://x/healthz?a=b HTTP/1.1\r\nHost: y\r\n\r\n", 200),
        ("GET HTTPS://x HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("GET http://x/ws HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        ("GET http://evil.com/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 403),
        ("GET http://localhost/metrics HTTP/1.1\r\nHost: evil.com\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("\x16\x03\x01\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n" + "X: y\r\n" * (HEAD_FIELDS + 1) + "\r\n", 431),
        ("GET / HTTP/1.1\r\nX: " + HEAD_BYTES * "y", 431),
        ("GET /" + HEAD_BYTES * "y" + " HTTP/1.1\r\n\r\n", 431),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 200),
        (2 * "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (f"GET /ws HTTP/1.1\r\n{UPGRADE}Sec-WebSocket-Version: 13\r\n\r\n", 400),
        (f"GET /ws HTTP/1.1\r\n{UPGRADE}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ?\r\n\r\n", 400),
        (f"GET /ws HTTP/1.1\r\n{UPGRADE}{KEY}Sec-WebSocket-Version: 12\r\n\r\n", 426),
        (f"GET /ws HTTP/1.1\r\n{UPGRADE}{KEY}Sec-WebSocket-Version: 13\r\nContent-Length: 9\r\n\r\n", 400),
        (f"GET /ws HTTP/1.1\r\n{UPGRADE}{KEY}{KEY}Sec-WebSocket-Version: 13\r\n\r\n", 400),
        (f"GET /ws HTTP/1.1\r\n{UPGRADE}{KEY}{VERSION}Content-Length: 0\r\nContent-Length: 9\r\n\r\n", 400),
        (f"GET /ws HTTP/1.1\r\n{UPGRADE}{KEY}{VERSION}Transfer-Encoding: chunked\r\n\r\n", 400),
        (f"GET /ws HTTP/1.0\r\n{UPGRADE}{KEY}Sec-WebSocket-Version: 13\r\n\r\n", 426),
        (f"HEAD /ws HTTP/1.1\r\n{UPGRADE}{KEY}Sec-WebSocket-Version: 13\r\n\r\n", 426),
    ],
)
async def test_each_request_has_its_status(server: SignalingServer, request_: str, status: int) -> None:
    got, fields, body = await ask(server, request_)
    assert (got, fields["Connection"]) == (status, "close")
    if status == 405:
        assert fields["Allow"] == "GET, HEAD"
    if status >= 400 and not request_.startswith("HEAD"):
        assert json.loads(body).keys() == {"error", "message"}
    assert server.total_sessions == 0


async def test_an_upgrade_may_be_one_of_several_that_a_client_names(server: SignalingServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    upgrade = "Upgrade: h2c, WebSocket\r\nConnection: keep-alive, upgrade\r\n"
    writer.write(f"GET /ws HTTP/1.1\r\nHost: x\r\n{upgrade}{KEY}{VERSION}\r\n".encode())
    assert (await reader.readline()).split()[1] == b"101"
    writer.close()


async def test_a_version_that_is_not_spoken_is_told_which_is(server: SignalingServer) -> None:
    _, fields, _ = await ask(server, f"GET /ws HTTP/1.1\r\n{UPGRADE}{KEY}Sec-WebSocket-Version: 99\r\n\r\n")
    assert (fields["Upgrade"], fields["Sec-WebSocket-Version"]) == ("websocket", "13")


async def test_an_answer_is_read_whole_by_who_sends_more_than_is_asked_for(server: SignalingServer) -> None:
    status, _, body = await ask(
        server, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n" + bytes(500_000)
    )
    assert status == 405
    assert json.loads(body)["error"] == "bad_method"


async def test_who_does_not_read_its_answer_is_cut() -> None:
    async with SignalingServer(port=0, limits=Limits(answer=0.1)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(20):
            await reader.read()
            await until(lambda: not server._server._calls)
        writer.close()


async def test_a_request_may_come_in_pieces(server: SignalingServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for byte in b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n":
        writer.write(bytes([byte]))
        await turns()
    async with asyncio.timeout(20):
        assert (await reader.read()).endswith(b"alive\n")
    writer.close()


async def test_frames_may_come_with_the_request(server: SignalingServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    frame = b'\x81\x8f\0\0\0\0{"type":"ping"}'
    writer.write(f"GET /ws HTTP/1.1\r\n{UPGRADE}{KEY}Sec-WebSocket-Version: 13\r\n\r\n".encode() + frame)
    async with asyncio.timeout(20):
        await reader.readuntil(b'"pong"')
    writer.transport.abort()


@given(data=st.binary() | st.text().map(lambda text: f"GET / HTTP/1.1\r\n{text}".encode()))
def test_any_bytes_are_a_request_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(Refused):
        assert read_head(data).method in {"GET", "HEAD"}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8081", 200),
        ("localhost.", 200),
        ("127.0.0.1:8081", 200),
        ("[::1]:8081", 200),
        ("evil.com", 403),
        ("evil.com:8081", 403),
        ("127.0.0.1.evil.com", 403),
        ("localhost.evil.com", 403),
        ("evil@127.0.0.1", 400),
        ("192.0.2.1", 403),
        ("", 200),
    ],
)
async def test_metrics_are_not_for_pages_whose_name_leads_here(server: SignalingServer, host: str, status: int) -> None:
    response, _ = await fetch(server, "/metrics", headers={"Host": host} if host else {})
    assert response.status == status


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("unknown", "unknown"),
        ("", ""),
        (1000 * "x", 100 * "x"),
    ],
)
def test_an_address_is_read_however_a_proxy_writes_it(text: str, address: str) -> None:
    assert read_address(text) == address


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("unknown", "unknown"),
    ],
)
def test_an_address_of_ipv6_counts_for_its_network(host: str, source: str) -> None:
    assert source_of(host) == source
