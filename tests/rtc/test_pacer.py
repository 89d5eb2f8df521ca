"""Turns to send, in order and without flooding."""

import asyncio
import itertools
import time

import pytest

from synopticon_rtc.rtc.pacer import INTERVAL, SLICE, Pacer, Turn


def turn(log: list[tuple[str, float]], name: str, times: int, seconds: float = 0.0) -> Turn:
    left = times

    def take(now: float) -> bool:  # noqa: ARG001 - as turns are called
        nonlocal left
        left -= 1
        log.append((name, time.perf_counter()))
        time.sleep(seconds)
        return left > 0

    return take


async def test_what_is_due_is_sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synopticon_rtc.rtc.pacer.SLICE", 10)  # however busy the machine is
    log: list[tuple[str, float]] = []
    pacer = Pacer()
    for name in "abc":
        pacer.add(turn(log, name, 1))
    assert not log
    pacer.run()
    assert [name for name, _ in log] == ["a", "b", "c"]


async def test_a_peer_with_more_to_send_has_its_next_turn_a_moment_later() -> None:
    log: list[tuple[str, float]] = []
    pacer = Pacer()
    pacer.add(turn(log, "a", 3))
    pacer.run()
    pacer.add(turn(log, "b", 1))
    pacer.run()
    async with asyncio.timeout(10):
        while len(log) < 4:  # noqa: ASYNC110 - turns tell nothing
            await asyncio.sleep(INTERVAL)
    assert [name for name, _ in log] == ["a", "b", "a", "a"]
    bursts = [when for name, when in log if name == "a"]
    assert min(later - earlier for earlier, later in itertools.pairwise(bursts)) > INTERVAL * 0.8


async def test_the_event_loop_has_its_turn_between_those_of_many_peers() -> None:
    log: list[tuple[str, float]] = []
    pacer = Pacer()
    for number in range(30):
        pacer.add(turn(log, str(number), 1, seconds=SLICE / 4))
    pacer.run()
    first = len(log)
    assert 1 <= first <= 8
    others = 0
    while len(log) < 30:
        await asyncio.sleep(0)
        others += 1
    assert others >= 3
    assert [name for name, _ in log] == [str(number) for number in range(30)]


async def test_a_turn_is_taken_though_nobody_asks_for_it() -> None:
    log: list[tuple[str, float]] = []
    pacer = Pacer()
    pacer.add(turn(log, "a", 2))
    assert not log
    async with asyncio.timeout(10):
        while len(log) < 2:  # noqa: ASYNC110 - turns tell nothing
            await asyncio.sleep(INTERVAL)


async def test_a_turn_that_fails_keeps_no_other_from_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synopticon_rtc.rtc.pacer.SLICE", 10)  # however busy the machine is
    log: list[tuple[str, float]] = []

    def fail(now: float) -> bool:  # noqa: ARG001 - as turns are called
        raise RuntimeError("broken")

    pacer = Pacer()
    pacer.add(turn(log, "a", 2))
    pacer.add(fail)
    pacer.add(turn(log, "b", 1))
    with pytest.raises(RuntimeError, match="broken"):
        pacer.run()
    async with asyncio.timeout(10):
        while len(log) < 3:  # noqa: ASYNC110 - turns tell nothing
            await asyncio.sleep(INTERVAL)
    assert sorted(name for name, _ in log) == ["a", "a", "b"]


async def test_turns_are_passed_the_time_of_the_event_loop() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    def take(now: float) -> bool:
        times.append(now)
        return False

    pacer = Pacer()
    pacer.add(take)
    pacer.add(take)
    begun = loop.time()
    pacer.run()
    assert times[0] == times[1]
    assert begun <= times[0] <= loop.time()
