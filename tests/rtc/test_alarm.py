"""A timer that is set and cancelled again and again."""

import asyncio
from unittest.mock import patch

from turned import elapse, turned

from synopticon_rtc.rtc.alarm import Alarm


def alarm() -> tuple[Alarm, list[float]]:
    loop = asyncio.get_running_loop()
    rang: list[float] = []
    return Alarm(loop, lambda: rang.append(loop.time())), rang


@turned
async def test_it_calls_back_once_when_the_time_is_over() -> None:
    timer, rang = alarm()
    due = asyncio.get_running_loop().time() + 0.5
    timer.set(0.5)
    await elapse(2)
    assert rang == [due]


@turned
async def test_set_again_it_goes_by_the_newer_time_be_it_later_or_sooner() -> None:
    for second in (0.9, 0.1):
        timer, rang = alarm()
        timer.set(0.5)
        await elapse(0.05)
        due = asyncio.get_running_loop().time() + second
        timer.set(second)
        await elapse(2)
        assert rang == [due]


@turned
async def test_cancelled_or_closed_it_does_not_call_back_until_it_is_set_again() -> None:
    timer, rang = alarm()
    for stop in (timer.cancel, timer.close):
        timer.set(0.5)
        stop()
        await elapse(2)
        assert not rang
    timer.set(0.5)
    await elapse(2)
    assert len(rang) == 1


@turned
async def test_however_often_it_is_set_the_loop_has_a_timer_now_and_then() -> None:
    timer, rang = alarm()
    loop = asyncio.get_running_loop()
    with patch.object(loop, "call_at", wraps=loop.call_at) as told:
        for _ in range(300):
            timer.set(1.0)
            timer.cancel()
            timer.set(1.0)
            await asyncio.sleep(0)
            loop.now += 0.01  # type: ignore[attr-defined]
        assert told.call_count <= 4
    await elapse(2)
    assert len(rang) == 1
