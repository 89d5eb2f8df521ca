"""Networks as users have them, of namespaces of this machine's kernel: needs root, and tells why where it skips."""

import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import pytest

PORT = 8081
_NUMBERS = itertools.count()
_TRIES = re.compile("Operation not permitted|Permission denied")


@dataclass(frozen=True)
class Host:
    """A machine: a network namespace of its own."""

    name: str

    def run(self, *words: str) -> str:
        """Run a command there, to its end."""
        return _run("ip", "netns", "exec", self.name, *words)

    def started(self, *words: str) -> contextlib.AbstractContextManager["Started"]:
        """Run a command of this package there, and end it afterwards."""
        return self._started(sys.executable, "-m", *words)

    def run_shell(self, line: str) -> contextlib.AbstractContextManager["Started"]:
        """Run a line of bash there, and end it afterwards."""
        return self._started("/bin/bash", "-c", line)

    @contextlib.contextmanager
    def _started(self, *words: str) -> Iterator["Started"]:
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [_found("ip"), "netns", "exec", self.name, *words],
                stdout=subprocess.PIPE,
                stderr=errors,
            )
            started = Started(process, errors)
            try:
                yield started
            finally:
                if process.poll() is None:
                    process.terminate()
                process.communicate(timeout=20)


class Started:
    """A command that runs, and what it prints."""

    def __init__(self, process: "subprocess.Popen[bytes]", errors: IO[bytes]) -> None:
        self.process = process
        self._errors = errors

    def event(self, name: str) -> dict[str, Any]:
        """Wait for an event of ``--json``."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == name:
                return event
        self.process.wait(timeout=20)
        pytest.fail(f"it ended without {name!r}: {self.errors()}")

    def errors(self) -> str:
        """Tell what stands on stderr."""
        self._errors.seek(0)
        return self._errors.read().decode()


@contextlib.contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """Make machines, without any network."""
    if os.geteuid() != 0:
        pytest.skip("only root may make network namespaces")
    made: list[Host] = []
    try:
        for _ in range(count):
            host = Host(f"field-{os.getpid()}-{next(_NUMBERS)}")
            try:
                _run("ip", "netns", "add", host.name)
            except subprocess.CalledProcessError as error:
                if _TRIES.search(error.stderr):
                    pytest.skip(f"this machine lets nobody make network namespaces: {error.stderr.strip()}")
                raise
            made.append(host)
            _run("ip", "-n", host.name, "link", "set", "lo", "up")
        yield made
    finally:
        for host in made:
            _run("ip", "netns", "del", host.name)


def connect(one: Host, address: str, other: Host, other_address: str, *, mtu: int = 1500) -> list[str]:
    """Lay a cable between two machines; addresses are given with their network, like 10.0.0.1/24.

    Returns:
        What its two ends are called.
    """
    ends = [f"f{os.getpid() % 100_000}n{next(_NUMBERS)}" for _ in range(2)]
    _run("ip", "link", "add", ends[0], "netns", one.name, "type", "veth", "peer", "name", ends[1], "netns", other.name)
    for host, end, at in ((one, ends[0], address), (other, ends[1], other_address)):
        _run("ip", "-n", host.name, "address", "add", at, "dev", end, *(("nodad",) if ":" in at else ()))
        _run("ip", "-n", host.name, "link", "set", end, "up", "mtu", str(mtu))
    return ends


# One end of a cable that is long: what comes out of it waits for as long as the way takes.
_END = """
import collections, contextlib, fcntl, os, select, socket, struct, sys, time
name, delay, cable = sys.argv[1], float(sys.argv[2]), socket.socket(fileno=int(sys.argv[3]))
device = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1001))  # TUNSETIFF: IFF_TUN, IFF_NO_PI
print(flush=True)
coming = collections.deque()
while True:
    left = max(0.0, coming[0][0] - time.monotonic()) if coming else None
    ready = select.select([device, cable], [], [], left)[0]
    if device in ready:
        cable.send(os.read(device, 1 << 16))
    if cable in ready:
        coming.append((time.monotonic() + delay, cable.recv(1 << 16)))
    while coming and coming[0][0] <= time.monotonic():
        with contextlib.suppress(OSError):
            os.write(device, coming.popleft()[1])
"""


@contextlib.contextmanager
def far_apart(one: Host, address: str, other: Host, other_address: str, seconds: float) -> Iterator[None]:
    """Lay a cable between two machines on which everything takes so many seconds, each way."""
    if not os.access("/dev/net/tun", os.W_OK):
        pytest.skip("this machine has no /dev/net/tun")
    with contextlib.ExitStack() as stack:
        ends = socket.socketpair(type=socket.SOCK_SEQPACKET)  # each datagram stays one
        for host, at, end in zip((one, other), (address, other_address), ends, strict=True):
            name = f"f{os.getpid() % 100_000}n{next(_NUMBERS)}"
            words = ("netns", "exec", host.name, sys.executable, "-c", _END, name, str(seconds), str(end.fileno()))
            with end:
                process = subprocess.Popen([_found("ip"), *words], pass_fds=[end.fileno()], stdout=subprocess.PIPE)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()  # the device is there
            _run("ip", "-n", host.name, "address", "add", at, "dev", name)
            _run("ip", "-n", host.name, "link", "set", name, "up")
        yield


def drop_fragments(host: Host) -> None:
    """Have a machine take no datagram that comes in several pieces, as many firewalls and tunnels do."""
    for name in ("low", "high"):
        host.run("sysctl", "-qw", f"net.ipv4.ipfrag_{name}_thresh=0")


def rules(host: Host, text: str) -> None:
    """Give a machine a firewall, in the words of nftables."""
    if shutil.which("nft") is None:
        pytest.skip("nftables is not installed")
    with tempfile.NamedTemporaryFile("w", suffix=".nft") as file:
        file.write(text)
        file.flush()
        host.run("nft", "-f", file.name)


def play(broadcaster: Host, receiver: Host, at: str, *options: str, also: tuple[str, ...] = ()) -> dict[str, Any]:
    """Send a picture from one machine to another, and tell how the receiver sums it up.

    Args:
        broadcaster: The machine that sends, and serves.
        receiver: The one that receives.
        at: The address at which the receiver finds the other.
        options: Of the broadcaster.
        also: Options of the receiver.
    """
    serve = ("--serve", f"0.0.0.0:{PORT}", "--insecure", "--json", "--faces", "0")
    with broadcaster.started("synopticon_rtc.broadcast", *serve, *options) as sending:
        sending.event("ready")
        url = f"ws://{at}:{PORT}/ws"
        with receiver.started(
            "synopticon_rtc.receive", "--url", url, "--json", "--frames", "30", "--timeout", "10", *also
        ) as got:
            return got.event("summary") | {"errors": got.errors() + sending.errors()}


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def _run(program: str, *words: str) -> str:
    done = subprocess.run([_found(program), *words], check=True, capture_output=True, text=True)
    return done.stdout
