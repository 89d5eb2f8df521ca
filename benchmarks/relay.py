"""Relays: what they add to glass to glass, what they cost beside a broadcaster, and how soon a killed one is back.

1280x720 at 30 fps, VP8 at 1.5 Mbit/s. The broadcaster and its relays share a core; the receivers have another. Glass to
glass is told by the number that each frame shows, with and without a relay by turns. What both cost is the CPU time of
the thread that sends, which is all but the encoder: the relay's has the reception of the video in it.
``python -m benchmarks.relay [--quick]``.
"""

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.children import RECEIVERS, SENDER, Child, child, pin, serve
from benchmarks.fanout import FULL, SETTLE
from benchmarks.glass import watch
from benchmarks.recovery import PATIENCE, end, start
from benchmarks.report import Bar, Result, Table, alone, percentile
from synopticon_rtc import Receiver, Relay, SignalingClient, SignalingServer
from synopticon_rtc.commands.memory import collect_often

AROUND = 32
"""Receivers of whom it is told what they cost."""
BEHIND = 50
"""Receivers behind each of two relays."""
ADDED_MEDIAN_MS, ADDED_P95_MS = 5.0, 10.0
COST = 1.2
"""The most that a relay may cost of what a broadcaster does for the same receivers."""
ALIKE = 1.1
"""The most that a source with two relays may cost of what it costs with two receivers."""
BACK = 5.0
"""Seconds from the start of a relay in the place of one that was killed to the next picture."""
PERCENTILES = (50, 95, 99)


def room(url: str, name: str) -> str:
    """Return the address of a room of a server."""
    return f"{url}?room={name}"


async def relay(source: str, to: str) -> None:
    """Be a relay under measurement."""
    relay = Relay(SignalingClient(source), SignalingClient(to))

    async def usage() -> dict[str, float]:
        return {"time": time.monotonic(), "cpu": time.process_time(), "loop_cpu": time.thread_time()}

    async with relay:
        collect_often()
        await serve(usage=usage)


@contextlib.asynccontextmanager
async def relayed(url: str, to: str) -> AsyncIterator[Child]:
    """A relay from the room of the broadcaster to another one."""
    async with child("benchmarks.relay", "relay", room(url, "source"), room(url, to), core=SENDER) as made:
        yield made


@contextlib.asynccontextmanager
async def source(url: str, kind: str) -> AsyncIterator[Child]:
    """The broadcaster."""
    async with child("benchmarks.sender", "ours", room(url, "source"), kind, core=SENDER) as made:
        yield made


# Glass to glass


async def glass(seconds: float, *, by_relay: bool) -> list[float]:
    """Watch the broadcaster, or a relay, with one receiver; return how long each frame was on its way, ms."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(SignalingServer(port=0))
        sender = await stack.enter_async_context(source(server.url, "card"))
        if by_relay:
            await stack.enter_async_context(relayed(server.url, "hall"))
        watched = room(server.url, "hall" if by_relay else "source")
        watching = child("benchmarks.watching", "ours", watched, core=RECEIVERS)
        return (await watch(sender, await stack.enter_async_context(watching), seconds)).ms


# What it costs


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process spent over some seconds.

    Attributes:
        who: Which.
        receivers: How many it served.
        fps: Frames a second, of the receiver in the middle; 0 where they are others' receivers.
        cores: CPU time a second.
        loop: The same of the event loop's thread alone.
    """

    who: str
    receivers: int
    fps: float
    cores: float
    loop: float


async def cost(who: str, process: Child, crowd: Child | None, receivers: int, seconds: float) -> Cost:
    """Measure one."""
    before, since = await process.ask("usage"), await crowd.ask("totals") if crowd else None
    await asyncio.sleep(seconds)
    after, until = await process.ask("usage"), await crowd.ask("totals") if crowd else None
    span = after["time"] - before["time"]
    fps = 0.0
    if since and until:
        counted = [now - then for now, then in zip(until["frames"], since["frames"], strict=True)]
        fps = statistics.median(counted) / (until["time"] - since["time"])
    return Cost(
        who, receivers, fps, (after["cpu"] - before["cpu"]) / span, (after["loop_cpu"] - before["loop_cpu"]) / span
    )


