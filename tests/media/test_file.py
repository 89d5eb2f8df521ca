import asyncio
import contextlib
import functools
import http.server
import logging
import os
import sys
import threading
import time
import traceback
import wave
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from media_films import FPS, WIDTH, film

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media import TestPattern, VideoFile, file

COUNT = 15
CREDENTIALS = "admin:s3@cret"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of COUNT numbered frames, with frames that are shown in another order than they are stored."""
    path = tmp_path_factory.mktemp("clips") / "clip.mkv"
    pattern = TestPattern((160, 90), FPS)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"bf": "2", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        for number in range(COUNT):
            frame = pattern.draw(number)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def generator(video: VideoFile) -> AsyncGenerator[av.VideoFrame, None]:
    return cast("AsyncGenerator[av.VideoFrame, None]", aiter(video))


def number_of(frame: av.VideoFrame) -> int | None:
    return TestPattern.read_number(frame.to_ndarray()[: frame.height, : frame.width])


async def first(video: VideoFile) -> av.VideoFrame:
    async with aclosing(generator(video)) as frames:
        return await anext(frames)


def stamped(number: int) -> av.VideoFrame:
    frame = av.VideoFrame(WIDTH, 108, "yuv420p")
    frame.pts, frame.time_base = number, Fraction(1, FPS)
    return frame


@asynccontextmanager
async def served(answer: Callable[[http.server.BaseHTTPRequestHandler], object]) -> AsyncIterator[int]:
    """Answer every request, in a thread, and give the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):
                answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            await asyncio.to_thread(server.shutdown)


def shift(numbers: Sequence[int], times: Sequence[float], at: int) -> float:
    """How much later frames come from a number on than those before, seconds; a busy machine delays some, not all."""
    late = [(number, time - number / FPS) for number, time in zip(numbers, times, strict=True)]
    return min(seconds for number, seconds in late if number >= at) - min(
        seconds for number, seconds in late if number < at
    )


