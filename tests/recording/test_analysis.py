"""Films that are looked at frame by frame, in one go or in several."""

import asyncio
import itertools
import os
import random
import signal
import sys
import threading
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from pyarrow import parquet

from synopticon_rtc import Face, FaceLandmarker, TestPattern
from synopticon_rtc.errors import DetectorError, SourceError, TableError
from synopticon_rtc.faces import Detector, Tracker
from synopticon_rtc.media import VideoFile
from synopticon_rtc.recording import analysis
from synopticon_rtc.recording.analysis import AHEAD, WARM_UP, Analysis
from synopticon_rtc.recording.annotated import AnnotatedVideo, join_video
from synopticon_rtc.recording.parts import Parts, Progress

COUNT, FPS = 90, 25
GAP = 60  # frames for which one is shown
MESH = np.random.default_rng(2).uniform(0.4, 0.6, (478, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbered frames, of which one is shown for longer."""
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    pattern = TestPattern((160, 90), FPS)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        for number in range(COUNT):
            frame = pattern.draw(number)
            frame.pts, frame.time_base = number + GAP * (number > 10), Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class Reader:
    """A detector that finds two faces: one whose landmark tells the frame, and one that comes and goes.

    Args:
        until: The frame at which it hangs.
    """

    def __init__(self, until: int = COUNT) -> None:
        self.until = until
        self.seen: list[int] = []
        self.hangs = asyncio.Event()

    async def detect(self, frame: av.VideoFrame) -> list[Face]:
        number = TestPattern.read_number(frame.to_ndarray()[: frame.height, : frame.width])
        assert number is not None
        if number >= self.until:
            self.hangs.set()
            await asyncio.Event().wait()
        self.seen.append(number)
        first, second = MESH.copy(), MESH + np.float32(0.3)
        first[0, 2] = number / 100
        return [Face(second, {}), Face(first, {})] if number // 40 % 2 else [Face(first, {})]


def numbers(path: Path) -> list[int]:
    """The frame that each first face tells of."""
    rows = parquet.read_table(path).to_pylist()
    return [round(row["landmarks"][2] * 100) for row in rows if row["box_left"] < 0.6]


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def same(one: Path, other: Path) -> bool:
    return bool(parquet.read_table(one).equals(parquet.read_table(other)))


async def analysed(
    film: Path, table: Path, detector: Detector | None = None, **options: Path | dict[str, str]
) -> Progress:
    return await Analysis(VideoFile(film), detector or Reader(), table, **options).run(lambda _: None)  # type: ignore[arg-type]


async def test_every_frame_of_a_film_is_looked_at_once_and_in_its_time(film: Path, tmp_path: Path) -> None:
    told: list[int] = []
    detector, table = Reader(), tmp_path / "faces.parquet"
    done = await Analysis(VideoFile(film), detector, table).run(lambda progress: told.append(progress.frames))
    assert detector.seen == numbers(table) == list(range(COUNT))
    assert (done.frames, done.detected, done.with_faces) == (COUNT, COUNT, COUNT)
    assert told == list(range(COUNT + 1))
    rows = parquet.read_table(table).to_pylist()
    times = dict.fromkeys(row["time"] for row in rows)
    assert list(times) == pytest.approx([(number + GAP * (number > 10)) / FPS for number in range(COUNT)])
    assert {row["face_id"] for row in rows} == {0, 1, 2}  # whoever comes after the gap may be somebody else
    assert files(tmp_path) == ["faces.parquet"]


async def test_it_goes_on_where_it_was(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, table = tmp_path / "whole.parquet", tmp_path / "faces.parquet"
    await analysed(film, whole)
    monkeypatch.setattr(analysis, "PART", 0.0)  # each frame is a part
    for until in (70, 85):
        detector = Reader(until)
        task = asyncio.create_task(analysed(film, table, detector))
        await detector.hangs.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    last = Reader()
    assert (await analysed(film, table, last)).frames == COUNT
    assert last.seen == list(range(last.seen[0], COUNT))
    assert 0 <= 85 - WARM_UP - last.seen[0] <= AHEAD + 1  # frames that were looked at, and not yet written
    assert same(table, whole)  # ids too


async def test_one_that_is_cancelled_while_it_begins_leaves_nothing(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, begin = threading.Event(), threading.Event(), Parts.begin

    def slowly(parts: Parts, job: Mapping[str, str]) -> Progress:
        begun.set()
        go_on.wait()
        return begin(parts, job)

    monkeypatch.setattr(Parts, "begin", slowly)
    task = asyncio.create_task(analysed(film, tmp_path / "faces.csv"))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(tmp_path) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("joining")]


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from synopticon_rtc.recording import analysis
from test_analysis import Reader, analysed

class Killed(Reader):
    async def detect(self, frame):
        if len(self.seen) == 50:
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().detect(frame)

analysis.PART = 0.0
asyncio.run(analysed(Path(sys.argv[1]), Path(sys.argv[2]), Killed()))
"""


async def test_one_that_is_killed_loses_no_part_that_is_whole(film: Path, tmp_path: Path) -> None:
    whole, table = tmp_path / "whole.csv", tmp_path / "faces.csv"
    await analysed(film, whole)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", KILLED, str(film), str(table)]
    killed = await asyncio.create_subprocess_exec(*command, env={**os.environ, "PYTHONPATH": path})
    assert await killed.wait() == -signal.SIGKILL
    assert not table.exists()
    detector = Reader()
    await analysed(film, table, detector)
    assert detector.seen == list(range(COUNT))  # the first fifty for the sake of what follows
    assert table.read_bytes() == whole.read_bytes()


OFTEN_KILLED = """
import asyncio, sys
from pathlib import Path
from synopticon_rtc.recording import analysis
from test_analysis import Reader, analysed

class Slow(Reader):
    async def detect(self, frame):
        await asyncio.sleep(0.005)
        return await super().detect(frame)

analysis.PART = 0.02
asyncio.run(analysed(Path(sys.argv[1]), Path(sys.argv[2]), Slow()))
"""


@pytest.mark.long
@pytest.mark.parametrize("kind", ["parquet", "csv"])
async def test_one_that_is_killed_again_and_again_ends_with_the_same_table(
    kind: str, film: Path, tmp_path: Path
) -> None:
    whole, table = tmp_path / f"whole.{kind}", tmp_path / f"faces.{kind}"
    await analysed(film, whole)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", OFTEN_KILLED, str(film), str(table)]
    chance = random.Random(kind)  # noqa: S311 - so that it comes again
    for patience in [*(chance.uniform(0.5, 2) for _ in range(6)), None]:
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, "PYTHONPATH": path})
        try:
            assert await asyncio.wait_for(process.wait(), patience) == 0
            break
        except TimeoutError:
            process.kill()
            await process.wait()
    assert same(table, whole) if kind == "parquet" else table.read_bytes() == whole.read_bytes()
    assert len(files(tmp_path)) == 2


