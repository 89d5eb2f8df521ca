"""WHIP and WHEP as a server has them, on the wire: what is asked by HTTP becomes messages of a room, within bounds."""

import asyncio
import http.client
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import Message
from typing import Any

import pytest
from bare_client import Client, joined
from hypothesis import given
from hypothesis import strategies as st
from waiting import until

from synopticon_rtc.errors import SynopticonError
from synopticon_rtc.signaling.client import SignalingClient
from synopticon_rtc.signaling.messages import Candidate
from synopticon_rtc.signaling.server.endpoints import _read_fragment
from synopticon_rtc.signaling.server.ice import TurnServers
from synopticon_rtc.signaling.server.limits import BODY_BYTES, Limits
from synopticon_rtc.signaling.server.server import SignalingServer
from synopticon_rtc.signaling.server.tokens import Claims, TokenKeys, make_token

SECRET = b"a secret of thirty-two bytes....."
OFFER = "v=0\r\na=ice-ufrag:abcd\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"
FRAGMENT = (
    "a=ice-ufrag:abcd\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=candidate:1 1 udp 7 192.0.2.1 5 typ host\r\n"
)
SDP = {"Content-Type": "application/sdp"}
TRICKLE = {"Content-Type": "application/trickle-ice-sdpfrag"}

Reply = tuple[int, Message, str]


async def ask(
    server: SignalingServer, method: str, path: str, headers: dict[str, str] | None = None, body: str | bytes = b""
) -> Reply:
    """Ask a server for something, and return status, headers and content."""

    def work() -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request(method, path, body or None, headers or {})
        answer = connection.getresponse()
        found = answer.status, answer.headers, answer.read().decode()
        connection.close()
        return found

    return await asyncio.to_thread(work)


def token(*roles: str, **claims: Any) -> dict[str, str]:
    """Return the header with a token for these roles."""
    known: dict[str, Any] = {"room": "lab", "roles": frozenset(roles), "expires": time.time() + 60}
    made = make_token(SECRET, Claims(**known | claims))
    return {"Authorization": f"Bearer {made}"}


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0, limits=Limits(room_sessions=3)) as server:
        yield server


@asynccontextmanager
async def camera(server: SignalingServer, name: str = "cam", query: str = "?room=lab") -> AsyncIterator[Client]:
    """Have a broadcaster there that answers by hand."""
    async with joined(server, query=query) as (client,):
        await client.configure(role=["broadcast"], name=name, tell=["peers"])
        yield client


async def answered(client: Client, **keys: Any) -> dict[str, Any]:
    """Answer the next offer, and return it."""
    offer = await client.receive()
    assert offer["type"] == "webrtc_offer"
    told = {"type": "webrtc_answer", "sdp": {"type": "answer", "sdp": "v=0 answer"}} | keys
    await client.send({**told, "targetSession": offer["sourceSession"]})
    return offer


async def watch(server: SignalingServer, client: Client, headers: dict[str, str] | None = None) -> Reply:
    """Have somebody watch, whom the broadcaster answers."""
    asked = asyncio.create_task(ask(server, "POST", "/whep/lab/cam", SDP | (headers or {}), OFFER))
    await answered(client)
    return await asked


# Watching


async def test_an_offer_reaches_the_broadcaster_of_that_name_and_its_answer_comes_back(server: SignalingServer) -> None:
    async with camera(server) as client:
        asked = asyncio.create_task(ask(server, "POST", "/whep/lab/cam", SDP, OFFER))
        offer = await answered(client)
        status, headers, text = await asked
        assert (offer["sdp"], offer["accept"]["offers"]) == ({"type": "offer", "sdp": OFFER}, ["receiving"])
        assert offer["accept"]["faces"] == ["sei"]
        assert (status, text, headers["Content-Type"]) == (201, "v=0 answer", "application/sdp")
        assert headers["Location"].startswith("/sessions/")
        assert headers["ETag"].startswith('"')


async def test_candidates_and_the_end_are_passed_on(server: SignalingServer) -> None:
    async with camera(server) as client:
        _, headers, _ = await watch(server, client)
        where, condition = headers["Location"], TRICKLE | {"If-Match": headers["ETag"]}
        assert (await ask(server, "PATCH", where, condition, FRAGMENT))[0] == 204
        told = await client.receive()
        assert told["candidate"]["candidate"] == "candidate:1 1 udp 7 192.0.2.1 5 typ host"
        assert told["candidate"]["sdpMid"] == "0"
        assert (await ask(server, "DELETE", where))[0] == 200
        assert (await client.receive())["bye"]
        assert (await client.receive())["type"] == "peer_left"
        assert (await ask(server, "DELETE", where))[0] == 404
        assert len(server.sessions) == 1


