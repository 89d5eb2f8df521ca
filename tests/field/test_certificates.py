"""Servers whose certificates the system does not know, or that are none."""

from pathlib import Path

import pytest
from calls import PICTURE, receives, run, running
from rtc_network import free_port, write_certificate

from synopticon_rtc import SignalingClient
from synopticon_rtc.errors import SignalingError

pytestmark = pytest.mark.field


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    write_certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    return tmp_path / "cert.pem"


@pytest.fixture
def tls(certificate: Path) -> list[str]:
    return ["--tls-cert", str(certificate), "--tls-key", str(certificate.with_name("key.pem")), "--port", "0"]


def test_a_call_plays_over_a_server_with_a_private_authority(certificate: Path, tls: list[str]) -> None:
    with running("signaling", *tls) as server:
        url = server.next("ready")["url"]
        with running("broadcast", *PICTURE, "--url", url, "--ca", str(certificate)) as broadcast:
            assert broadcast.next("ready")["viewer"] == f"https{url[3:-2]}"
            assert receives("--url", url, "--ca", str(certificate)) == 5
            assert receives("--url", url, SYNOPTICON_CA=str(certificate)) == 5
            assert receives("--url", url, SSL_CERT_FILE=str(certificate)) == 5


@pytest.mark.parametrize("module", ["broadcast", "receive"])
def test_an_authority_that_is_not_known_is_final_and_told_in_one_line(module: str, tls: list[str]) -> None:
    with running("signaling", *tls) as server:
        url = server.next("ready")["url"]
        source = PICTURE if module == "broadcast" else ()
        code, _, err = run(module, *source, "--url", url, "--duration", "20")
    assert code == 1
    (line,) = err.splitlines()
    assert "self-signed certificate" in line
    assert "--ca FILE" in line
    assert url in line


def test_a_name_that_the_certificate_is_not_for_is_told(certificate: Path, tls: list[str]) -> None:
    with running("signaling", *tls) as server:
        url = server.next("ready")["url"].replace("127.0.0.1", "127.0.0.2")
        with running("signaling", *tls[:-2], "--host", "127.0.0.2", "--port", "0") as other:
            url = other.next("ready")["url"]
            code, _, err = run("receive", "--url", url, "--ca", str(certificate))
    assert code == 1
    (line,) = err.splitlines()
    assert "127.0.0.2" in line
    assert "name that the certificate is for" in line


def test_a_server_without_tls_asked_for_it_is_told() -> None:
    with running("signaling", "--port", "0") as server:
        url = server.next("ready")["url"].replace("ws:", "wss:")
        code, _, err = run("receive", "--url", url)
    assert code == 1
    (line,) = err.splitlines()
    assert "ws://" in line


def test_a_server_with_tls_asked_without_is_told(tls: list[str]) -> None:
    with running("signaling", *tls) as server:
        url = server.next("ready")["url"].replace("wss:", "ws:")
        code, _, err = run("receive", "--url", url, "--timeout", "1")
    assert code == 1
    assert "use wss://" in err.splitlines()[-1]


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_that_holds_no_certificates_is_refused_in_one_line(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    code, _, err = run("receive", "--url", f"wss://127.0.0.1:{free_port()}/ws", "--ca", str(path))
    assert code == 2
    (line,) = err.splitlines()
    assert str(path) in line


async def test_the_library_takes_a_context_and_says_why_without_it(tls: list[str], certificate: Path) -> None:
    import ssl  # noqa: PLC0415 - the name of the argument

    with running("signaling", *tls) as server:
        url = server.next("ready")["url"]
        async with SignalingClient(url, ssl=ssl.create_default_context(cafile=certificate)) as client:
            assert (await client.wait_open()).startswith("ws_")
        async with SignalingClient(url) as client:
            with pytest.raises(SignalingError, match="cannot be trusted"):
                await client.wait_open()
