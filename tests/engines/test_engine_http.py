"""Servers that answer with anything: what they say is bounded, and leads nowhere that nobody meant."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from waiting import until

from synopticon_rtc.engines import as_engine
from synopticon_rtc.engines.http import MOST, REDIRECTS, Web, is_as_secure
from synopticon_rtc.engines.whip import _fragment, _servers
from synopticon_rtc.errors import SignalingError
from synopticon_rtc.signaling.messages import (
    Answer,
    AnyMessage,
    Candidate,
    Ice,
    Offer,
    Requirements,
    Seek,
    SessionDescription,
)


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve one answer a connection; give the address, and the requests as they come."""
    left, asked = list(answers), []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/whip", asked


def moved(where: str) -> bytes:
    return f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode()


async def test_a_redirect_is_followed_with_the_same_request() -> None:
    async with answering(moved("/other"), b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nhi") as (url, asked):
        reply = await Web().ask("POST", url, {"Authorization": "Bearer t"}, "v=0")
        assert (reply.status, reply.text, reply.url) == (201, "hi", url.replace("whip", "other"))
        assert [request.split(b" ", 2)[:2] for request in asked] == [[b"POST", b"/whip"], [b"POST", b"/other"]]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (moved("/whip"), f"more than {REDIRECTS} times"),
        (moved("file:///etc/passwd"), "file://, which is not secured"),
        (b"\x16\x03\x01 no HTTP\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MOST + 1), "longer than"),
        (b"", "no HTTP|without response"),
    ],
)
async def test_what_cannot_be_used_is_an_error_in_words(answer: bytes, words: str) -> None:
    async with answering(answer) as (url, _):
        with pytest.raises(OSError, match=words):
            await Web().ask("OPTIONS", url, {})


async def test_nothing_but_http_is_asked() -> None:
    with pytest.raises(OSError, match="no way to ask"):
        await Web().ask("DELETE", "file:///etc/passwd", {})


def test_a_token_does_not_go_where_all_can_read_it() -> None:
    assert is_as_secure("https://other/", "http://host/")
    assert is_as_secure("http://other/", "http://host/")
    assert not is_as_secure("http://host/", "https://host/")


class Sends:
    """Listens to an engine as a broadcaster does, and sends what it is told to."""

    requirements = Requirements(role=("broadcast",), tell=())

    def __init__(self) -> None:
        self.heard: list[AnyMessage] = []
        self.failure = ""

    def opened(self, session: str) -> None: ...

    def received(self, message: AnyMessage) -> bool:
        self.heard.append(message)
        return True

    def unclaimed(self, message: AnyMessage) -> bool:
        return message not in self.heard

    def failed(self, error: SignalingError) -> None:
        self.failure = str(error)


async def test_an_offer_is_posted_once_and_candidates_and_the_end_follow_it() -> None:
    created = b'HTTP/1.1 201 Created\r\nLocation: /r/1\r\nETag: "t"\r\nContent-Length: 10\r\n\r\nv=0 answer'
    done = b"HTTP/1.1 204 No Content\r\n\r\n"
    offer = Offer(sdp=SessionDescription("offer", "o=- 1 1\r\na=ice-ufrag:u\r\nm=video 9 X 1\r\n"))
    async with answering(done, created, done) as (url, asked):
        engine, listener = as_engine(f"whip+{url}", token="t"), Sends()  # noqa: S106 - none of anybody's
        async with engine:
            engine.listen(listener)
            await until(lambda: listener.heard)
            for message in (offer, offer, Ice(candidate=Candidate("candidate:1", "0")), Ice(bye="closed")):
                engine.send(message)
            await engine.flush()
            engine.leave(listener)
    assert [type(message) for message in listener.heard[:2]] == [Seek, Answer]
    assert [request.split(b" ", 2)[:2] for request in asked] == [
        [b"OPTIONS", b"/whip"],
        [b"POST", b"/whip"],
        [b"PATCH", b"/r/1"],
        [b"DELETE", b"/r/1"],
    ]
    assert b'\r\nIf-Match: "t"\r\n' in asked[2].replace(b"If-match", b"If-Match")
    assert all(b"\r\nAuthorization: Bearer t\r\n" in request for request in asked)
    assert listener.failure == ""


def test_ice_servers_are_read_from_links() -> None:
    links = [
        '<stun:s.example:3478>; rel="ice-server", <https://other>; rel="next"',
        '<turn:t.example?transport=udp>; rel="ice-server"; username="a;b"; credential="c\\"d"',
        "<no end; rel=ice-server",
    ]
    assert list(_servers(links)) == [
        {"urls": "stun:s.example:3478"},
        {"urls": "turn:t.example?transport=udp", "username": "a;b", "credential": 'c"d'},
    ]


def test_candidates_are_told_in_a_fragment() -> None:
    offer = "v=0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\nm=audio 9 X 1\r\n"
    assert _fragment(offer, [Candidate("candidate:1 1 udp 7 192.0.2.1 5 typ host", "0")]) == (
        "a=ice-ufrag:u\r\na=ice-pwd:p\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n"
        "a=candidate:1 1 udp 7 192.0.2.1 5 typ host\r\n"
    )