async def test_a_patch_names_the_session_and_restarts_no_ice(server: SignalingServer) -> None:
    async with camera(server) as client:
        _, headers, _ = await watch(server, client)
        where, tag = headers["Location"], headers["ETag"]
        restart = FRAGMENT.replace("abcd", "efgh")
        for kind, match, text, status in (
            (TRICKLE, None, FRAGMENT, 428),
            (TRICKLE, '"another"', FRAGMENT, 412),
            (TRICKLE, "*", restart, 422),
            (TRICKLE, tag, restart, 422),
            (SDP, tag, FRAGMENT, 415),
            (TRICKLE, tag, "", 400),
            (TRICKLE, tag, "a=end-of-candidates\r\n", 204),
        ):
            condition = {} if match is None else {"If-Match": match}
            assert (await ask(server, "PATCH", where, kind | condition, text))[0] == status
        assert await client.next_is_pong()


async def test_a_broadcaster_that_refuses_leaves_or_lets_go_is_told_of(server: SignalingServer) -> None:
    async with camera(server) as client:
        for keys, status, words in (
            ({"refused": True, "bye": "the broadcaster does not admit you"}, 403, "does not admit you"),
            ({"bye": "this peer offers none of our codecs"}, 400, "none of our codecs"),
        ):
            asked = asyncio.create_task(ask(server, "POST", "/whep/lab/cam", SDP, OFFER))
            await answered(client, type="webrtc_ice", sdp=None, **keys)
            found, _, text = await asked
            assert (found, words in text) == (status, True)
            assert (await client.receive())["bye"]
            assert (await client.receive())["type"] == "peer_left"
        _, headers, _ = await watch(server, client)
        session = next(iter(server.sessions.keys() - {client.session}))
        await client.send({"type": "webrtc_ice", "bye": "closed", "targetSession": session})
        await until(lambda: len(server.sessions) == 1)
        assert (await ask(server, "DELETE", headers["Location"]))[0] == 404
        asked = asyncio.create_task(ask(server, "POST", "/whep/lab/cam", SDP, OFFER))
        await client.receive()
        while (await client.receive())["type"] != "webrtc_offer":
            pass
    assert (await asked)[0] == 404


async def test_nobody_of_that_name_is_not_found(server: SignalingServer) -> None:
    async with camera(server), joined(server, query="?room=lab") as (other,):
        await other.configure(role=["receive"], name="someone")
        for path in (
            "/whep/lab/other",
            "/whep/elsewhere/cam",
            "/whep/cam",
            "/whep/lab/someone",
            "/whep/lab/",
            "/whep/a/b/c",
        ):
            assert (await ask(server, "POST", path, SDP, OFFER))[0] == 404


async def test_a_full_room_takes_nobody_more(server: SignalingServer) -> None:
    async with camera(server) as client:
        for _ in range(2):
            assert (await watch(server, client))[0] == 201
        status, headers, text = await ask(server, "POST", "/whep/lab/cam", SDP, OFFER)
        assert (status, headers["Retry-After"]) == (503, "5")
        assert "Room full" in text


async def test_sessions_end_with_the_server() -> None:
    async with SignalingServer(port=0) as server, camera(server) as client:
        await watch(server, client)
    assert not server.sessions


# Who may


async def test_tokens_and_roles_are_those_of_all_sessions() -> None:
    async with SignalingServer(port=0, tokens=TokenKeys(secret=SECRET)) as server:
        sends, receives = token("broadcast"), token("receive")
        async with camera(server, query=f"?token={sends['Authorization'][7:]}") as client:
            for headers, path, status in (
                ({}, "/whep/lab/cam", 401),
                (sends, "/whep/lab/cam", 403),
                (receives, "/whep/other/cam", 403),
                (receives, "/whip/lab/cam", 403),
            ):
                assert (await ask(server, "POST", path, SDP | headers, OFFER))[0] == status
            status, opened, _ = await watch(server, client, receives)
            assert status == 201
            other = token("receive", subject="somebody else")
            for mine in ({}, other):
                assert (await ask(server, "DELETE", opened["Location"], mine))[0] == 403
            assert (await ask(server, "DELETE", opened["Location"], receives))[0] == 200


async def test_pages_of_allowed_origins_read_the_answers_and_no_others() -> None:
    async with SignalingServer(port=0, origins=["https://player.example"]) as server, camera(server) as client:
        origin = {"Origin": "https://player.example"}
        status, headers, _ = await ask(
            server, "OPTIONS", "/whep/lab/cam", origin | {"Access-Control-Request-Method": "POST"}
        )
        assert (status, headers["Access-Control-Allow-Origin"]) == (204, "https://player.example")
        assert "Authorization" in headers["Access-Control-Allow-Headers"]
        assert headers["Accept-Post"] == "application/sdp"
        _, headers, _ = await watch(server, client, origin)
        assert "Location" in headers["Access-Control-Expose-Headers"]
        assert (await ask(server, "POST", "/whep/lab/none", SDP | origin, OFFER))[1]["Access-Control-Allow-Origin"]
        for method in ("POST", "OPTIONS"):
            status, headers, _ = await ask(
                server, method, "/whep/lab/cam", SDP | {"Origin": "https://evil.example"}, OFFER
            )
            assert (status, headers["Access-Control-Allow-Origin"]) == (403, None)


