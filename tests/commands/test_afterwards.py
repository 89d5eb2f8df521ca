import asyncio
import logging
import os
import sys
from pathlib import Path

import pytest
from reel import Studio

from synopticon_rtc.commands import afterwards
from synopticon_rtc.commands.afterwards import Keep, OnSegment, delete_old
from synopticon_rtc.errors import RecordingError

COMPLAINS = f"{sys.executable} -c 'import sys; sys.exit(\"much\\nthe disk is on fire\")'"


async def test_a_command_that_fails_is_one_line_and_the_next_file_has_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with OnSegment(COMPLAINS) as failing:
        failing.put("a.mkv")
        failing.put("b.mkv")
    assert [record.message for record in caplog.records] == [
        f"--on-segment failed for {Path.cwd()}/{name}: exit code 1: the disk is on fire" for name in ("a.mkv", "b.mkv")
    ]
    (tmp_path / "gone").write_text("#!/bin/nowhere\n")
    (tmp_path / "gone").chmod(0o755)
    caplog.clear()
    async with OnSegment(str(tmp_path / "gone")) as gone:
        gone.put("a.mkv")
    assert "No such file or directory" in caplog.text


async def test_a_command_that_never_ends_is_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(afterwards, "LONGEST_RUN", 0.1)
    async with OnSegment(f"{sys.executable} -c 'import time; time.sleep(60)'") as endless:
        endless.put("a.mkv")
    assert "it took more than 0.1 s, and was ended" in caplog.text


async def test_the_end_says_that_it_waits_for_a_command(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(afterwards, "LONGEST_RUN", 0.5)
    monkeypatch.setattr(afterwards, "PATIENCE", 0.01)
    async with OnSegment(f"{sys.executable} -c 'import time; time.sleep(60)'") as endless:
        endless.put("a.mkv")
    assert [record.message for record in caplog.records][:1] == [
        "--on-segment is still run, and that is waited for; Ctrl-C once more ends it at once"
    ]


async def test_only_so_many_files_wait(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(afterwards, "WAITING", 1)
    async with OnSegment("true") as slow:
        slow.put("a.mkv")
        slow.put("b.mkv")
    assert [record.message for record in caplog.records] == [
        "--on-segment is not run for b.mkv: it takes too long, and 1 files wait for it"
    ]


@pytest.mark.parametrize("command", ["", "no-such-program", "echo 'half"])
def test_what_is_no_command_is_told_at_once(command: str) -> None:
    with pytest.raises(RecordingError, match="is no command"):
        OnSegment(command)


async def test_recordings_that_are_old_are_deleted_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "all" / "lab-1"
    folder.mkdir(parents=True)
    studio = Studio(folder)
    studio.play(range(3))
    studio.tape.close()
    (old,) = studio.files
    young, film, text = folder / "young.mkv", folder / "film.mkv", folder / "text.txt"
    young.write_bytes(old.read_bytes())
    text.write_bytes(old.read_bytes())
    film.write_bytes(b"no recording")
    (folder / "link.mkv").symlink_to(old)
    (folder / "dangling.mkv").symlink_to(tmp_path / "nowhere")
    for path in (old, film, text):
        os.utime(path, (1000, 1000))
    deleted = asyncio.Queue[str]()
    async with Keep(tmp_path / "all", 3600, deleted.put_nowait), asyncio.timeout(20):
        assert await deleted.get() == str(old)
    assert {path.name for path in folder.iterdir()} == {"young.mkv", "film.mkv", "text.txt", "link.mkv", "dangling.mkv"}
    caplog.set_level(logging.ERROR)
    assert afterwards._delete(tmp_path) == "Is a directory"
    assert delete_old(tmp_path / "nowhere", 0) == []
