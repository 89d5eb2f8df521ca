"""Faces that a receiver looks for itself: when, with which detector, and who else gets them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import pytest
from number_face import NumberFace, number_of
from waiting import until

import synopticon_rtc.broadcaster
import synopticon_rtc.receiver
from synopticon_rtc import (
    Broadcaster,
    DetectorEvent,
    Face,
    FaceLandmarker,
    Moment,
    Portrait,
    Receiver,
    Recorder,
    Recording,
    SignalingServer,
    TestPattern,
)
from synopticon_rtc.detecting import detection
from synopticon_rtc.errors import ModelError
from synopticon_rtc.faces import Detector
from synopticon_rtc.faces.wire import PROTOCOL, FacesMessage, decode
from synopticon_rtc.media import Hint
from synopticon_rtc.rtc import Channel

CARD = 320, 180
PATIENT = 2.0
"""Seconds that frames wait for their faces, so that a busy machine changes nothing."""


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


class Asking(Broadcaster):
    """A broadcaster without a detector that wants the faces which others find, as a page does."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.returned: dict[str, list[FacesMessage]] = {}

    def _add_channel(self, link: int, channel: Channel) -> None:
        if channel.protocol == PROTOCOL:
            messages = self.returned[channel.label] = []
            channel.on_message = lambda data: messages.append(decode(data if isinstance(data, bytes) else b""))
        else:
            super()._add_channel(link, channel)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    accept = synopticon_rtc.broadcaster.ACCEPT | {"return": [PROTOCOL]}
    monkeypatch.setattr(synopticon_rtc.broadcaster, "ACCEPT", accept)


class Entered(NumberFace):
    """A detector that is entered and left, of which there can be several."""

    def __init__(self, made: "list[Entered] | None" = None, error: Exception | None = None) -> None:
        super().__init__()
        self.log: list[str] = []
        self.made: list[Entered] = [] if made is None else made
        self.made.append(self)
        self._error = error

    def another(self) -> "Entered":
        return Entered(self.made, self._error)

    async def __aenter__(self) -> Self:
        if self._error is not None and self.made[0] is not self:
            raise self._error
        self.log.append("entered")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.log.append("left")


class Alone(NumberFace):
    """A detector of which there is one, that must not be asked twice at once."""

    def __init__(self) -> None:
        super().__init__(0.005)
        self._busy = False

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:
        assert not self._busy
        self._busy = True
        try:
            return await super().detect(frame)
        finally:
            self._busy = False


class Failing:
    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:
        raise ValueError(f"no faces in {frame}")


class Shown(TestPattern):
    """A card that a screen shows."""

    hint: Hint = "screen"


async def take(moments: AsyncIterator[Moment], count: int, *, detected: int = 0) -> list[Moment]:
    """Take so many moments, and on until so many were looked at; none may have the faces of another frame."""
    taken: list[Moment] = []
    async with asyncio.timeout(30):
        while len(taken) < count or sum(moment.detected for moment in taken) < detected:
            moment = await anext(moments)
            taken.append(moment)
            if moment.faces:
                shown = TestPattern.read_number(moment.frame.to_ndarray(format="gray"))
                assert shown in {number_of(moment.faces[0]), None}
    return taken


@pytest.mark.usefixtures("asked")
async def test_faces_go_back_to_a_broadcaster_that_asks_for_them(server: SignalingServer) -> None:
    async with (
        Asking(server.url, TestPattern(CARD)) as broadcaster,
        Receiver(server.url, detector=NumberFace(), return_faces=True, faces_wait=PATIENT) as receiver,
    ):
        found = {m.rtp_timestamp: number_of(m.faces[0]) for m in await take(receiver, 20, detected=10) if m.faces}
        await until(lambda: broadcaster.returned.get("returned"))
        await broadcaster.publish("other", TestPattern(CARD))
        await take(receiver.moments("other"), 5, detected=3)
        await until(lambda: broadcaster.returned.get("returned:other"))
    returned = [message for message in broadcaster.returned["returned"] if message.rtp_timestamp in found]
    assert returned
    assert all(number_of(message.faces[0]) == found[message.rtp_timestamp] for message in returned if message.detected)