async def test_a_file_plays_once_in_real_time(clip: Path) -> None:
    loop = asyncio.get_running_loop()
    numbers, times = [], []
    async for frame in VideoFile(clip, loop=False):
        numbers.append(number_of(frame) or 0)
        times.append(loop.time())
        assert frame.pict_type == PictureType.NONE  # an encoder would take it for an order
    assert numbers == sorted(set(numbers))
    assert len(numbers) > COUNT / 2  # a busy machine may miss one
    assert numbers[-1] == COUNT - 1
    assert shift(numbers, times, COUNT // 2) == pytest.approx(0, abs=0.15)


async def test_a_file_loops_without_a_gap(clip: Path) -> None:
    loop = asyncio.get_running_loop()
    position, positions, times = 0, [], []
    async with aclosing(generator(VideoFile(clip))) as frames:
        async for frame in frames:
            position += ((number_of(frame) or 0) - position) % COUNT  # 1, but where a busy machine misses one
            positions.append(position)
            times.append(loop.time())
            if position >= 3 * COUNT:
                break
    assert shift(positions, times, COUNT) == pytest.approx(0, abs=0.15)
    assert shift(positions, times, 2 * COUNT) == pytest.approx(0, abs=0.15)


async def test_a_slow_consumer_misses_frames_instead_of_getting_them_late(clip: Path) -> None:
    async with aclosing(generator(VideoFile(clip))) as frames:
        assert number_of(await anext(frames)) == 0
        await asyncio.sleep(10 / FPS)  # a busy machine may be four frames late, or early by as many
        number = number_of(await anext(frames))
        assert number is not None
        assert 6 <= number < COUNT


async def test_each_iteration_begins_anew(clip: Path) -> None:
    file = VideoFile(str(clip))
    assert [number_of(await first(file)) for _ in range(2)] == [0, 0]


async def test_closing_leaves_no_thread_behind(clip: Path) -> None:
    before = set(threading.enumerate())
    await first(VideoFile(clip))
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()


async def test_a_url_plays(clip: Path) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    handler = functools.partial(Quiet, directory=str(clip.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            frame = await first(VideoFile(f"http://127.0.0.1:{server.server_port}/{clip.name}"))
        finally:
            server.shutdown()
            thread.join()
    assert number_of(frame) == 0


def test_a_missing_file_is_told_at_once() -> None:
    with pytest.raises(SourceError, match=r"^there is no file /nowhere/clip.mp4; check the path$"):
        VideoFile("/nowhere/clip.mp4")


async def test_a_file_that_is_no_video_is_told(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no video, " * 100)
    with pytest.raises(SourceError, match=r"^[^\n]*notes.txt is no video that FFmpeg can read; [^\n]*$"):
        await first(VideoFile(path))


async def test_a_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^cannot open [^\n]*$"):
        await first(VideoFile(tmp_path))


async def test_a_file_without_video_is_told(tmp_path: Path) -> None:
    path = tmp_path / "voice.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    with pytest.raises(SourceError, match=r"voice.wav has no video stream; [^\n]*$"):
        await first(VideoFile(path))


async def test_a_damaged_picture_is_missing_and_the_film_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Pictures in PNG, of which the decoder checks each; the third is damaged.
    path = tmp_path / "broken.mov"
    pattern = TestPattern((160, 90), 10)
    with av.open(path, "w") as container:
        stream = container.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 90, "rgb24"
        for number in range(6):
            frame = pattern.draw(number).reformat(format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
    data = path.read_bytes()
    third = [at for at in range(len(data)) if data.startswith(b"IDAT", at)][2]
    path.write_bytes(data[: third + 20] + bytes(200) + data[third + 220 :])
    numbers = [TestPattern.read_number(frame.to_ndarray()) or 0 async for frame in VideoFile(path, loop=False)]
    assert numbers == sorted({*numbers} - {2})  # a busy machine may miss others, but not the last
    assert (numbers[0], numbers[-1]) == (0, 5)
    assert "a picture of" in caplog.text


async def test_a_server_that_is_not_there_is_told_without_the_password() -> None:
    with pytest.raises(SourceError, match=r"^cannot open http://127.0.0.1:1/a.mp4: Connection refused; [^\n]*$"):
        await first(VideoFile("http://me:secret@127.0.0.1:1/a.mp4"))


async def test_a_still_picture_is_a_video_too(tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    path.write_bytes(b"")
    frame = TestPattern((160, 90)).draw(7).reformat(format="rgb24")
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 160, 90, "rgb24", Fraction(1, 25)
    path.write_bytes(b"".join(bytes(packet) for packet in codec.encode(frame)))
    async with aclosing(generator(VideoFile(path))) as frames:
        for _ in range(3):
            assert TestPattern.read_number((await anext(frames)).to_ndarray(format="rgb24")) == 7


# Damage, pauses, and what comes late


def times_shown(path: Path, **options: Any) -> list[float]:
    """When the pictures of a film are due, in seconds after the first, on a machine that is quick enough."""
    clock = file._Clock(options.get("fps"))
    now, due = 100.0, []
    with av.open(path) as container:
        stream = container.streams.video[0]
        clock.go_on(container, stream, now)
        for frame in container.decode(stream):
            late = clock.take(frame, now, live=False)
            now = max(now, now - late)
            if clock.shows(late, now):
                due.append(round(now - 100, 3))
    return due


def test_a_pause_by_the_timestamps_is_kept(tmp_path: Path) -> None:
    path = film(tmp_path / "pause.mkv", count=4, times=[0, FPS, 16 * FPS, 17 * FPS])
    assert times_shown(path) == [0, 1, 16, 17]


def test_pictures_beyond_a_rate_are_left_out(tmp_path: Path) -> None:
    path = film(tmp_path / "quick.mkv", count=50)
    assert times_shown(path, fps=5) == pytest.approx([number / 5 for number in range(10)], abs=1 / FPS)


def test_a_rate_above_its_own_changes_nothing(tmp_path: Path) -> None:
    assert len(times_shown(film(tmp_path / "slow.mkv", count=10), fps=60)) == 10


def test_after_standing_still_a_film_goes_on_at_its_pace_where_the_clock_is() -> None:
    clock = file._Clock(None)
    shown = []
    now = 0.0
    for number in range(500):
        late = clock.take(stamped(number), now, live=False)
        now = max(now, now - late)
        if clock.shows(late, now):
            shown.append((now, number))
        if number == 100:
            now += 8.0  # the process was stopped
    after = [number for _, number in shown if number > 101]
    assert 101 + 8 * FPS - 5 < after[0] <= 101 + 8 * FPS
    assert after == list(range(after[0], 500))
    assert all(at == pytest.approx(number / FPS, abs=0.15) for at, number in shown if number != 101)


def test_a_decoder_that_is_too_slow_leaps_to_pictures_that_are_not_late(tmp_path: Path) -> None:
    # Every picture takes twice as long as it lasts, and one in ten needs no other.
    path = film(tmp_path / "slow.mkv", count=500, options={"g": "10", "keyint_min": "10", "preset": "ultrafast"})
    clock, now, lateness = file._Clock(None), 0.0, []
    with av.open(path) as container:
        stream = container.streams.video[0]
        haste = file._Haste(stream)
        clock.go_on(container, stream, now)
        for packet in container.demux(stream):
            if haste.skips(packet):
                continue
            for frame in stream.decode(packet):
                now += 2 / FPS
                late = clock.take(frame, now, live=False)
                haste.note(late, now)
                now = max(now, now - late)
                lateness.append(late)
    assert now == pytest.approx(500 / FPS, abs=2)
    assert max(lateness) < 3


@pytest.mark.parametrize("name", ["2025-11-27T10:30:00.mp4", "a:b.mp4", "talk [final].mp4", "-.mp4"])
async def test_a_file_is_opened_whatever_its_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film(tmp_path / "film.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert (await first(VideoFile(name))).width == WIDTH


async def test_a_film_comes_from_standard_input(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mkv")
    script = (
        "import asyncio, contextlib\n"
        "from synopticon_rtc import VideoFile\n"
        "async def main():\n"
        "    async for frame in VideoFile('-', loop=False):\n"
        "        print(frame.width, frame.height)\n"
        "asyncio.run(main())\n"
    )
    with path.open("rb") as stdin:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdin=stdin, stdout=PIPE)
        output, _ = await process.communicate()
    assert output.split()[:2] == [b"192", b"108"]


async def test_a_server_that_says_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "_TIMEOUT", 0.2)
    given_up = threading.Event()
    async with served(lambda _: bool(given_up.wait(20))) as port:
        with pytest.raises(SourceError, match=r"nothing came for 0\.2 s; check"):
            await first(VideoFile(f"http://127.0.0.1:{port}/live"))
        given_up.set()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no path there")
async def test_a_film_whose_index_is_at_its_end_is_told_what_a_pipe_needs(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    noise = np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8)  # more than FFmpeg keeps of a pipe
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
        for _ in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise)))
        container.mux(stream.encode())

    def write() -> None:
        with contextlib.suppress(BrokenPipeError):
            path.write_bytes((tmp_path / "film.mp4").read_bytes())

    writing = asyncio.create_task(asyncio.to_thread(write))
    with pytest.raises(SourceError, match=r"not one picture in .*-movflags \+faststart"):
        await first(VideoFile(path, loop=False))
    await writing


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no path there")
async def test_a_film_from_a_pipe_plays_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    data = film(tmp_path / "film.mkv", count=3).read_bytes()
    writing = asyncio.create_task(asyncio.to_thread(path.write_bytes, data))
    assert len([frame async for frame in VideoFile(path)]) == 3
    await writing


async def test_pixels_of_another_shape_from_a_moment_on_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "television.ts"
    parts = [film(tmp_path / f"{n}.ts", count=10, aspect=aspect) for n, aspect in enumerate([None, Fraction(4, 3)])]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    sizes = [(frame.width, frame.height) async for frame in VideoFile(path, loop=False)]
    assert (sizes[0], sizes[-1]) == ((192, 108), (256, 108))


async def test_a_format_that_ffmpeg_does_not_have_is_told(clip: Path) -> None:
    with pytest.raises(SourceError, match=r"^cannot open [^\n]*clip.mkv: [^\n]*'mpgets'[^\n]*$"):
        await first(VideoFile(clip, format="mpgets"))


@pytest.mark.parametrize("status", [404, 401, 403, 500])
async def test_what_a_server_answers_is_told_without_the_password(status: int) -> None:
    async with served(lambda handler: handler.send_error(status)) as port:
        with pytest.raises(SourceError) as caught:
            await first(VideoFile(f"http://{CREDENTIALS}@127.0.0.1:{port}/none.mp4"))
    told = "".join(traceback.format_exception(caught.value))
    assert f"cannot open http://127.0.0.1:{port}/none.mp4: " in str(caught.value)
    assert not any(part in told for part in ("admin", "s3", "cret@"))


async def test_a_live_source_that_breaks_off_is_asked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "_PAUSES", (0.05,))
    caplog.set_level(logging.INFO)
    data = film(tmp_path / "live.ts", count=10, codec="mpeg2video").read_bytes()
    asked = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(time.monotonic())
        if len(asked) == 2:
            handler.send_error(503)
            return
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(data)

    async with served(answer) as port, aclosing(generator(VideoFile(f"http://127.0.0.1:{port}/live"))) as frames:
        while len(asked) < 4:
            assert (await anext(frames)).width == WIDTH
    assert "is asked for again until it is back" in caplog.text
    assert "is back" in caplog.text


async def test_nothing_old_is_shown_when_a_live_source_that_fell_silent_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "_TIMEOUT", 1.0)
    monkeypatch.setattr(file, "_PAUSES", (0.2,))
    path = film(tmp_path / "live.ts", count=250, options={"tune": "zerolatency"})
    with av.open(path) as container:
        *_, last = container.decode(video=0)
    data, again = path.read_bytes(), threading.Event()
    asked = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(handler)
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(data)
        if len(asked) == 1:
            again.wait(10)  # it is silent, but there
        else:
            again.set()

    times = []
    async with served(answer) as port, aclosing(generator(VideoFile(f"http://127.0.0.1:{port}/live"))) as frames:
        async for frame in frames:
            if len(asked) > 1:
                break
            times.append(frame.time)
    assert last.time is not None
    assert max(time or 0.0 for time in times) < last.time


async def test_a_live_source_is_not_paced_by_its_own_timestamps(tmp_path: Path) -> None:
    # 60 pictures a second, with timestamps as if they were 25.
    data = film(tmp_path / "live.mjpeg", codec="mjpeg", count=120).read_bytes()
    pictures = [b"\xff\xd8" + each for each in data.split(b"\xff\xd8") if each]
    sent: list[float] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        for picture in pictures:
            handler.wfile.write(
                b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(picture), picture)
            )
            sent.append(time.monotonic())
            time.sleep(1 / 60)

    async with served(answer) as port, aclosing(generator(VideoFile(f"http://127.0.0.1:{port}/live"))) as frames:
        async for _ in frames:
            if len(sent) >= 110:
                break
    assert time.monotonic() - sent[109] < 1.5  # by its timestamps it would be 2.6 s late


@pytest.mark.parametrize("start", [0, 100])
def test_every_picture_of_a_film_comes_at_once_and_in_its_time(start: int, tmp_path: Path) -> None:
    path = film(tmp_path / "film.ts", count=50, times=[start + number + 50 * (number > 20) for number in range(50)])
    begun = time.monotonic()
    pictures = list(VideoFile(path, fps=5).pictures())
    assert time.monotonic() - begun < 3  # the film takes four seconds
    assert [picture.time for picture in pictures] == [(number + 50 * (number > 20)) / FPS for number in range(50)]
    assert VideoFile(path).length == pytest.approx(100, abs=3)  # by its duration
    assert VideoFile(film(tmp_path / "film.mp4", count=50)).length == 50


def test_what_has_no_end_is_no_film(tmp_path: Path) -> None:
    data, pipe = film(tmp_path / "film.ts", count=50).read_bytes(), tmp_path / "pipe.ts"
    os.mkfifo(pipe)

    def play() -> None:
        with contextlib.suppress(BrokenPipeError):
            pipe.write_bytes(data)

    writer = threading.Thread(target=play)
    writer.start()
    with pytest.raises(SourceError, match="is live, and has no end"):
        next(VideoFile(pipe).pictures())
    writer.join()
