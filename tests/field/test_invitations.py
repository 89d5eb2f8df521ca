"""People who come in by a link: the command that prints it, and what becomes of it."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from calls import PICTURE, receives, run, running

pytestmark = pytest.mark.field


def test_who_is_invited_is_received_and_a_second_one_told(tmp_path: Path) -> None:
    home = {"XDG_DATA_HOME": str(tmp_path)}
    with running("receive", "--serve", "0.0.0.0:0", "--tls-self", "--invite", "--room", "lab", **home) as receive:
        receive.next("serving")
        certificate = receive.next("certificate")["path"]
        link = urlsplit(receive.next("invitation", role="broadcast", room="lab")["url"])
        assert (link.scheme, link.path) == ("https", "/camera")
        token = {"SYNOPTICON_TOKEN": parse_qs(link.query)["token"][0]}
        url = ["--url", f"wss://{link.netloc}/ws", "--ca", certificate]
        with running("broadcast", *PICTURE, *url, **token):
            receive.next("state", state="connected")
            code, _, err = run("broadcast", *PICTURE, *url, **token)
    assert code == 1
    assert "in use in another browser or on another device" in err
    assert "ask for a link of your own" in err


def test_everybody_who_is_invited_to_watch_may(tmp_path: Path) -> None:
    home = {"XDG_DATA_HOME": str(tmp_path)}
    with running("broadcast", *PICTURE, "--serve", "127.0.0.1:0", "--tls-self", "--invite", **home) as broadcast:
        certificate = broadcast.next("certificate")["path"]
        link = urlsplit(broadcast.next("invitation", role="receive")["url"])
        assert broadcast.next("ready")["viewer"] == link.geturl()
        token = {"SYNOPTICON_TOKEN": parse_qs(link.query)["token"][0]}
        for _ in range(2):
            assert receives("--url", f"wss://{link.netloc}/ws", "--ca", certificate, **token) == 5


def test_a_server_that_runs_apart_takes_a_link_that_is_made_for_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret of this test alone: 32 bytes or more")
    code, said, err = run("signaling", "invite", "http://127.0.0.1:1", "--secret-file", str(secret), "--name", "Anna")
    assert (code, err) == (0, "")
    link = urlsplit(said.split()[1])
    token = {"SYNOPTICON_TOKEN": parse_qs(link.query)["token"][0]}
    with running("signaling", "--port", "0", "--token-secret-file", str(secret)) as server:
        url = server.next("ready")["url"]
        with running("broadcast", *PICTURE, "--url", url, **token) as broadcast:
            broadcast.next("ready")
    code, _, err = run("signaling", "invite", "http://127.0.0.1:1")
    assert code == 2
    assert "--secret-file" in err
