"""Recordings given to `export`."""

from pathlib import Path

import pytest
from field_helpers import run, run_in_terminal
from reel import Studio

pytestmark = pytest.mark.field


@pytest.fixture
def film(tmp_path: Path) -> Path:
    studio = Studio(tmp_path)
    studio.play(range(60))
    studio.tape.close()
    return studio.files[0]


def test_a_recording_becomes_tables(film: Path, tmp_path: Path) -> None:
    tables = [tmp_path / f"faces.{kind}" for kind in ("parquet", "csv", "jsonl")]
    done = run("export", str(film), *(word for table in tables for word in (f"--{table.suffix[1:]}", str(table))))
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(
        f"60 frames of {film}; faces were looked for in 60 of them, and found in 60; written to "
    )
    assert tables[0].read_bytes().startswith(b"PAR1")
    assert [len(table.read_text().splitlines()) for table in tables[1:]] == [61, 60]


def test_a_terminal_shows_how_far_it_is_and_any_name_will_do(film: Path, tmp_path: Path) -> None:
    done = run_in_terminal("export", str(film), "--csv", str(tmp_path / "faces.txt"), "--landmarks")
    assert done.code == 0
    assert "100%" in done.text
    assert (tmp_path / "faces.txt").read_text().startswith("frame,time,captured,")
    assert "z477" in (tmp_path / "faces.txt").read_text().splitlines()[0]