async def test_one_that_is_stopped_has_lost_nothing(film: Path, tmp_path: Path) -> None:
    whole, table, detector = tmp_path / "whole.csv", tmp_path / "faces.csv", Reader()
    await analysed(film, whole)
    stopped = Analysis(VideoFile(film), detector, table)
    done = await stopped.run(lambda progress: stopped.stop() if progress.frames == 33 else None)
    assert (done.frames, done.finished, table.exists()) == (33, False, False)
    assert (await analysed(film, table)).finished
    assert len(detector.seen) <= 33 + AHEAD  # it is ahead of what is written
    assert table.read_bytes() == whole.read_bytes()
    assert len(files(tmp_path)) == 2


async def test_a_detector_that_has_a_queue_is_given_the_next_frame_before_it_is_done_with_one(
    film: Path, tmp_path: Path
) -> None:
    class Queueing(Reader):
        queue = 1

        def __init__(self) -> None:
            super().__init__()
            self.at_once: list[int] = []
            self.asked = 0
            self.more = asyncio.Event()
            self.turn = asyncio.Lock()

        async def detect(self, frame: av.VideoFrame) -> list[Face]:
            self.asked += 1
            self.more.set()
            async with self.turn:
                while self.asked - len(self.seen) < 2 and len(self.seen) < COUNT - 1:
                    self.more.clear()
                    await self.more.wait()
                self.at_once.append(self.asked - len(self.seen))
                return await super().detect(frame)

    detector = Queueing()
    async with asyncio.timeout(20):
        await analysed(film, tmp_path / "faces.parquet", detector)
    assert detector.at_once == [*[2] * (COUNT - 1), 1]
    assert detector.seen == list(range(COUNT))


