import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reel import BEGUN, FPS, Named, Studio, encoded, ours, timestamp, when
from test_recorder import largest_file

from synopticon_rtc import AudioMoment, Moment, Recording, RecordingEvent, TestPattern
from synopticon_rtc.errors import RecordingError
from synopticon_rtc.recording.matroska import TAGS, MatroskaFile
from synopticon_rtc.recording.tape import OVERTAKEN
from synopticon_rtc.rtc import Codec, EncodedVideoFrame


async def played(path: Path, stream: str = "camera") -> list[Moment[Any]]:
    async with Recording(path) as recording:
        return [moment async for moment in recording.moments(stream)]


async def heard(path: Path) -> list[AudioMoment]:
    async with Recording(path) as recording:
        return [moment async for moment in recording.audio()]


def number(moment: Moment[Any]) -> int | None:
    return TestPattern.read_number(moment.frame.to_ndarray()[: moment.frame.height])


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    made = Studio(tmp_path)
    yield made
    made.tape.close()


def kept(path: Path) -> dict[str, int]:
    """Return up to which time, ms, each track of a file goes that is still written."""
    with av.open(str(path)) as file:
        return {
            str(packet.stream.metadata.get("title")): packet.pts
            for packet in file.demux()
            if packet.size and packet.pts is not None
        }


async def test_every_frame_has_its_own_faces(studio: Studio) -> None:
    studio.play(range(45))
    studio.tape.close()
    moments = await played(studio.files[0])
    assert [number(moment) for moment in moments] == list(range(45))
    assert [moment.faces[0].id for moment in moments] == list(range(45))
    assert all(moment.detected and moment.faces[0].blendshapes == {"jawOpen": 1.0} for moment in moments)


def test_faces_stand_half_a_second_together_so_that_the_file_stays_small(studio: Studio) -> None:
    studio.play(range(3 * FPS))
    studio.tape.close()
    with av.open(str(studio.files[0])) as file:
        packets = [packet for packet in file.demux(file.streams.subtitles[0]) if packet.size]
    assert len(packets) <= 3 / 0.5
    assert sum(len(bytes(packet).splitlines()) for packet in packets) == 3 * FPS


