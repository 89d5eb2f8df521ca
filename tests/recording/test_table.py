"""Tables of faces: what they say is what was seen, whatever happens meanwhile."""

import asyncio
import csv
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import polars as pl
import pytest
from pyarrow import parquet

from synopticon_rtc import Face, Moment
from synopticon_rtc.errors import MissingExtra, TableError
from synopticon_rtc.faces.wire import BLENDSHAPES
from synopticon_rtc.recording.beside import beside
from synopticon_rtc.recording.row import COLUMNS, MediaTime
from synopticon_rtc.recording.table import FacesTable

RANDOM = np.random.default_rng(16)
FRAME = av.VideoFrame(640, 360, "yuv420p")


def face(number: int = 0, points: int = 478) -> Face:
    landmarks = RANDOM.uniform(0.2, 0.8, (points, 3)).astype(np.float32)
    scores: dict[str, float] = dict(zip(BLENDSHAPES, RANDOM.uniform(0, 1, 52).tolist(), strict=True))
    turned, _ = np.linalg.qr(RANDOM.normal(size=(3, 3)))
    matrix = np.eye(4, dtype=np.float32)
    matrix[:3, :3] = turned
    return Face(landmarks, scores, matrix, number)


class Broken:
    """What should have been faces."""

    def __bool__(self) -> bool:
        raise ZeroDivisionError


PLAIN = Face(face().landmarks, {})
MOMENTS = [
    Moment(FRAME, (face(3), face(4)), True, 1.7e9, 2**32 - 3000, 0.0),
    Moment(FRAME, (), True, 1.7e9 + 1 / 30, 0, 0.0),
    Moment(FRAME, (), False, None, 3000),
    Moment(FRAME, (PLAIN,), True, 1.7e9 + 0.1, 6000, 0.0),
    Moment(FRAME, (face(5, 468),), False, 1.7e9 + 0.2, 15000, 0.1),
]


async def written(path: Path, moments: list[Moment] = MOMENTS, **options: Any) -> Path:
    async with FacesTable(path, **options) as table:
        for moment in moments:
            await table.write(moment)
    return path


async def test_parquet_holds_the_live_values(tmp_path: Path) -> None:
    rows = parquet.read_table(await written(tmp_path / "faces.parquet")).to_pylist()
    pairs = [(moment, face) for moment in MOMENTS for face in moment.faces or (None,)]
    assert [row["frame"] for row in rows] == [0, 0, 1, 2, 3, 4]
    assert [row["time"] for row in rows] == pytest.approx([0, 0, 1 / 30, 2 / 30, 0.1, 0.2])
    for row, (moment, seen) in zip(rows, pairs, strict=True):
        for name in ("captured", "rtp_timestamp", "detected", "faces_age"):
            assert row[name] == getattr(moment, name)
        assert (row["width"], row["height"]) == (640, 360)
        assert row["face_id"] == (seen.id if seen else None)
        if seen is None:
            assert row["landmarks"] is row["matrix"] is row["yaw"] is row["box_left"] is row["jawOpen"] is None
            continue
        landmarks = np.array(row["landmarks"], np.float32).reshape(-1, 3)
        assert np.array_equal(landmarks[: len(seen.landmarks)], seen.landmarks)
        assert np.isnan(landmarks[len(seen.landmarks) :]).all()
        assert tuple(row[f"box_{edge}"] for edge in ("left", "top", "right", "bottom")) == seen.box
        assert (row["yaw"], row["pitch"], row["roll"]) == (seen.pose or (None, None, None))
        assert [row[name] for name in BLENDSHAPES] == [seen.blendshapes.get(name) for name in BLENDSHAPES]
        assert row["matrix"] == (None if seen.matrix is None else seen.matrix.ravel().tolist())
        points = seen.to_pixels(640, 360)[:, :2].astype(float)
        gaps = [np.linalg.norm(points[upper] - points[lower]) for upper, lower in ((160, 144), (158, 153))]
        assert row["right_eye_openness"] == pytest.approx(sum(gaps) / 2 / np.linalg.norm(points[33] - points[133]))


async def test_pandas_and_polars_read_parquet_and_csv(tmp_path: Path) -> None:
    whole = await written(tmp_path / "faces.parquet")
    plain = await written(tmp_path / "faces.csv")
    frames = [pd.read_parquet(whole), pl.read_parquet(whole), pd.read_csv(plain), pl.read_csv(plain)]
    for frame in frames:
        assert list(frame["frame"]) == [0, 0, 1, 2, 3, 4]
        assert list(frame["detected"]) == [True, True, True, False, True, False]
        assert frame["yaw"][0] == MOMENTS[0].faces[0].pose.yaw  # type: ignore[union-attr]
    assert "landmarks" not in frames[2]


async def test_rows_are_written_in_groups(tmp_path: Path) -> None:
    path = await written(tmp_path / "faces.parquet", MOMENTS * 200, landmarks=False)
    with parquet.ParquetFile(path) as file:
        assert file.metadata.num_rows == 1200
        assert file.metadata.num_row_groups == 3
        assert "landmarks" not in file.schema_arrow.names
        assert b"degrees" in file.schema_arrow.field("yaw").metadata[b"description"]


