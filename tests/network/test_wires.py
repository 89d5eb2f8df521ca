"""The network in memory does what it says."""

import asyncio
import random

import pytest
from turned import elapse, turned
from wires import HEADERS, Losses, Way


def way(**given: object) -> Way:
    return Way(random.Random(1), **given)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]  # noqa: S311 - no secret


async def sent(over: Way, count: int, octets: int = 100, interval: float = 0.0) -> list[tuple[float, int]]:
    """Send datagrams that are numbered, and return when which came."""
    loop, came = asyncio.get_running_loop(), list[tuple[float, int]]()
    begun = loop.time()
    for number in range(count):
        over.send(
            number.to_bytes(4, "big").ljust(octets, b"."),
            lambda data: came.append((round(loop.time() - begun, 6), int.from_bytes(data[:4], "big"))),
        )
        if interval:
            await elapse(interval)
    await elapse(60)
    return came


@turned
async def test_that_a_way_takes_its_delay_and_keeps_the_order() -> None:
    assert await sent(way(delay=0.25), 3) == [(0.25, number) for number in range(3)]


@turned
async def test_that_jitter_keeps_the_order() -> None:
    came = await sent(way(jitter=0.05), 200, interval=0.001)
    assert [number for _, number in came] == list(range(200))
    assert len({round(at - number * 0.001, 4) for at, number in came}) > 10


@turned
async def test_that_the_share_that_is_reordered_comes_behind_others() -> None:
    over = way(reordered=0.1, late=0.005)
    came = await sent(over, 1000, interval=0.001)
    assert sorted(number for _, number in came) == list(range(1000))
    assert 60 < over.overtaken < 140


@pytest.mark.parametrize("burst", [1, 4, 10])
def test_that_losses_have_their_share_and_their_length(burst: float) -> None:
    losses, chance = Losses(0.05, burst), random.Random(1)  # noqa: S311 - no secret
    lost = "".join("x" if losses.take(chance) else "." for _ in range(200_000))
    runs = [run for run in lost.split(".") if run]
    assert lost.count("x") / len(lost) == pytest.approx(0.05, rel=0.1)
    assert sum(map(len, runs)) / len(runs) == pytest.approx(burst, rel=0.1)


@turned
async def test_that_a_bottleneck_lets_through_its_rate_and_drops_what_its_queue_has_no_room_for() -> None:
    over = way(delay=0.0, rate=8 * (100 + HEADERS) * 10, queue=5 * (100 + HEADERS))
    came = await sent(over, 8)
    assert came == [((number + 1) / 10, number) for number in range(5)]
    assert over.dropped == 3


@turned
async def test_that_nothing_comes_through_while_a_way_is_down() -> None:
    over = way(up=False)
    assert not await sent(over, 3)
    over.up = True
    assert len(await sent(over, 3)) == 3
