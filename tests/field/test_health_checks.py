"""Load balancers and scanners that connect to a port, and say nothing or nonsense."""

import contextlib
import json
import socket
import ssl
import struct
from pathlib import Path

import pytest
from calls import running
from rtc_network import write_certificate

pytestmark = pytest.mark.field

SAID = [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n", b"\x00" * 300]


def knock(port: int, said: bytes, *, reset: bool) -> None:
    """Connect, say something, and hang up: in order, or at once."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            sock.sendall(said)


@pytest.mark.parametrize("level", ["-v", "-vv"])
def test_who_connects_and_closes_costs_no_line_of_the_log_above_debug(tmp_path: Path, level: str) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_certificate(certificate, key)
    options = ["--tls-cert", str(certificate), "--tls-key", str(key), "--port", "0", "--log-json", level]
    with running("signaling", *options) as server:
        port = int(server.next("ready")["url"].rpartition(":")[2].removesuffix("/ws"))
        for said in SAID:
            for reset in (False, True):
                knock(port, said, reset=reset)
        # Whoever hangs up after the handshake, or does not trust the certificate.
        context = ssl.create_default_context(cafile=certificate)
        context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost").close()
        with pytest.raises(ssl.SSLCertVerificationError), socket.create_connection(("127.0.0.1", port)) as sock:
            ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")
        server.process.terminate()
        _, err = server.process.communicate(timeout=20)
    lines = [json.loads(line) for line in err.splitlines()]
    # SIGTERM is told, and so is the time that it leaves.
    assert not [line for line in lines if line["level"] != "debug" and "draining" not in line["message"]]
    assert not [line for line in lines if "exception" in line]
    assert len([line for line in lines if line["level"] == "debug"]) <= 2 * len(SAID) + 2
