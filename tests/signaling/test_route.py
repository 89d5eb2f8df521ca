"""By which way a server is reached, and what is said where it is not."""

import socket
import ssl

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidProxy, InvalidProxyStatus, InvalidStatus, InvalidURI
from websockets.http11 import Response

from synopticon_rtc.signaling.route import explain, find_proxy, is_own

PROXY = "http://proxy.test:3128"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for kind in ("http", "https", "all", "no", "ws", "wss", "socks"):
        monkeypatch.delenv(f"{kind}_proxy", raising=False)
        monkeypatch.delenv(f"{kind}_proxy".upper(), raising=False)
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    return monkeypatch


def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        address: str = probe.getsockname()[0]
        return address


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "cam.localhost",
        "127.0.0.1",
        "127.8.9.10",
        "127.1",
        "0.0.0.0",  # noqa: S104 - asked for, not bound to
        "[::1]",
        "[::ffff:127.0.0.1]",
        socket.gethostname(),
    ],
)
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_this_machine_is_asked_by_no_proxy(scheme: str, host: str) -> None:
    assert find_proxy(f"{scheme}://{host}:9000/ws") is None


def test_the_own_address_of_this_machine_is_asked_by_no_proxy() -> None:
    try:
        address = own_address()
    except OSError:
        pytest.skip("this machine has no network")
    assert is_own(address)
    assert find_proxy(f"ws://{address}:9000/ws") is None


@pytest.mark.parametrize("host", ["server.test", "192.0.2.7", "[2001:db8::7]", "localhost.test", "notlocalhost"])
def test_others_are_asked_as_the_environment_says(host: str) -> None:
    assert find_proxy(f"wss://{host}/ws") == PROXY
    assert find_proxy(f"ws://{host}/ws") == PROXY


@pytest.mark.parametrize(
    ("no_proxy", "host", "asked"),
    [
        ("server.test", "server.test", False),
        (".test", "a.server.test", False),
        ("*", "server.test", False),
        ("other.test, 10.0.0.0/8", "10.1.2.3", False),
        ("10.0.0.0/8", "11.1.2.3", True),
        ("2001:db8::/32", "[2001:db8::7]", False),
        ("192.0.2.7", "192.0.2.7", False),
        ("10.0.0.0/8,%%", "server.test", True),
    ],
)
def test_what_no_proxy_names_is_asked_by_none(
    environment: pytest.MonkeyPatch, no_proxy: str, host: str, *, asked: bool
) -> None:
    environment.setenv("NO_PROXY", no_proxy)
    assert (find_proxy(f"wss://{host}/ws") == PROXY) is asked


def test_a_proxy_without_a_scheme_is_one_of_http(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HTTPS_PROXY", "proxy.test:3128")
    assert find_proxy("wss://server.test/ws") == PROXY


def test_what_fails_by_a_proxy_names_it_without_its_password() -> None:
    trouble = explain(ConnectionRefusedError("refused"), "wss://a.test/ws", "http://me:pa@ss@proxy.test:3128")
    assert "http://proxy.test:3128" in trouble.reason
    assert "NO_PROXY" in trouble.reason
    assert "pa@ss" not in trouble.reason
    assert not trouble.final
    trouble = explain(InvalidProxy("ftp://me:secret@p", "scheme ftp isn't supported"), "ws://a/ws", "ftp://me:secret@p")
    assert "ftp" in trouble.reason
    assert "secret" not in trouble.reason
    assert trouble.final


@pytest.mark.parametrize(("status", "final"), [(407, True), (403, True), (502, False), (503, False)])
def test_a_proxy_that_says_no_is_quoted(status: int, *, final: bool) -> None:
    trouble = explain(InvalidProxyStatus(Response(status, "", Headers())), "wss://a.test/ws", PROXY)
    assert f"HTTP {status}" in trouble.reason
    assert trouble.final is final


@pytest.mark.parametrize(
    ("url", "status", "content", "words"),
    [
        ("ws://a.test:8081", 200, "", "is the path right? Most have it at ws://a.test:8081/ws"),
        ("ws://a.test:8081/ws/", 404, "", "at ws://a.test:8081/ws"),
        ("ws://a.test/cam/", 404, "", "at ws://a.test/cam/ws"),
        ("ws://a.test/cam?room=lab", 404, "", "at ws://a.test/cam/ws?room=lab"),
        ("ws://a.test/ws", 404, "", "HTTP 404 Not Found; is the port right?"),
        ("ws://a.test/ws", 400, "Client sent an HTTP request to an HTTPS server.", "to an HTTPS server"),
        ("ws://a.test/ws", 799, "", "HTTP 799"),
    ],
)
def test_a_server_that_is_another_is_quoted(url: str, status: int, content: str, words: str) -> None:
    headers = Headers({"Content-Type": "text/plain"} if content else {})
    trouble = explain(InvalidStatus(Response(status, "", headers, content.encode())), url)
    assert words in trouble.reason
    assert trouble.verdict == ("is no signaling server" if status < 500 else "is not there")


@pytest.mark.parametrize(("status", "final"), [(404, True), (429, False), (408, False), (500, False), (503, False)])
def test_what_may_pass_is_tried_again(status: int, *, final: bool) -> None:
    assert explain(InvalidStatus(Response(status, "", Headers())), "ws://a/ws").final is final


@pytest.mark.parametrize(
    ("code", "words", "advice"),
    [
        (18, "self-signed certificate", "--ca FILE"),
        (20, "unable to get local issuer certificate", "SSL_CERT_FILE"),
        (10, "certificate has expired", "renewed"),
        (62, "Hostname mismatch, certificate is not valid for 'a.test'.", "name"),
    ],
)
def test_a_certificate_that_does_not_hold_is_told_in_words(code: int, words: str, advice: str) -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, words
    trouble = explain(error, "wss://a.test/ws")
    assert trouble.final
    assert words.rstrip(".") in trouble.reason
    assert advice in trouble.reason


def test_a_server_that_has_moved_to_https_says_where() -> None:
    trouble = explain(InvalidURI("https://me:secret@a.test/ws", "scheme isn't ws or wss"), "ws://a.test/ws")
    assert trouble.final
    assert "https://a.test/ws" in trouble.reason
