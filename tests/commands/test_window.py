"""The window of `receive --show`, on a screen that the test can read."""

import asyncio
import contextlib
import gc
import os
import shutil
import signal
import struct
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from waiting import until

from synopticon_rtc import Broadcaster, SignalingServer, TestPattern
from synopticon_rtc.commands.window import Window
from synopticon_rtc.errors import SynopticonError

XVFB = shutil.which("Xvfb")
needs_screen = pytest.mark.skipif(XVFB is None, reason="Xvfb is not installed")
# On a busy machine OpenCV's Qt may miss that its window is shown, and then never paints it.
painted_at_last = pytest.mark.flaky(reruns=4, only_rerun="TimeoutError")


class Screen:
    """A virtual screen, whose pixels are in a file (X's xwd format)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def pixel(self, x: int, y: int) -> tuple[int, ...]:
        """Blue, green, red."""
        data = self._path.read_bytes()
        header = struct.unpack_from(">25I", data)
        start = header[0] + 12 * header[19]  # after the header and the colour table
        return tuple(data[start + header[12] * y + 4 * x :][:3])

    async def until(self, shows: Callable[[tuple[int, ...]], bool], again: Callable[[], object] = int) -> None:
        """Wait until a pixel of the picture is as it should be, and do something again meanwhile."""
        async with asyncio.timeout(15):
            while not shows(self.pixel(100, 300)):
                again()
                await asyncio.sleep(0.05)


@pytest.fixture
async def screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Screen]:
    reading, writing = os.pipe()
    server = await asyncio.create_subprocess_exec(
        *(str(XVFB), "-screen", "0", "800x600x24", "-nolisten", "tcp", "-fbdir", str(tmp_path)),
        *("-displayfd", str(writing)),
        pass_fds=[writing],
        stderr=asyncio.subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as told:
            monkeypatch.setenv("DISPLAY", ":" + (await asyncio.to_thread(told.readline)).strip())
        yield Screen(tmp_path / "Xvfb_screen0")
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.terminate()
        await server.wait()


@needs_screen
@painted_at_last
async def test_pictures_are_shown_though_pyav_is_loaded_until_the_window_is_closed(screen: Screen) -> None:
    async with Window() as window:
        for colour in (200, 80, 20), (20, 80, 200):
            image = np.full((360, 640, 3), colour, np.uint8)
            await screen.until(colour.__eq__, partial(window.show, image))
        assert window.show(image)
        assert window._process is not None
        window._process.kill()
        await window._process.wait()
        assert not window.show(image)


async def test_an_opening_that_is_cancelled_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = tmp_path / "begun"
    (tmp_path / "cv2.py").write_text(f"import time; open({str(begun)!r}, 'w').close(); time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":0")  # nobody gets as far as to look for it
    window = Window()
    opening = asyncio.create_task(window.__aenter__())
    await until(begun.exists)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await window.__aexit__(None, None, None)
    gc.collect()  # a process that is left warns, and a warning is an error here


async def test_a_missing_screen_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SynopticonError, match="--show needs a screen"):
        await Window().__aenter__()


async def test_a_missing_opencv_is_an_error_that_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SynopticonError, match=r"OpenCV .*libGL"):
        await Window().__aenter__()


@needs_screen
@painted_at_last
async def test_receive_shows_the_video(screen: Screen) -> None:
    async with SignalingServer(port=0) as server, Broadcaster(server.url, TestPattern((640, 360))):
        receive = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "synopticon_rtc.receive", "--url", server.url, "--show", "--json"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            await screen.until(any)  # the screen is black, and the card's bars are not
        finally:
            receive.send_signal(signal.SIGINT)
            _, err = await receive.communicate()
        assert (receive.returncode, err) == (0, b"")
