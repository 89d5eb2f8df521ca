import asyncio
import contextlib
import itertools
import random
import re
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reel import FPS, Named, Studio, encoded, ours, spoken, timestamp, when

from synopticon_rtc import EncodedVideoFrame, Moment, Recording, TestPattern
from synopticon_rtc.detecting.detection import Detection
from synopticon_rtc.errors import RecordingError, SourceError
from synopticon_rtc.recording.reader import Reader
from synopticon_rtc.recording.recording import find_recording


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of a camera with faces, a screen and sound."""
    studio = Studio(tmp_path_factory.mktemp("film"))
    screen, microphone = Named("screen", hint="screen"), Named("microphone", "audio", "microphone")
    studio.published += [screen, microphone]
    for number in range(120):
        studio.frame(number)
        studio.frame(number, screen, codec="h264")
        studio.faces(number)
        for packet in range(number * 50 // FPS, (number + 1) * 50 // FPS):
            studio.sound(microphone, packet)
    studio.tape.close()
    return studio.files[0]


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without sound and screen, by a process that was killed after a hundred frames."""
    folder = tmp_path_factory.mktemp("cut")
    program = f"""
import os, signal
from collections.abc import AsyncGenerator
from pathlib import Path
from reel import Studio
studio = Studio(Path({str(folder)!r}))
studio.play(range(100))
os.kill(os.getpid(), signal.SIGKILL)
"""
    here = Path(__file__).parent
    environment = {"PYTHONPATH": f"{here}:{here.parents[1]}"}
    killed = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert killed.returncode == -9
    return folder / "part-1.mkv"


async def moments(path: Path, start: float = 0.0, name: str = "camera") -> list[Moment[Any]]:
    async with Recording(path) as recording:
        recording.seek(start)
        return [moment async for moment in recording.moments(name)]


def numbers(moments: list[Moment[Any]]) -> list[int | None]:
    return [TestPattern.read_number(moment.frame.to_ndarray()[: moment.frame.height]) for moment in moments]


async def test_frames_that_are_not_decoded_are_what_their_encoder_made(film: Path) -> None:
    for name, codec in (("camera", "vp8"), ("screen", "h264")):
        async with Recording(film, decode=False) as recording:
            frames = [moment.frame async for moment in recording.moments(name)]
        made = encoded("vp8" if codec == "vp8" else "h264", (320, 240), 120)
        assert all(isinstance(frame, EncodedVideoFrame) and frame.codec == codec for frame in frames)
        assert [frame.keyframe for frame in frames] == [keyframe for _, keyframe in made]
        if codec == "vp8":
            assert [frame.data for frame in frames] == [data for data, _ in made]


async def test_sound_is_what_its_encoder_made(film: Path) -> None:
    async with Recording(film) as recording:
        sounds = [moment async for moment in recording.audio()]
    assert len(sounds) == 200 == 2 * len(spoken(100))
    assert max(abs(sounds[50].samples)) == pytest.approx(0.5, abs=0.1)


async def test_all_streams_can_be_had_at_once_in_the_order_of_the_file(film: Path) -> None:
    async with Recording(film) as recording:
        played = [item async for item in recording.played()]
    assert {item.stream for item in played} == {"camera", "screen", "microphone"}
    assert max(abs(late.time - early.time) for early, late in itertools.pairwise(played)) < 1.5


async def test_it_can_be_read_from_any_time_on(film: Path) -> None:
    found = await moments(film, 2.5)
    assert numbers(found) == list(range(75, 120))
    assert [moment.faces[0].id for moment in found] == list(range(75, 120))
    assert await moments(film, 60) == []


