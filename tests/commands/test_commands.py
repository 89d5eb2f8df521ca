"""The command lines as a user runs them: real processes, real pipes, real signals."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Self

import av
import click
import pytest

from synopticon_rtc.commands.broadcast import main as broadcast
from synopticon_rtc.commands.receive import main as receive
from synopticon_rtc.commands.signaling import main as signaling

SIZE = "640x360"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Process:
    """A command under test; what it prints is read as it comes, or it would wait until somebody does."""

    def __init__(self, module: str, *args: str, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"synopticon_rtc.{module}", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self._lines = SimpleQueue[str]()
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self._reader.join()
        with self.process:
            pass  # its pipes are closed

    def next(self, event: str) -> dict[str, Any]:
        """Wait for an event, printed with ``--json``."""
        for line in iter(self._lines.get, ""):
            fields: dict[str, Any] = json.loads(line)
            if fields["event"] == event:
                return fields
        assert self.process.stderr is not None
        pytest.fail(f"no {event} event: {self.process.stderr.read()}")

    def rest(self, seconds: float = 60) -> tuple[int, str, str]:
        """Wait for the end: the exit code, what it had still to print, stderr."""
        code = self.process.wait(seconds)
        assert self.process.stderr is not None
        return code, "".join(iter(self._lines.get, "")), self.process.stderr.read()

    def end(self, seconds: float = 60) -> tuple[int, list[dict[str, Any]], str]:
        """Wait for the end: the exit code, the remaining events, stderr."""
        code, out, err = self.rest(seconds)
        return code, [json.loads(line) for line in out.splitlines()], err

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)


def run(module: str, *args: str, seconds: float = 60) -> tuple[int, str, str]:
    with Process(module, *args) as process:
        return process.rest(seconds)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A broadcaster of the test card that serves its own signaling."""
    args = ["--serve", str(free_port()), "--source", "test", "--size", SIZE, "--faces", "0", "--name", "card", "--json"]
    with Process("broadcast", *args) as broadcast:
        ready = broadcast.next("ready")
        assert ready["session"].startswith("ws_")
        assert ready["viewer"].startswith("http://127.0.0.1:")
        address: str = ready["url"]
        yield address
        broadcast.interrupt()
        begun = time.monotonic()
        code, events, err = broadcast.end(10)
        assert (code, err) == (0, "")
        assert time.monotonic() - begun < 3
        assert events[-1]["event"] == "summary"
        assert events[-1]["frames"] > 0
        assert {"connecting", "connected", "closed"} <= {e["state"] for e in events if e["event"] == "peer"}


def test_receive_ends_after_its_frames_with_a_summary(url: str, tmp_path: Path) -> None:
    path = tmp_path / "faces.jsonl"
    code, out, err = run("receive", "--url", url, "--frames", "45", "--json", "--faces-out", str(path))
    assert (code, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["state"] for event in events if event["event"] == "state"][:3] == [
        "seeking",
        "connecting",
        "connected",
    ]
    summary = events[-1]
    assert summary["event"] == "summary"
    assert (summary["frames"], summary["width"], summary["height"]) == (45, 640, 360)
    assert 15 < summary["fps"] < 40
    assert 0 < summary["first_frame_ms"] < 5000
    lines = path.read_text().splitlines()
    assert len(lines) == 45
    first = json.loads(lines[0])
    assert (first["faces"], first["detected"]) == ([], False)  # nobody looks for any


def test_receive_looks_for_faces_where_nobody_else_does(url: str, tmp_path: Path, face_model: Path) -> None:
    path = tmp_path / "faces.jsonl"
    args = ["--detect", "--model", str(face_model), "--return-faces", "--faces-wait", "2", "--faces-out", str(path)]
    code, out, err = run("receive", "--url", url, *args, "--frames", "60", "--json")
    assert (code, err) == (0, "")
    summary = json.loads(out.splitlines()[-1])
    assert summary["looked_at"] >= summary["detected"] > 5
    assert sum(json.loads(line)["detected"] for line in path.read_text().splitlines()) == summary["detected"]


