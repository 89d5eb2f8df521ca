"""Text of others, printed: names, reasons and files that hold brackets, escape sequences or far too much."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from field_helpers import Done, run, run_in_terminal, running
from rtc_network import free_port

pytestmark = pytest.mark.field

NAME = "[/x] \x1b]0;owned\x07 [bold]" + "x" * 500
SEQUENCE = "\x1b]0;owned\x07"


def watch(url: str, *more: str) -> Done:
    return run_in_terminal("receive", "--url", url, "--frames", "45", *more)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A broadcaster with that name."""
    port = str(free_port())
    args = ["--serve", port, "--source", "test", "--size", "320x180", "--faces", "0", "--name", NAME]
    with running("broadcast", *args, until="signaling"):
        yield f"ws://127.0.0.1:{port}/ws"


def test_a_receiver_in_a_terminal_shows_the_name_as_it_is(url: str) -> None:
    done = watch(url)
    assert done.code == 0, done.text
    assert SEQUENCE not in done.out
    folded = re.sub(r"[│\s]", "", done.text)
    assert r"[/x]\x1b]0;owned\x07[bold]xxx" in folded
    assert "x" * 100 not in folded
    assert "45 frames" in done.text


def test_a_log_and_lines_and_errors_show_it_as_it_is(url: str) -> None:
    done = run("receive", "--url", url, "--frames", "5", "-vv")
    assert done.code == 0
    assert "\x1b" not in done.out + done.err
    assert r"[/x] \x1b]0;owned\x07 [bold]" in done.out
    assert max(map(len, done.out.splitlines())) < 400
    done = run("receive", "--url", url, "--from", "\x1b[2J", "--timeout", "1")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "\x1b" not in done.out + done.err
    assert r"[/x] \x1b]0;owned" in done.err


@pytest.mark.parametrize("name", [NAME, NAME[:150], "[/x] \\x1b]0;owned\\x07 [bold]" + "x" * 78])
def test_such_a_name_can_be_chosen(url: str, name: str) -> None:
    done = run("receive", "--url", url, "--from", name, "--frames", "5", "--timeout", "5")
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("name", ["talk [final].mp4", "[bold].mp4", "a\x1b[31mb.mp4"])
def test_a_film_may_be_called_anything(tmp_path: Path, name: str) -> None:
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for _ in range(30):
            file.mux(stream.encode(av.VideoFrame(320, 180, "yuv420p")))
        file.mux(stream.encode())
    shutil.move(path, tmp_path / name)
    film = str(tmp_path / name)
    args = ["broadcast", "--serve", str(free_port()), "--source", film, "--faces", "0", "--duration", "1"]
    done = run_in_terminal(*args, columns=200)
    assert done.code == 0, done.text
    assert "\x1b[31mb" not in done.out
    assert "synopticon" in done.text
