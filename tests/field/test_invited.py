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
    home = {"XDG_DATA_HOME": str(tmp_path)}
    with running("signaling", "--port", "0", "--tls-self", "--token-secret-file", str(secret), **home) as server:
        ready = server.next("ready")
        ca = ["--ca", server.next("certificate")["path"]]
        code, said, err = run("signaling", "invite", ready["viewer"], "--secret-file", str(secret), "--name", "Anna")
        assert (code, err) == (0, "")
        link = said.split()[1]
        assert link.startswith(f"{ready['viewer']}camera?token=")
        token = {"SYNOPTICON_TOKEN": parse_qs(urlsplit(link).query)["token"][0]}
        with running("broadcast", *PICTURE, "--url", ready["url"], *ca, **token) as broadcast:
            broadcast.next("ready")
        where = {"SYNOPTICON_TLS_SELF": "1", "SYNOPTICON_PORT": str(urlsplit(link).port)}
        assert run("signaling", "health", **where)[:2] == (0, f"alive at https://{urlsplit(link).netloc}/healthz\n")
    code, _, err = run("signaling", "invite", "https://lab.example.org/")
    assert code == 2
    assert "--secret-file" in err
