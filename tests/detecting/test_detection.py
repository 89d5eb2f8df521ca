"""Detectors of an application's own, and what they do."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from waiting import turns

from synopticon_rtc import Face, TestPattern
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.detecting import detection
from synopticon_rtc.detecting.detection import TOLERATED, Detection
from synopticon_rtc.errors import DetectorError

FRAME = TestPattern((64, 48), 30).draw(0)


def face(points: int = 478, *, at: float = 0.5, **more: Any) -> Face:
    landmarks = np.full((points, 3), at, np.float32) + np.linspace(0, 0.1, points, dtype=np.float32)[:, None]
    return dataclasses.replace(Face(landmarks, {}), **more)


class Giving:
    """Gives what it is told to, each time the next."""

    def __init__(self, *given: object) -> None:
        self._given = list(given)

    async def detect(self, frame: av.VideoFrame) -> Any:  # noqa: ARG002 - whichever it is
        given = self._given.pop(0)
        if isinstance(given, BaseException):
            raise given
        return given


class Plain:
    def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002
        return [face()]


class Yielding:
    async def detect(self, frame: av.VideoFrame) -> AsyncIterator[Face]:  # noqa: ARG002
        yield face()


def generator() -> Iterator[Face]:
    yield face()


async def test_faces_have_ids_that_stay_theirs() -> None:
    detection = Detection(Giving([face(at=0.1), face(at=0.7)], [face(at=0.71)]))
    assert [each.id for each in await detection.look(FRAME, 0.0) or ()] == [0, 1]
    assert [each.id for each in await detection.look(FRAME, 0.1) or ()] == [1]


@pytest.mark.parametrize("detector", [Plain(), Yielding(), Giving(generator()), Giving(iter([face()]))])
async def test_faces_are_taken_however_they_come(detector: Any) -> None:
    found = await Detection(detector).look(FRAME, 0.0)
    assert found is not None
    assert len(found) == 1


@pytest.mark.parametrize(
    "result",
    [
        ValueError("out of memory"),
        asyncio.CancelledError(),
        [face(at=np.nan)],
        [face(at=1e6)],
        [face()] * 50,
        [face(5)],
        [Face(np.zeros(1434, np.float32), {})],
        [face(blendshapes={"smile": 1.0})],
        [face(blendshapes={"jawOpen": float("nan")})],
        [face(matrix=np.eye(3, dtype=np.float32))],
        [SimpleNamespace(landmarks=np.zeros((478, 3)))],
        [None],
        face(),
        None,
        3,
        "faces",
    ],
    ids=lambda result: str(result)[:20],
)
async def test_a_frame_with_a_bad_result_was_not_looked_at_and_the_next_is(
    result: object, caplog: pytest.LogCaptureFixture
) -> None:
    detection = Detection(Giving([face()], result, [face()]))
    before, bad, after = [await detection.look(FRAME, now) for now in (0.0, 0.1, 0.2)]
    assert bad is None
    assert before is not None
    assert after is not None
    assert after[0].id == before[0].id
    (record,) = caplog.records
    assert record.message == "the detector failed on a frame, which goes without faces"
    assert record.exc_info


async def test_failures_are_counted_and_not_each_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults()
    detection = Detection(Giving(*[ValueError("no")] * 100), faults)
    for number in range(100):
        await detection.look(FRAME, number / 100)
    assert faults.count == 100
    assert len(caplog.records) == 1


async def test_a_detector_that_fails_for_five_seconds_is_given_up() -> None:
    detection = Detection(Giving(ValueError("a"), [face()], *[ValueError("gone")] * 3))
    times = [0.0, 1.0, 1.1, 1.1 + TOLERATED - 0.1]
    assert [await detection.look(FRAME, now) is None for now in times] == [True, False, True, True]
    with pytest.raises(DetectorError, match="gone"):
        await detection.look(FRAME, 1.1 + TOLERATED)


async def test_being_cancelled_is_no_failure() -> None:
    class Slow:
        async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002
            await asyncio.Event().wait()
            return []

    looking = asyncio.create_task(Detection(Slow()).look(FRAME, 0.0))
    await turns()
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking


class Hangs:
    """Looks at a frame until somebody complains."""

    def __init__(self) -> None:
        self.released = asyncio.Event()

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - it sees nothing
        await self.released.wait()
        return []


async def test_a_detector_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, said = Hangs(), list[str]()

    def warn(text: str, *args: object) -> None:
        said.append(text % args)
        detector.released.set()

    monkeypatch.setattr(detection, "TOLERATED", 0.01)
    monkeypatch.setattr(detection.logger, "warning", warn)
    assert await Detection(detector).look(FRAME, 0) == ()
    assert said == ["the detector has looked at one frame for 0.01 s"]
