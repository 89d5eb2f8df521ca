"""A recording in the hands of others: players, and tools that look into it."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.async_api import async_playwright
from reel import FPS, Named, Studio

FRAMES = 60


def record(folder: Path, name: str, codec: Any = "vp8") -> Path:
    """Two seconds of a camera with faces, and sound."""
    studio = Studio(folder, names=iter([folder / name]))
    microphone = Named("microphone", "audio", "microphone")
    studio.published.append(microphone)
    for number in range(FRAMES):
        studio.play(range(number, number + 1), codec=codec)
        for packet in range(number * 50 // FPS, (number + 1) * 50 // FPS):
            studio.sound(microphone, packet)
    studio.tape.close()
    return folder / name


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    record(folder, "talk.mkv")
    record(folder, "talk-h264.mkv", "h264")
    record(folder, "talk.webm")
    return folder


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.mark.parametrize("name", ["talk.mkv", "talk-h264.mkv", "talk.webm"])
def test_ffprobe_names_its_tracks(films: Path, name: str) -> None:
    command = [tool("ffprobe"), "-v", "error", "-show_streams", "-show_format", "-of", "json", str(films / name)]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    tracks = [(track["codec_name"], track["tags"]["title"]) for track in told["streams"] if "codec_name" in track]
    video = "h264" if "h264" in name else "vp8"
    assert tracks[:3] == [(video, "camera"), ("webvtt", "faces/1 camera"), ("opus", "microphone")]
    assert not any(track["disposition"]["default"] for track in told["streams"] if track["codec_type"] == "subtitle")
    assert told["format"]["tags"]["title"] == "lab-1"
    assert float(told["format"]["duration"]) == pytest.approx(FRAMES / FPS, abs=0.1)


@pytest.mark.parametrize("name", ["talk.mkv", "talk-h264.mkv", "talk.webm"])
def test_mpv_plays_it_and_shows_no_faces_as_subtitles(films: Path, name: str) -> None:
    options = ["--no-config", "--vo=null", "--ao=null", "--ao-null-untimed", "--untimed", "--term-status-msg="]
    command = [tool("mpv"), *options, str(films / name)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    shown = [line for line in ran.stdout.splitlines() if "--vid=" in line or "--aid=" in line or "--sid=" in line]
    chosen = {line.split("--")[1][:3] for line in shown if "(+)" in line}
    assert chosen == {"vid", "aid"}, ran.stdout
    assert "rror" not in ran.stdout + ran.stderr


class _Quiet(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mkv": "video/x-matroska", ".webm": "video/webm"}

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
        """Say nothing."""


@pytest.fixture
async def address(films: Path) -> AsyncIterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(films)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    await asyncio.to_thread(server.shutdown)
    server.server_close()
    thread.join()


@pytest.mark.browser
@pytest.mark.parametrize("name", ["talk.webm", "talk.mkv"])
async def test_chromium_plays_it(address: str, name: str) -> None:
    path = tool("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(address)
        played = await page.evaluate(
            """async (source) => {
                const video = document.createElement("video");
                video.muted = true;
                video.src = source;
                const ended = new Promise((resolve, reject) => {
                    video.onended = resolve;
                    video.onerror = () => reject(new Error(video.error.message));
                });
                await video.play();
                await ended;
                return [video.videoWidth, video.duration, video.getVideoPlaybackQuality().totalVideoFrames];
            }""",
            f"{address}/{name}",
        )
        await browser.close()
    width, duration, frames = played
    assert (width, frames) == (320, FRAMES)
    assert duration == pytest.approx(FRAMES / FPS, abs=0.1)