@pytest.mark.parametrize("other", ["camera", "microphone"])
def test_a_stream_that_pauses_keeps_nothing_of_the_others_out_of_the_file(studio: Studio, other: str) -> None:
    # FFmpeg's muxer holds all back as long as a VP8 track pauses, as a muted camera and a still screen do.
    paused, microphone = Named("paused"), Named("microphone", "audio", "microphone")
    studio.published[:] = [paused, microphone, *([studio.camera] if other == "camera" else [])]
    for number in range(10 * FPS):
        if number < FPS:
            studio.play(range(number, number + 1), paused)
        if other == "camera":
            studio.play(range(number, number + 1))
        for packet in range(number * 50 // FPS, (number + 1) * 50 // FPS):
            studio.sound(microphone, packet)
        studio.tape.tick(ours(number))
    tracks = kept(studio.files[0])
    assert tracks["microphone"] > 9_500
    assert other != "camera" or tracks["camera"] > 9_500
    assert other != "camera" or tracks["faces/1 camera"] >= 8_500  # of which a packet holds half a second


def test_a_frame_that_is_followed_by_no_other_is_in_the_file_with_its_faces_within_a_second(studio: Studio) -> None:
    studio.play(range(1))
    for tenth in range(20):
        studio.tape.tick(ours(0) + tenth / 10)
        if tenth == 10:
            assert kept(studio.files[0]) == {"camera": 0, "faces/1 camera": 0}


def test_a_keyframe_that_no_decoder_could_begin_with_is_not_begun_with(studio: Studio) -> None:
    broken: list[tuple[Codec, bytes]] = [
        ("vp8", b"\0\0"),
        ("vp8", b"\x10\0\0\x9d\1\x2a" + bytes(4)),
        ("h264", b"\0\0\0\1\x65a"),
    ]
    for number, (codec, data) in enumerate(broken):
        frame = EncodedVideoFrame(codec, data, number, True, ours(number))
        studio.tape.video(studio.camera, frame, when(number), ours(number))
    studio.play(range(30, 60))
    assert [event.state for event in studio.events] == ["begun"]
    assert studio.tape.frames == 30


def test_streams_that_come_and_go_before_the_first_file_begin_none(studio: Studio) -> None:
    studio.published.append(Named("awaited"))
    studio.play(range(5))
    studio.published[:] = [Named("another")]
    for number in range(5, 60):
        studio.tape.tick(ours(number))
    assert studio.files == []
    studio.play(range(60, 90), studio.published[0])
    assert [path.name for path in studio.files] == ["part-1.mkv"]


def test_a_keyframe_is_wished_for_where_frames_come_without_one(studio: Studio) -> None:
    for number in range(1, 30):
        studio.frame(number)
    assert studio.wishes == 1
    assert not studio.files
    studio.frame(30)  # it has come
    for number in range(31, 90):
        studio.frame(number)
    assert studio.wishes == 1
    studio.tape.close()
    assert len(studio.files) == 1


async def test_moments_have_the_times_that_their_receiver_knew(studio: Studio) -> None:
    studio.play(range(45))
    studio.tape.close()
    moments = await played(studio.files[0])
    assert [moment.captured for moment in moments] == pytest.approx([when(at) for at in range(45)], abs=1e-6)
    assert [moment.rtp_timestamp for moment in moments] == [timestamp(at) for at in range(45)]
    assert [moment.frame.pts for moment in moments] == [timestamp(at) for at in range(45)]


FRAMES = 40


@settings(max_examples=20)
@given(
    late=st.lists(st.floats(-0.2, 0.9), min_size=FRAMES, max_size=FRAMES),
    lost=st.sets(st.integers(0, FRAMES - 1)),
)
def test_faces_that_come_in_any_order_are_never_those_of_another_frame(
    tmp_path_factory: pytest.TempPathFactory, late: list[float], lost: set[int]
) -> None:
    studio = Studio(tmp_path_factory.mktemp("order"))
    steps = [(when(at), at, False) for at in range(FRAMES)]
    steps += [(when(at) + delay, at, True) for at, delay in enumerate(late) if at not in lost]
    for _, at, is_message in sorted(steps):
        if is_message:
            studio.faces(at, late=late[at])
        else:
            studio.frame(at)
    studio.tape.close()
    found = asyncio.run(played(studio.files[0]))
    assert [number(moment) for moment in found] == list(range(FRAMES))
    for at, moment in enumerate(found):
        assert [face.id for face in moment.faces] in ([], [at])
        assert moment.rtp_timestamp == timestamp(at)
        assert moment.detected or at in lost or late[at] >= OVERTAKEN


async def test_a_frame_that_was_not_looked_at_is_told_from_one_without_a_face(studio: Studio) -> None:
    for at in range(30):
        studio.frame(at)
        if at % 3:
            studio.faces(at, detected=at % 3 == 1)
    studio.tape.close()
    assert [moment.detected for moment in await played(studio.files[0])] == [at % 3 == 1 for at in range(30)]


async def test_lost_frames_are_gaps_and_shift_nothing(studio: Studio) -> None:
    studio.play(range(10))
    studio.play(range(30, 40))
    studio.tape.close()
    moments = await played(studio.files[0])
    assert [moment.captured for moment in moments[9:11]] == pytest.approx([when(9), when(30)], abs=1e-6)
    assert [number(moment) for moment in moments[10:]] == list(range(30, 40))


async def test_sound_and_picture_stand_at_the_times_of_their_capture(studio: Studio) -> None:
    microphone = Named("microphone", "audio", "microphone")
    studio.published.append(microphone)
    blocks = [at for at in range(20, 100) if at != 50]  # it begins later, and has a gap
    for at in range(60):
        studio.play(range(at, at + 1))
        for block in blocks:
            if at / FPS <= block / 50 < (at + 1) / FPS:
                studio.sound(microphone, block)
    studio.tape.close()
    moments, sounds = await played(studio.files[0]), await heard(studio.files[0])
    assert moments[0].captured == pytest.approx(BEGUN, abs=0.001)
    assert [sound.captured for sound in sounds] == pytest.approx([BEGUN + block / 50 for block in blocks], abs=0.0011)
    assert all(sound.samples.shape == (960, 1) for sound in sounds)


async def test_a_stream_that_comes_later_begins_another_file_and_nothing_is_lost(studio: Studio) -> None:
    screen = Named("screen", hint="screen")
    studio.play(range(40))
    studio.published.append(screen)
    for at in range(40, 120):
        studio.play(range(at, at + 1))
        if at >= 60:
            studio.play(range(at, at + 1), screen)
    studio.tape.close()
    first, second = studio.files
    cameras = [await played(first), await played(second)]
    assert [number(moment) for moment in itertools.chain(*cameras)] == list(range(120))
    assert all(moment.faces[0].id == number(moment) for moment in itertools.chain(*cameras))
    assert [number(moment) for moment in await played(second, "screen")] == list(range(60, 120))
    assert studio.wishes
    async with Recording(second) as recording:
        assert recording.tags["FOLLOWS"] == first.name
        assert recording.tags["REASON"] == "stream screen has come"


async def test_another_codec_begins_another_file(studio: Studio) -> None:
    studio.play(range(30))
    studio.play(range(30, 60), codec="h264")
    studio.tape.close()
    first, second = studio.files
    assert [number(moment) for moment in await played(first)] == list(range(30))
    assert [number(moment) for moment in await played(second)] == list(range(30, 60))
    async with Recording(second) as recording:
        assert recording.streams["camera"].codec == "h264"


async def test_another_clock_begins_another_file(studio: Studio) -> None:
    studio.play(range(30))
    studio.session = "ws_2"
    for at in range(50, 90):  # the first keyframe is 60
        studio.tape.video(studio.camera, _frame(at), when(at) + 100, ours(at))
    studio.tape.close()
    assert len(studio.files) == 2
    assert len(await played(studio.files[0])) == 30
    assert (await played(studio.files[1]))[0].captured == pytest.approx(when(60) + 100, abs=0.002)


async def test_a_broadcaster_that_comes_back_goes_on_in_the_file(studio: Studio) -> None:
    studio.play(range(30))
    studio.session = "ws_2"
    studio.play(range(60, 90))
    studio.tape.close()
    (file,) = studio.files
    assert [number(moment) for moment in await played(file)] == [*range(30), *range(60, 90)]


async def test_a_link_that_stalls_shifts_nothing(studio: Studio) -> None:
    studio.play(range(30))
    for at in range(30, 60):
        studio.tape.video(studio.camera, _frame(at), when(at), ours(90))
    studio.tape.close()
    (file,) = studio.files
    captured = [moment.captured for moment in await played(file)]
    assert captured == pytest.approx([when(at) for at in range(60)], abs=0.001)


def _frame(at: int) -> EncodedVideoFrame:
    data, keyframe = encoded("vp8", (320, 240), 120)[at]
    return EncodedVideoFrame("vp8", data, timestamp(at), keyframe, ours(at))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    captured=st.lists(st.floats(allow_nan=False) | st.none(), min_size=30, max_size=30),
    names=st.lists(st.text(st.characters(), min_size=1, max_size=70), min_size=3, max_size=3),
    sessions=st.lists(st.text(st.characters(), max_size=10), min_size=30, max_size=30),
)
def test_whatever_strangers_tell_can_be_recorded(
    tmp_path_factory: pytest.TempPathFactory, captured: list[float | None], names: list[str], sessions: list[str]
) -> None:
    studio = Studio(tmp_path_factory.mktemp("strange"))
    studio.camera.name, studio.camera.hint, studio.camera.detector = names
    for at, (when_it_was, session) in enumerate(zip(captured, sessions, strict=True)):
        studio.session = session
        studio.tape.video(studio.camera, _frame(at), when_it_was, ours(at))
    studio.tape.close()
    for file in studio.files:
        assert asyncio.run(played(file, next(iter(Recording(file).streams))))


