import asyncio
import contextlib
import datetime as dt
import resource
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from reel import Studio
from waiting import until

from synopticon_rtc import (
    Broadcaster,
    Face,
    Receiver,
    Recorder,
    Recording,
    SignalingClient,
    SignalingServer,
    TestPattern,
    Tone,
)
from synopticon_rtc.errors import RecordingError, SignalingError
from synopticon_rtc.events import Events, RecordingEvent
from synopticon_rtc.peers.tap import Origin
from synopticon_rtc.recording import recorder as recorder_module
from synopticon_rtc.signaling.access import Role
from synopticon_rtc.signaling.server.tokens import Claims, TokenKeys, make_token

LONG = 20.0


def number_in(frame: av.VideoFrame) -> int | None:
    return TestPattern.read_number(frame.to_ndarray(format="gray"))


class Marker:
    """Finds one face in each test card, whose id tells the number; it sits elsewhere each time, as ids follow faces."""

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:
        number = number_in(frame)
        return [] if number is None else [Face(np.full((478, 3), number % 500 / 500, np.float32), {})]


def number_of(face: Face) -> int:
    return round(float(np.median(face.landmarks)) * 500)


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


@pytest.fixture
async def broadcaster(server: SignalingServer) -> AsyncIterator[Broadcaster]:
    card, tone = TestPattern((320, 240)), Tone()
    async with Broadcaster(server.url, card, faces=Marker(), audio=tone, name="lab-1") as broadcaster:
        yield broadcaster


async def take(receiver: Receiver, count: int) -> None:
    async with asyncio.timeout(LONG):
        for _ in range(count):
            await anext(receiver)


async def check(path: Path, least: int) -> None:
    """Check that a recording has so many frames, all of them with their own faces but the last, and sound."""
    async with Recording(path) as recording:
        assert (recording.name, recording.streams["camera"].detector) == ("lab-1", "Marker")
        moments = [moment async for moment in recording]
        sounds = [moment async for moment in recording.audio()]
    assert len(moments) >= least
    assert sum(moment.detected for moment in moments) >= least
    assert all(number_of(moment.faces[0]) == number_in(moment.frame) for moment in moments if moment.detected)
    assert len(sounds) > 10
    captured = moments[0].captured, sounds[0].captured
    assert captured[0] is not None
    assert captured[1] is not None
    assert abs(captured[0] - captured[1]) < 1.0


