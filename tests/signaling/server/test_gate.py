"""Who may open a session, and who may not and is told why."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bare_client import joined, object_of, until_open
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from synopticon_rtc.errors import SignalingError
from synopticon_rtc.signaling.server.server import SignalingServer
from synopticon_rtc.signaling.server.tokens import Claims, TokenKeys, make_token

SECRET = b"a secret of thirty-two bytes....."


def token(**claims: Any) -> str:
    return make_token(SECRET, Claims(**{"expires": time.time() + 3600, **claims}))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def refusal(server: SignalingServer, query: str = "", **headers: str) -> tuple[int, str]:
    """Try to open a session; return status and code."""
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"{server.url}{query}", additional_headers=headers, proxy=None)
    response = caught.value.response
    assert response.headers["Content-Type"] == "application/json"
    answer = object_of(bytes(response.body or b"").decode())
    assert list(answer) == ["error", "message"]
    return response.status_code, answer["error"]


async def welcomed(server: SignalingServer, query: str = "", **headers: str) -> str:
    """Open a session and close it; return its id."""
    async with connect(f"{server.url}{query}", additional_headers=headers, proxy=None) as websocket:
        session: str = object_of(str(await websocket.recv()))["sessionId"]
        return session


@pytest.fixture
async def guarded() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0, tokens=TokenKeys(secret=SECRET)) as server:
        yield server


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


# Tokens


async def test_a_token_in_the_header_or_in_the_query_lets_in(guarded: SignalingServer) -> None:
    async with joined(guarded, additional_headers=bearer(token(subject="alice", name="lab", room="r"))) as [client]:
        who = guarded.sessions[client.session].who
        assert (who.subject, who.name, who.room, who.roles) == ("alice", "lab", "r", None)
        assert await client.next_is_pong()
    async with joined(guarded, query=f"?token={token(roles=frozenset({'receive'}))}") as [client]:
        assert guarded.sessions[client.session].who.roles == frozenset({"receive"})


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 401, "token_missing"),
        ("?token=", 401, "token_missing"),
        ("?token=x", 401, "token_invalid"),
        (f"?token={token(expires=time.time() - 1)}", 401, "token_expired"),
        ("?token=eyJhbGciOiJub25lIn0.e30.", 401, "token_algorithm"),
        (f"?token={token(room='a')}&room=b", 403, "wrong_room"),
        (f"?token={token(room='a')}&room=", 403, "wrong_room"),
        (f"?token={token()}&room={'x' * 101}", 400, "bad_room"),
        (f"?token={token()}&room=%00", 400, "bad_room"),
    ],
)
async def test_others_are_refused_before_the_upgrade(
    guarded: SignalingServer, query: str, status: int, code: str
) -> None:
    assert await refusal(guarded, query) == (status, code)
    assert guarded.total_sessions == 0


async def test_the_header_counts_more_than_the_query(guarded: SignalingServer) -> None:
    assert await refusal(guarded, f"?token={token()}", **bearer("x")) == (401, "token_invalid")
    assert await welcomed(guarded, "?token=x", **bearer(token()))


@pytest.mark.parametrize(
    ("claimed", "query", "room"),
    [(None, "", ""), (None, "?room=b", "b"), ("a", "", "a"), ("a", "?room=a", "a"), ("", "?room=", "")],
)
async def test_a_token_is_good_for_its_room_and_without_one_for_any(
    guarded: SignalingServer, claimed: str | None, query: str, room: str
) -> None:
    async with joined(guarded, query=query, additional_headers=bearer(token(room=claimed))) as [client]:
        assert guarded.sessions[client.session].who.room == room


async def test_a_session_ends_when_its_token_does(guarded: SignalingServer) -> None:
    ends = int(time.time()) + 2  # a token has whole seconds
    async with joined(guarded, additional_headers=bearer(token(expires=ends))) as [client]:
        assert await client.next_is_pong()
        assert await client.closed() == (4401, "Token expired")
        assert time.time() >= ends
    await until_open(guarded, 0)


async def test_a_token_that_lasts_for_ever_ends_nothing(guarded: SignalingServer) -> None:
    async with joined(guarded, additional_headers=bearer(token(expires=None))) as [client]:
        assert await client.next_is_pong()


async def test_no_token_is_ever_logged(guarded: SignalingServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="synopticon_rtc")
    good, bad = token(), token(expires=time.time() - 1)
    await welcomed(guarded, f"?token={good}")
    await welcomed(guarded, **bearer(good))
    await refusal(guarded, f"?token={bad}")
    await until_open(guarded, 0)
    logged = json.dumps([record.__dict__ for record in caplog.records], default=str)
    assert "token_expired" in logged
    for secret in (good.rpartition(".")[2], bad.rpartition(".")[2], SECRET.decode().rstrip(".")):
        assert secret not in logged


# Origins


@pytest.mark.parametrize(
    ("origins", "origin", "taken"),
    [
        ((), "http://{host}", True),
        ((), "https://{host}", True),
        ((), "http://localhost:5500", True),
        ((), "http://[::1]:5500", True),
        ((), "http://127.0.0.1", True),
        ((), "https://example.org", False),
        ((), "http://127.0.0.1.example.org", False),
        ((), "null", False),
        ((), "", False),
        ((), "http://host:x", False),
        ((), "file://", False),
        ((), "http://[", False),
        ((), "http://[x]", False),
        (("https://example.org",), "https://example.org", True),
        (("https://example.org",), "http://example.org", False),
        (("https://example.org",), "https://example.org:444", False),
        (("https://example.org",), "null", False),
        (("null",), "null", True),
        (("*",), "https://example.org", True),
        (("*",), "null", True),
    ],
)
async def test_pages_of_the_servers_own_origin_and_of_this_machine_may_connect_and_those_listed(
    origins: tuple[str, ...], origin: str, *, taken: bool
) -> None:
    async with SignalingServer(port=0, origins=origins) as server:
        origin = origin.format(host=f"127.0.0.1:{server.port}")
        if taken:
            assert await welcomed(server, Origin=origin)
        else:
            assert await refusal(server, Origin=origin) == (403, "wrong_origin")


async def test_a_page_elsewhere_cannot_pass_for_one_of_this_machine_by_its_name(server: SignalingServer) -> None:
    for host, taken in (("localhost", True), ("rebound.example.org", False)):
        name = f"{host}:{server.port}"
        status = await upgrade(server, f"Host: {name}", f"Origin: http://{name}")
        assert status == (101 if taken else 403)


@pytest.mark.parametrize(
    ("origin", "taken"),
    [
        ("http://{host}", True),
        ("http://localhost:5500", False),
        ("http://127.0.0.1:5500", False),
        ("https://{host}", True),
    ],
)
async def test_where_others_can_connect_pages_of_this_machine_are_others_too(origin: str, *, taken: bool) -> None:
    async with SignalingServer("0.0.0.0", 0, insecure=True) as server:  # noqa: S104  # on purpose
        origin = origin.format(host=f"127.0.0.1:{server.port}")
        if taken:
            assert await welcomed(server, Origin=origin)
        else:
            assert await refusal(server, Origin=origin) == (403, "wrong_origin")


@pytest.mark.parametrize(
    ("host", "scheme", "origin", "taken"),
    [
        ("rtc.example.org", "https", "http://localhost:5500", False),
        ("rtc.example.org", "https", "https://rtc.example.org", True),
        ("rtc.example.org:443", "https", "https://rtc.example.org", True),
        ("rtc.example.org", "http", "http://rtc.example.org:80", True),
        ("rtc.example.org", "http", "https://rtc.example.org", False),
        ("rtc.example.org", "https", "https://example.org", False),
    ],
)
async def test_behind_a_proxy_the_origin_is_that_of_the_proxy(
    host: str, scheme: str, origin: str, *, taken: bool
) -> None:
    async with SignalingServer(port=0, proxies=["127.0.0.1"]) as server:
        told = f"Host: {host}", f"X-Forwarded-Proto: {scheme}", f"Origin: {origin}"
        assert await upgrade(server, *told) == (101 if taken else 403)


async def upgrade(server: SignalingServer, *headers: str, path: str = "/ws") -> int:
    """Ask for an upgrade with these headers and no other host; return the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    websocket = "Upgrade: websocket", "Connection: keep-alive, Upgrade", "Sec-WebSocket-Version: 13"
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    writer.write("\r\n".join([f"GET {path} HTTP/1.1", *headers, *websocket, key, "", ""]).encode("latin-1"))
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


