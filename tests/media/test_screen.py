"""Screens, looked at on a virtual one with a window on it."""

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import struct
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, cast

import av
import pytest
from waiting import until

from synopticon_rtc import Broadcaster, Receiver, Screen, SignalingServer
from synopticon_rtc.errors import SourceError
from synopticon_rtc.media import hint_of, screen

XVFB = shutil.which("Xvfb")
needs_xvfb = pytest.mark.skipif(XVFB is None, reason="Xvfb is not installed")
WIDTH, HEIGHT = 320, 240
WINDOW = 40, 30, 100, 80
"""Left, top, width, height."""
RED, GREEN = 0xFF0000, 0x00FF00
BACKGROUND = (0, 0, 0)


class Window:
    """A real window of one colour; speaks as much of the X protocol as that takes."""

    def __init__(self, display: str, colour: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(f"/tmp/.X11-unix/X{display.removeprefix(':')}")  # noqa: S108 - where X has it
        self._socket.sendall(struct.pack("<BxHHHHxx", ord("l"), 11, 0, 0, 0))
        status, length = struct.unpack("<BxxxxxH", self._read(8))
        assert status == 1
        setup = self._read(4 * length)
        self._id, vendor, formats = struct.unpack_from("<4xI8xH3xB", setup)[0], *struct.unpack_from("<16xH3xB", setup)
        (root,) = struct.unpack_from("<I", setup, 32 + -(-vendor // 4) * 4 + 8 * formats)
        override_redirect = 1 << 9
        self._send(1, struct.pack("<IIhhHHHHIII", self._id, root, *WINDOW, 0, 1, 0, override_redirect, 1))
        self.paint(colour)
        self._send(8, struct.pack("<I", self._id))

    def paint(self, colour: int) -> None:
        background = 1 << 1
        self._send(2, struct.pack("<III", self._id, background, colour))
        self._send(61, struct.pack("<IhhHH", self._id, 0, 0, 0, 0))

    def close(self) -> None:
        self._socket.close()

    def _send(self, opcode: int, body: bytes) -> None:
        self._socket.sendall(struct.pack("<BxH", opcode, 1 + len(body) // 4) + body)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += self._socket.recv(count - len(data))
        return data


class Server:
    """A virtual screen."""

    def __init__(self) -> None:
        self.display = ""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        reading, writing = os.pipe()
        self._process = await asyncio.create_subprocess_exec(
            *(str(XVFB), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nolisten", "tcp"),
            *((self.display,) if self.display else ("-displayfd", str(writing))),
            pass_fds=[writing],
            stderr=asyncio.subprocess.DEVNULL,
        )
        os.close(writing)
        with os.fdopen(reading) as told:
            self.display = self.display or ":" + (await asyncio.to_thread(told.readline)).strip()

    async def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            await self._process.wait()
            self._process = None


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    it = Server()
    await it.start()
    monkeypatch.setenv("DISPLAY", it.display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("XDG_SESSION_TYPE", raising=False)
    yield it
    await it.stop()


def frames_of(source: Screen) -> AsyncGenerator[av.VideoFrame, None]:
    return cast("AsyncGenerator[av.VideoFrame, None]", aiter(source))


def pixel(frame: av.VideoFrame, x: int, y: int) -> tuple[int, ...]:
    return tuple(frame.to_ndarray(format="rgb24")[y, x].tolist())


async def until_shown(
    frames: AsyncGenerator[av.VideoFrame, None], shows: Callable[[av.VideoFrame], bool]
) -> av.VideoFrame:
    async with asyncio.timeout(20):
        while not shows(frame := await anext(frames)):
            pass
    return frame


@needs_xvfb
async def test_a_window_is_seen_and_what_changes_in_it(server: Server) -> None:
    window = Window(server.display, RED)
    async with aclosing(frames_of(Screen(fps=30))) as frames:
        before = await until_shown(frames, lambda frame: pixel(frame, 40, 30) == (255, 0, 0))
        assert (before.width, before.height) == (WIDTH, HEIGHT)
        assert pixel(before, 39, 30) == pixel(before, 140, 110) == BACKGROUND
        window.paint(GREEN)
        await until_shown(frames, lambda frame: pixel(frame, 139, 109) == (0, 255, 0))
        assert pixel(before, 40, 30) == (255, 0, 0)  # a frame that was given stays as it is
    window.close()


@needs_xvfb
async def test_a_receiver_sees_what_the_screen_shows_also_where_nothing_changes(server: Server) -> None:
    window = Window(server.display, RED)
    async with SignalingServer(port=0) as signaling, Broadcaster(signaling.url, Screen(), faces=None):
        for _ in range(2):
            async with Receiver(signaling.url, timeout=20) as receiver:
                moment = await anext(receiver)
                red, green, blue = pixel(moment.frame, 100, 70)
                assert (moment.frame.width, moment.frame.height) == (WIDTH, HEIGHT)
                assert red > 200
                assert max(green, blue) < 50
    window.close()


@needs_xvfb
async def test_a_region_alone_is_seen(server: Server) -> None:
    window = Window(server.display, RED)
    async with aclosing(frames_of(Screen(server.display, region=(30, 20, 50, 41)))) as frames:
        frame = await until_shown(frames, lambda frame: pixel(frame, 10, 10) == (255, 0, 0))
    assert (frame.width, frame.height) == (50, 41)
    assert pixel(frame, 9, 10) == BACKGROUND
    assert pixel(frame, 49, 40) == (255, 0, 0)
    window.close()


@needs_xvfb
@pytest.mark.usefixtures("server")
async def test_frames_come_no_more_often_than_was_asked_for() -> None:
    loop = asyncio.get_running_loop()
    async with aclosing(frames_of(Screen(fps=4))) as frames:
        begun = loop.time()
        for _ in range(4):
            await anext(frames)
        assert loop.time() - begun > 0.7


@needs_xvfb
@pytest.mark.usefixtures("server")
async def test_the_first_frame_comes_at_once_at_any_rate() -> None:
    async with aclosing(frames_of(Screen(fps=0.02))) as frames, asyncio.timeout(30):
        await anext(frames)  # FFmpeg looks at two frames first, and would wait for both


@needs_xvfb
async def test_a_screen_that_goes_away_is_waited_for(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "_RETRY_INTERVAL", 0.1)
    caplog.set_level(logging.INFO, "synopticon_rtc.media.screen")
    async with aclosing(frames_of(Screen(fps=50))) as frames:
        await anext(frames)
        await server.stop()
        await until(lambda: caplog.records)
        assert "cannot be read any more; it is looked for every second" in caplog.text
        await server.start()
        await until_shown(frames, lambda _: "the screen is back" in caplog.text)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@needs_xvfb
@pytest.mark.usefixtures("server")
async def test_a_region_outside_of_the_screen_is_told_in_one_line() -> None:
    with pytest.raises(
        SourceError, match=r"^the region of 100x50 at 221,0 is not within the screen, .* 320x240; [^\n]+$"
    ):
        await anext(frames_of(Screen(region=(221, 0, 100, 50))))


@pytest.mark.skipif(sys.platform != "linux", reason="X is asked on Linux alone")
async def test_a_display_that_is_not_there_is_told_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match=r"^the X display :4711 cannot be opened; [^\n]+$"):
        await anext(frames_of(Screen(":4711")))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("session", [{"WAYLAND_DISPLAY": "wayland-0"}, {"XDG_SESSION_TYPE": "wayland"}])
async def test_a_wayland_session_is_told_to_share_from_the_browser(
    session: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "DISPLAY", "WAYLAND_DISPLAY", "XDG_SESSION_TYPE":
        monkeypatch.delenv(name, raising=False)
    for name, value in session.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(SourceError, match=r"Wayland.*share it from the browser"):
        await anext(frames_of(Screen()))


async def test_where_there_is_no_display_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "DISPLAY", "WAYLAND_DISPLAY", "XDG_SESSION_TYPE":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(SourceError, match=r"^there is no screen here: DISPLAY is not set; [^\n]+$"):
        await anext(frames_of(Screen()))


@pytest.mark.parametrize(("platform", "device"), [("win32", "gdigrab"), ("darwin", "avfoundation")])
async def test_what_this_ffmpeg_cannot_read_is_said(
    platform: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(av, "formats_available", av.formats_available - {device})
    with pytest.raises(SourceError, match=rf"^screens cannot be read: FFmpeg was built without {device}$"):
        await anext(frames_of(Screen()))


def test_on_windows_ffmpeg_cuts_the_region_out() -> None:
    assert screen._windows(None).part((1, 2, 30, 40)) == {"offset_x": "1", "offset_y": "2", "video_size": "30x40"}


def test_on_macos_it_is_cut_out_here() -> None:
    assert screen._macos(None).part((1, 2, 30, 40)) == {}
    frame = av.VideoFrame(64, 48, "bgr0")
    octets = memoryview(frame.planes[0])
    octets[:] = bytes(len(octets))
    octets[4 * (64 * 10 + 20) :][:3] = b"\xff\0\0"
    cut = screen._cut(frame, (20, 10, 8, 6))
    assert (cut.width, cut.height) == (8, 6)
    assert pixel(cut, 0, 0) == (0, 0, 255)


@pytest.mark.parametrize(
    "region", [(0, 0, 0, 10), (-1, 0, 10, 10), (0, 0, 10), (0, 0, 10, 1), (0, 0, 1.5, 10), "whole", 5]
)
def test_an_impossible_region_is_refused_in_one_line(region: Any) -> None:
    with pytest.raises(SourceError, match=r"^[^\n]*region[^\n]+; give [^\n]+$"):
        Screen(region=region)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_an_impossible_rate_is_refused_in_one_line(fps: float) -> None:
    with pytest.raises(SourceError, match="frames a second"):
        Screen(fps=fps)


def test_a_screen_is_sent_as_one_and_all_else_as_a_camera() -> None:
    class Slides:
        hint = "screen"

    class Wrong:
        hint = "text"

    assert hint_of(Screen()) == "screen"
    assert hint_of(cast("Any", Slides())) == "screen"
    assert hint_of(cast("Any", object())) == "camera"
    with pytest.raises(SourceError, match="has the hint 'text'; give one of camera, screen"):
        hint_of(cast("Any", Wrong()))