def test_a_stream_that_comes_again_and_again_does_not_begin_files_without_end(studio: Studio) -> None:
    studio.play(range(60))
    for number in range(90):
        studio.published[1:] = [guest := Named(f"guest-{number}")]
        studio.frame(60 + number)
        data, _ = encoded("vp8", (320, 240), 120)[0]
        frame = EncodedVideoFrame("vp8", data, number, True, ours(60 + number))
        studio.tape.video(guest, frame, when(60 + number), ours(60 + number))
    studio.tape.close()
    assert len(studio.files) <= 1 + 3


def test_a_stream_that_is_published_no_more_begins_no_file(studio: Studio) -> None:
    studio.play(range(60))
    studio.play(range(60, 90), Named("gone"))
    studio.tape.close()
    assert len(studio.files) == 1


async def test_h264_does_not_go_into_webm(tmp_path: Path) -> None:
    studio = Studio(tmp_path, names=iter([tmp_path / "talk.webm"]))
    with pytest.raises(
        RecordingError, match=r"talk.webm cannot hold H.264, which comes: take a name that ends in .mkv"
    ):
        studio.play(range(45), codec="h264")


async def test_another_size_stays_in_the_file(studio: Studio) -> None:
    for at in range(60):
        studio.frame(at, size=(320, 240) if at < 30 else (160, 120))
        studio.faces(at)
    studio.tape.close()
    (file,) = studio.files
    moments = await played(file)
    assert [moment.frame.width for moment in moments] == [320] * 30 + [160] * 30
    assert [moment.faces[0].id for moment in moments] == list(range(60))


