"""WHIP and WHEP with ends that are not ours: FFmpeg, Chromium, a server of Pion's, and the programs of docs/whip.md."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from browsers import BROWSERS, until_told
from foreign import GO_PATH, STACKS, Program, missing, running
from waiting import until

from synopticon_rtc import Broadcaster, Face, Moment, Receiver, SignalingServer, TestPattern
from synopticon_rtc.engines import as_engine
from synopticon_rtc.faces.wire import FacesMessage
from synopticon_rtc.ingest import Ingest
from synopticon_rtc.rtc import EncodedVideoFrame, PeerConnection

DOCUMENT = (Path(__file__).parents[2] / "docs" / "whip.md").read_text()
needs_pion = pytest.mark.skipif(bool(missing("pion")), reason=missing("pion") or "-")
needs_whip = pytest.mark.skipif("whip" not in av.formats_available, reason="PyAV's FFmpeg has no muxer for WHIP")


def program(language: str) -> str:
    """Return the program in this language that docs/whip.md has."""
    found = re.search(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0, ingest=Ingest()) as server:
        yield server


async def first(receiver: Receiver[Any], count: int = 1) -> list[Moment[Any]]:
    """Return the next moments."""
    found = []
    async for moment in receiver:
        found.append(moment)
        if len(found) == count:
            break
    return found


class Counts:
    """Finds a face in each frame of a test pattern, at a place that tells the number of the frame."""

    async def detect(self, frame: av.VideoFrame) -> tuple[Face, ...]:
        return (Face(np.full((478, 3), place_of(frame), np.float32), {}),)


def place_of(frame: av.VideoFrame) -> float:
    """Return where the face of a frame is."""
    number = TestPattern.read_number(frame.to_ndarray(format="rgb24"))
    assert number is not None
    return number % 100 / 100


# FFmpeg

FFMPEG = """
import itertools, sys, time
from fractions import Fraction
import av, numpy as np
url, certificate, key = sys.argv[1:]
with av.open(url, "w", format="whip", options={"cert_file": certificate, "key_file": key}) as sink:
    options = {"preset": "ultrafast", "tune": "zerolatency", "g": "25", "bf": "0"}
    video = sink.add_stream("libx264", rate=25, options=options)
    video.width, video.height, video.pix_fmt, video.codec_context.profile = 320, 240, "yuv420p", "Baseline"
    sound = sink.add_stream("libopus", rate=48000)
    sound.layout, begun = "stereo", time.monotonic()
    for number in itertools.count():
        frame = av.VideoFrame.from_ndarray(np.full((360, 320), 128, np.uint8), format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, 25)
        sink.mux(video.encode(frame))
        for part in (2 * number, 2 * number + 1):
            samples = (np.sin((part * 960 + np.arange(960)) * 2 * np.pi * 440 / 48000) * 9000).astype(np.int16)
            block = av.AudioFrame.from_ndarray(samples.repeat(2)[None], format="s16", layout="stereo")
            block.rate, block.pts, block.time_base = 48000, part * 960, Fraction(1, 48000)
            sink.mux(sound.encode(block))
        if number / 25 > 4:
            break
        time.sleep(max(0, begun + number / 25 - time.monotonic()))
