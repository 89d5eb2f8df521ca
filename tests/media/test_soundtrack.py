import asyncio
import statistics
import time
from contextlib import aclosing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from synopticon_rtc.basics import clock
from synopticon_rtc.errors import SourceError
from synopticon_rtc.media import TestPattern, VideoFile, frames_of
from synopticon_rtc.media.sound import RATE, Sound, Tone, blocks_of, framed
from synopticon_rtc.media.soundtrack import Soundtrack, Timeline

FPS = 25


def film(path: Path, seconds: float = 1.0, *, pictures: bool = True, sound: bool = True, codec: str = "aac") -> Path:
    """Write a film whose pictures tell their numbers, and whose tone tells the time within it."""
    pattern = TestPattern((160, 90), FPS)
    with av.open(path, "w") as container:
        video: Any = container.add_stream("libx264", rate=FPS) if pictures else None
        audio: Any = container.add_stream(codec, rate=RATE) if sound else None
        if audio is not None:
            audio.layout = "mono"
        if video is not None:
            video.width, video.height, video.pix_fmt = 160, 90, "yuv420p"
            for number in range(round(seconds * FPS)):
                frame = pattern.draw(number)
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if audio is not None:
            resampler = av.AudioResampler(
                audio.codec_context.format, "mono", RATE, audio.codec_context.frame_size or 960
            )
            piece = framed(Tone().samples(0, round(seconds * RATE))[:, np.newaxis])
            piece.pts, piece.time_base = 0, Fraction(1, RATE)
            for part in [*resampler.resample(piece), *resampler.resample(None)]:
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
    return path


def begun(block: Sound) -> float | None:
    """Return when the second of the film began that a block belongs to, up to whole seconds."""
    read = Tone.read_time(block.frame.to_ndarray(), 0.0)
    return None if read is None else (block.captured - read) % 1


async def sounds(source: Any, seconds: float) -> list[Sound]:
    got: list[Sound] = []
    async with aclosing(blocks_of(source)) as blocks:
        async for block in blocks:
            got.append(block)
            if block.captured - got[0].captured >= seconds:
                break
    return got


async def pictures(source: VideoFile, seconds: float) -> list[tuple[float, int]]:
    got: list[tuple[float, int]] = []
    async with aclosing(frames_of(source)) as frames:
        async for frame in frames:
            number = TestPattern.read_number(frame.to_ndarray(format="gray"))
            assert number is not None
            got.append((clock.now(), number))
            if got[-1][0] - got[0][0] >= seconds:
                break
    return got


def apart(one: float, other: float) -> float:
    """Return the distance between two times within a second."""
    return abs((one - other + 0.5) % 1 - 0.5)


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
async def test_sound_and_pictures_are_in_step_through_repetitions(tmp_path: Path, name: str) -> None:
    source = VideoFile(film(tmp_path / name))
    heard, seen = await asyncio.gather(sounds(source.sound, 1.5), pictures(source, 1.7))
    picture = statistics.median((at - number / FPS) % 1 for at, number in seen)
    begins = [begin for block in heard if (begin := begun(block)) is not None]
    assert len(begins) > 50
    assert statistics.median(apart(begin, picture) for begin in begins) < 0.03


async def test_sound_plays_alone_where_nobody_sees_the_pictures(tmp_path: Path) -> None:
    heard = await sounds(VideoFile(film(tmp_path / "sound.mka", pictures=False, codec="flac")).sound, 1.5)
    begins = [begin for block in heard if (begin := begun(block)) is not None]
    assert statistics.median(apart(begin, begins[20]) for begin in begins) < 0.005


async def test_without_repetition_it_ends(tmp_path: Path) -> None:
    heard = await sounds(VideoFile(film(tmp_path / "film.mkv", 0.3), loop=False).sound, 5)
    assert 10 <= len(heard) <= 18


async def test_it_begins_where_the_pictures_are(tmp_path: Path) -> None:
    path, timeline = film(tmp_path / "sound.mka", 5.0, pictures=False, codec="flac"), Timeline()
    timeline.place = 0, time.monotonic() - 3
    expected = clock.now() - 3
    block, *_ = await sounds(Soundtrack(lambda: av.open(path), timeline, loop=True), 0.0)
    assert 2.9 < block.captured - expected < 4.9
    begin = begun(block)
    assert begin is not None
    assert apart(begin, expected % 1) < 0.005


async def test_what_has_no_sound_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"silent.mkv has no sound"):
        await sounds(VideoFile(film(tmp_path / "silent.mkv", sound=False)).sound, 1)
    with pytest.raises(SourceError, match=r"standard input cannot be had"):
        await sounds(VideoFile("-").sound, 1)