async def test_ice_servers_are_named_in_links() -> None:
    turn = TurnServers(stun=["stun:s.example:3478"], turn=["turn:t.example:3478?transport=udp"], secret=b"x")
    async with SignalingServer(port=0, ice_servers=turn) as server, camera(server) as client:
        _, headers, _ = await watch(server, client)
        assert headers["Link"].startswith(
            '<stun:s.example:3478>; rel="ice-server", <turn:t.example:3478?transport=udp>'
        )
        assert '; credential-type="password"' in headers["Link"]


# What is no request


@pytest.mark.parametrize("path", ["/whip/lab/cam", "/whep/lab/cam", "/sessions/1"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "TRACE"])
async def test_other_methods_are_not_allowed(server: SignalingServer, path: str, method: str) -> None:
    status, headers, _ = await ask(server, method, path)
    assert status == 405
    assert "OPTIONS" in headers["Allow"]


async def test_what_is_no_description_is_refused(server: SignalingServer) -> None:
    for headers, body, status in (
        ({}, OFFER, 415),
        ({"Content-Type": "application/json"}, OFFER, 415),
        (SDP, b"", 400),
        (SDP, b"\xff\xfe", 400),
        (SDP, b"x" * (BODY_BYTES + 1), 413),
        (SDP | {"Content-Length": "-1"}, b"", 400),
        (SDP | {"Content-Length": "many"}, b"", 400),
        (SDP | {"Transfer-Encoding": "chunked"}, b"", 411),
    ):
        assert (await ask(server, "POST", "/whep/lab/cam", headers, body))[0] == status
    assert (await ask(server, "POST", "/", SDP, OFFER))[0] == 405


async def test_a_client_that_waits_for_leave_to_send_gets_it(server: SignalingServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = "POST /whep/lab/none HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\n"
    writer.write(f"{head}Content-Length: {len(OFFER)}\r\nExpect: 100-continue\r\n\r\n".encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(OFFER[:5].encode())
    await writer.drain()
    writer.write(OFFER[5:].encode())
    assert (await reader.read()).startswith(b"HTTP/1.1 404")
    writer.close()


@given(st.text(max_size=300) | st.lists(st.sampled_from(FRAGMENT.splitlines()), max_size=99).map("\r\n".join))
def test_fragments_are_read_within_bounds(text: str) -> None:
    assert len(_read_fragment(text)) <= 64


# Publishing


class Takes:
    """Takes what is published, and says how it went."""

    def __init__(self, refusal: str = "") -> None:
        self.refusal = refusal
        self.taken: list[tuple[str, str]] = []
        self.candidates: list[Candidate] = []
        self.ended: Callable[[str], None] = lambda _: None

    async def take(
        self, offer: str, client: SignalingClient, name: str, ended: Callable[[str], None], ice_servers: object
    ) -> tuple[str, "Takes"]:
        assert offer == OFFER
        assert ice_servers == []
        if self.refusal:
            raise SynopticonError(self.refusal)
        async with client:
            self.taken.append((name, await client.wait_open()))
        self.ended = ended
        return "v=0 answer", self

    async def add(self, candidates: list[Candidate]) -> None:
        self.candidates += candidates

    async def aclose(self) -> None:
        self.ended("it was asked to")


async def test_a_publisher_is_taken_under_its_name_once() -> None:
    ingest = Takes()
    async with SignalingServer(port=0, ingest=ingest) as server:
        status, headers, text = await ask(server, "POST", "/whip/lab/obs", SDP, OFFER)
        assert (status, text) == (201, "v=0 answer")
        assert ingest.taken[0][0] == "obs"
        assert (await ask(server, "POST", "/whip/lab/obs", SDP, OFFER))[0] == 409
        where = headers["Location"]
        assert (await ask(server, "PATCH", where, TRICKLE | {"If-Match": headers["ETag"]}, FRAGMENT))[0] == 204
        assert len(ingest.candidates) == 1
        assert (await ask(server, "DELETE", where))[0] == 200
        assert (await ask(server, "POST", "/whip/lab/obs", SDP, OFFER))[0] == 201
        async with camera(server):
            assert (await ask(server, "POST", "/whip/lab/cam", SDP, OFFER))[0] == 409


async def test_an_offer_that_cannot_be_used_leaves_nothing_behind() -> None:
    async with SignalingServer(port=0, ingest=Takes("this peer offers none of our codecs")) as server:
        for _ in range(2):
            status, _, text = await ask(server, "POST", "/whip/lab/obs", SDP, OFFER)
            assert (status, "none of our codecs" in text) == (400, True)
        await until(lambda: not server.sessions)


async def test_a_server_that_takes_no_streams_says_so(server: SignalingServer) -> None:
    status, _, text = await ask(server, "POST", "/whip/lab/obs", SDP, OFFER)
    assert (status, "--whip" in text) == (501, True)