async def alone_with(receivers: int, seconds: float, *, by_relay: bool) -> Cost:
    """Measure a broadcaster with receivers, or a relay with as many."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(SignalingServer(port=0))
        measured = await stack.enter_async_context(source(server.url, "reel"))
        if by_relay:
            measured = await stack.enter_async_context(relayed(server.url, "hall"))
        watched = room(server.url, "hall" if by_relay else "source")
        crowd = await stack.enter_async_context(child("benchmarks.counting", "ours", watched, core=RECEIVERS))
        await crowd.ask("join", count=receivers)
        await asyncio.sleep(SETTLE)
        return await cost("a relay" if by_relay else "the broadcaster", measured, crowd, receivers, seconds)


async def beside(receivers: int, seconds: float) -> tuple[Cost, Cost]:
    """Measure both, one after the other."""
    return (
        await alone_with(receivers, seconds, by_relay=False),
        await alone_with(receivers, seconds, by_relay=True),
    )


async def tree(behind: int, seconds: float) -> tuple[Cost, Cost, Cost]:
    """Measure a broadcaster with two receivers, and with two relays that have many each; and one of these."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(SignalingServer(port=0))
        sender = await stack.enter_async_context(source(server.url, "reel"))
        async with child("benchmarks.watching", "ours", room(server.url, "source"), core=RECEIVERS) as two:
            await two.ask("join", count=2, encoded=True)
            await asyncio.sleep(SETTLE)
            alone = await cost("the broadcaster with two receivers", sender, None, 2, seconds)
        relays, crowds = [], []
        for name in ("hall", "library"):
            relays.append(await stack.enter_async_context(relayed(server.url, name)))
            counting = child("benchmarks.counting", "ours", room(server.url, name), core=RECEIVERS)
            crowds.append(await stack.enter_async_context(counting))
            await crowds[-1].ask("join", count=behind)
        await asyncio.sleep(SETTLE)
        with_relays, one = await asyncio.gather(
            cost("the broadcaster with two relays", sender, None, 2, seconds),
            cost("one of the relays", relays[0], crowds[0], behind, seconds),
        )
    return alone, with_relays, one


# Killed


async def killed() -> float:
    """Kill a relay, and start another; return the seconds from then to the next picture."""
    pictures = asyncio.Event()

    async def consume(receiver: Receiver[Any]) -> None:
        async for _ in receiver:
            pictures.set()

    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(SignalingServer(port=0))
        await stack.enter_async_context(source(server.url, "reel"))
        command = ["synopticon_rtc.relay", "--json", "--from", room(server.url, "source")]
        command += ["--to", room(server.url, "hall")]
        relay = await start(*command)
        async with Receiver(room(server.url, "hall")) as receiver, asyncio.timeout(PATIENCE):
            consuming = asyncio.create_task(consume(receiver))
            await pictures.wait()
            await asyncio.sleep(SETTLE)
            relay.kill()
            await end(relay)
            await asyncio.sleep(SETTLE)
            pictures.clear()
            begun = time.perf_counter()
            relay = await start(*command)
            await pictures.wait()
            seconds = time.perf_counter() - begun
            consuming.cancel()
        await end(relay)
    return seconds


async def run(*, quick: bool) -> Result:
    """Measure."""
    pin(RECEIVERS)
    seconds, rounds = (4.0, 1) if quick else (10.0, 3)
    ways: dict[str, list[float]] = {"without a relay": [], "by a relay": []}
    for _ in range(rounds):
        for way in ways:
            ways[way] += await glass(seconds, by_relay=way == "by a relay")
    pairs = [await beside(AROUND, seconds / 2) for _ in range(rounds)]
    trees = [await tree(BEHIND, seconds / 2) for _ in range(rounds)]
    back = [await killed() for _ in range(rounds)]

    delays = Table(
        "Glass to glass, ms",
        ("", "median", "p95", "p99", "frames"),
        [(way, *(f"{percentile(ms, at):.1f}" for at in PERCENTILES), str(len(ms))) for way, ms in ways.items()],
    )
    ratio = statistics.median(there.loop / direct.loop for direct, there in pairs)
    alike = statistics.median(relays.cores / two.cores for two, relays, _ in trees)
    fps = min(one.fps for *_, one in trees)
    costs = Table(
        "What they cost",
        ("", "receivers", "fps", "cores", "of these the loop"),
        [
            (one.who, str(one.receivers), f"{one.fps:.1f}" if one.fps else "", f"{one.cores:.3f}", f"{one.loop:.3f}")
            for one in (*pairs[-1], *trees[-1])
        ],
    )
    direct, there = ways.values()
    added = [percentile(there, at) - percentile(direct, at) for at in (50, 95)]
    bars = [
        Bar(f"adds {added[0]:.1f} ms, median; at most {ADDED_MEDIAN_MS:g}", added[0] <= ADDED_MEDIAN_MS),
        Bar(f"adds {added[1]:.1f} ms, p95; at most {ADDED_P95_MS:g}", added[1] <= ADDED_P95_MS),
        Bar(
            f"{AROUND} receivers: {ratio:.2f} times what the broadcaster's loop costs; at most {COST:g}", ratio <= COST
        ),
        Bar(
            f"{2 * BEHIND} receivers behind two relays: the source costs {alike:.2f} times what it does with two "
            f"receivers; at most {ALIKE:g}",
            alike <= ALIKE,
        ),
        Bar(f"{2 * BEHIND} receivers behind two relays: {fps:.1f} fps; at least {FULL}", fps >= FULL),
        Bar(f"killed: a picture {max(back):.2f} s after another relay is started; at most {BACK:g}", max(back) <= BACK),
    ]
    data = {
        "ms": ways,
        "beside": [[asdict(one) for one in pair] for pair in pairs],
        "trees": [[asdict(one) for one in three] for three in trees],
        "back": back,
    }
    return Result([delays, costs], bars, data=data)


async def main(core: str, _: str, source: str, to: str) -> None:
    """Be a child."""
    pin(int(core))
    await relay(source, to)


if __name__ == "__main__":
    if "relay" in sys.argv[1:]:
        asyncio.run(main(*sys.argv[1:]))
    else:
        alone(run)