def test_receive_ends_after_its_duration(url: str) -> None:
    code, out, _ = run("receive", "--url", url, "--duration", "2", "--json")
    assert code == 0
    assert any(json.loads(line)["event"] == "stats" for line in out.splitlines())


def test_receive_ends_cleanly_on_ctrl_c(url: str) -> None:
    with Process("receive", "--url", url, "--json") as receive:
        receive.next("stats")
        receive.interrupt()
        code, events, err = receive.end(5)
    assert (code, err) == (0, "")
    assert events[-1]["event"] == "summary"


def test_receive_speaks_plainly_to_people(url: str) -> None:
    code, out, err = run("receive", "--url", url, "--frames", "5")
    assert (code, err) == (0, "")
    assert "looking for a broadcaster" in out
    assert "card answered" in out
    assert "5 frames of 640x360" in out.splitlines()[-1]


def test_receive_takes_the_broadcaster_by_name_and_says_who_is_there_instead(url: str) -> None:
    assert run("receive", "--url", url, "--from", "card", "--frames", "1")[0] == 0
    code, out, err = run("receive", "--url", url, "--from", "nobody", "--timeout", "1", "--json")
    assert code == 1
    assert json.loads(out.splitlines()[-1])["event"] == "summary"
    assert len(err.splitlines()) == 1
    assert "'nobody'" in err


def test_receive_without_video_waits_for_faces_alone(url: str) -> None:
    code, _, err = run("receive", "--url", url, "--no-video", "--timeout", "1")
    assert code == 1
    assert "card answered, but no faces came" in err
    code, _, err = run("receive", "--url", url, "--no-video", "--show")
    assert code == 2
    assert "--no-video" in err


def test_options_come_from_the_environment_too(url: str) -> None:
    with Process("receive", "--json", env={"SYNOPTICON_URL": url, "SYNOPTICON_FRAMES": "3"}) as receive:
        code, events, _ = receive.end()
    assert (code, events[-1]["frames"]) == (0, 3)


def test_broadcast_to_a_server_that_runs_already(url: str) -> None:
    args = ["--url", url, "--source", "test", "--size", SIZE, "--faces", "0", "--name", "second"]
    with Process("broadcast", *args, "--json", "--codec", "h264") as broadcast:
        assert broadcast.next("ready")["viewer"] == f"http{url[2:-2]}?from=second"
        assert run("receive", "--url", url, "--from", "second", "--frames", "10")[0] == 0
        broadcast.interrupt()
        code, events, err = broadcast.end()
    assert (code, err) == (0, "")
    assert events[-1]["bytes"] > 0


