"""Events, to callbacks and to iterations."""

import asyncio

import pytest
from waiting import turns

from synopticon_rtc.events import KEPT, Events


async def collect(events: Events[int]) -> list[int]:
    return [event async for event in events]


async def test_callbacks_hear_every_event_until_they_leave() -> None:
    events: Events[int] = Events()
    heard: list[int] = []
    leave = events.subscribe(heard.append)
    events.emit(1)
    leave()
    events.emit(2)
    assert heard == [1]


async def test_a_callback_that_fails_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    events: Events[int] = Events()
    heard: list[int] = []
    events.subscribe(lambda _: heard[99])
    events.subscribe(heard.append)
    events.emit(1)
    assert heard == [1]
    assert "IndexError" in caplog.text


async def test_each_iteration_sees_all_from_its_start_to_the_close() -> None:
    events: Events[int] = Events()
    first = asyncio.create_task(collect(events))
    await turns()
    events.emit(1)
    second = asyncio.create_task(collect(events))
    await turns()
    events.emit(2)
    events.close()
    assert await first == [1, 2]
    assert await second == [2]


async def test_an_iteration_after_the_close_ends_at_once() -> None:
    events: Events[int] = Events()
    events.close()
    assert await asyncio.wait_for(collect(events), 20) == []


async def test_an_iteration_that_lags_behind_keeps_a_bounded_number() -> None:
    events: Events[int] = Events()
    task = asyncio.create_task(collect(events))
    await turns()
    for number in range(2 * KEPT):
        events.emit(number)
    events.close()
    assert await task == list(range(KEPT, 2 * KEPT))


async def test_it_is_known_whether_anybody_is_told() -> None:
    events: Events[int] = Events(kept=1)
    assert not events.heard
    leave = events.subscribe(print)
    assert events.heard
    leave()
    assert not events.heard
    task = asyncio.create_task(collect(events))
    await turns()
    assert events.heard
    for number in range(3):
        events.emit(number)
    events.close()
    assert await task == [2]
    assert not events.heard
