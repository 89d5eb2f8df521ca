"""Tunnels and other proxies in front of a broadcaster's own server."""

import contextlib
import http.client
import json
from http import HTTPStatus
from urllib.parse import urlsplit

import pytest
from calls import PICTURE, run, running

pytestmark = pytest.mark.field

TUNNEL = "https://x.ngrok.app"
# What ngrok's agent sends on.
FORWARDED = {"Host": "x.ngrok.app", "X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}


def ask(url: str, **headers: str) -> tuple[int, str]:
    """Ask for the signaling as it comes out of the tunnel; give the status and what is said."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/ws", headers=FORWARDED | headers)
        response = connection.getresponse()
        status = response.status
        return status, "" if status == HTTPStatus.SWITCHING_PROTOCOLS else json.loads(response.read())["message"]


def upgrade(url: str) -> tuple[int, str]:
    """Open a WebSocket as the page does that came through the tunnel."""
    key = "dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455
    opening = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    return ask(url, Origin=TUNNEL, **opening, **{"Sec-WebSocket-Key": key})


@pytest.mark.parametrize("options", [["--origin", TUNNEL], ["--proxy", "127.0.0.1"], ["--origin", "*"]])
def test_a_page_that_comes_through_a_tunnel_is_let_in_where_it_is_named(options: list[str]) -> None:
    with running("broadcast", *PICTURE, "--serve", "0", *options) as broadcast:
        url = broadcast.next("ready")["url"]
        assert upgrade(url)[0] == 101


def test_a_page_that_is_not_named_is_refused_with_the_option_that_would_let_it_in() -> None:
    with running("broadcast", *PICTURE, "--serve", "0") as broadcast:
        url = broadcast.next("ready")["url"]
        status, message = upgrade(url)
        assert status == 403
        assert f"--origin {TUNNEL}" in message
        # The page cannot read that, and asks over HTTP, where browsers name no origin.
        status, message = ask(url, **{"Sec-Fetch-Site": "same-origin"})
        assert status == 403
        assert "--origin" in message
        broadcast.process.terminate()
        _, err = broadcast.process.communicate(timeout=20)
    (line,) = err.splitlines()
    assert f"--origin {TUNNEL}" in line


@pytest.mark.parametrize("option", [["--origin", TUNNEL], ["--proxy", "127.0.0.1"]])
def test_options_of_a_server_of_ones_own_are_refused_beside_the_address_of_another(option: list[str]) -> None:
    code, _, err = run("broadcast", *PICTURE, "--url", "ws://127.0.0.1:9/ws", *option)
    assert code == 2
    assert "--origin and --proxy" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("option", [["--origin", "x.ngrok.app"], ["--proxy", "nginx"]])
def test_what_is_no_origin_and_no_address_is_refused_in_one_line(option: list[str]) -> None:
    code, _, err = run("broadcast", *PICTURE, "--serve", "0", *option)
    assert code == 1
    (line,) = err.splitlines()
    assert option[1] in line
