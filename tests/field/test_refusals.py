"""Servers that say no, are others, or come and go: what they said is told."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest
from calls import PICTURE, QuietHandler, run, running
from rtc_network import free_port

pytestmark = pytest.mark.field

SECRET = "a secret of this test alone: 32 bytes or more"  # noqa: S105  # of this test alone


class Website(QuietHandler):
    """What else may be at a port."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # noqa: N802 - the library's name
        if self.path == "/moved":
            self.send_response(301)
            self.send_header("Location", "https://elsewhere.test/ws")
        else:
            self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def website() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Website) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"ws://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("module", ["broadcast", "receive"])
@pytest.mark.parametrize("path", ["", "/", "/ws/", "/signaling"])
def test_a_wrong_path_is_told_with_a_hint_at_the_right_one(module: str, path: str) -> None:
    source = PICTURE if module == "broadcast" else ()
    with running("signaling", "--port", "0") as server:
        url = server.next("ready")["url"].removesuffix("/ws") + path
        code, _, err = run(module, *source, "--url", url)
    assert code == 1
    (line,) = err.splitlines()
    assert "is the path right?" in line
    assert "/ws" in line.partition("Most have it at")[2]


def test_a_room_that_the_token_is_not_for_is_told() -> None:
    code, token, _ = run("signaling", "token", "--room", "lab", SYNOPTICON_TOKEN_SECRET=SECRET)
    assert code == 0
    with running("signaling", "--port", "0", SYNOPTICON_TOKEN_SECRET=SECRET) as server:
        url = server.next("ready")["url"]
        code, _, err = run("receive", "--url", url, "--room", "other", SYNOPTICON_TOKEN=token.strip())
    assert code == 1
    (line,) = err.splitlines()
    assert "is for another room" in line


@pytest.mark.parametrize("command", [("broadcast", *PICTURE), ("receive",)], ids=lambda command: command[0])
def test_a_refusal_for_good_is_not_said_to_be_tried_again(command: tuple[str, ...]) -> None:
    with running("signaling", "--port", "0", SYNOPTICON_TOKEN_SECRET=SECRET) as server:
        code, out, _ = run(*command, "--url", server.next("ready")["url"])
    assert code == 1
    assert "signaling: given up: " in out
    assert "trying again" not in out


def test_another_server_at_the_port_is_told(website: str) -> None:
    code, _, err = run("receive", "--url", f"{website}/ws")
    assert code == 1
    (line,) = err.splitlines()
    assert "HTTP 404 Not Found" in line
    assert "is the port right?" in line


def test_another_server_of_an_older_kind_is_told(website: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Website, "protocol_version", "HTTP/1.0")  # as `python -m http.server` speaks
    code, _, err = run("receive", "--url", f"{website}/ws")
    assert code == 1
    (line,) = err.splitlines()
    assert "HTTP/1.0 404 Not Found" in line


def test_a_server_that_has_moved_is_told(website: str) -> None:
    code, _, err = run("receive", "--url", f"{website}/moved")
    assert code == 1
    (line,) = err.splitlines()
    assert "https://elsewhere.test/ws" in line


def test_what_speaks_no_http_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                    connection.recv(4096)

        threading.Thread(target=greet, daemon=True).start()
        code, _, err = run("receive", "--url", f"ws://127.0.0.1:{listening.getsockname()[1]}/ws")
        listening.shutdown(socket.SHUT_RDWR)
    assert code == 1
    (line,) = err.splitlines()
    assert "SSH-2.0-OpenSSH_9.2" in line


def test_a_server_that_is_full_is_quoted_and_tried_again() -> None:
    with running("signaling", "--port", "0", "--max-sessions", "1") as server:
        url = server.next("ready")["url"]
        with running("broadcast", *PICTURE, "--url", url) as broadcast:
            broadcast.next("ready")
            code, _, err = run("receive", "--url", url, "--timeout", "1")
    assert code == 1
    assert "1013" in err.splitlines()[-1]


def test_a_broadcaster_says_that_it_is_not_connected_and_when_it_is() -> None:
    port = free_port()
    url = f"ws://127.0.0.1:{port}/ws"
    with running("broadcast", *PICTURE, "--url", url) as broadcast:
        assert broadcast.next("signaling", connected=False)["reason"]
        with running("signaling", "--port", str(port)) as server:
            session = broadcast.next("signaling", connected=True)["session"]
            assert broadcast.next("ready")["session"] == session
            server.interrupt()
        assert broadcast.next("signaling", connected=False)["url"] == url
        with running("signaling", "--port", str(port)):
            assert broadcast.next("signaling", connected=True)["session"] != session
        broadcast.interrupt()


def test_a_receiver_says_that_signaling_is_gone_and_when_it_is_there_again() -> None:
    port = free_port()
    url = f"ws://127.0.0.1:{port}/ws"
    with running("receive", "--url", url) as receive:
        assert receive.next("signaling", connected=False)["reason"]
        with running("signaling", "--port", str(port)) as server:
            assert receive.next("signaling", connected=True)["session"]
            server.interrupt()
        assert receive.next("signaling", connected=False)["url"] == url
        receive.interrupt()


def test_nobody_is_told_of_another_try_where_there_is_none() -> None:
    with running("signaling", "--port", str(port := free_port())) as server:
        server.next("ready")
        code, out, _ = run("receive", "--url", f"ws://127.0.0.1:{port}/nowhere")
    assert code == 1
    assert "signaling: given up: " in out


@pytest.mark.parametrize("command", [("broadcast", *PICTURE), ("receive",)], ids=lambda command: command[0])
def test_people_are_told_that_a_command_is_not_connected(command: tuple[str, ...]) -> None:
    code, out, _ = run(*command, "--url", f"ws://127.0.0.1:{free_port()}/ws", "--duration", "1")
    assert code == 0
    assert "signaling: not connected, trying again: " in out
    with pytest.raises(json.JSONDecodeError):
        json.loads(out.splitlines()[0])