words = st.text(
    st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=20
) | st.sampled_from(
    [
        "null",
        "http://[",
        "http://a:b",
        "https://[::1]:99999",
        "[",
        "a:b",
        "192.0.2.1, x",
        "Bearer",
        "Bearer x",
        "%00",
        "%ff",
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    headers=st.dictionaries(
        st.sampled_from(["Origin", "Host", "X-Forwarded-For", "X-Forwarded-Proto", "Authorization"]), words
    ),
    query=words,
)
async def test_no_request_is_more_than_refused(headers: dict[str, str], query: str) -> None:
    keys = TokenKeys(secret=SECRET)
    async with SignalingServer(port=0, proxies=["127.0.0.1"], tokens=keys) as server:
        told = [f"{name}: {value}" for name, value in headers.items()]
        assert await upgrade(server, *told, path=f"/ws?room={query}&token={query}") in {400, 401, 403}


@pytest.mark.parametrize("origin", ["example.org", "https://", "https://example.org/", "https://example.org/page", ""])
def test_an_origin_that_is_none_is_one_clear_error(origin: str) -> None:
    with pytest.raises(SignalingError, match="is no origin"):
        SignalingServer(origins=[origin])


# Proxies


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        ((), "192.0.2.1", "127.0.0.1"),
        (("192.0.2.9",), "192.0.2.1", "127.0.0.1"),
        (("127.0.0.1",), "192.0.2.1", "192.0.2.1"),
        (("127.0.0.0/8",), "192.0.2.1", "192.0.2.1"),
        (("127.0.0.1",), "2001:db8::1", "2001:db8::1"),
        (("127.0.0.1",), "203.0.113.7, 192.0.2.1", "192.0.2.1"),
        (("127.0.0.1", "192.0.2.1"), "203.0.113.7, 192.0.2.1", "203.0.113.7"),
        (("127.0.0.1", "192.0.2.0/24"), "192.0.2.1, 192.0.2.2", "192.0.2.1"),
        (("127.0.0.1",), "unknown", "unknown"),
        (("127.0.0.1",), "", "127.0.0.1"),
    ],
)
async def test_only_proxies_that_are_known_are_believed(proxies: tuple[str, ...], forwarded: str, address: str) -> None:
    async with SignalingServer(port=0, proxies=proxies) as server:
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        async with joined(server, additional_headers=headers) as [client]:
            session = server.sessions[client.session]
            assert session.who.address == address
            assert session.address.startswith(address)


def test_a_proxy_that_is_no_address_is_one_clear_error() -> None:
    with pytest.raises(SignalingError, match=r"'proxy\.example' is no address of a proxy"):
        SignalingServer(proxies=["proxy.example"])
