"""What the tests of reaching each other share: broadcasters and receivers as users start them, and what they say."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any

PICTURE = ("--source", "test", "--size", "320x180", "--faces", "0")
# What this machine has in its environment shall change no test.
PLAIN = {
    name: value
    for name, value in os.environ.items()
    if not name.lower().endswith("_proxy") and not name.startswith(("SYNOPTICON_PORT", "SSL_CERT_"))
}


class QuietHandler(BaseHTTPRequestHandler):
    """Answers HTTP without a log."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


class Peer:
    """A command, and the events that it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[dict[str, Any]] = []

    def next(self, event: str, **fields: object) -> dict[str, Any]:
        """Wait for an event with these fields."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        for line in self.process.stdout:
            said: dict[str, Any] = json.loads(line)
            self.said.append(said)
            if said["event"] == event and said.items() >= fields.items():
                return said
        raise AssertionError(f"no {event} {fields} in {self.said}: {self.process.stderr.read()}")

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait for the end."""
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=20)


@contextlib.contextmanager
def running(module: str, *args: str, by: Sequence[str] = ("-m",), **env: str) -> Iterator[Peer]:
    """Run a command meanwhile, with ``--json``, by ``python -m`` or by a script that does likewise."""
    process = subprocess.Popen(
        [sys.executable, *by, f"synopticon_rtc.{module}", *args, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=PLAIN | env,
    )
    try:
        yield Peer(process)
    finally:
        process.kill()
        process.communicate()


def run(module: str, *args: str, by: Sequence[str] = ("-m",), **env: str) -> tuple[int, str, str]:
    """Run a command to its end: its exit code, what it prints, what it complains of."""
    done = subprocess.run(
        [sys.executable, *by, f"synopticon_rtc.{module}", *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=PLAIN | env,
    )
    return done.returncode, done.stdout, done.stderr


def receives(*args: str, **env: str) -> int:
    """Receive a few frames, and count them."""
    code, out, err = run("receive", "--frames", "5", "--json", *args, **env)
    assert (code, err) == (0, ""), out + err
    frames: int = json.loads(out.splitlines()[-1])["frames"]
    return frames
