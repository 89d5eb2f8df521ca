import os
import sys
import tempfile
from pathlib import Path

import pytest

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media import Camera, FrameSource, Portrait, TestPattern, VideoFile, parse_source

MEMORY = Path("/dev") / "shm"


def test_a_number_or_a_device_is_a_camera() -> None:
    numbered = parse_source("1", size=(640, 480), fps=15)
    assert isinstance(numbered, Camera)
    assert numbered.device == ("/dev/video1" if sys.platform == "linux" else 1)
    assert (numbered.size, numbered.fps) == ((640, 480), 15)
    named = parse_source("/dev/video3")
    assert isinstance(named, Camera)
    assert named.device == "/dev/video3"


@pytest.mark.parametrize(("text", "kind"), [("portrait", Portrait), ("test", TestPattern)])
def test_drawn_sources_have_names(text: str, kind: type[Portrait | TestPattern]) -> None:
    source = parse_source(text, size=(640, 360), fps=25)
    assert isinstance(source, kind)
    assert (source.size, source.fps) == ((640, 360), 25)


def test_all_else_is_a_file_or_a_url(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.touch()
    for text in (str(path), "rtsp://127.0.0.1/door"):
        assert isinstance(parse_source(text), VideoFile)


@pytest.mark.parametrize("text", ["portrit", "-1", "/nowhere/clip.mp4"])
def test_what_is_not_there_is_told_in_one_line(text: str) -> None:
    with pytest.raises(SourceError, match=r"^there is no file [^\n]*, or give the number of a camera, [^\n]*$"):
        parse_source(text)


@pytest.mark.parametrize("text", ["0", "portrait", "test"])
def test_an_impossible_size_is_told_in_one_line(text: str) -> None:
    with pytest.raises(SourceError, match=r"^no frame can be 0x0; give [^\n]*$"):
        parse_source(text, size=(0, 0))


@pytest.mark.parametrize("text", ["0", "portrait", "test", "rtsp://127.0.0.1/door"])
def test_each_is_a_frame_source(text: str) -> None:
    assert isinstance(parse_source(text), FrameSource)


def test_a_device_elsewhere_is_a_camera(tmp_path: Path) -> None:
    link = tmp_path / "webcam"
    link.symlink_to("/dev/null")
    assert isinstance(parse_source(str(link)), Camera)


@pytest.mark.skipif(not MEMORY.is_dir(), reason="it is a folder of Linux")
def test_a_film_below_dev_is_a_film() -> None:
    with tempfile.NamedTemporaryFile(dir=MEMORY, suffix=".mp4") as film:
        assert isinstance(parse_source(film.name), VideoFile)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no path there")
def test_a_pipe_is_a_film() -> None:
    reading, writing = os.pipe()  # as bash gives it for <(...)
    assert isinstance(parse_source(f"/dev/fd/{reading}"), VideoFile)
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("text", ["0", "/dev/video0", "portrait", "test"])
def test_what_only_films_have_is_not_ignored(text: str) -> None:
    with pytest.raises(SourceError, match=f"^{text} is no film: "):
        parse_source(text, format="mpegts")
    with pytest.raises(SourceError, match=f"^{text} is no film: "):
        parse_source(text, options={"rtsp_transport": "tcp"})