"""


@needs_whip
async def test_ffmpeg_publishes_sound_and_video_into_a_room(server: SignalingServer, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    openssl = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=me"
    command = [*openssl.split(), "-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    url = f"http://127.0.0.1:{server.port}/whip/lab/ff"
    publisher = await asyncio.create_subprocess_exec(sys.executable, "-c", FFMPEG, url, str(certificate), str(key))
    try:
        async with Receiver(f"{server.url}?room=lab", broadcaster="ff", timeout=30) as receiver:
            (moment, *_) = await first(receiver, 5)
            assert (moment.frame.width, moment.frame.height) == (320, 240)
            async for sound in receiver.audio():
                if np.abs(sound.samples).max() > 0.1:
                    break
        assert await publisher.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            publisher.kill()
    await until(lambda: not server.sessions)  # by its DELETE


# Browsers


@pytest.mark.browser
@pytest.mark.long
@pytest.mark.parametrize("browser_name", BROWSERS)
async def test_a_page_publishes_by_the_program_of_the_document_and_another_one_watches(
    server: SignalingServer, browser_name: str
) -> None:
    path, browsing = BROWSERS[browser_name]
    if not path.exists():
        pytest.skip(f"needs {browser_name} at {path}")
    base = f"http://127.0.0.1:{server.port}"
    watching = "(() => { const video = document.querySelector('video'); return video && video.videoWidth; })()"
    async with browsing() as browser, browser(f"{base}/nothing-here") as page, browser(f"{base}/nothing") as other:
        for tab in (page, other):
            await tab(f"window.eval({program('js')!r}), 0")
        await page(
            "navigator.mediaDevices.getUserMedia({ video: true, audio: true })"
            f".then((media) => publish('{base}/whip/lab/page', media)).then((end) => (window.end = end), "
            "(error) => (window.failed = String(error))), 0"
        )
        async with Receiver(f"{server.url}?room=lab", broadcaster="page", timeout=30) as receiver:
            await first(receiver, 5)
            assert sorted(receiver.streams) == ["camera", "microphone"]
        await other(
            "document.body.append(Object.assign(document.createElement('video'), { autoplay: true, muted: true })), "
            f"watch('{base}/whep/lab/page', document.querySelector('video')).then((end) => (window.end = end), "
            "(error) => (window.failed = String(error))), 0"
        )
        assert await until_told(lambda: other(watching))
        for tab in (other, page):
            assert await tab("window.failed ?? null") is None
            await tab("window.end().then(() => (window.ended = true)), 0")
            await until_told(lambda tab=tab: tab("window.ended ?? false"))  # type: ignore[misc]
        await until(lambda: not server.sessions)


# Pion


@contextlib.asynccontextmanager
async def pion(tmp_path: Path, *options: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Run the server of stacks/whip; give its address, and what it tells."""
    binary = tmp_path / "whip"
    if not binary.exists():
        environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(GO_PATH)}
        command = ["go", "build", "-o", str(binary), str(STACKS / "whip" / "main.go")]
        await asyncio.to_thread(subprocess.run, command, env=environment, check=True)
    process = await asyncio.create_subprocess_exec(binary, *options, stdout=asyncio.subprocess.PIPE)
    told: dict[str, Any] = {}

    async def read() -> None:
        assert process.stdout
        async for line in process.stdout:
            told.update(json.loads(line))

    reading = asyncio.create_task(read())
    try:
        await until(lambda: "port" in told)
        yield f"http://127.0.0.1:{told['port']}", told
    finally:
        process.kill()
        await process.wait()
        await reading


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whip")


@needs_pion
@pytest.mark.parametrize("options", [(), ("lite",)])
async def test_faces_cross_a_server_that_knows_nothing_of_them(workshop: Path, options: tuple[str, ...]) -> None:
    async with pion(workshop, *options) as (base, told), SignalingServer(port=0) as own:
        # By a redirect, and with RTP timestamps that the server shifts.
        engine = as_engine(f"whip+{base}/moved")
        async with Broadcaster(own.url, TestPattern((640, 360)), faces=Counts(), publish_to=[engine]) as sender:
            await until(lambda: told.get("video"))
            assert told["video"] == "video/H264"
            async with Receiver(f"whep+{base}/whep", timeout=20) as receiver:
                moments = await first(receiver, 60)
            assert sender.peers == (engine.url,)
        found = [moment for moment in moments[10:] if moment.detected]
        assert len(found) >= 45
        for moment in found:
            assert moment.faces[0].landmarks[0, 0] == pytest.approx(place_of(moment.frame), abs=0.004)
        await until(lambda: "deleted" in told)


