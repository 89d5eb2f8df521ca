"""Films given to `analyse`."""

import json
import re
import signal
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from calls import running
from field_helpers import run, run_in_terminal
from pyarrow import parquet

pytestmark = pytest.mark.field


@pytest.fixture
def talk(portrait: npt.NDArray[np.uint8], tmp_path: Path) -> Path:
    """A face that moves, for four seconds."""
    path = tmp_path / "talk.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 320, "yuv420p"
        for number in range(100):
            frame = av.VideoFrame.from_ndarray(np.roll(portrait, number, axis=1), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_film_becomes_a_table_and_a_film_with_the_faces(talk: Path, face_model: Path, tmp_path: Path) -> None:
    table, drawn = tmp_path / "faces.parquet", tmp_path / "drawn.mp4"
    options = ["--out", str(table), "--video-out", str(drawn), "--model", str(face_model)]
    done = run("analyse", str(talk), *options, "--json")
    assert (done.code, done.err) == (0, "")
    summary = json.loads(done.out.splitlines()[-1])
    assert (summary["event"], summary["frames"], summary["detected"]) == ("summary", 100, 100)
    rows = parquet.read_table(table).to_pylist()
    assert [row["time"] for row in rows] == pytest.approx([number / 25 for number in range(100)])
    assert sum(row["jawOpen"] is not None and abs(row["yaw"]) < 45 for row in rows) == summary["frames_with_faces"] > 50
    with av.open(drawn) as container:
        assert sum(1 for _ in container.decode(video=0)) == 100


def test_ctrl_c_ends_it_in_a_line_and_the_same_command_goes_on(talk: Path, face_model: Path, tmp_path: Path) -> None:
    table = tmp_path / "faces.csv"
    args = ["analyse", str(talk), "--out", str(table), "--model", str(face_model)]
    with running(*args) as peer:
        peer.next("progress")
        peer.process.send_signal(signal.SIGINT)
        _, err = peer.process.communicate(timeout=30)
    assert peer.process.returncode == 1
    stopped = re.fullmatch(r"analyse: stopped after (\d+) frames; the same command goes on there\n", err)
    assert stopped
    assert not table.exists()
    done = run_in_terminal(*args)
    assert done.code == 0
    assert int(stopped[1]) == 0 or f"going on after {stopped[1]} frames" in done.text
    assert "100/100" in done.text  # the bar
    assert f"100 frames of {talk}" in " ".join(done.text.split())
    assert len(table.read_text().splitlines()) == 101