@pytest.mark.usefixtures("asked")
async def test_faces_do_not_go_back_unless_that_is_wanted(server: SignalingServer) -> None:
    async with (
        Asking(server.url, TestPattern(CARD)) as broadcaster,
        Receiver(server.url, detector=NumberFace()) as receiver,
    ):
        await take(receiver, 10, detected=5)
    assert broadcaster.returned == {}


async def test_a_broadcaster_that_does_not_ask_gets_none_back(server: SignalingServer) -> None:
    async with (
        Asking(server.url, TestPattern(CARD)) as broadcaster,
        Receiver(server.url, detector=NumberFace(), return_faces=True) as receiver,
    ):
        await take(receiver, 10, detected=5)
    assert broadcaster.returned == {}


async def test_a_detector_is_entered_and_left_by_the_receiver_and_never_asked_where_there_are_faces(
    server: SignalingServer,
) -> None:
    detector = Entered()
    async with (
        Broadcaster(server.url, TestPattern(CARD), faces=NumberFace()),
        Receiver(server.url, detector=detector, faces_wait=PATIENT) as receiver,
    ):
        await take(receiver, 20, detected=10)
        assert (receiver.streams["camera"].detector, receiver.stats.looked_at) == ("NumberFace", 0)
    assert (detector.log, detector.calls) == (["entered", "left"], 0)


@pytest.mark.parametrize("faces", [None, NumberFace()])
async def test_who_tells_nothing_of_its_streams_has_half_a_second_to_send_faces(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch, faces: NumberFace | None
) -> None:
    monkeypatch.setattr(synopticon_rtc.receiver, "ACCEPT", {"ice": ["more"]})  # a page, to the broadcaster
    detector = NumberFace()
    async with (
        Broadcaster(server.url, TestPattern(CARD), faces=faces),
        Receiver(server.url, detector=detector, faces_wait=PATIENT) as receiver,
    ):
        moments = await take(receiver, 45)  # 1.5 s
        assert not moments[0].detected
    if faces is None:
        assert sum(moment.detected for moment in moments[30:]) > 5
    else:
        assert detector.calls == 0
        assert any(moment.faces for moment in moments)


async def test_a_detector_that_fails_is_told_and_the_video_goes_on(
    server: SignalingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection, "TOLERATED", 0.2)
    events: list[DetectorEvent] = []
    async with (
        Broadcaster(server.url, TestPattern(CARD)),
        Receiver(server.url, detector=Failing(), faces_wait=PATIENT) as receiver,
    ):
        receiver.detector_events.subscribe(events.append)
        while not events:
            assert not (await take(receiver, 1))[0].detected
        assert not any(moment.detected for moment in await take(receiver, 10))
        assert receiver.stats.faults > 0
    assert [event.state for event in events] == ["ended"]
    assert "no faces in" in events[0].reason


async def test_each_further_stream_is_looked_at_by_another_of_a_detector_that_follows_faces(
    server: SignalingServer,
) -> None:
    detector = Entered()
    async with (
        Broadcaster(server.url, TestPattern(CARD)) as broadcaster,
        Receiver(server.url, detector=detector, faces_wait=PATIENT) as receiver,
    ):
        await take(receiver, 5, detected=3)
        other = await broadcaster.publish("other", TestPattern(CARD))
        await until(lambda: "other" in receiver.streams and receiver.streams["other"].stats.frames > 3)
        assert len(detector.made) == 1  # nobody wants to know
        await take(receiver.moments("other"), 5, detected=3)
        assert [made.log for made in detector.made] == [["entered"], ["entered"]]
        await other.unpublish()
        await until(lambda: detector.made[1].log == ["entered", "left"])
        await take(receiver, 5, detected=3)
    assert detector.log == ["entered", "left"]


async def test_a_detector_of_which_there_is_one_looks_at_all_streams_in_turn(server: SignalingServer) -> None:
    async with (
        Broadcaster(server.url, TestPattern(CARD)) as broadcaster,
        Receiver(server.url, detector=Alone(), faces_wait=PATIENT) as receiver,
    ):
        await broadcaster.publish("other", TestPattern(CARD))
        await asyncio.gather(take(receiver, 30, detected=10), take(receiver.moments("other"), 30, detected=10))
        assert receiver.stats.faults == 0


