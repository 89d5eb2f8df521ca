"""Tables of the faces in a recording: what a receiver would have written of the same moments."""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from pyarrow import parquet
from reel import BEGUN, FPS, LANDMARKS, Named, Studio

from synopticon_rtc import Recording
from synopticon_rtc.commands.export import main
from synopticon_rtc.errors import RecordingError
from synopticon_rtc.recording.export import export, length
from synopticon_rtc.recording.table import FacesTable

COUNT = 90


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of a camera with faces, of which some were looked for in vain, and of a screen without."""
    studio = Studio(tmp_path_factory.mktemp("film"))
    screen = Named("screen", hint="screen")
    studio.published.append(screen)
    for number in range(COUNT):
        studio.frame(number)
        studio.frame(number, screen, codec="h264", size=(160, 120))
        studio.faces(number, detected=number % 10 > 0)
    studio.tape.close()
    return studio.files[0]


async def exported(film: Path, *tables: Path, stream: str | None = None) -> list[float]:
    told: list[float] = []
    async with contextlib.AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(FacesTable(table)) for table in tables]
        await export(film, opened, stream=stream, tell=lambda played: told.append(played.time))
    return told


async def test_it_is_what_was_recorded(film: Path, tmp_path: Path) -> None:
    tables = tmp_path / "faces.parquet", tmp_path / "faces.csv"
    told = await exported(film, *tables)
    rows = parquet.read_table(tables[0]).to_pylist()
    async with Recording(film) as recording:
        moments = [moment async for moment in recording]
    assert len(rows) == len(moments) == len(told) == COUNT
    for number, (row, moment) in enumerate(zip(rows, moments, strict=True)):
        assert (row["frame"], row["rtp_timestamp"], row["captured"]) == (number, moment.rtp_timestamp, moment.captured)
        assert row["time"] == pytest.approx(number / FPS, abs=0.001)
        assert row["captured"] == pytest.approx(BEGUN + number / FPS)
        assert (row["width"], row["height"]) == (moment.frame.width, moment.frame.height) == (320, 240)
        assert row["detected"] is moment.detected is (number % 10 > 0)
        assert row["face_id"] == (number if number % 10 else None)
        if moment.faces:
            assert row["landmarks"] == moment.faces[0].landmarks.ravel().tolist()
            assert row["landmarks"] == pytest.approx(LANDMARKS.ravel(), abs=0.01)
            assert row["mouth_openness"] > 0
    assert len(tables[1].read_text().splitlines()) == COUNT + 1


async def test_another_video_can_be_named(film: Path, tmp_path: Path) -> None:
    await exported(film, tmp_path / "faces.parquet", stream="screen")
    rows = parquet.read_table(tmp_path / "faces.parquet").to_pylist()
    assert {(row["width"], row["height"], row["detected"], row["face_id"]) for row in rows} == {(160, 120, False, None)}
    with pytest.raises(RecordingError, match=r"no video 'desk' is in .*; there is 'camera', 'screen'"):
        await exported(film, tmp_path / "faces.csv", stream="desk")


def half(film: Path) -> bytes:
    whole = film.read_bytes()
    return whole[: len(whole) // 2]


EXPORTED = """
import os, signal, sys
from synopticon_rtc.commands import export
from synopticon_rtc.recording import lines
lines.JsonLinesFile.batch = lines.CsvFile.batch = 1

class Killed(export._Bar):
    def tell(self, played):
        super().tell(played)
        if self.frames == 50:
            os.kill(os.getpid(), signal.SIGKILL)

export._Bar = Killed
export.main()
"""


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_one_that_is_killed_leaves_no_half_of_a_table_in_its_place(kind: str, film: Path, tmp_path: Path) -> None:
    table = tmp_path / f"faces.{kind}"
    options = [str(film), f"--{kind}", str(table)]
    assert subprocess.run([sys.executable, "-c", EXPORTED, *options], check=False).returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [f"faces.{kind}.part"]
    assert CliRunner().invoke(main, options).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == [f"faces.{kind}"]


async def test_what_came_before_the_damage_is_in_the_table(film: Path, tmp_path: Path) -> None:
    cut, table = tmp_path / "cut.mkv", tmp_path / "faces.parquet"
    cut.write_bytes(half(film))
    with contextlib.suppress(RecordingError):
        await exported(cut, table)
    assert 0 < parquet.read_table(table).num_rows < COUNT


def test_its_length_is_known(film: Path) -> None:
    assert length(film) == pytest.approx(COUNT / FPS, abs=0.1)


def test_no_table_is_written_over_the_recording_or_over_another_table(film: Path, tmp_path: Path) -> None:
    before = film.read_bytes()
    for places in (["--jsonl", str(film)], ["--csv", str(tmp_path / "a"), "--jsonl", str(tmp_path / "a")]):
        ran = CliRunner().invoke(main, [str(film), *places])
        assert ran.exit_code == 2
        assert "different files" in ran.output
    assert film.read_bytes() == before
