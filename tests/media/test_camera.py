import asyncio
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import pytest
from waiting import until

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media import Camera, TestPattern, camera, pacing

COUNT = 10
linux = pytest.mark.skipif(sys.platform != "linux", reason="/dev/video0 is Linux's")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """What stands for a camera that is unplugged: for OpenCV, a device that gives COUNT frames and then none."""
    path = tmp_path / "recording.avi"
    pattern = TestPattern((160, 90))
    with av.open(path, "w") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuvj420p"
        for number in range(COUNT):
            frame = pattern.draw(number)
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def generator(source: Camera) -> AsyncGenerator[av.VideoFrame, None]:
    return cast("AsyncGenerator[av.VideoFrame, None]", aiter(source))


async def test_frames_come(recording: Path) -> None:
    async with aclosing(generator(Camera(str(recording)))) as frames:
        frame = await anext(frames)
    assert (frame.width, frame.height, frame.format.name) == (160, 90, "bgr24")
    assert TestPattern.read_number(frame.to_ndarray()) in range(COUNT)


async def test_an_unplugged_camera_is_waited_for(
    recording: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera, "_RETRY_INTERVAL", 0.1)
    caplog.set_level(logging.DEBUG, "synopticon_rtc.media.camera")
    away = recording.with_suffix(".away")
    source = Camera(str(recording))
    count = 0
    more = asyncio.Event()

    async def consume() -> None:
        nonlocal count
        async with aclosing(generator(source)) as frames:
            async for _ in frames:
                count += 1
                more.set()
                if count == 1:
                    os.rename(recording, away)  # noqa: PTH104 - at once; what is open can be read to its end

    task = asyncio.create_task(consume())
    await until(lambda: len(caplog.records) >= 4)
    more.clear()
    assert [record.levelname for record in caplog.records[:4]] == ["WARNING", "DEBUG", "DEBUG", "DEBUG"]
    assert "gives no more frames" in caplog.text
    away.rename(recording)
    await asyncio.wait_for(more.wait(), 10)
    assert f"{recording} is back" in caplog.text
    task.cancel()
    await asyncio.wait([task])


async def test_closing_does_not_wait_for_a_camera_that_is_away(
    recording: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera, "_RETRY_INTERVAL", 1000)
    monkeypatch.setattr(pacing, "_PATIENCE", 1000)
    source = generator(Camera(str(recording)))
    await anext(source)
    await until(lambda: "gives no more frames" in caplog.text)
    async with asyncio.timeout(20):
        await source.aclose()


@linux
async def test_a_missing_camera_is_told_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match=r"^there is no camera /dev/video77; [^\n]+$"):
        await anext(generator(Camera(77)))
    assert capfd.readouterr().err == ""  # OpenCV has much to say here


@linux
async def test_a_camera_without_frames_is_told_in_one_line() -> None:
    with pytest.raises(SourceError, match=r"^camera /dev/null gives no frames; [^\n]+\(fuser /dev/null\)$"):
        await anext(generator(Camera("/dev/null")))


def test_a_camera_that_may_not_be_used_is_told_in_one_line(recording: Path) -> None:
    recording.chmod(0)
    program = (
        "import asyncio, sys\n"
        "from synopticon_rtc.errors import SourceError\n"
        "from synopticon_rtc.media import Camera\n"
        "try:\n"
        "    asyncio.run(anext(aiter(Camera(sys.argv[1]))))\n"
        "except SourceError as error:\n"
        "    print(error)\n"
    )
    # Root may do anything, but for the capabilities that it gives up.
    humble = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    command = [*humble, sys.executable, "-c", program, str(recording)]
    out = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    assert re.search(r"may not be used; join its group [^\n]+\n$", out)


async def test_an_opencv_that_cannot_be_loaded_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SourceError, match=r"^OpenCV cannot be loaded[^\n]+apt install libgl1 [^\n]+$"):
        await anext(generator(Camera()))


@linux
def test_a_camera_that_hangs_holds_up_neither_the_loop_nor_the_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # nobody writes to it: opening it hangs
    program = (
        "import asyncio, sys, time\n"
        "import cv2\n"
        "from synopticon_rtc.media import Camera\n"
        "async def main():\n"
        "    try:\n"
        "        await asyncio.wait_for(anext(aiter(Camera(sys.argv[1]))), 0.5)\n"
        "    except TimeoutError:\n"
        "        print(time.monotonic())\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(pipe)], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert time.monotonic() - float(done.stdout) < 20  # and not for ever


@pytest.mark.parametrize("size", [(0, 0), (-1, 5)])
def test_an_impossible_size_is_refused_in_one_line(size: tuple[int, int]) -> None:
    with pytest.raises(SourceError, match=f"^no frame can be {size[0]}x{size[1]}; give [^\n]+$"):
        Camera(size=size)


def test_an_impossible_rate_is_refused_in_one_line() -> None:
    with pytest.raises(SourceError, match="frames a second"):
        Camera(fps=0)
