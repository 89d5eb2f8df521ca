"""The slot between two tasks."""

import asyncio

from turned import elapse, turned
from waiting import turns

from synopticon_rtc.basics.latest import Latest, Unbroken


async def test_the_newest_item_replaces_what_was_not_taken() -> None:
    slot: Latest[int] = Latest()
    assert slot.put(1) == []
    assert slot.put(2) == [1]
    assert await slot.get() == 2


async def test_who_waits_gets_the_next_item() -> None:
    slot: Latest[int] = Latest()
    waiting = asyncio.create_task(slot.get())
    await turns()
    slot.put(1)
    assert await waiting == 1


async def test_a_cancelled_wait_takes_nothing() -> None:
    slot: Latest[int] = Latest()
    waiting = asyncio.create_task(slot.get())
    await turns()
    slot.put(1)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert await asyncio.wait_for(slot.get(), 20) == 1


@turned
async def test_a_burst_is_kept_and_old_items_still_give_way() -> None:
    slot: Latest[int] = Latest(linger=0.05)
    assert [slot.put(number) for number in (1, 2, 3)] == [[], [], []]
    await elapse(0.06)
    assert slot.put(4) == [1, 2, 3]
    assert await slot.get() == 4


async def test_of_items_that_build_on_one_another_none_is_left_out() -> None:
    slot: Unbroken[int] = Unbroken(10, lambda number: number % 10 == 0)
    assert [slot.put(number) for number in (10, 11, 12)] == [[], [], []]
    assert [await slot.get() for _ in range(3)] == [10, 11, 12]


@turned
async def test_items_that_wait_too_long_go_with_all_that_build_on_them() -> None:
    slot: Unbroken[int] = Unbroken(0.05, lambda number: number % 10 == 0)
    assert [slot.put(number) for number in (10, 11)] == [[], []]
    await elapse(0.06)
    assert slot.put(12) == [10, 11, 12]
    assert slot.put(13) == [13]
    assert [slot.put(number) for number in (20, 21)] == [[], []]
    assert [await slot.get() for _ in range(2)] == [20, 21]
    slot.put(22)
    await elapse(0.06)
    assert slot.put(30) == [22]
    assert await slot.get() == 30
