"""Users and passwords in addresses of STUN, TURN and signaling servers, as others hand them out."""

import base64
import http.server
import re
import threading
from pathlib import Path
from typing import Any

import click
import pytest
from calls import QuietHandler, run
from rtc_network import coturn

from synopticon_rtc.commands.options import IceServerURL
from synopticon_rtc.rtc import PeerConnection
from synopticon_rtc.signaling.server.ice import TurnServers

pytestmark = pytest.mark.field

SECRET = "shared"  # noqa: S105  # of this test alone


@pytest.mark.parametrize(
    ("text", "url", "user", "password"),
    [
        ("turn:1774000000:alice:SGVsbG8=@host", "turn:host", "1774000000:alice", "SGVsbG8="),
        ("turn:1774000000:ws_1_a:a+/b=@host:3478", "turn:host:3478", "1774000000:ws_1_a", "a+/b="),
        ("turn:user:p%40ss%3Aw%2Ford@host", "turn:host", "user", "p@ss:w/ord"),
        ("turn:user:p@ss@host", "turn:host", "user", "p@ss"),
        ("turn:us%3Aer:secret@host?transport=tcp", "turn:host?transport=tcp", "us:er", "secret"),
        ("turn:user:50%@host", "turn:host", "user", "50%"),
        ("turns:user:secret@[2001:db8::1]:443", "turns:[2001:db8::1]:443", "user", "secret"),
        ("turn:1774000000:alice:x=@[::1]", "turn:[::1]", "1774000000:alice", "x="),
        ("stun:[::1]:3478", "stun:[::1]:3478", None, None),
        ("stun:host", "stun:host", None, None),
    ],
)
def test_users_and_passwords_are_read_as_in_any_address(
    text: str, url: str, user: str | None, password: str | None
) -> None:
    server = IceServerURL().convert(text, None, None)
    assert (server.url, server.username, server.credential) == (url, user, password)


@pytest.mark.parametrize(
    "text",
    [
        "turn:host",
        "turn:secret@host",
        "turn:user:@host",
        "turn::secret@host",
        "turn:user:secret@",
        "turn:user:secret@2001:db8::1",
        "turn:user:secret@host:99999",
        "stun:user:secret@host",
        "http://user:secret@host",
        "user:secret@host",
        "turn://user:secret@host",
    ],
)
def test_what_is_no_server_is_refused_without_the_password(text: str) -> None:
    with pytest.raises(click.BadParameter) as error:
        IceServerURL().convert(text, None, None)
    assert "secret" not in str(error.value)
    assert "HOST:PORT" in str(error.value)


async def test_what_our_own_server_hands_out_is_taken_by_a_turn_server(tmp_path: Path) -> None:
    async with coturn(tmp_path, secret=SECRET) as turn:
        url = turn.turn("udp").url
        offer: dict[str, Any] = TurnServers(turn=[url], secret=SECRET.encode()).offer("alice")
        (named,) = offer["iceServers"]
        given = f"turn:{named['username']}:{named['credential']}@{url.removeprefix('turn:')}"
        connection = PeerConnection(ice_servers=[IceServerURL().convert(given, None, None)], relay_only=True)
        connection.add_channel("anything")
        assert re.search("typ relay", await connection.offer())
        await connection.close()


def test_a_login_for_a_proxy_in_front_is_shown_to_it_and_to_nobody_else() -> None:
    seen: list[str | None] = []

    class Guarded(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - the library's name
            seen.append(self.headers["Authorization"])
            self.send_error(404)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"ws://me:p%40ss@127.0.0.1:{server.server_port}/ws"
        code, out, err = run("receive", "--url", url, "-vv")
        server.shutdown()
    assert code == 1
    assert seen == [f"Basic {base64.b64encode(b'me:p@ss').decode()}"]
    assert "p%40ss" not in out + err
    assert "p@ss" not in out + err


@pytest.mark.parametrize("url", ["ws://admin:s3cret@", "ws://admin:s3cret@host:port/ws", "http://admin:s3cret@h/ws"])
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    code, _, err = run("receive", "--url", url)
    assert code == 1
    (line,) = err.splitlines()
    assert "s3cret" not in line
