"""Several streams between a broadcaster and receivers that have found each other."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

import av
import numpy as np
import pytest
from waiting import until
from websockets.asyncio.client import connect

from synopticon_rtc import Broadcaster, Face, Receiver, SignalingServer, StreamEvent, TestPattern, Tone
from synopticon_rtc.errors import ConnectionLost, NobodyAnswered
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.media import Hint

LONG = 20.0
CAMERA, SCREEN, WINDOW = (320, 240), (480, 240), (640, 240)


def number_in(frame: av.VideoFrame) -> int:
    number = TestPattern.read_number(frame.to_ndarray(format="bgr24"))
    assert number is not None
    return number


class Marker:
    """Finds one face in each frame, whose place tells the number that the frame shows."""

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:
        return [Face(np.full((478, 3), number_in(frame) % 100 / 100, np.float32), {})]


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


async def take(moments: AsyncIterator[Moment], count: int) -> list[Moment]:
    async with asyncio.timeout(LONG):
        return [await anext(moments) for _ in range(count)]


@pytest.mark.parametrize("streams", [["streams/1"], []])
async def test_only_who_knows_of_streams_is_offered_times_of_capture(
    server: SignalingServer, streams: list[str]
) -> None:
    async with Broadcaster(server.url, TestPattern(CAMERA)) as broadcaster, connect(server.url) as page:
        await broadcaster.signaling.wait_open()
        await page.send(json.dumps({"type": "request_offer", "accept": {"streams": streams}}))
        async with asyncio.timeout(LONG):
            while (message := json.loads(await page.recv()))["type"] != "webrtc_offer":
                pass
    assert message["sdp"]["sdp"].count("abs-capture-time") == len(streams)


async def test_a_screen_comes_beside_the_camera(server: SignalingServer) -> None:
    async with Broadcaster(server.url, TestPattern(CAMERA)) as broadcaster, Receiver(server.url) as receiver:
        await take(receiver, 3)
        await broadcaster.publish("screen", TestPattern(SCREEN))
        screen = await take(receiver.moments("screen"), 5)
        assert {moment.frame.width for moment in screen} == {480}
        assert {moment.frame.width for moment in await take(receiver, 5)} == {320}
        assert list(receiver.streams) == list(broadcaster.streams) == ["camera", "screen"]
        frame = receiver.streams["screen"].snapshot()
        assert frame is not None
        assert frame.width == receiver.streams["screen"].stats.width == 480


async def test_each_stream_has_its_own_faces(server: SignalingServer) -> None:
    async with (
        Broadcaster(server.url, TestPattern(CAMERA), faces=Marker()) as broadcaster,
        Receiver(server.url, faces_wait=2.0) as receiver,
    ):
        await broadcaster.publish("screen", TestPattern(SCREEN, 20), faces=Marker())
        for moments in (receiver, receiver.moments("screen")):
            for moment in await take(moments, 20):
                shown = number_in(moment.frame) % 100 / 100
                assert all(abs(float(face.landmarks[0, 0]) - shown) < 1e-3 for face in moment.faces)
        assert receiver.streams["screen"].stats.frames_with_faces > 10


async def test_streams_come_and_go_while_signaling_is_away() -> None:
    async with SignalingServer(port=0) as server:
        broadcaster, receiver = Broadcaster(server.url, TestPattern(CAMERA)), Receiver(server.url)
        await broadcaster.start()
        await receiver.start()
        await take(receiver, 1)
    try:
        screen = await broadcaster.publish("screen", TestPattern(SCREEN))
        await take(receiver.moments("screen"), 3)
        await screen.unpublish()
        await until(lambda: "screen" not in receiver.streams)
        await take(receiver, 3)
    finally:
        await asyncio.gather(receiver.aclose(), broadcaster.aclose())


async def test_who_takes_the_screen_alone_iterates_over_it(server: SignalingServer) -> None:
    async with Broadcaster(server.url, TestPattern(CAMERA)) as broadcaster:
        await broadcaster.publish("screen", TestPattern(SCREEN))
        async with Receiver(server.url, streams=["screen"]) as receiver:
            assert {moment.frame.width for moment in await take(receiver, 3)} == {480}
            assert broadcaster.streams["camera"].stats.encoded == 0


async def test_a_stream_that_is_waited_for_alone_may_be_published_later(server: SignalingServer) -> None:
    async with (
        Broadcaster(server.url, TestPattern(CAMERA)) as broadcaster,
        Receiver(server.url, streams=["screen"]) as receiver,
    ):
        await until(lambda: "camera" in receiver.streams)
        await broadcaster.publish("screen", TestPattern(SCREEN))
        assert {moment.frame.width for moment in await take(receiver, 3)} == {480}


async def test_a_stream_is_received_without_decoding(server: SignalingServer) -> None:
    async with Broadcaster(server.url, TestPattern(CAMERA)) as broadcaster:
        await broadcaster.publish("screen", TestPattern(SCREEN))
        async with Receiver(server.url, decode=False) as receiver, asyncio.timeout(LONG):
            moments = receiver.moments("screen")
            first = await anext(moments)
            assert first.frame.keyframe
            assert receiver.streams["screen"].snapshot() is None


async def test_faces_of_every_stream_come_without_video(server: SignalingServer) -> None:
    async with Broadcaster(server.url, TestPattern(CAMERA), faces=Marker()) as broadcaster:
        await broadcaster.publish("screen", TestPattern(SCREEN), faces=Marker())
        async with Receiver(server.url, video=False) as receiver, asyncio.timeout(LONG):
            assert len((await anext(receiver)).faces) == 1
            assert len((await anext(receiver.moments("screen"))).faces) == 1
            assert {stream.stats.width for stream in receiver.streams.values()} == {320, 480}


async def test_both_ends_are_told_what_becomes_of_a_stream(server: SignalingServer) -> None:
    async with Broadcaster(server.url, TestPattern(CAMERA)) as broadcaster, Receiver(server.url) as receiver:
        sent: list[StreamEvent] = []
        came: list[StreamEvent] = []
        broadcaster.stream_events.subscribe(sent.append)
        receiver.stream_events.subscribe(came.append)
        await take(receiver, 1)
        screen = await broadcaster.publish("screen", TestPattern(SCREEN))
        await until(lambda: "screen" in receiver.streams)
        for change in (screen.mute, screen.unmute):
            change()
            await until(lambda: receiver.streams["screen"].muted == screen.muted)
        await screen.replace(TestPattern(WINDOW))
        await until(lambda: receiver.streams["screen"].replaced)
        await screen.unpublish()
        await until(lambda: "screen" not in receiver.streams)
        states = ["published", "muted", "unmuted", "replaced", "unpublished"]
        assert [event.state for event in sent if event.name == "screen"] == states
        assert [event.state for event in came if event.name == "screen"] == states
        assert {event.session for event in came} == {broadcaster.signaling.session}


async def test_all_streams_come_again_after_the_connection_was_lost(server: SignalingServer) -> None:
    async with Receiver(server.url) as receiver:
        for _ in range(2):
            async with Broadcaster(server.url, TestPattern(CAMERA)) as broadcaster:
                await broadcaster.publish("screen", TestPattern(SCREEN))
                await take(receiver.moments("screen"), 3)
                assert {moment.frame.width for moment in await take(receiver, 3)} == {320}
            await until(lambda: not receiver.streams)


async def test_a_stream_that_does_not_come_is_named(server: SignalingServer) -> None:
    async with Broadcaster(server.url, TestPattern(CAMERA), name="lab"), Receiver(server.url) as receiver:
        await take(receiver, 1)
        receiver._moments._timeout = 0.5
        with pytest.raises(NobodyAnswered, match="lab answered, but no stream 'window' came within"):
            await anext(receiver.moments("window"))


class Still:
    """A screen on which nothing changes."""

    hint: ClassVar[Hint] = "screen"

    async def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        frame = av.VideoFrame(*SCREEN, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        while True:
            yield frame
            await asyncio.sleep(0.1)


async def test_a_screen_that_stays_as_it_is_is_no_fault_but_one_that_is_gone(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Receiver(server.url, timeout=0.2) as receiver:
        async with Broadcaster(server.url, Still()) as broadcaster:
            receiver._moments._timeout = LONG
            await take(receiver, 1)
            await until(lambda: receiver.streams)
            receiver._moments._timeout = 0.2
            gap, last = 0.0, asyncio.get_running_loop().time()
            while gap < 0.3:  # frames come ever more seldom
                await take(receiver, 1)
                gap, last = asyncio.get_running_loop().time() - last, asyncio.get_running_loop().time()
            await broadcaster.aclose()
        monkeypatch.setattr("synopticon_rtc.receiving.iterations.STILL", 0.5)
        with pytest.raises(ConnectionLost, match="the broadcaster is gone"):
            await take(receiver, 2)


async def test_iterations_over_streams_end_with_the_receiver(server: SignalingServer) -> None:
    async def drain(moments: AsyncIterator[Moment]) -> None:
        async for _ in moments:
            pass

    async with Broadcaster(server.url, TestPattern(CAMERA)), Receiver(server.url) as receiver:
        draining = [asyncio.create_task(drain(receiver.moments(name))) for name in ("camera", "screen")]
        await take(receiver, 3)
    async with asyncio.timeout(20):
        await asyncio.gather(*draining)


async def test_the_first_video_is_known_by_its_name_too(server: SignalingServer) -> None:
    async with Broadcaster(server.url, TestPattern(CAMERA)), Receiver(server.url) as receiver:
        assert {moment.frame.width for moment in await take(receiver.moments("camera"), 3)} == {320}


@pytest.mark.parametrize("streams", ["screen", [], [""], [7], ["x" * 65]])
def test_names_that_no_stream_has_are_refused(streams: object) -> None:
    with pytest.raises(ValueError, match="stream"):
        Receiver("ws://127.0.0.1:9/ws", streams=streams)  # type: ignore[call-overload]


async def test_nothing_is_published_by_who_is_not_open(server: SignalingServer) -> None:
    broadcaster = Broadcaster(server.url, TestPattern(CAMERA))
    with pytest.raises(RuntimeError, match="is not open"):
        await broadcaster.publish("screen", TestPattern(SCREEN))


# Sound


async def test_sound_comes_in_step_with_the_picture(server: SignalingServer) -> None:
    async with Broadcaster(server.url, TestPattern(CAMERA), audio=Tone()), Receiver(server.url) as receiver:
        ages: list[float] = []

        async def look() -> None:
            async for moment in receiver:
                if (age := receiver.age(moment)) is not None:
                    ages.append(age)  # noqa: PERF401 - they are looked at meanwhile

        looking = asyncio.create_task(look())
        async with asyncio.timeout(LONG):
            sounds = receiver.audio()
            heard = [await anext(sounds) for _ in range(100)]
        looking.cancel()
        assert {moment.samples.shape for moment in heard} == {(960, 1)}
        steps = {(later.rtp_timestamp - before.rtp_timestamp) % 2**32 for before, later in itertools.pairwise(heard)}
        assert len(steps) <= 3
        last = heard[-1]
        assert last.captured is not None
        time = Tone.read_time(last.samples[:, 0], last.captured)
        assert time == pytest.approx(last.captured, abs=0.01)
        assert len(ages) > 10
        assert (receiver.streams["microphone"].kind, receiver.streams["microphone"].hint) == ("audio", "microphone")


async def test_sound_that_is_not_taken_is_not_encoded(server: SignalingServer) -> None:
    async with (
        Broadcaster(server.url, TestPattern(CAMERA), audio=Tone()) as broadcaster,
        Receiver(server.url, streams=["camera"]) as receiver,
    ):
        await take(receiver, 10)
        await until(lambda: "microphone" in receiver.streams)
        assert broadcaster.streams["microphone"].stats.encoded == 0


async def test_sound_is_published_muted_and_replaced_like_any_stream(server: SignalingServer) -> None:
    async with Broadcaster(server.url, TestPattern(CAMERA)) as broadcaster, Receiver(server.url) as receiver:
        await take(receiver, 1)
        music = await broadcaster.publish("music", audio=Tone())
        sounds = receiver.audio("music")
        async with asyncio.timeout(LONG):
            await anext(sounds)
            music.mute()
            await until(lambda: receiver.streams["music"].muted)
            music.unmute()
            await music.replace(Tone(0.1))
            soft = 0
            while soft < 10:  # after all that was on its way
                soft = soft + 1 if 0.05 < np.abs((await anext(sounds)).samples).max() < 0.2 else 0


async def test_a_stream_has_one_source(server: SignalingServer) -> None:
    async with Broadcaster(server.url, TestPattern(CAMERA)) as broadcaster:
        with pytest.raises(TypeError, match="one source"):
            await broadcaster.publish("both", TestPattern(CAMERA), audio=Tone())
        with pytest.raises(TypeError, match="one source"):
            await broadcaster.publish("none")


# Messages


async def test_messages_go_both_ways(server: SignalingServer) -> None:
    async with Broadcaster(server.url, TestPattern(CAMERA)) as broadcaster, Receiver(server.url) as receiver:
        await take(receiver, 1)
        await until(lambda: broadcaster.peers)
        async with asyncio.timeout(LONG):
            await receiver.send("notes", "from the receiver")
            question = await anext(broadcaster.messages("notes"))
            assert question.data == "from the receiver"
            missed = await broadcaster.send("notes", b"to it alone", to=question.session)
            answer = await anext(receiver.messages("notes"))
            assert (answer.data, answer.session, missed) == (b"to it alone", broadcaster.signaling.session, frozenset())


async def test_a_message_to_all_comes_to_each(server: SignalingServer) -> None:
    async with (
        Broadcaster(server.url, TestPattern(CAMERA)) as broadcaster,
        Receiver(server.url) as one,
        Receiver(server.url) as other,
    ):
        await asyncio.gather(take(one, 1), take(other, 1))
        await until(lambda: len(broadcaster.peers) == 2)
        await broadcaster.send("marks", "now")
        async with asyncio.timeout(LONG):
            assert [(await anext(receiver.messages("marks"))).data for receiver in (one, other)] == ["now", "now"]


async def test_what_was_sent_last_arrives_before_the_end(server: SignalingServer) -> None:
    async with Broadcaster(server.url, TestPattern(CAMERA)) as broadcaster:
        notes = broadcaster.messages("notes")
        async with Receiver(server.url) as receiver:
            await take(receiver, 1)
            await receiver.send("notes", "bye")
        async with asyncio.timeout(LONG):
            assert (await anext(notes)).data == "bye"


async def test_a_message_to_nobody_says_so(server: SignalingServer) -> None:
    async with Broadcaster(server.url, TestPattern(CAMERA)) as broadcaster, Receiver(server.url) as receiver:
        with pytest.raises(ConnectionLost, match="nobody is not connected"):
            await broadcaster.send("notes", "", to="nobody")
        await broadcaster.aclose()
        await until(lambda: not receiver._peers)
        with pytest.raises(ConnectionLost, match="no broadcaster is connected"):
            await receiver.send("notes", "")


async def test_iterations_over_messages_end_with_their_owner(server: SignalingServer) -> None:
    async with Broadcaster(server.url, TestPattern(CAMERA)) as broadcaster, Receiver(server.url) as receiver:
        iterations = [broadcaster.messages("notes"), receiver.messages("notes")]
    async with asyncio.timeout(20):
        assert [[message async for message in iteration] for iteration in iterations] == [[], []]
