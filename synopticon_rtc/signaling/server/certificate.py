"""A certificate that this machine makes for itself, as browsers give pages a camera over https:// alone.

Nobody vouches for it: browsers warn of it, once, and whoever opens the page compares its fingerprint. So it is kept,
and made again only where it would no longer do.
"""

import datetime as dt
import ipaddress
import os
import secrets
import socket
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import ifaddr
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from platformdirs import user_data_path

from synopticon_rtc.errors import SignalingError

LASTS = dt.timedelta(days=397)  # what browsers take at the most of those that authorities make
LEFT = dt.timedelta(days=30)  # of its time, in which it is made again
BEFORE = dt.timedelta(days=1)  # that clocks of others may be behind
LONGEST_NAME = 64  # characters of a common name (RFC 5280, appendix A.1)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in files (PEM).

    Attributes:
        path: The certificate, which others may have.
        key: The key, which nobody else may read.
        fingerprint: SHA-256 of the certificate, as browsers show it.
    """

    path: Path
    key: Path
    fingerprint: str

    def context(self) -> ssl.SSLContext:
        """Make what a server speaks TLS with."""
        return server_context(self.path, self.key)


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Make what a server speaks TLS with.

    Raises:
        SignalingError: The files are no certificate (chain) and its key, in PEM.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SignalingError(f"{certificate} and {key} are no certificate and its key: {error}") from error
    return context


def trusting(certificate: Path) -> ssl.SSLContext:
    """Make what a client on the server's own machine trusts: this very certificate, whatever name it is for.

    Raises:
        SignalingError: The file holds none.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # of a chain, the server's own is enough
    try:
        context.load_verify_locations(certificate)
    except OSError as error:
        raise SignalingError(f"{certificate} holds no certificate: {error}") from error
    return context


def own_certificate(host: str, folder: Path | None = None, now: dt.datetime | None = None) -> Certificate:
    """Return this machine's certificate, and make it where there is none that does.

    It is for all names and addresses of this machine and for ``host``, and is made again when it lacks one of these or
    nears its end. Addresses of IPv6 are in it, but new ones are no reason, as many machines have new ones every day.

    Args:
        host: A name or an address under which the server is reached.
        folder: Where it is kept; by default in the user's data folder.
        now: The time.

    Raises:
        SignalingError: It cannot be kept there.
    """
    folder = folder or user_data_path("synopticon_rtc", appauthor=False) / "tls"
    now = now or dt.datetime.now(dt.UTC)
    path, key_path = folder / "cert.pem", folder / "key.pem"
    names = {host, *own_names()}
    needed = {name for name in names if ":" not in name or name == host}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = _own_key(key_path)
        certificate = _read(path)
        if certificate is None or not _does(certificate, key, needed, now):
            certificate = _make(key, names, now)
            _write(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    except (OSError, ValueError, TypeError) as error:
        raise SignalingError(
            f"no certificate of our own can be kept in {folder}: {error}; see to that folder, or give --tls-cert"
        ) from error
    return Certificate(path, key_path, certificate.fingerprint(hashes.SHA256()).hex(":").upper())


def name_in(certificate: Path) -> str:
    """Return the first host name that a certificate is for, empty where there is none but patterns and addresses."""
    loaded = _read(certificate)
    if loaded is None:
        return ""
    try:
        names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    return next((name for name in names.get_values_for_type(x509.DNSName) if "*" not in name), "")


def own_addresses() -> list[str]:
    """List the addresses at which others may reach this machine: those of IPv4 first, none of loopback."""
    found = [
        ipaddress.ip_address(ip.ip if isinstance(ip.ip, str) else ip.ip[0])
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
    ]
    reached = [address for address in found if not (address.is_loopback or address.is_link_local)]
    return [str(address) for address in sorted(dict.fromkeys(reached), key=lambda address: address.version)]


def own_names() -> list[str]:
    """List the names and addresses of this machine."""
    name = socket.gethostname().lower()
    names = [name] if "." in name else [name, f"{name}.local"]
    return ["localhost", *(names if name and name.isascii() else []), "127.0.0.1", "::1", *own_addresses()]


def _own_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read the key, or make it, of which another process may be the first."""
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write(path, made, 0o600, replace=False)
    if path.stat().st_mode & 0o077:  # else the folder may as well be one that is only read
        path.chmod(0o600)
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{path.name} is no key of ours")
    return key


def _read(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None  # there is none yet


def _does(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, needed: Collection[str], now: dt.datetime
) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return (
        certificate.public_key() == key.public_key()
        and certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - LEFT
        and {str(name.value) for name in names} >= set(needed)
    )


def _make(key: ec.EllipticCurvePrivateKey, names: Collection[str], now: dt.datetime) -> x509.Certificate:
    """Make a certificate for TLS (RFC 5280)."""
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, socket.gethostname()[:LONGEST_NAME] or "localhost")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BEFORE)
        .not_valid_after(now - BEFORE + LASTS)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in sorted(names)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, data: bytes, mode: int, *, replace: bool = True) -> None:
    """Write a file as a whole; without ``replace``, not where there is one by now."""
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
        if replace:
            beside.replace(path)
        elif not path.exists():
            os.link(beside, path)
    except FileExistsError:
        pass  # another process was first
    finally:
        beside.unlink(missing_ok=True)