async def test_a_file_that_is_long_enough_is_followed_by_another_without_loss(tmp_path: Path) -> None:
    studio = Studio(tmp_path, segment=1.0)
    studio.play(range(120))
    studio.tape.close()
    numbers = [[number(moment) for moment in await played(file)] for file in studio.files]
    assert list(itertools.chain(*numbers)) == list(range(120))
    assert [each[0] for each in numbers] == [0, 30, 60, 90]
    assert [event.state for event in studio.events].count("complete") == 4


async def test_a_file_that_is_large_enough_is_followed_by_another(tmp_path: Path) -> None:
    studio = Studio(tmp_path, most=20_000)
    studio.play(range(120))
    studio.tape.close()
    assert len(studio.files) > 1


async def test_sound_that_is_silent_at_first_has_its_track(studio: Studio) -> None:
    microphone = Named("microphone", "audio", "microphone")
    studio.published.append(microphone)
    studio.play(range(45))
    for at in range(75, 100):
        studio.sound(microphone, at)
    studio.tape.close()
    (file,) = studio.files
    assert len(await heard(file)) == 25


async def test_a_stream_that_comes_again_under_its_name_goes_on_in_its_track(studio: Studio) -> None:
    studio.play(range(30))
    again = Named("camera")
    studio.published[:] = [again]
    studio.play(range(30, 60), again)
    studio.tape.close()
    (file,) = studio.files
    assert [moment.faces[0].id for moment in await played(file)] == list(range(60))


def test_what_was_left_out_is_followed_by_a_keyframe(studio: Studio) -> None:
    studio.play(range(10))
    studio.tape.skip()
    studio.play(range(20, 40))
    studio.tape.close()
    assert studio.tape.frames == 20  # 0 to 9, and 30 to 39


def test_a_keyframe_is_wished_for_now_and_then(studio: Studio) -> None:
    for at in range(12 * FPS):
        if at % 120 < 30:
            studio.frame(at % 30 if at < 30 else at)
    assert studio.wishes == 0
    studio.tape.tick(when(12 * FPS) + 20)
    assert studio.wishes == 1


def test_what_is_read_back_says_where_it_comes_from(studio: Studio) -> None:
    studio.play(range(30))
    studio.tape.close()
    recording = Recording(studio.files[0])
    assert (recording.name, recording.session, recording.clock_offset) == ("lab-1", "ws_1", 12.5)
    assert recording.begun.timestamp() == pytest.approx(BEGUN, abs=1e-5)
    assert recording.duration == pytest.approx(29 / FPS, abs=0.05)
    assert recording.streams["camera"].detector == "a detector"


def test_where_another_process_takes_a_name_first_the_next_one_is_used(tmp_path: Path) -> None:
    taken = tmp_path / "taken.mkv"
    taken.write_text("of another")
    studio = Studio(tmp_path, names=iter([taken, tmp_path / "free.mkv"]))
    studio.play(range(60))
    studio.tape.close()
    assert studio.files == [tmp_path / "free.mkv"]
    assert taken.read_text() == "of another"


def test_a_next_file_that_cannot_be_leaves_the_one_before_complete(tmp_path: Path) -> None:
    studio = Studio(tmp_path, segment=1.0, names=iter([tmp_path / "one.mkv", tmp_path / "nowhere" / "two.mkv"]))
    with pytest.raises(RecordingError, match="No such file"):
        studio.play(range(90))
    studio.tape.close("nothing more can be written")
    assert [event.state for event in studio.events] == ["begun", "complete"]
    assert Recording(tmp_path / "one.mkv").duration


def test_a_path_that_is_taken_is_refused_and_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "part-1.mkv").write_text("mine")
    studio = Studio(tmp_path, names=itertools.repeat(tmp_path / "part-1.mkv"))
    with pytest.raises(RecordingError, match="is there already"):
        studio.play(range(60))
    assert (tmp_path / "part-1.mkv").read_text() == "mine"


def test_it_tells_of_each_file(studio: Studio) -> None:
    studio.play(range(30))
    studio.tape.close()
    path = str(studio.files[0])
    assert studio.events == [
        RecordingEvent("begun", path, "the recording begins"),
        RecordingEvent("complete", path, "the recording is ended"),
    ]


def test_a_file_whose_head_finds_no_room_leaves_nothing(tmp_path: Path) -> None:
    with largest_file(10_000), pytest.raises(OSError, match="File too large"):
        MatroskaFile(tmp_path / "talk.mkv", "matroska", b"", [(TAGS, bytes(20_000))])
    assert not list(tmp_path.iterdir())
