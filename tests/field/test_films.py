"""Films as people bring them, given to `broadcast`."""

import contextlib
import re
import threading
from collections.abc import Iterator
from fractions import Fraction
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from calls import QuietHandler, run, running
from media_films import film
from rtc_network import free_port

pytestmark = pytest.mark.field

ONE = 1 << 16
QUARTER = [0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30]


def broadcast(source: str | Path, *options: str) -> tuple[str, ...]:
    return ("--serve", str(free_port()), "--source", str(source), "--faces", "0", *options)


def sent(source: str | Path, *options: str) -> dict[str, object]:
    """What is sent of a source: its figures after two seconds."""
    with running("broadcast", *broadcast(source, *options)) as peer:
        peer.next("stats")
        peer.next("stats")
        return peer.next("stats")


@contextlib.contextmanager
def server(status: int) -> Iterator[int]:
    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that the library calls
            self.send_error(status)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield served.server_port
        served.shutdown()
        thread.join()


def test_a_film_of_a_phone_is_sent_upright(tmp_path: Path) -> None:
    figures = sent(film(tmp_path / "phone.mp4", matrix=QUARTER, count=50))
    assert (figures["width"], figures["height"]) == (108, 192)


def test_pixels_become_square(tmp_path: Path) -> None:
    figures = sent(film(tmp_path / "camera.mp4", aspect=Fraction(4, 3), count=50))
    assert (figures["width"], figures["height"]) == (256, 108)


def test_size_and_rate_are_honoured(tmp_path: Path) -> None:
    figures = sent(film(tmp_path / "film.mp4", count=100), "--size", "96x96", "--fps", "5")
    assert (figures["width"], figures["height"]) == (96, 54)
    assert figures["fps"] == pytest.approx(5, abs=2)


def test_a_film_ends_the_broadcast_where_it_is_not_to_be_repeated(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", count=10)
    code, out, err = run("broadcast", *broadcast(path, "--no-loop"))
    assert (code, err) == (0, "")
    frames = re.search(r"(\d+) frames? at", out)
    assert frames
    assert 0 < int(frames[1]) <= 10  # a slow machine leaves some out


@pytest.mark.parametrize("name", ["2025-11-27T10:30:00.mp4", "talk [final].mp4"])
def test_a_film_plays_whatever_its_name(name: str, tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", count=10).rename(tmp_path / name)
    assert run("broadcast", *broadcast(path, "--no-loop"))[0] == 0


@pytest.mark.parametrize("status", [404, 401, 500])
def test_what_a_server_answers_is_one_line_without_the_password(status: int) -> None:
    with server(status) as port:
        address = f"http://admin:s3@cret@127.0.0.1:{port}/none.mp4"
        code, out, err = run("broadcast", *broadcast(address))
    assert code == 1
    assert err.count("\n") == 1
    assert f"127.0.0.1:{port}/none.mp4" in err
    assert "s3" not in out + err


def test_a_film_that_is_not_there_is_one_line() -> None:
    code, _, err = run("broadcast", *broadcast("/nowhere/talk.mp4"))
    assert code == 1
    assert err.count("\n") == 1
    assert "/nowhere/talk.mp4" in err
