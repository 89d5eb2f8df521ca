"""Networks to connect through: a NAT, a real TURN server, addresses that swallow everything."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from waiting import listens, until

from synopticon_rtc.rtc import IceServer

Address = tuple[str, int]


class Relay(asyncio.DatagramProtocol):
    """A full-cone NAT on loopback, for one host socket behind it and anybody before it.

    What comes to :attr:`public` goes to the inside address, from a socket that stands for the sender; what the inside
    sends to such a socket leaves from :attr:`public`.
    """

    def __init__(self) -> None:
        self.inside: Address | None = None
        self._outside: dict[Address, asyncio.DatagramTransport] = {}

    async def open(self) -> Address:
        self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        public: Address = self._transport.get_extra_info("sockname")
        self.public = public
        return public

    async def door(self, outside: Address) -> Address:
        """Return the address at which the inside reaches an outside one."""
        if outside not in self._outside:
            relay = self

            class Door(asyncio.DatagramProtocol):
                def datagram_received(self, data: bytes, addr: Any) -> None:
                    relay.inside = addr
                    relay._transport.sendto(data, outside)

            self._outside[outside], _ = await asyncio.get_running_loop().create_datagram_endpoint(
                Door, local_addr=("127.0.0.1", 0)
            )
        address: Address = self._outside[outside].get_extra_info("sockname")
        return address

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._opening = asyncio.ensure_future(self._deliver(data, addr))

    async def _deliver(self, data: bytes, outside: Address) -> None:
        await self.door(outside)
        if self.inside is not None:
            self._outside[outside].sendto(data, self.inside)

    def close(self) -> None:
        self._transport.close()
        for transport in self._outside.values():
            transport.close()


@contextlib.asynccontextmanager
async def relay() -> AsyncIterator[Relay]:
    relay = Relay()
    await relay.open()
    try:
        yield relay
    finally:
        relay.close()


@contextlib.contextmanager
def silence(host: str = "127.0.0.1") -> Any:
    """Give an address where everything is swallowed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as swallows:
        swallows.bind((host, 0))
        yield swallows.getsockname()


@dataclass
class Turn:
    """A running coturn."""

    port: int
    tls_port: int
    certificate: Path

    @property
    def stun(self) -> IceServer:
        return IceServer(f"stun:127.0.0.1:{self.port}")

    def turn(self, kind: str, credential: str = "secret") -> IceServer:
        """Give the server over ``udp``, ``tcp`` or ``tls``."""
        url = {
            "udp": f"turn:127.0.0.1:{self.port}",
            "tcp": f"turn:127.0.0.1:{self.port}?transport=tcp",
            "tls": f"turns:127.0.0.1:{self.tls_port}",
        }[kind]
        return IceServer(url, "user", credential)


@contextlib.asynccontextmanager
async def coturn(folder: Path, *, secret: str = "") -> AsyncIterator[Turn]:
    """Run a TURN server on loopback, with a certificate of its own; with a secret, it takes what was made with it."""
    program = shutil.which("turnserver")
    if program is None:
        pytest.skip("coturn is not installed")
    turn = Turn(free_port(), free_port(), folder / "certificate.pem")
    write_certificate(turn.certificate, folder / "key.pem")
    process = await asyncio.create_subprocess_exec(
        program,
        "-n",
        *("-L", "127.0.0.1", "-E", "127.0.0.1", "-p", str(turn.port), "--tls-listening-port", str(turn.tls_port)),
        *(("--use-auth-secret", "--static-auth-secret", secret) if secret else ("-a", "-u", "user:secret")),
        *("-r", "synopticon.test", "--allow-loopback-peers", "--no-cli", "--no-dtls"),
        *("--cert", str(turn.certificate), "--pkey", str(folder / "key.pem"), "-b", str(folder / "users.db")),
        *("--pidfile", str(folder / "pid"), "-l", str(folder / "log"), "--simple-log"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        await until(lambda: listens(turn.tls_port))
        yield turn
    finally:
        process.kill()
        await process.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def write_certificate(certificate: Path, key: Path) -> None:
    """Write a certificate of this machine, signed by itself, and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