@pytest.mark.parametrize(
    ("module", "args", "code", "words"),
    [
        ("receive", ["--url", "http://localhost"], 1, "ws://"),
        ("receive", ["--faces-out", "/nowhere/faces.jsonl"], 1, "/nowhere/faces.jsonl"),
        ("receive", ["--lsl", "--sync", "latest"], 2, "--sync exact"),
        ("receive", ["--lsl", "Ann's"], 2, "--lsl: the name of an LSL stream"),
        ("receive", ["--lsl-landmarks"], 2, "--lsl-landmarks belongs to --lsl"),
        ("receive", ["--faces-out", "/nowhere/faces.parquet"], 1, "/nowhere/faces.parquet"),
        ("receive", ["--faces-out", "faces.xlsx"], 1, "faces.xlsx does not end in .parquet, .csv or .jsonl"),
        ("analyse", ["/nowhere/film.mp4", "--out", "faces.csv"], 2, "/nowhere/film.mp4"),
        ("analyse", [__file__, "--out", "/nowhere/faces.csv"], 1, "test_commands.py is no video"),
        ("analyse", [__file__], 2, "--out"),
        ("export", [__file__], 2, "give --parquet, --csv or --jsonl"),
        ("export", [__file__, "--csv", "faces.csv"], 1, "test_commands.py is no recording"),
        ("broadcast", ["--url", "localhost:8081", "--source", "test", "--faces", "0"], 1, "ws://"),
        ("broadcast", ["--serve", "0.0.0.0:0", "--source", "test", "--faces", "0"], 1, "insecure"),
        ("broadcast", ["--url", "ws://a/ws", "--serve", "1"], 2, "exclude"),
        ("broadcast", ["--source", "/nowhere/film.mp4"], 1, "/nowhere/film.mp4"),
        ("broadcast", ["--source", __file__, "--faces", "0"], 1, "test_commands.py"),
        ("broadcast", ["--source", "63", "--faces", "0"], 1, "63"),
        ("broadcast", ["--screen", ":4711"], 1, "the X display :4711 cannot be opened"),
        ("broadcast", ["--screen", ":4711", "--source", "test", "--faces", "0"], 1, "the X display :4711"),
        ("broadcast", ["--screen", "--size", "640x480"], 2, "are for a --source, and there is none"),
        ("broadcast", ["--source", "test", "--model", "/nowhere/face.task"], 1, "/nowhere/face.task"),
        ("broadcast", ["--source", "test", "--model", __file__], 1, "test_commands.py"),
    ],
)
def test_a_mistake_gets_one_line_and_no_traceback(module: str, args: list[str], code: int, words: str) -> None:
    if module == "broadcast" and not {"--url", "--serve"} & set(args):
        args = [*args, "--serve", str(free_port())]
    returned, _, err = run(module, *args)
    assert returned == code
    assert len(err.splitlines()) == 1, err
    assert words in err


