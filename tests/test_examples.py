"""The examples run as they stand."""

import ast
import asyncio
import csv
import importlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from number_face import NumberFace
from waiting import until

from synopticon_rtc import (
    Broadcaster,
    Face,
    Moment,
    Receiver,
    SignalingClient,
    SignalingServer,
    TestPattern,
    Tone,
    sync,
)
from synopticon_rtc.basics.loop import LoopThread
from synopticon_rtc.recording.table import FacesTable

EXAMPLES = Path(__file__).parents[1] / "examples"


def start(name: str, *args: str, url: str = "") -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONUNBUFFERED": "1"} | ({"SYNOPTICON_URL": url} if url else {})
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def finish(process: subprocess.Popen[str], seconds: float = 100) -> tuple[str, str]:
    """Wait for the end of a program, and return what it has printed; one that does not come to it is killed."""
    try:
        return process.communicate(timeout=seconds)
    finally:
        process.kill()


@pytest.fixture(scope="module")
def broadcast(face_model: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The broadcaster example, at a signaling server of its own."""
    assert face_model.exists()
    server = subprocess.Popen(
        [sys.executable, "-m", "synopticon_rtc.signaling", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    url = line_of(server).split()[1]
    broadcaster = start("broadcaster.py", "--portrait", url=url)
    assert url in line_of(broadcaster)
    yield url, broadcaster
    try:
        broadcaster.send_signal(signal.SIGINT)
        finish(broadcaster, 60)
    finally:
        server.send_signal(signal.SIGINT)
        finish(server, 60)


class SmileFace(NumberFace):
    """Finds a face that smiles more and more."""

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:
        smile = min(1.0, self.calls / 100)
        blendshapes = {"mouthSmileLeft": smile, "mouthSmileRight": smile}
        return [Face(face.landmarks, blendshapes) for face in await super().detect(frame)]


class JawFace(NumberFace):
    """Finds a face whose jaw is half open."""

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:
        return [Face(face.landmarks, {"jawOpen": 0.5}) for face in await super().detect(frame)]


@pytest.fixture(scope="module")
def card() -> Iterator[str]:
    """A signaling server with a broadcaster that needs no model of faces: of a test card in H.264, and a tone."""
    server = SignalingServer(port=0)
    thread = LoopThread("server", RuntimeError)
    thread.start()
    try:
        url = thread.run(server.__aenter__()).url
        with sync.Broadcaster(url, TestPattern((320, 240), 30), faces=JawFace(), audio=Tone(), codecs=("h264", "vp8")):
            yield url
    finally:
        thread.stop(server.__aexit__(None, None, None))


@pytest.mark.long
def test_receivers_write_and_plot_what_the_broadcaster_finds(
    broadcast: tuple[str, subprocess.Popen[str]], tmp_path: Path
) -> None:
    url, broadcaster = broadcast
    table, picture, film = tmp_path / "landmarks.csv", tmp_path / "expression.png", tmp_path / "recording.mkv"
    receivers = [
        start("landmarks_to_csv.py", str(table), url=url),
        start("expression_plot.py", str(picture), "1", url=url),
        start("record.py", str(film), url=url),
    ]
    for receiver in receivers:
        _, err = finish(receiver)
        told = [line for line in err.splitlines() if "a larger faces_wait gets them" not in line]  # on a busy machine
        assert (receiver.returncode, told) == (0, [])
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert {int(row["landmark"]) for row in rows} == set(range(478))
    assert all(0 < float(row["x"]) < 1 and 0 < float(row["y"]) < 1 for row in rows)
    assert picture.read_bytes().startswith(b"\x89PNG")
    with av.open(str(film)) as file:
        assert len([*file.decode(video=0)]) >= 90  # the receiver says goodbye with the hundredth that it is given
    assert any("connecting" in line_of(broadcaster) for _ in range(4))


def test_the_receiver_of_the_tutorial_prints_where_the_nose_is(card: str) -> None:
    program = (EXAMPLES / "first_receiver.py").read_text()
    assert program.count("ws://localhost:8081/ws") == 1
    receive = [sys.executable, "-c", program.replace("ws://localhost:8081/ws", card)]
    with subprocess.Popen(receive, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert re.fullmatch(r"face \d+: nose at \d+% of the width, \d+% of the height\n", line_of(process))
        finally:
            process.terminate()


def test_a_source_of_ones_own_can_be_watched() -> None:
    process = start("own_source.py")
    try:
        viewer = line_of(process).split()[-1]
        url = viewer.replace("http", "ws") + "ws"
        receive = [sys.executable, "-m", "synopticon_rtc.receive", "--url", url, "--frames", "10"]
        out = subprocess.run(receive, capture_output=True, text=True, timeout=60, check=True).stdout
        assert "10 frames of 640x360" in out
    finally:
        process.terminate()
        finish(process, 10)


def test_a_screen_comes_beside_the_camera() -> None:
    process = start("screen_with_camera.py", "--test")
    try:
        url = line_of(process).split()[-1].replace("http", "ws") + "ws"
        receive = [sys.executable, "-m", "synopticon_rtc.receive", "--url", url, "--stream", "screen", "--frames", "5"]
        out = subprocess.run(receive, capture_output=True, text=True, timeout=60, check=True).stdout
        assert "5 frames of 640x480" in out
    finally:
        process.terminate()
        finish(process, 10)


def test_a_room_tells_in_which_order_frames_were_captured() -> None:
    broadcast = [sys.executable, "-m", "synopticon_rtc.broadcast", "--source", "test", "--size", "320x240", "--json"]
    with subprocess.Popen(
        [*broadcast, "--faces", "0", "--serve", "0", "--name", "Ada"], stdout=subprocess.PIPE, text=True
    ) as ada:
        try:
            ready = next(told for line in iter(lambda: line_of(ada), "") if (told := json.loads(line)).get("url"))
            process = start("room.py", "3", url=ready["url"])
            out, err = finish(process)
        finally:
            ada.terminate()
            finish(ada, 10)
    assert process.returncode == 0, err
    first, *lines = out.splitlines()
    assert first == "waiting for whoever broadcasts"
    assert lines[0] == "Ada joined: connected with Ada"
    assert (
        sum(re.fullmatch(r" +\d+\.\d ms later  Ada  \(give or take \d+\.\d ms\)", line) is not None for line in lines)
        > 10
    )


async def test_two_people_are_put_on_one_clock(tmp_path: Path) -> None:
    table = tmp_path / "smiles.csv"
    async with SignalingServer(port=0) as server:

        def person(name: str) -> Broadcaster:
            client = SignalingClient(server.url, room="dyad")
            return Broadcaster(client, TestPattern((320, 240)), faces=SmileFace(), name=name)

        async with person("Ada"), person("Bo"):
            process = start("two_people.py", str(table), "3", url=server.url)
            out, err = await asyncio.to_thread(finish, process)
    assert process.returncode == 0, err
    told = out.splitlines()
    assert re.fullmatch(rf"\d+ instants of (Ada and Bo|Bo and Ada) in {re.escape(str(table))}", told[1])
    assert float(told[2].rsplit(maxsplit=1)[1]) > 0.9
    seconds = [float(row["seconds"]) for row in csv.DictReader(table.read_text().splitlines())]
    assert np.allclose(np.diff(seconds), 1 / 30)


def test_a_call_outlives_the_signaling_server_that_another_one_replaces() -> None:
    process = start("upgrade.py")
    out, err = finish(process)
    assert process.returncode == 0, err
    *steps, counted = out.splitlines()
    assert steps == ["the old server is gone", "both ends are at the new server", "somebody else has joined"]
    assert int(counted.split()[0]) > 0


def test_everybody_reads_the_chat() -> None:
    process = start("chat.py")
    out, err = finish(process)
    assert process.returncode == 0, err
    assert {line.split()[0] for line in out.splitlines()} == {"Ada", "Bo", "Cy"}


def test_a_level_meter_shows_the_tone(card: str) -> None:
    process = start("level_meter.py", "0.3", url=card)
    out, err = finish(process)
    assert process.returncode == 0, err
    assert "#####" in out.splitlines()[-1]


def test_faces_before_a_camera_are_a_stream_of_lsl(face_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("pylsl", reason="the extra lsl is not installed")
    assert face_model.exists()
    settings = tmp_path / "lsl_api.cfg"  # ports of their own: nothing else here is to hear of it
    settings.write_text("[multicast]\nResolveScope = machine\n[ports]\nMulticastPort = 27571\nBasePort = 27572\n")
    read = (
        "import pylsl; (found,) = pylsl.resolve_byprop('name', 'camera', timeout=60); inlet = pylsl.StreamInlet(found);"
        "print(dict(zip(inlet.info(10).get_channel_labels(), inlet.pull_sample(60)[0])))"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSLAPICFG", str(settings))
        process = start("lsl_outlet.py", "--portrait", url="ws://127.0.0.1:9/ws")
        reader = subprocess.Popen([sys.executable, "-c", read], stdout=subprocess.PIPE, text=True)
        try:
            assert "programs on this machine alone" in line_of(process)
            told, _ = finish(reader)
        finally:
            reader.kill()
            process.send_signal(signal.SIGINT)
            finish(process, 20)
    values = ast.literal_eval(told.replace("nan", "None"))
    assert values["detected"] == 1
    assert -30 < values["head_yaw"] < 30
    assert 0 <= values["jawOpen"] <= 1


def test_a_loop_without_asyncio_draws_faces_into_a_film(card: str, tmp_path: Path) -> None:
    process = start("opencv_window.py", str(tmp_path / "film.avi"), "10", url=card)
    _, err = finish(process)
    assert process.returncode == 0, err
    with av.open(str(tmp_path / "film.avi")) as film:
        assert [(frame.width, frame.height) for frame in film.decode(video=0)] == [(320, 240)] * 10


def test_a_curve_is_drawn_while_it_happens(card: str, tmp_path: Path) -> None:
    process = start("live_plot.py", str(tmp_path / "mouth.png"), "10", url=card)
    _, err = finish(process)
    assert process.returncode == 0, err
    assert (tmp_path / "mouth.png").read_bytes().startswith(b"\x89PNG")


def test_a_notebook_shows_a_frame_and_plots(card: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
    monkeypatch.setenv("SYNOPTICON_URL", card)
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=60).execute()
    shown = [kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.data]
    assert {"image/jpeg", "image/png"} <= set(shown)


def test_a_streamlit_page_shows_the_faces(card: str) -> None:
    pytest.importorskip("streamlit", reason="streamlit is not installed")
    look = (
        "import sys; from streamlit.testing.v1 import AppTest",
        "page = AppTest.from_file(sys.argv[1], default_timeout=60)",
        "while not page.run().metric or page.metric[0].value == '0': pass",
        "print([*page.exception], page.metric[0].value)",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(look), str(EXAMPLES / "streamlit_app.py")],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, "SYNOPTICON_URL": card},
    )
    assert done.stdout == "[] 1\n", done.stderr


async def test_an_application_asks_on_a_page_of_its_own_who_may_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    monkeypatch.setenv("SYNOPTICON_SOURCE", "test")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    async with asyncio.timeout(60), SignalingServer(port=0) as server:
        monkeypatch.setenv("SYNOPTICON_URL", server.url)
        example = importlib.import_module("fastapi_app")
        app = example.app
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app", follow_redirects=True)
        async with app.router.lifespan_context(app), client, Receiver(server.url) as receiver:
            session = await receiver.signaling.wait_open()
            await until(lambda: session in example.asking)
            assert (await client.get("/picture.jpg")).content.startswith(b"\xff\xd8")
            assert f'action="admit/{session}"' in (await client.get("/")).text
            await client.post(f"/admit/{session}")
            await anext(receiver)
            assert f'action="send-away/{session}"' in (await client.get("/")).text
            assert session not in (await client.post(f"/send-away/{session}")).text


def test_rerun_gets_video_landmarks_and_curves(card: str, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    process = start("rerun_viewer.py", str(tmp_path / "talk.rrd"), "60", url=card)
    _, err = finish(process)
    assert process.returncode == 0, err
    rerun = [str(Path(sys.executable).with_name("rerun")), "rrd"]
    subprocess.run([*rerun, "verify", str(tmp_path / "talk.rrd")], check=True, capture_output=True, timeout=60)
    printed = subprocess.run(
        [*rerun, "print", str(tmp_path / "talk.rrd")], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert {"/video", "/video/faces", "/blendshapes/jawOpen"} <= set(re.findall(r"/[\w/]+", printed))


def test_both_ends_fit_into_one_process(face_model: Path) -> None:
    assert face_model.exists()
    process = start("both_ends.py")
    out, err = finish(process)
    assert process.returncode == 0, err
    lines = out.splitlines()
    assert len(lines) == 30
    assert sum("nose at" in line for line in lines) > 10


@pytest.mark.long
def test_a_broadcaster_is_seen_through_another_server(face_model: Path) -> None:
    assert face_model.exists()
    process = start("cluster/two_servers.py")
    out, err = finish(process)
    assert process.returncode == 0, err
    assert sum("nose at" in line for line in out.splitlines()) > 10


def test_the_broadcaster_does_not_say_that_it_broadcasts_before_it_has_a_server(face_model: Path) -> None:
    assert face_model.exists()
    process = start("broadcaster.py", "--portrait", url="ws://127.0.0.1:9/ws")
    assert process.stderr is not None
    assert any("is not there" in line for line in process.stderr)  # a busy machine has more to tell
    process.send_signal(signal.SIGINT)
    out, _ = finish(process, 20)
    assert (process.returncode, out) == (0, "")


async def test_a_table_of_faces_is_plotted(tmp_path: Path) -> None:
    table, picture = tmp_path / "faces.parquet", tmp_path / "faces.png"
    face = Face(np.random.default_rng(3).uniform(0, 1, (478, 3)).astype(np.float32), {})
    async with FacesTable(table) as faces:
        for number in range(9):
            await faces.write(Moment(None, (face,) if number % 3 else (), True, None, 3000 * number))
    out, err = finish(start("plot_faces.py", str(table), str(picture)))
    assert (out, err) == (f"9 frames, 67% of them with faces; drawn to {picture}\n", "")
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["landmarks_to_csv.py", "expression_plot.py", "record.py", "own_source.py"])
def test_ctrl_c_ends_an_example_without_a_word(name: str, tmp_path: Path) -> None:
    args = [] if name == "own_source.py" else [str(tmp_path / "out.mkv")]
    process = start(name, *args, url="ws://127.0.0.1:9/ws")
    assert line_of(process)  # it says at once what it does
    process.send_signal(signal.SIGINT)
    _, err = finish(process, 20)
    assert (process.returncode, "Traceback" in err) == (0, False)


def test_a_recording_that_cannot_hold_what_is_sent_is_told_in_one_line(card: str, tmp_path: Path) -> None:
    process = start("record.py", str(tmp_path / "film.mp4"), url=card)
    _, err = finish(process)
    assert process.returncode == 1
    assert len(err.splitlines()) == 1
    assert ".mkv" in err