async def test_csv_has_landmarks_where_they_are_asked_for(tmp_path: Path) -> None:
    path = await written(tmp_path / "faces.csv", landmarks=True, first=7)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["frame"] for row in rows] == ["7", "7", "8", "9", "10", "11"]
    assert list(rows[0])[: len(COLUMNS)] == [column.name for column in COLUMNS]
    assert float(rows[0]["z477"]) == pytest.approx(float(MOMENTS[0].faces[0].landmarks[477, 2]), abs=1e-7)
    assert (rows[2]["face_id"], rows[2]["x0"], rows[5]["x467"] != "", rows[5]["x468"]) == ("", "", True, "")


async def test_json_lines_are_a_frame_each(tmp_path: Path) -> None:
    path = await written(tmp_path / "faces.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [[face["id"] for face in line["faces"]] for line in lines] == [[3, 4], [], [], [0], [5]]
    assert [line["detected"] for line in lines] == [moment.detected for moment in MOMENTS]
    assert lines[2] == {"frame": 2, "time": 2 / 30, "captured": None, "rtp_timestamp": 3000, "detected": False} | {
        "width": 640,
        "height": 360,
        "faces_age": None,
        "faces": [],
    }
    known, plain = lines[0]["faces"][0], lines[3]["faces"][0]
    assert known.keys() - plain.keys() == {"pose", "blendshapes", "matrix"}
    assert np.array(plain["landmarks"]) == pytest.approx(PLAIN.landmarks, abs=5.1e-6)
    assert max(len(str(value)) for point in plain["landmarks"] for value in point) <= len("0.12345")
    assert "landmarks" not in (await written(path, landmarks=False)).read_text()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes on this machine")
async def test_a_table_whose_opening_is_cancelled_is_closed(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "faces.jsonl")  # which opens for writing once somebody reads it
    entering = asyncio.create_task(FacesTable(pipe).__aenter__())
    await asyncio.wait([entering], timeout=0.1)
    entering.cancel()
    assert await asyncio.to_thread(pipe.read_bytes) == b""  # as it was closed
    with pytest.raises(asyncio.CancelledError):
        await entering


async def test_what_was_seen_is_there_whatever_ends_the_table(tmp_path: Path) -> None:
    path, begun = tmp_path / "faces.parquet", asyncio.Event()

    async def write_on() -> None:
        async with FacesTable(path) as table:
            for moment in MOMENTS * 100:
                await table.write(moment)
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write_on())
    await begun.wait()
    assert not path.exists()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert parquet.read_table(path).num_rows == 600
    assert not beside(path).exists()


async def test_an_error_meanwhile_is_raised_and_the_table_whole(tmp_path: Path) -> None:
    path = tmp_path / "faces.parquet"
    with pytest.raises(ZeroDivisionError):
        await written(path, [*MOMENTS, dataclasses.replace(MOMENTS[0], faces=Broken())])  # type: ignore[arg-type]
    assert parquet.read_table(path).num_rows == 6


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("count", [1, 400], ids=["at the end", "meanwhile"])
@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
async def test_a_full_disk_is_one_error(ending: str, count: int, tmp_path: Path) -> None:
    path = tmp_path / f"faces.{ending}"
    (tmp_path / "faces.parquet.part" if ending == "parquet" else path).symlink_to("/dev/full")
    with pytest.raises(TableError, match=rf"faces\.{ending} cannot be written: No space left on device"):
        await written(path, MOMENTS * count)
    assert not (tmp_path / "faces.parquet.part").is_symlink()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("faces.xlsx", "does not end in .parquet, .csv or .jsonl"),
        ("nowhere/faces.csv", "No such file or directory"),
        ("nowhere/faces.parquet", "No such file or directory"),
        ("folder.parquet", "it is a directory"),
    ],
)
async def test_what_cannot_be_written_is_said_at_once(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(TableError, match=words):
        async with FacesTable(tmp_path / name):
            pytest.fail("it was opened")


async def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"\.\[parquet\]"):
        await written(tmp_path / "faces.parquet")
    await written(tmp_path / "faces.csv")


async def test_a_table_that_is_not_open_says_so(tmp_path: Path) -> None:
    table = FacesTable(tmp_path / "faces.csv")
    with pytest.raises(RuntimeError, match="not open"):
        await table.write(MOMENTS[0])


def test_media_time_outlives_timestamps_that_start_anew() -> None:
    time = MediaTime()
    assert time.take(2**32 - 9000, 100.0) == 0
    assert time.take(0, 100.1) == pytest.approx(0.1)  # they wrap
    assert time.take(90_000, None) == pytest.approx(1.1)
    assert time.take(3_000_000_000, 200.0) == pytest.approx(1.1)  # another broadcaster: nobody knows
    assert time.take(1_000_000_000, 203.0) == pytest.approx(4.1)  # yet another
    assert time.take(None, 203.5) == pytest.approx(4.6)
    assert time.take(None, 203.0) == pytest.approx(4.6)  # a clock that was set back
    assert time.take(None, None) is None


async def test_a_frame_without_a_picture_has_no_size(tmp_path: Path) -> None:
    moment = dataclasses.replace(MOMENTS[0], frame=None)  # type: ignore[arg-type]
    row, _ = parquet.read_table(await written(tmp_path / "faces.parquet", [moment])).to_pylist()
    assert row["width"] is row["height"] is row["left_eye_openness"] is row["mouth_openness"] is None
    assert row["time"] == 0


def test_the_document_tells_every_column() -> None:
    text = (Path(__file__).parents[2] / "docs" / "tables.md").read_text(encoding="utf-8")
    assert not {column.name for column in COLUMNS if column.name not in BLENDSHAPES and f"`{column.name}`" not in text}