@needs_pion
async def test_a_server_that_refuses_or_goes_disturbs_nobody(workshop: Path) -> None:
    async with SignalingServer(port=0) as own, contextlib.AsyncExitStack() as stack:
        async with pion(workshop) as (base, _):
            engines = [as_engine(f"whip+{base}/whip"), as_engine(f"whip+{base}/whip?again", token="wrong")]  # noqa: S106
            sender = Broadcaster(own.url, TestPattern((320, 240)), publish_to=engines)
            refused = asyncio.create_task(_until(sender, "refused"))
            await stack.enter_async_context(sender)
            await until(lambda: sender.peers)
            assert "HTTP 401 Unauthorized: that token is wrong" in await refused
        async with Receiver(own.url, timeout=20) as receiver:
            await first(receiver)
            await until(lambda: len(sender.peers) == 1)
            await first(receiver, 10)


async def _until(broadcaster: Broadcaster, state: str) -> str:
    """Wait for news of a receiver, and return the words."""
    async for event in broadcaster.events:
        if event.state == state:
            return event.reason
    return ""


# GStreamer: Debian has no element of WHIP or WHEP, so its webrtcbin with a few lines that speak HTTP stands in for one

needs_gstreamer = pytest.mark.skipif(bool(missing("gstreamer")), reason=missing("gstreamer") or "-")


def webrtcbin(url: str, role: str, codec: str) -> contextlib.AbstractAsyncContextManager[Program]:
    return running([sys.executable, str(STACKS / "gstreamer.py"), url, role, codec, "-"])


@needs_gstreamer
@pytest.mark.long
@pytest.mark.parametrize("codec", ["h264", "vp8"])
async def test_gstreamer_publishes_video_and_faces_into_a_room_and_another_one_watches(
    server: SignalingServer, codec: str
) -> None:
    base = f"http://127.0.0.1:{server.port}"
    async with webrtcbin(f"{base}/whip/lab/gst", "broadcast", codec) as publisher:
        async with Receiver(f"{server.url}?room=lab", broadcaster="gst", timeout=60) as receiver:
            async for moment in receiver:
                assert (moment.frame.width, moment.frame.height) == (320, 240)
                if moment.faces:
                    break
            async with webrtcbin(f"{base}/whep/lab/gst", "receive", codec) as player:
                await player.until("frames", most=10)
                assert player.report["size"] == [320, 240]
                player.process.terminate()
                await player.until("deleted")
        publisher.process.terminate()
        await publisher.until("deleted")
    await until(lambda: not server.sessions)


# PyAV


async def test_the_reader_of_the_document_finds_each_face_with_its_frame(
    server: SignalingServer, tmp_path: Path
) -> None:
    """Somebody watches by WHEP who takes video alone, and writes down what comes."""
    frames: list[EncodedVideoFrame] = []
    player = PeerConnection(on_encoded=lambda _, frame: frames.append(frame))
    player.receive()
    try:
        async with Broadcaster(
            f"{server.url}?room=lab", TestPattern((320, 240)), faces=Counts(), name="cam", codecs=("h264", "vp8")
        ):
            offer = (await player.offer()).replace("VP8/90000", "VP9/90000")
            answer = await asyncio.to_thread(_post, f"http://127.0.0.1:{server.port}/whep/lab/cam", offer)
            await player.set_answer(answer)
            await until(lambda: len(frames) >= 40)
    finally:
        await player.close()
    film = tmp_path / "film.h264"
    film.write_bytes(b"".join(frame.data for frame in frames))
    reader: dict[str, Any] = {}
    exec(program("python"), reader)  # noqa: S102 - it is the document's
    count = 0
    with av.open(film, format="h264") as source:
        for packet, frame in zip(source.demux(video=0), frames, strict=False):
            for ago, message in reader["faces_in"](packet):
                assert isinstance(message, FacesMessage)
                times = [one.rtp_timestamp for one in frames]
                count += (frame.rtp_timestamp - ago) % 2**32 in times
    assert count >= 30


def _post(url: str, offer: str) -> str:
    import urllib.request  # noqa: PLC0415 - for this alone

    request = urllib.request.Request(url, offer.encode(), {"Content-Type": "application/sdp"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - our own server
        text: str = answer.read().decode()
        return text
