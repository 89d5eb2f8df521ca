"""A disk that is full, for the file of faces and for stdout: one line, and the summary where it can be printed."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from field_helpers import command, run, running
from rtc_network import free_port

FULL = Path("/dev/full")
pytestmark = [pytest.mark.field, pytest.mark.skipif(not FULL.exists(), reason=f"needs {FULL}")]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    port = str(free_port())
    args = ["--serve", port, "--source", "test", "--size", "160x90", "--faces", "0"]
    with running("broadcast", *args, until="signaling"):
        yield f"ws://127.0.0.1:{port}/ws"


@pytest.mark.parametrize("frames", ["3", "300"], ids=["at the end", "meanwhile"])
def test_faces_that_cannot_be_written_are_one_line_and_the_summary(url: str, frames: str) -> None:
    done = run("receive", "--url", url, "--faces-out", str(FULL), "--frames", frames, "--json")
    assert done.code == 1
    assert done.err == "receive: /dev/full cannot be written: No space left on device\n"
    assert json.loads(done.out.splitlines()[-1])["event"] == "summary"


@pytest.mark.parametrize(
    "args",
    [
        ["receive", "--frames", "300"],
        ["receive", "--frames", "300", "--json"],
        ["receive", "--help"],
        ["broadcast", "--source", "test", "--size", "160x90", "--faces", "0", "--duration", "20"],
        ["signaling", "--port", "0"],
        ["signaling", "token", "--secret-file", "secret"],
    ],
    ids=" ".join,
)
def test_a_stdout_that_is_full_is_one_line(url: str, args: list[str], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret of thirty-two bytes, at least")
    args = [str(tmp_path / "secret") if arg == "secret" else arg for arg in args]
    more = ["--url", url] if args[0] != "signaling" else []
    with FULL.open("w") as full:
        done = run(*args, *more, stdout=full)
    assert done.code == 1
    assert len(done.err.splitlines()) == 1, done.err
    assert "stdout cannot be written: No space left on device" in done.err


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("more", ["--json", ""])
def test_a_stream_that_is_closed_is_no_fault(url: str, closed: str, more: str) -> None:
    line = f"{shlex.join(command('receive', '--url', url, '--frames', '5'))} {more} {closed}"
    done = subprocess.run(["/bin/sh", "-c", line], stderr=subprocess.PIPE, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