@pytest.mark.parametrize("error", [ModelError("there is no model"), ValueError("nonsense")])
async def test_a_further_stream_whose_detector_cannot_be_had_goes_without_faces(
    server: SignalingServer, error: Exception
) -> None:
    events: list[DetectorEvent] = []
    async with (
        Broadcaster(server.url, TestPattern(CARD)) as broadcaster,
        Receiver(server.url, detector=Entered(error=error), faces_wait=PATIENT) as receiver,
    ):
        receiver.detector_events.subscribe(events.append)
        await broadcaster.publish("other", TestPattern(CARD))
        moments = await take(receiver.moments("other"), 10)
        await take(receiver, 5, detected=3)
    assert not any(moment.detected for moment in moments)
    assert [event.reason for event in events] == [str(error)]


async def test_a_detector_of_which_no_other_can_be_made_is_asked_for_one_once(server: SignalingServer) -> None:
    asked: list[None] = []

    class Only(NumberFace):
        def another(self) -> Detector:
            asked.append(None)
            raise ValueError("there is only this one")

    async with (
        Broadcaster(server.url, TestPattern(CARD)) as broadcaster,
        Receiver(server.url, detector=Only(), faces_wait=PATIENT) as receiver,
    ):
        await broadcaster.publish("other", TestPattern(CARD))
        moments = await take(receiver.moments("other"), 10)
        await take(receiver, 5, detected=3)
        assert receiver.stats.faults == 1
    assert len(asked) == 1
    assert not any(moment.detected for moment in moments)


async def test_a_recording_beside_it_keeps_what_was_found_but_nobody_looks_at_a_screen_for_it(
    server: SignalingServer, tmp_path: Path
) -> None:
    path = tmp_path / "talk.mkv"
    async with (
        Broadcaster(server.url, TestPattern(CARD)) as broadcaster,
        Receiver(server.url, detector=NumberFace(), faces_wait=PATIENT) as receiver,
    ):
        await broadcaster.publish("screen", Shown(CARD))
        await until(lambda: "screen" in receiver.streams and receiver.streams["screen"].stats.frames)
        async with Recorder(path, receiver):
            await take(receiver, 40, detected=25)
        assert receiver.streams["screen"].stats.looked_at == 0
    async with Recording(path) as recording:
        assert {name: stream.detector for name, stream in recording.streams.items()} == {
            "camera": "NumberFace",
            "screen": "",
        }
        moments = [moment async for moment in recording]
    assert sum(bool(moment.faces) for moment in moments) > 10
    assert all(
        number_of(moment.faces[0]) == TestPattern.read_number(moment.frame.to_ndarray(format="gray"))
        for moment in moments
        if moment.faces
    )


async def test_the_model_of_a_detector_that_cannot_be_had_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        await Receiver("ws://127.0.0.1:1/ws", detector=FaceLandmarker(model=tmp_path / "none.task")).start()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"detector": NumberFace(), "decode": False}, ValueError, "decode=False"),
        ({"detector": NumberFace(), "video": False}, ValueError, "video=False"),
        ({"return_faces": True}, ValueError, "detector="),
        ({"detector": NumberFace(), "faces_fps": 0}, ValueError, "faces_fps"),
        ({"detector": NumberFace}, TypeError, r"give NumberFace\(\)"),
        ({"detector": "mediapipe"}, TypeError, "detector must be"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Receiver("ws://127.0.0.1:1/ws", **options)


async def test_the_face_model_finds_a_face_in_what_is_received(server: SignalingServer, face_model: Path) -> None:
    async with (
        Broadcaster(server.url, Portrait((640, 360))),
        Receiver(server.url, detector=FaceLandmarker(model=face_model), faces_wait=PATIENT) as receiver,
        asyncio.timeout(30),
    ):
        while not (moment := await anext(receiver)).faces or receiver.stats.delay is None:
            pass
        assert moment.detected
        assert 0 < (receiver.stats.delays.detection or 0) < (receiver.stats.delays.waiting or 0) + 1
        assert receiver.streams["camera"].detector.startswith(("LiteRT", "MediaPipe"))
