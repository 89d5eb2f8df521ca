"""Nothing leaves the machine but to the peers: every address that a broadcast and a receive send to is looked at."""

import ipaddress
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import ifaddr
import pytest

STRACE = shutil.which("strace")
ADDRESS = re.compile(r'sin_addr=inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')

pytestmark = pytest.mark.skipif(STRACE is None, reason="needs strace")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def traced(trace: Path, module: str, *args: str) -> subprocess.Popen[str]:
    calls = "trace=connect,sendto,sendmsg,sendmmsg"
    return subprocess.Popen(
        [
            str(STRACE),
            "-f",
            "-qq",
            "-e",
            calls,
            "-o",
            str(trace),
            sys.executable,
            "-m",
            f"synopticon_rtc.{module}",
            *args,
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
        start_new_session=True,
    )


def contacted(trace: Path) -> set[str]:
    """The addresses in a trace of system calls."""
    return {one or other for one, other in ADDRESS.findall(trace.read_text())}


def own_addresses() -> set[str]:
    addresses = {ip.ip if isinstance(ip.ip, str) else ip.ip[0] for nic in ifaddr.get_adapters() for ip in nic.ips}
    return {str(ipaddress.ip_address(address)) for address in addresses}


@pytest.mark.parametrize("engine", ["litert", "mediapipe"])
@pytest.mark.long
def test_a_broadcast_and_a_receive_contact_nobody_else(face_model: Path, tmp_path: Path, engine: str) -> None:
    port = str(free_port())
    args = ["--serve", port, "--source", "portrait", "--size", "640x360", "--model", str(face_model), "--json"]
    args += ["--engine", engine]
    broadcast = traced(tmp_path / "broadcast", "broadcast", *args)
    assert broadcast.stdout is not None
    assert '"ready"' in broadcast.stdout.readline()
    receive = traced(tmp_path / "receive", "receive", "--url", f"ws://127.0.0.1:{port}/ws", "--frames", "30", "--json")
    out, _ = receive.communicate(timeout=60)
    os.killpg(broadcast.pid, signal.SIGINT)
    broadcast.communicate(timeout=20)
    assert (receive.returncode, broadcast.returncode) == (0, 0)
    assert '"faces_messages":0' not in out.splitlines()[-1]
    for trace in (tmp_path / "broadcast", tmp_path / "receive"):
        addresses = contacted(trace)
        assert addresses, "the trace shows nothing: it is not what is under test"
        strangers = {
            address
            for address in addresses - own_addresses()
            if not (ipaddress.ip_address(address).is_loopback or ipaddress.ip_address(address).is_unspecified)
        }
        assert strangers == set()