@contextlib.contextmanager
def largest_file(octets: int) -> Iterator[None]:
    """Have every file be full at a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_receiver_is_recorded_while_its_moments_are_taken(
    broadcaster: Broadcaster, server: SignalingServer, tmp_path: Path
) -> None:
    path = tmp_path / "talk.mkv"
    async with Receiver(server.url) as receiver, Recorder(path, receiver):
        await take(receiver, 40)
    assert broadcaster.streams
    await check(path, 25)


async def test_a_receiver_that_does_not_decode_is_recorded_too(
    broadcaster: Broadcaster, server: SignalingServer, tmp_path: Path
) -> None:
    path = tmp_path / "talk.mkv"
    receiver = Receiver(server.url, decode=False)
    async with Recorder(path, receiver) as recorder, receiver:
        await until(lambda: recorder.stats.frames >= 40)
    assert broadcaster.streams
    await check(path, 25)


async def test_only_the_streams_that_are_taken_are_recorded(
    broadcaster: Broadcaster, server: SignalingServer, tmp_path: Path
) -> None:
    path = tmp_path / "talk.mkv"
    async with Receiver(server.url, streams=["camera"]) as receiver, Recorder(path, receiver):
        await take(receiver, 20)
    assert list(broadcaster.streams) == ["camera", "microphone"]
    assert list(Recording(path).streams) == ["camera"]


async def test_a_broadcaster_is_told_who_records_it_and_until_when(
    broadcaster: Broadcaster, server: SignalingServer, tmp_path: Path
) -> None:
    states: list[str] = []
    broadcaster.events.subscribe(lambda event: states.append(event.state))
    async with Receiver(server.url) as receiver, asyncio.timeout(LONG):
        await take(receiver, 1)
        async with Recorder(tmp_path / "talk.mkv", receiver):
            while "recording" not in states:
                await take(receiver, 1)
            assert broadcaster.recorders == broadcaster.peers
        while "recording_ended" not in states:
            await take(receiver, 1)
        assert not broadcaster.recorders
    assert [state for state in states if state.startswith("rec")] == ["recording", "recording_ended"]


async def test_who_may_not_record_is_given_nothing_more(tmp_path: Path) -> None:
    secret = b"a secret of thirty-two bytes, at least"

    def client(server: SignalingServer, *roles: Role) -> SignalingClient:
        return SignalingClient(server.url, token=make_token(secret, Claims(roles=frozenset(roles) or None)))

    async with (
        SignalingServer(port=0, tokens=TokenKeys(secret=secret)) as server,
        Broadcaster(client(server), TestPattern((320, 240))),
        asyncio.timeout(LONG),
    ):
        async with Receiver(client(server)) as receiver:  # the token does not say that it may
            await take(receiver, 1)
            async with Recorder(tmp_path / "forbidden.mkv", receiver):
                with pytest.raises(SignalingError, match="does not give the role record"):
                    await take(receiver, 1000)
        receiver = Receiver(client(server, "record"))
        async with Recorder(tmp_path / "talk.mkv", receiver) as recorder, receiver:
            await take(receiver, 20)
        assert recorder.stats.frames
        async with Receiver(client(server, "record")) as receiver:  # who may record may do without
            await take(receiver, 1)


async def test_a_broadcaster_is_recorded_that_nobody_watches(broadcaster: Broadcaster, tmp_path: Path) -> None:
    path = tmp_path / "talk.mkv"
    async with Recorder(path, broadcaster) as recorder:
        await until(lambda: recorder.stats.frames >= 40)
    await check(path, 30)
    encoded, captured = broadcaster.stats.encoded, broadcaster.stats.frames
    await until(lambda: broadcaster.stats.frames > captured + 5)
    assert broadcaster.stats.encoded == encoded  # nothing is encoded for nobody


async def test_each_file_can_be_named_by_whose_it_is_and_when_it_begins(
    broadcaster: Broadcaster, tmp_path: Path
) -> None:
    named: list[tuple[str, dt.datetime]] = []

    def name(origin: Origin, begun: dt.datetime) -> Path:
        named.append((origin.name, begun))
        return tmp_path / f"{len(named)}.mkv"

    async with Recorder(name, broadcaster, segment=0.5) as recorder, asyncio.timeout(LONG):
        begun = [event.path async for event in first(recorder.events, 2)]
    assert begun == [str(tmp_path / "1.mkv"), str(tmp_path / "2.mkv")]
    assert [name for name, _ in named] == ["lab-1", "lab-1"]
    assert 0.4 < (named[1][1] - named[0][1]).total_seconds() < 5
    assert abs((named[0][1] - dt.datetime.now(dt.UTC)).total_seconds()) < LONG


async def first(events: Events[RecordingEvent], count: int) -> AsyncIterator[RecordingEvent]:
    """Give the first files that are begun."""
    async for event in events:
        if event.state == "begun":
            yield event
            count -= 1
        if not count:
            return


async def test_a_stream_that_is_published_meanwhile_is_recorded(broadcaster: Broadcaster, tmp_path: Path) -> None:
    async with Recorder(tmp_path / "talk.mkv", broadcaster) as recorder:
        await until(lambda: recorder.stats.frames >= 20)
        screen = await broadcaster.publish("screen", TestPattern((160, 120)))
        before = recorder.stats.frames
        await until(lambda: recorder.stats.frames >= before + 60)
        await screen.unpublish()
    async with Recording(tmp_path / "talk-2.mkv") as recording:
        assert set(recording.streams) == {"camera", "screen", "microphone"}
        assert len([moment async for moment in recording.moments("screen")]) > 10


async def test_a_disk_that_is_full_ends_the_recording_and_nothing_else(
    broadcaster: Broadcaster, server: SignalingServer, tmp_path: Path
) -> None:
    path = tmp_path / "talk.mkv"
    broadcaster.streams["camera"].bitrate = 4_000_000
    with largest_file(320_000):
        async with Receiver(server.url) as receiver, Recorder(path, receiver) as recorder:
            async with asyncio.timeout(LONG):
                async for event in recorder.events:
                    if event.state == "failed":
                        break
            assert isinstance(recorder.failure, RecordingError)
            assert "talk.mkv cannot be written: File too large" in str(recorder.failure)
            await take(receiver, 5)
    async with Recording(path) as recording:
        assert len([moment async for moment in recording]) > 5


def test_what_cannot_be_written_is_an_error_that_says_why(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    with largest_file(300_000), pytest.raises(RecordingError, match="cannot be written: File too large"):
        studio.play(range(240))
    with contextlib.suppress(RecordingError):
        studio.tape.close()


async def test_a_file_that_cannot_be_is_told_at_once(broadcaster: Broadcaster, tmp_path: Path) -> None:
    (tmp_path / "there.mkv").touch()
    for name, words in (
        ("there.mkv", "is there already"),
        ("nowhere/talk.mkv", "there is no folder"),
        ("talk.mp4", r"is a \.mkv or \.webm file"),
    ):
        with pytest.raises(RecordingError, match=words):
            await Recorder(tmp_path / name, broadcaster).start()
    assert not broadcaster.stats.encoded


async def test_a_disk_that_is_too_slow_costs_frames_that_are_counted(
    broadcaster: Broadcaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "talk.mkv"
    async with Recorder(path, broadcaster) as recorder:
        await until(lambda: recorder.stats.frames >= 20)
        with monkeypatch.context() as patched:
            patched.setattr(recorder_module, "MOST_WAITING", 1)
            await until(lambda: recorder.stats.left_out >= 20)
        before = recorder.stats.frames
        await until(lambda: recorder.stats.frames >= before + 20)
    async with Recording(path) as recording:
        numbers = [number_in(moment.frame) async for moment in recording]
    assert None not in numbers  # what followed the gap began with a keyframe


async def test_it_is_entered_once_and_closed_as_often_as_one_likes(broadcaster: Broadcaster, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "talk.mkv", broadcaster)
    await recorder.aclose()
    async with recorder:
        pass
    await recorder.aclose()
    with pytest.raises(RuntimeError, match="only once"):
        await recorder.start()


@pytest.mark.parametrize("option", [{"segment": 0}, {"max_size": -1}])
def test_no_file_can_be_shorter_than_nothing(option: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be more than 0"):
        Recorder(tmp_path / "talk.mkv", Receiver("ws://localhost:1/ws"), **option)


async def test_a_file_that_is_removed_meanwhile_ends_the_recording_in_words(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "talk.mkv"
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, TestPattern((160, 90), 30)) as broadcaster,
        Recorder(path, broadcaster) as recorder,
    ):
        async for event in recorder.events:
            if event.state == "begun":
                shutil.rmtree(tmp_path / "folder")
            if event.state == "failed":
                assert "was removed" in event.reason
                break
