"""Which frames the detector gets, and what is told of each."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import av
import pytest
from waiting import until

from synopticon_rtc import DetectorEvent, Face
from synopticon_rtc.detecting.detection import Detection
from synopticon_rtc.detecting.search import FaceSearch
from synopticon_rtc.errors import DetectorError
from synopticon_rtc.sending.capture import Captured

FRAME = av.VideoFrame(64, 64, "yuv420p")
Told = list[tuple[int, bool]]  # of each frame, its ticks and whether it was looked at


class Gate:
    """A detector that finds nothing, and only when it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.begun = asyncio.Event()

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - whichever it is
        self.begun.set()
        await self.open.wait()
        return ()


def captured(number: int) -> Captured:
    return Captured(FRAME, number, number, 0.0)


@contextlib.asynccontextmanager
async def searching(gate: Gate, told: Told, most: float | None = None) -> AsyncIterator[FaceSearch[Captured]]:
    def tell(frame: Captured, faces: tuple[Face, ...] | None) -> None:
        told.append((frame.ticks, faces is not None))

    search = FaceSearch(gate, fps=30, most=most, tell=tell)
    running = asyncio.create_task(search.run())
    try:
        yield search
    finally:
        running.cancel()
        await asyncio.wait([running])


async def offer_four(search: FaceSearch[Captured], gate: Gate, apart: float) -> None:
    """Offer a frame, and three more at a distance (s) while the detector is busy with it."""
    now = asyncio.get_running_loop().time()
    search.offer(captured(0), now, wanted=True)
    await gate.begun.wait()
    for number in range(1, 4):
        search.offer(captured(number), now + number * apart, wanted=True)


async def until_told(told: Told, count: int) -> None:
    await until(lambda: len(told) >= count)


async def test_while_it_is_busy_the_newest_frame_waits_and_those_before_it_are_told_of_at_once() -> None:
    gate, told = Gate(), Told()
    async with searching(gate, told) as search:
        await offer_four(search, gate, 1 / 30)
        assert told == [(1, False), (2, False)]
        gate.open.set()
        await until_told(told, 4)
    assert told[2:] == [(0, True), (3, True)]


async def test_frames_that_come_close_together_wait_for_a_detector_that_keeps_up() -> None:
    gate, told = Gate(), Told()
    async with searching(gate, told) as search:
        await offer_four(search, gate, 1 / 1000)
        assert told == [(3, False)]
        gate.open.set()
        await until_told(told, 4)
    assert told[1:] == [(0, True), (1, True), (2, True)]


async def test_a_frame_that_nobody_wants_the_faces_of_is_not_looked_at() -> None:
    gate, told = Gate(), Told()
    gate.open.set()
    async with searching(gate, told) as search:
        now = asyncio.get_running_loop().time()
        search.offer(captured(0), now, wanted=False)
        search.offer(captured(1), now + 1, wanted=True)
        await until_told(told, 1)
    assert told == [(1, True)]


async def test_no_more_frames_are_looked_at_than_it_may() -> None:
    gate, told = Gate(), Told()
    async with searching(gate, told, most=5) as search:
        now = asyncio.get_running_loop().time()
        for number in range(3):
            search.offer(captured(number), now + number / 30, wanted=True)
    assert told == [(1, False), (2, False)]  # the first waits


async def test_after_the_detector_was_given_up_every_frame_is_told_of_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def give_up(*_: object) -> None:
        raise DetectorError("it has failed for 5 s")

    monkeypatch.setattr(Detection, "look", give_up)
    gate, told, events = Gate(), Told(), list[DetectorEvent]()
    async with searching(gate, told) as search:
        search.events.subscribe(events.append)
        now = asyncio.get_running_loop().time()
        search.offer(captured(0), now, wanted=True)
        await until_told(told, 1)
        search.offer(captured(1), now + 1, wanted=True)
        assert told == [(0, False), (1, False)]
    assert (search.ended, [event.reason for event in events]) == (True, ["it has failed for 5 s"])


async def test_a_frame_that_waits_while_the_detector_is_given_up_is_told_of() -> None:
    gate, told = Gate(), Told()
    async with searching(gate, told) as search:
        search.offer(captured(0), asyncio.get_running_loop().time(), wanted=True)
        search.end(DetectorError("it cannot be had"))
        await until_told(told, 1)
    assert told == [(0, False)]