async def test_parts_of_something_else_are_not_gone_on_with(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysis, "PART", 0.0)
    table, detector = tmp_path / "faces.jsonl", Reader(20)
    task = asyncio.create_task(analysed(film, table, detector, job={"film": "another"}))
    await detector.hangs.wait()
    task.cancel()
    await asyncio.wait([task])
    begun = Reader()
    await analysed(film, table, begun, job={"film": "this one"})
    assert begun.seen == list(range(COUNT))
    assert len(table.read_text().splitlines()) == COUNT


@pytest.mark.parametrize("frames", [1, 2, 7, 12])  # of seven, FFmpeg knows no decoding times
async def test_a_film_that_is_joined_has_every_frame_of_its_parts(frames: int, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    parts = [tmp_path / f"{number}.nut" for number in range(3)]
    pattern, numbers = TestPattern((160, 90), FPS), iter(range(3 * frames))
    for part in parts:
        async with AnnotatedVideo(part, (160, 90)) as video:
            for number in itertools.islice(numbers, frames):
                frame = pattern.draw(number)
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                await video.write(frame, ())
    join_video(parts, tmp_path / "film.mp4")
    pictures = VideoFile(tmp_path / "film.mp4").pictures()
    assert [round((frame.time or 0) * FPS) for frame in pictures] == list(range(3 * frames))


async def test_the_faces_are_drawn_on_a_film_of_the_same_times(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setattr(analysis, "PART", 0.1)
    table, video = tmp_path / "faces.parquet", tmp_path / "drawn.mp4"
    await analysed(film, table, video=video)
    before, after = (list(VideoFile(path).pictures()) for path in (film, video))
    assert [frame.time for frame in after] == [frame.time for frame in before]

    def grey(frame: av.VideoFrame) -> npt.NDArray[np.int_]:
        return frame.to_ndarray(format="gray").astype(int)

    changed = np.mean([abs(grey(one) - grey(other)) for one, other in zip(before, after, strict=True)], axis=0)
    assert changed[36:54, 64:96].mean() > 5 * changed[:20].mean()


async def test_it_finds_what_the_detector_finds(
    portrait: npt.NDArray[np.uint8], face_model: Path, tmp_path: Path
) -> None:
    film, table = tmp_path / "film.mkv", tmp_path / "faces.parquet"
    with av.open(film, "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 320, 320, "yuv420p"
        for number in range(15):
            frame = av.VideoFrame.from_ndarray(np.roll(portrait, 3 * number, axis=1), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    def landmarker() -> FaceLandmarker:
        return FaceLandmarker(model=face_model, blendshapes=True, matrix=True, live=False)

    await Analysis(VideoFile(film), landmarker(), table).run(lambda _: None)
    rows = parquet.read_table(table).to_pylist()
    tracker = Tracker()
    async with landmarker() as detector:
        for row, frame in zip(rows, VideoFile(film).pictures(), strict=True):
            assert frame.time is not None
            (face,) = tracker.track(await detector.detect(frame), frame.time)
            assert np.array_equal(np.array(row["landmarks"], np.float32).reshape(-1, 3), face.landmarks)
            assert face.pose is not None
            assert (row["face_id"], row["yaw"], row["jawOpen"]) == (0, face.pose.yaw, face.blendshapes["jawOpen"])


class Failing:
    """Fails, from the beginning or from a frame on."""

    def __init__(self, since: int) -> None:
        self.since = since
        self.looks = 0

    async def detect(self, frame: av.VideoFrame) -> list[Face]:
        self.looks += 1
        if self.looks > self.since:
            raise DetectorError(f"it cannot look at {frame}")
        return [Face(MESH, {})]


async def test_frames_on_which_the_detector_fails_were_not_looked_at(film: Path, tmp_path: Path) -> None:
    done = await analysed(film, tmp_path / "faces.csv", Failing(50))
    assert (done.frames, done.detected) == (COUNT, 50)
    assert (tmp_path / "faces.csv").read_text().count(",false,") == COUNT - 50


async def test_a_detector_that_fails_for_five_seconds_of_the_film_ends_it(film: Path, tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="has failed for 5 s"):
        await analysed(film, tmp_path / "faces.csv", Failing(0))
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("table", "video", "words"),
    [("faces.xlsx", None, "does not end in .parquet"), ("faces.csv", "drawn.gif", "does not end in .mp4, .mkv, .mov")],
)
def test_other_endings_are_refused_at_once(table: str, video: str | None, words: str, film: Path) -> None:
    with pytest.raises(TableError, match=words):
        Analysis(VideoFile(film), Reader(), Path(table), video=video and Path(video))  # type: ignore[arg-type]


async def test_where_nothing_can_be_written_it_is_said_before_the_work(film: Path, tmp_path: Path) -> None:
    detector = Reader()
    with pytest.raises(TableError, match=r"nowhere.* cannot be written: No such file or directory"):
        await analysed(film, tmp_path / "faces.csv", detector, video=tmp_path / "nowhere" / "drawn.mp4")
    with pytest.raises(TableError, match=r"nowhere.* cannot be written: No such file or directory"):
        await analysed(film, tmp_path / "nowhere" / "faces.csv", detector)
    (tmp_path / "faces.csv").mkdir()
    with pytest.raises(TableError, match=r"faces.csv cannot be written: it is a directory"):
        await analysed(film, tmp_path / "faces.csv", detector)
    assert not detector.seen


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("name", ["faces.csv.part", "drawn.mkv.part", "faces.csv.parts/000000.nut"])
async def test_after_a_full_disk_nothing_is_done_twice(name: str, film: Path, tmp_path: Path) -> None:
    table, video, detector = tmp_path / "faces.csv", tmp_path / "drawn.mkv", Reader()
    full = Analysis(VideoFile(film), detector, table, video=video)
    with pytest.raises(TableError, match="cannot be written: No space left on device"):
        await full.run(lambda progress: None if progress.frames else (tmp_path / name).symlink_to("/dev/full"))
    assert not (tmp_path / name).is_symlink() or name.endswith("nut")
    assert not video.exists()
    (tmp_path / name).unlink(missing_ok=True)
    again = Reader()
    assert (await analysed(film, table, again, video=video)).finished
    assert name.endswith("nut") or again.seen == list(range(COUNT - WARM_UP, COUNT))
    assert sorted(files(tmp_path)) == ["drawn.mkv", "faces.csv"]


async def test_a_folder_of_somebody_else_is_left_alone(film: Path, tmp_path: Path) -> None:
    letters = tmp_path / "faces.csv.parts" / "letters.txt"
    letters.parent.mkdir()
    letters.write_text("dear")
    with pytest.raises(TableError, match="is in the way"):
        await analysed(film, tmp_path / "faces.csv")
    assert letters.read_text() == "dear"


@pytest.mark.parametrize("name", ["progress.json.part", "000003.csv", "000003.nut"])
async def test_what_one_that_was_killed_has_left_without_its_progress_is_not_in_the_way(
    name: str, film: Path, tmp_path: Path
) -> None:
    left = tmp_path / "faces.csv.parts" / name
    left.parent.mkdir()
    left.write_text("half")
    assert (await analysed(film, tmp_path / "faces.csv")).finished
    assert files(tmp_path) == ["faces.csv"]


async def test_what_is_no_film_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"nothing" * 1000)
    with pytest.raises(SourceError, match="is no video"):
        await analysed(tmp_path / "film.mp4", tmp_path / "faces.csv")
    assert files(tmp_path) == ["film.mp4"]
