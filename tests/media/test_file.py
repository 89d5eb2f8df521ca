import asyncio
import functools
import http.server
import threading
import wave
from collections.abc import AsyncGenerator
from contextlib import aclosing
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import pytest
from av.video.frame import PictureType

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media import TestPattern, VideoFile

FPS = 25
COUNT = 15


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


def generator(file: VideoFile) -> AsyncGenerator[av.VideoFrame, None]:
    return cast("AsyncGenerator[av.VideoFrame, None]", aiter(file))


def number_of(frame: av.VideoFrame) -> int | None:
    return TestPattern.read_number(frame.to_ndarray()[: frame.height, : frame.width])


async def first(file: VideoFile) -> av.VideoFrame:
    async with aclosing(generator(file)) as frames:
        return await anext(frames)


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
    assert times[-1] - times[0] == pytest.approx((COUNT - 1 - numbers[0]) / FPS, abs=0.15)


async def test_a_file_loops_without_a_gap(clip: Path) -> None:
    loop = asyncio.get_running_loop()
    start, position = 0.0, 0
    async with aclosing(generator(VideoFile(clip))) as frames:
        async for frame in frames:
            start = start or loop.time()
            step = ((number_of(frame) or 0) - position) % COUNT  # 1, but where a busy machine misses one
            position += step
            if position >= 2 * COUNT + 3:
                break
    assert loop.time() - start == pytest.approx(position / FPS, abs=0.15)


async def test_a_slow_consumer_misses_frames_instead_of_getting_them_late(clip: Path) -> None:
    async with aclosing(generator(VideoFile(clip))) as frames:
        assert number_of(await anext(frames)) == 0
        await asyncio.sleep(0.3)
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


async def test_a_file_that_breaks_off_is_told(tmp_path: Path) -> None:
    # Pictures in PNG, of which the decoder checks each; the third is damaged.
    path = tmp_path / "broken.mov"
    pattern = TestPattern((160, 90), 50)
    with av.open(path, "w") as container:
        stream = container.add_stream("png", rate=50)
        stream.width, stream.height, stream.pix_fmt = 160, 90, "rgb24"
        for number in range(4):
            frame = pattern.draw(number).reformat(format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 50)
            container.mux(stream.encode(frame))
    data = path.read_bytes()
    third = [at for at in range(len(data)) if data.startswith(b"IDAT", at)][2]
    path.write_bytes(data[: third + 20] + bytes(200) + data[third + 220 :])
    frames = generator(VideoFile(path))
    assert TestPattern.read_number((await anext(frames)).to_ndarray()) == 0
    assert TestPattern.read_number((await anext(frames)).to_ndarray()) == 1
    with pytest.raises(SourceError, match=r"broken.mov breaks off after 0.0 s: [^\n]*$"):
        await anext(frames)


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