@pytest.mark.long
async def test_each_stream_begins_there_however_long_ago_its_last_keyframe_was(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    screen = Named("screen", hint="screen")
    studio.published.append(screen)
    for number, (data, keyframe) in enumerate(encoded("vp8", (320, 240), 120, 1000)):
        studio.frame(number)
        frame = EncodedVideoFrame("vp8", data, timestamp(number), keyframe, ours(number))
        studio.tape.video(screen, frame, when(number), ours(number))
    studio.tape.close()
    assert len(await moments(studio.files[0], 2.5, "screen")) == 45
    async with Recording(studio.files[0], decode=False) as recording:
        recording.seek(2.5)
        assert {item.time: item.stream async for item in recording.played()}.keys() == {
            round(number * 1000 / FPS) / 1000 for number in range(75, 120)
        }


@pytest.mark.parametrize("start", [4.0, 5.0, 1e6, 1e15, float("inf")])
async def test_behind_its_end_there_is_nothing(film: Path, start: float) -> None:
    assert await moments(film, start) == []


def test_no_recording_begins_before_its_beginning(film: Path) -> None:
    with pytest.raises(ValueError, match="begins at 0 seconds"):
        Recording(film).seek(-1)


async def test_paced_moments_come_when_they_are_due(film: Path) -> None:
    loop = asyncio.get_running_loop()
    async with Recording(film, paced=True) as recording:
        recording.seek(3.5)
        begun = loop.time()
        came = [loop.time() - begun async for _ in recording]
    assert came[-1] == pytest.approx(14 / FPS, abs=0.4)


async def test_iterations_run_beside_one_another(film: Path) -> None:
    async with Recording(film) as recording:
        pairs = [
            (one.rtp_timestamp, other.rtp_timestamp)
            async for one, other in _both(recording.moments("camera"), recording.moments("camera"))
        ]
    assert len(pairs) == 120
    assert all(one == other for one, other in pairs)


async def _both(
    one: AsyncGenerator[Moment[Any], None], other: AsyncGenerator[Moment[Any], None]
) -> AsyncGenerator[tuple[Moment[Any], Moment[Any]], None]:
    async for each in one:
        yield each, await anext(other)
    await other.aclose()


async def test_a_stream_that_is_not_there_is_an_error_that_names_those_that_are(film: Path) -> None:
    async with Recording(film) as recording:
        with pytest.raises(KeyError, match=r"no video 'microphone' is in .*; there is 'camera', 'screen'"):
            await anext(recording.moments("microphone"))


async def test_who_waits_for_a_moment_no_more_leaves_nothing_behind(film: Path) -> None:
    async with Recording(film) as recording:
        for _ in range(5):
            waiting = asyncio.create_task(anext(recording.moments("camera")))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
    for thread in threading.enumerate():
        if thread.name == "frames":
            thread.join(5)
            assert not thread.is_alive()


async def test_a_recording_that_was_left_is_read_no_more(film: Path) -> None:
    async with Recording(film) as recording:
        pass
    with pytest.raises(RuntimeError, match="not open"):
        await anext(recording.moments("camera"))


# What happened to a file


async def test_a_killed_process_loses_less_than_a_second(cut_off: Path) -> None:
    found = await moments(cut_off)
    assert numbers(found) == list(range(len(found)))
    assert len(found) > 100 - FPS
    assert Recording(cut_off).duration is None
    assert numbers(await moments(cut_off, 1.0)) == list(range(30, len(found)))


@settings(max_examples=25)
@given(where=st.floats(0.02, 1))
def test_a_file_that_was_cut_anywhere_plays_up_to_there(film: Path, where: float) -> None:
    data = film.read_bytes()
    head = data.index(b"\x1f\x43\xb6\x75")  # of the first cluster
    cut = film.with_name("cut.mkv")
    cut.write_bytes(data[: head + round(where * (len(data) - head))])
    found = numbers(asyncio.run(moments(cut)))
    assert found == list(range(len(found)))
    assert len(found) > where * 120 - FPS


@settings(max_examples=25)
@given(data=st.data())
def test_a_damaged_cluster_is_left_out_and_told_with_its_place(film: Path, data: st.DataObject) -> None:
    bent = bytearray(film.read_bytes())
    clusters = [match.start() for match in re.finditer(rb"\x1f\x43\xb6\x75", bent)]
    begin, end = data.draw(st.sampled_from(list(itertools.pairwise(clusters))))
    bent[data.draw(st.integers(begin, end - 1))] ^= data.draw(st.integers(1, 255))
    damaged = film.with_name("damaged.mkv")
    damaged.write_bytes(bent)
    found, error = asyncio.run(_with_error(damaged))
    assert f"damaged behind byte {begin}: that was left out" in str(error)
    assert 120 - FPS // 2 < len(found) < 120
    assert sum(not moment.detected for moment in found) <= FPS // 2  # whose faces stood there


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32))
def test_a_file_with_much_damage_gives_what_is_right_and_says_where_it_is_not(film: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - so that it comes again
    data = bytearray(film.read_bytes())
    head = data.index(b"\x1f\x43\xb6\x75")
    for _ in range(chance.randrange(2, 30)):
        data[chance.randrange(head, len(data))] ^= 0xFF
    damaged = film.with_name("damaged.mkv")
    damaged.write_bytes(data)
    _, error = asyncio.run(_with_error(damaged))
    assert error is None or re.search(r"behind byte \d+(, and in \d+ places after it)?: that", str(error))


def test_what_is_damaged_before_the_time_that_is_sought_is_not_told(film: Path) -> None:
    data = bytearray(film.read_bytes())
    data[data.index(b"\x1f\x43\xb6\x75") + 50] ^= 1
    damaged = film.with_name("damaged.mkv")
    damaged.write_bytes(data)
    assert len(asyncio.run(moments(damaged, 2.0))) == 60


def test_one_that_is_still_written_is_read_up_to_there_whatever_comes_meanwhile(film: Path) -> None:
    data = film.read_bytes()
    clusters = [match.start() for match in re.finditer(rb"\x1f\x43\xb6\x75", data)]
    growing = film.with_name("growing.mkv")
    growing.write_bytes(data[: clusters[8] + 100])  # in the middle of one
    reader, left = Reader(growing, decode=False), data[clusters[8] + 100 :]
    with growing.open("ab") as file, contextlib.closing(reader):
        times = []
        for played in reader.read(("camera",)):
            times.append(played.time)
            file.write(left[:5000])
            file.flush()
            left = left[5000:]
    assert times == [pytest.approx(number / FPS, abs=0.001) for number in range(len(times))]
    assert len(times) > FPS


async def _with_error(path: Path, name: str | None = None) -> tuple[list[Moment[Any]], RecordingError | None]:
    found: list[Moment[Any]] = []
    try:
        async with Recording(path, decode=False) as recording:
            async for moment in recording if name is None else recording.moments(name):
                found.append(moment)  # noqa: PERF401 - what came before the error counts
    except RecordingError as error:
        return found, error
    return found, None


@pytest.mark.parametrize(
    ("told", "damaged", "words"),
    [
        (b"1700000000.000000", b"17000-0000.000000", r"damaged in its head, behind byte \d{5,}: could not convert"),
        (b"1700000000.000000", b"17000000000000000", r"behind byte \d{5,}: .* is no time"),
        (b"12.500000", b"nan000000", r"damaged in its head, behind byte \d{5,}"),
    ],
)
def test_a_damaged_head_is_an_error(film: Path, told: bytes, damaged: bytes, words: str) -> None:
    path = film.with_name("head.mkv")
    path.write_bytes(film.read_bytes().replace(told, damaged))
    assert find_recording(str(path))
    with pytest.raises(RecordingError, match=words):
        Recording(path)


def tracks_at(data: bytes) -> int:
    """Where the tracks begin, and not where it is told where they begin."""
    return data.index(b"\x16\x54\xae\x6b", data.index(b"\x15\x49\xa9\x66", data.index(b"\xec")))


@pytest.mark.parametrize(
    ("told", "damaged"),
    [(b"camera", b"cam\xffra"), (b"V_VP8", b"V_VP9"), (b"V_VP8", b"V_\xff\xff8"), (b"A_OPUS", b"A_OPXS")],
)
def test_a_head_that_may_have_lost_a_track_is_told_after_what_can_be_read(
    film: Path, told: bytes, damaged: bytes
) -> None:
    path = film.with_name("head.mkv")
    data = film.read_bytes()
    path.write_bytes(data.replace(told, damaged))

    found, error = asyncio.run(_with_error(path, "screen"))
    assert len(found) == 120
    assert f"in its head, behind byte {tracks_at(data)}: a stream may be missing" in str(error)


@settings(max_examples=40)
@given(data=st.data())
def test_no_bit_of_the_head_that_says_what_is_there_is_flipped_without_an_error(
    film: Path, data: st.DataObject
) -> None:
    bent = bytearray(film.read_bytes())
    begin, end = tracks_at(bytes(bent)), bent.index(b"\x1f\x43\xb6\x75")
    bent[data.draw(st.integers(begin, end - 1))] ^= 1 << data.draw(st.integers(0, 7))
    damaged = film.with_name("damaged.mkv")
    damaged.write_bytes(bent)
    _, error = asyncio.run(_with_error(damaged))
    assert error is not None
    assert re.search("in its head, behind byte|is no recording|was cut off before anything", str(error))


@pytest.mark.parametrize("where", [2, -2])
def test_a_file_that_was_cut_off_in_its_head_is_told(film: Path, where: int) -> None:
    data = film.read_bytes()
    cut = film.with_name("head.mkv")
    cut.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75") + where])
    with pytest.raises(RecordingError, match="cut off before anything was recorded, at byte"):
        Recording(cut)


def test_another_file_is_no_recording_and_it_is_said_by_which_byte(tmp_path: Path) -> None:
    text = tmp_path / "notes.mkv"
    text.write_text("these are notes")
    with pytest.raises(RecordingError, match=r"notes.mkv is no recording: .* \(byte 0\)"):
        Recording(text)
    with pytest.raises(RecordingError, match="cannot be read: No such file"):
        Recording(tmp_path / "nowhere.mkv")


def test_another_matroska_file_is_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "other.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libopus", rate=48_000)
        assert isinstance(stream, av.AudioStream)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), "flt", "mono")
        silence.sample_rate = 48_000
        file.mux([*stream.encode(silence), *stream.encode(None)])
    with pytest.raises(RecordingError, match="another Matroska file"):
        Recording(path)