@pytest.mark.parametrize(
    ("command", "args", "words"),
    [
        (receive, ["--frames", "0"], "--frames"),
        (receive, ["--nonsense"], "--nonsense"),
        (receive, ["--return-faces"], "belong to --detect"),
        (receive, ["--faces", "2"], "belong to --detect"),
        (receive, ["--engine", "litert"], "belong to --detect"),
        (receive, ["--detect", "--no-video"], "video=False"),
        (broadcast, ["--size", "0x0"], "'0x0' is no size"),
        (broadcast, ["--size", "big"], "1280x720"),
        (broadcast, ["--bitrate", "fast"], "1.5M"),
        (broadcast, ["--faces-fps", "0"], "--faces-fps"),
        (broadcast, ["--faces-fps", "nan"], "'--faces-fps': 'nan' is no number"),
        (broadcast, ["--serve", "host:99999"], "PORT"),
        (broadcast, ["--ice-server", "http://x"], "stun:HOST"),
        (broadcast, ["--token-file", "/nowhere/token"], "/nowhere/token"),
        (broadcast, ["--publish", "ftp://host", "--source", "test"], "give one like whip+https://HOST/PATH"),
        (signaling, ["--whip", "--announce", "nonsense"], "give an IP address"),
    ],
)
def test_wrong_usage_gets_one_line(
    command: click.Command, args: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(args)
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert len(err.splitlines()) == 1, err
    assert words in err


def test_a_port_in_use_gets_one_line() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = str(sock.getsockname()[1])
        code, _, err = run("broadcast", "--serve", port, "--source", "test", "--faces", "0")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert port in err


def test_a_server_that_is_not_there_is_waited_for_until_the_timeout() -> None:
    code, _, err = run("receive", "--url", f"ws://127.0.0.1:{free_port()}/ws", "--timeout", "1.5")
    assert code == 1
    first, last = err.splitlines()
    assert "trying again" in first
    assert "was not there" in last


def test_neither_end_needs_opencv_where_there_is_no_camera(face_model: Path, tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    env = {"PYTHONPATH": str(tmp_path), "SYNOPTICON_FACE_MODEL": str(face_model)}
    args = ["--serve", str(free_port()), "--source", "portrait", "--size", SIZE, "--json"]
    with Process("broadcast", *args, env=env) as broadcast:
        url = broadcast.next("ready")["url"]
        with Process("receive", "--url", url, "--frames", "20", "--json", env=env) as receive:
            code, events, err = receive.end()
        assert (code, err) == (0, "")
        assert events[-1]["frames_with_faces"] > 0
        with Process("receive", "--url", url, "--show", env=env) as receive:
            code, _, err = receive.rest(30)
        assert code == 1
        assert len(err.splitlines()) == 1
        assert "libGL" in err


@pytest.mark.parametrize("command", [broadcast, receive, signaling])
def test_help_explains_every_option(command: click.Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    out = capsys.readouterr().out
    assert not ended.value.code
    assert "Usage:" in out
    assert "--json" in out


def test_both_ends_tell_their_rates_and_where_the_delay_comes_from(face_model: Path) -> None:
    env = {"SYNOPTICON_FACE_MODEL": str(face_model)}
    args = ["--serve", str(free_port()), "--source", "portrait", "--size", SIZE, "--faces-fps", "10", "--json"]
    with Process("broadcast", *args, env=env) as broadcast:
        url = broadcast.next("ready")["url"]
        with Process("receive", "--url", url, "--json") as receive:
            stats = receive.next("stats")
            while None in (delays := stats["delays_ms"]).values():
                stats = receive.next("stats")
            sent = broadcast.next("stats")
            while not sent["faces_fps"]:
                sent = broadcast.next("stats")
            receive.interrupt()
            code, events, err = receive.end()
        broadcast.interrupt()
        ended, summaries, _ = broadcast.end()
    told = [line for line in err.splitlines() if "a larger faces_wait gets them" not in line]  # on a busy machine
    assert (code, ended, told) == (0, 0, [])
    assert list(delays) == ["capture", "encoding", "network", "decoding", "waiting", "detection"]
    assert sum(part for name, part in delays.items() if name != "detection") >= stats["delay_ms"] - 1
    assert events[-1]["delays_ms"].keys() == delays.keys()
    assert 0 < sent["faces_fps"] < 20
    assert sent["detection_ms"] > 0
    assert {"fps", "faces_fps", "detection_ms"} < summaries[-1].keys()


def test_a_video_file_is_broadcast(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(30):
            container.mux(stream.encode(av.VideoFrame(320, 240, "yuv420p")))
        container.mux(stream.encode())
    args = ["--serve", str(free_port()), "--source", str(path), "--faces", "0", "--json"]
    with Process("broadcast", *args) as broadcast:
        address = broadcast.next("ready")["url"]
        code, out, _ = run("receive", "--url", address, "--frames", "40", "--json")
    summary = json.loads(out.splitlines()[-1])
    assert (code, summary["width"], summary["height"]) == (0, 320, 240)


def test_several_sources_are_streams_that_a_receiver_chooses_from() -> None:
    args = [
        "--serve",
        str(free_port()),
        "--source",
        "test",
        "--source",
        "test",
        "--faces",
        "0",
        "--size",
        SIZE,
        "--json",
    ]
    with Process("broadcast", *args) as broadcast:
        url = broadcast.next("ready")["url"]
        with Process("receive", "--url", url, "--stream", "camera-2", "--frames", "5", "--json") as receive:
            code, events, err = receive.end()
    assert (code, err) == (0, "")
    assert events[-1]["frames"] >= 5


@pytest.mark.long
def test_a_stream_that_nobody_publishes_is_named() -> None:
    with Process("broadcast", "--serve", str(free_port()), "--source", "test", "--faces", "0", "--json") as broadcast:
        url = broadcast.next("ready")["url"]
        code, _, err = run("receive", "--url", url, "--stream", "window", "--timeout", "3")
    assert code == 1
    assert "no stream 'window' came" in err
