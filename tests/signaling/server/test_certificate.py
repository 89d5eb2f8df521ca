"""The certificate that a machine makes for itself: for what, how long, and kept by whom."""

import asyncio
import datetime as dt
import hashlib
import socket
import ssl
import stat
from pathlib import Path

import ifaddr
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from rtc_network import write_certificate

from synopticon_rtc.errors import SignalingError
from synopticon_rtc.signaling.server import certificate
from synopticon_rtc.signaling.server.certificate import (
    own_addresses,
    own_certificate,
    own_names,
    server_context,
    trusting,
)
from synopticon_rtc.signaling.server.server import SignalingServer

NOW = dt.datetime(2026, 11, 28, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this machine is called."""
    names = ["localhost", "lab-7", "127.0.0.1", "192.0.2.7", "2001:db8::7"]
    monkeypatch.setattr(certificate, "own_names", lambda: names)
    return names


def names_in(path: Path) -> set[str]:
    extension = x509.load_pem_x509_certificate(path.read_bytes()).extensions
    return {str(name.value) for name in extension.get_extension_for_class(x509.SubjectAlternativeName).value}


def test_it_is_for_all_names_of_the_machine_and_the_one_that_is_served(tmp_path: Path, names: list[str]) -> None:
    made = own_certificate("lab.example.org", tmp_path, NOW)
    assert names_in(made.path) == {*names, "lab.example.org"}
    loaded = x509.load_pem_x509_certificate(made.path.read_bytes())
    assert loaded.not_valid_before_utc <= NOW - DAY
    assert made.fingerprint == ssl_fingerprint(made.path)


def ssl_fingerprint(path: Path) -> str:
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(path.read_text())).hexdigest().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


@pytest.mark.usefixtures("names")
def test_a_folder_that_can_only_be_read_will_do_once_it_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = own_certificate("localhost", tmp_path, NOW)

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("chmod", "replace", "write_bytes"):
        monkeypatch.setattr(Path, name, refuse)
    assert own_certificate("localhost", tmp_path, NOW) == made
    with pytest.raises(SignalingError, match="Read-only file system"):
        own_certificate("localhost", tmp_path, NOW + 400 * DAY)


@pytest.mark.usefixtures("names")
def test_nobody_else_can_read_its_key(tmp_path: Path) -> None:
    made = own_certificate("lab-7", tmp_path / "a" / "b", NOW)
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    made.key.chmod(0o644)
    own_certificate("lab-7", tmp_path / "a" / "b", NOW)
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    assert sorted(file.name for file in made.path.parent.iterdir()) == ["cert.pem", "key.pem"]


def test_it_is_kept_as_long_as_it_does(tmp_path: Path, names: list[str]) -> None:
    first = own_certificate("lab-7", tmp_path, NOW)
    names.remove("lab-7")
    names.append("2001:db8::8")  # as there is a new one every day
    assert own_certificate("127.0.0.1", tmp_path, NOW + 360 * DAY) == first


@pytest.mark.parametrize("reason", ["address", "IPv6 that is served", "end", "future", "key", "broken", "other"])
def test_it_is_made_again_where_it_does_no_longer(tmp_path: Path, names: list[str], reason: str) -> None:
    first = own_certificate("lab-7", tmp_path, NOW)
    host, later = "lab-7", NOW
    match reason:
        case "address":
            names.append("192.0.2.8")
        case "IPv6 that is served":
            host = "2001:db8::8"
        case "end":
            later += 370 * DAY
        case "future":
            later -= 2 * DAY
        case "key":
            first.key.unlink()
        case "broken":
            first.path.write_text("no certificate")
        case _:
            write_certificate(first.path, tmp_path / "another.pem")
    again = own_certificate(host, tmp_path, later)
    assert again.fingerprint != first.fingerprint
    assert names_in(again.path) == {*names, host}
    assert own_certificate(host, tmp_path, later) == again
    server_context(again.path, again.key)


def test_a_certificate_without_names_is_none_of_ours(tmp_path: Path, names: list[str]) -> None:
    made = own_certificate("lab-7", tmp_path, NOW)
    key = serialization.load_pem_private_key(made.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    loaded = x509.load_pem_x509_certificate(made.path.read_bytes())
    bare = (
        x509.CertificateBuilder(loaded.issuer, loaded.subject, key.public_key(), 1)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + 300 * DAY)
        .sign(key, hashes.SHA256())
    )
    assert certificate.name_in(made.path) == "lab-7"
    made.path.write_bytes(bare.public_bytes(serialization.Encoding.PEM))
    assert certificate.name_in(made.path) == ""
    assert names_in(own_certificate("lab-7", tmp_path, NOW).path) == set(names)


@pytest.mark.usefixtures("names")
def test_where_it_cannot_be_kept_that_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SignalingError, match=r"can be kept in .*file.*--tls-cert"):
        own_certificate("lab-7", tmp_path / "file", NOW)
    made = own_certificate("lab-7", tmp_path, NOW)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for content in (b"no key", pem(other)):
        made.key.write_bytes(content)
        with pytest.raises(SignalingError, match="see to that folder"):
            own_certificate("lab-7", tmp_path, NOW)


def pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.usefixtures("names")
def test_of_two_that_make_a_key_at_once_one_is_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = own_certificate("lab-7", tmp_path, NOW)
    kept = first.key.read_bytes()
    monkeypatch.setattr(Path, "exists", lambda _: False)  # as both saw it
    own_certificate("lab-7", tmp_path, NOW)
    assert first.key.read_bytes() == kept


def test_it_is_this_machine_s_names_and_addresses_that_others_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = [
        adapter([("fd00::7", 0, 0), "10.0.0.7", "127.0.0.1", ("::1", 0, 0)]),
        adapter([("fe80::7", 0, 2), "169.254.3.4", "192.0.2.7"]),
    ]
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: adapters)
    assert own_addresses() == ["10.0.0.7", "192.0.2.7", "fd00::7"]
    for called, expected in (
        ("Lab-7", ["lab-7", "lab-7.local"]),
        ("lab-7.example.org", ["lab-7.example.org"]),
        ("Müller", []),
        ("", []),
    ):
        monkeypatch.setattr(socket, "gethostname", lambda called=called: called)
        assert own_names() == ["localhost", *expected, "127.0.0.1", "::1", *own_addresses()]


def adapter(addresses: list[str | tuple[str, int, int]]) -> ifaddr.Adapter:
    return ifaddr.Adapter("eth", "eth", [ifaddr.IP(address, 24, "eth") for address in addresses])


async def test_the_server_s_own_machine_needs_no_name_of_it(tmp_path: Path) -> None:
    made = own_certificate("lab.example.org", tmp_path)
    context = trusting(made.path)
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python has it from 3.13 on
    async with SignalingServer(port=0, tls=made.context()) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        writer.close()
        await writer.wait_closed()
    with pytest.raises(SignalingError, match="holds no certificate"):
        trusting(made.key)