# As a source


async def test_a_source_gives_each_frame_its_recorded_faces(film: Path) -> None:
    source = Recording(film).source(loop=False)
    found = []
    async with contextlib.aclosing(aiter(source)) as frames:
        async for frame in frames:
            faces = await source.detect(frame)
            found.append((TestPattern.read_number(frame.to_ndarray()[: frame.height]), faces[0].id))
            if len(found) == 20:
                break
    assert found == [(number, number) for number in range(20)]
    assert source.hint == "camera"


async def test_a_frame_that_was_not_looked_at_is_not_looked_at_again(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    for number in range(10):
        studio.frame(number)
        studio.faces(number, detected=number % 2 == 0)
    studio.tape.close()
    source = Recording(studio.files[0]).source(loop=False)
    detection = Detection(source)
    looked = [await detection.look(frame, number) for number, frame in enumerate([frame async for frame in source])]
    assert [faces is not None for faces in looked] == [True, False] * 5


def test_a_recording_that_was_cut_off_before_its_first_frame_is_no_source_without_end(film: Path) -> None:
    data = film.read_bytes()
    cut = film.with_name("no-frame.mkv")
    cut.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75") + 30])

    async def begin() -> None:
        await anext(aiter(Recording(cut).source()))

    with pytest.raises(SourceError, match="there is no frame in"):
        asyncio.run(begin())


def test_sound_alone_is_no_source_of_video(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    microphone = Named("microphone", "audio", "microphone")
    studio.published[:] = [microphone]
    for packet in range(50):
        studio.sound(microphone, packet)
    studio.tape.close()
    with pytest.raises(SourceError, match="no video"):
        Recording(studio.files[0]).source()
    with pytest.raises(RecordingError, match="no video"):
        aiter(Recording(studio.files[0]))


def test_the_reader_of_twenty_lines_in_the_documents_reads_it(film: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "recording.md").read_text()
    program = text.split("```python\n# twenty lines")[1].split("```")[0]
    ran = subprocess.run(
        [sys.executable, "-c", "# twenty lines" + program, str(film)], check=True, capture_output=True, text=True
    )
    assert len(("# twenty lines" + program).strip().splitlines()) <= 20
    assert len(ran.stdout.splitlines()) == 240
