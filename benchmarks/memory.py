"""Memory: what receivers that stand still or are slow cost the sender and the others, and what each one takes.

1280x720 at 30 fps, VP8. Of three receivers one is stopped for 20 s (SIGSTOP) and goes on, one takes 200 ms over every
frame, and one is well. Then one sender gets ever more receivers that only count. ``python -m benchmarks.memory``.
"""

import asyncio
import signal
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass

from benchmarks.children import RECEIVERS, SENDER, Child, child, pin
from benchmarks.crowd import worst_second
from benchmarks.fanout import SETTLE, audience
from benchmarks.report import WHO, Bar, Plot, Result, Table, alone
from synopticon_rtc import SignalingServer

STOPPED = 20.0
"""Seconds for which a receiver is stopped."""
AFTER = 10.0
"""Seconds that are watched before and after."""
PAUSE = 0.2
"""Seconds that the slow one takes over a frame."""
FLAT_MB = 10.0
SLOW_MS = 300.0
DIP = 0.9
"""The share of its frames of a second that the one that is well keeps at the least."""
SIZES = {"ours": (1, 50, 100), "plain": (1, 2, 3)}
MB = 1e6


@dataclass(frozen=True, slots=True)
class Stall:
    """What came of a receiver that was stopped, and of a slow one.

    Attributes:
        who: ``ours`` or ``plain``.
        rss: Memory of the sender over time: seconds since the stop, MB.
        well_before: Frames in the worst second of the receiver that is well, before the stop.
        well: The same from the stop on.
        back: Seconds from the end of the stop until the stopped one has a fresh frame: one drawn since. None if it got
            none.
        stopped_ms: How old the frames were that the stopped one had in the end, the median, ms.
        slow_ms: How old frames were when the slow one took them: seconds since the stop, ms.
    """

    who: str
    rss: list[tuple[float, float]]
    well_before: int
    well: int
    back: float | None
    stopped_ms: float | None
    slow_ms: list[tuple[float, float]]

    @property
    def grown(self) -> float:
        """MB by which the sender grew."""
        before = [mb for at, mb in self.rss if at < 0]
        return max(mb for _, mb in self.rss) - max(before)


async def stall(who: str, stopped_for: float, after: float) -> Stall:
    """Stop a receiver for a while, with a slow one and one that is well beside it."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(SignalingServer(port=0))
        sender = await stack.enter_async_context(child("benchmarks.sender", who, server.url, "card", core=SENDER))
        well, slow, stopped = [
            await stack.enter_async_context(child("benchmarks.watching", who, server.url, core=RECEIVERS))
            for _ in range(3)
        ]
        for receiver in (well, slow, stopped):
            await receiver.ask("join", count=1, numbers=True, pause=PAUSE if receiver is slow else 0.0)
        await asyncio.sleep(SETTLE)
        since = time.monotonic()
        stop = since + after
        rss = await _watch(sender, stop, after)
        stopped.send_signal(signal.SIGSTOP)
        try:
            rss += await _watch(sender, stop, stopped_for)
        finally:
            stopped.send_signal(signal.SIGCONT)
        resumed = time.monotonic()
        rss += await _watch(sender, stop, after)
        until = time.monotonic()
        seen = {}
        for receiver in (well, slow, stopped):
            (seen[receiver],) = await receiver.ask("seen", since=since)
        drawn = {int(number): at for number, at in (await sender.ask("drawn")).items()}
    age = {
        receiver: [(at, at - drawn[number]) for at, number, *_ in pictures if number in drawn]
        for receiver, pictures in seen.items()
    }
    times = [at for at, *_ in seen[well]]
    last = [seconds for at, seconds in age[stopped] if at > until - after / 2]
    return Stall(
        who,
        rss,
        worst_second(times, since, stop),
        worst_second(times, stop, until),
        next((at - resumed for at, seconds in age[stopped] if at > resumed and at - seconds > resumed), None),
        1e3 * statistics.median(last) if last else None,
        [(at - stop, 1e3 * seconds) for at, seconds in age[slow]],
    )


async def _watch(sender: Child, zero: float, seconds: float) -> list[tuple[float, float]]:
    """Note the sender's memory twice a second."""
    noted = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        noted.append((time.monotonic() - zero, sender.rss() / MB))
        await asyncio.sleep(0.5)
    return noted


async def receivers(who: str, sizes: Sequence[int]) -> list[tuple[int, float]]:
    """Measure the sender's memory in MB with ever more receivers."""
    found = []
    async with audience(who) as (_, sender, crowd):
        there = 0
        for size in sizes:
            await crowd.ask("join", count=size - there)
            there = size
            await asyncio.sleep(SETTLE)
            found.append((size, sender.rss() / MB))
    return found


def each(found: Sequence[tuple[int, float]]) -> float:
    """Return the KB that one more receiver takes."""
    (few, little), (many, much) = found[0], found[-1]
    return 1e3 * (much - little) / (many - few)


def _slow(one: Stall) -> tuple[float, float]:
    """How old frames were that the slow one took: at most before the middle, and at most after it, ms."""
    middle = statistics.mean((one.slow_ms[0][0], one.slow_ms[-1][0]))
    return max(ms for at, ms in one.slow_ms if at <= middle), max(ms for at, ms in one.slow_ms if at >= middle)


def _row(one: Stall, found: Sequence[tuple[int, float]]) -> tuple[str, ...]:
    return (
        WHO[one.who],
        f"{one.grown:.1f}",
        str(one.well_before),
        str(one.well),
        "never" if one.back is None else f"{one.back:.1f}",
        "" if one.stopped_ms is None else f"{one.stopped_ms:.0f}",
        *(f"{ms:.0f}" for ms in _slow(one)),
        f"{each(found):.0f}",
    )


async def run(*, quick: bool) -> Result:
    """Measure one after the other: each takes its time."""
    pin(RECEIVERS)
    stopped, after = (6.0, 4.0) if quick else (STOPPED, AFTER)
    stalls = {who: await stall(who, stopped, after) for who in WHO}
    grown = {who: await receivers(who, sizes) for who, sizes in SIZES.items()}
    columns = ("", "grown, MB", "well, fps", "at stop", "back, s", "age, ms", "slow, ms", "later", "KB each")
    table = Table(
        f"One receiver stopped for {stopped:g} s, one that takes {1e3 * PAUSE:g} ms over every frame, one that is well",
        columns,
        [_row(one, grown[who]) for who, one in stalls.items()],
        (
            "grown: memory of the sender from the stop on; fps: the worst second of the one that is well.",
            "back: from the end of the stop to a frame drawn since; age: of the frames that it has in the end.",
            "slow: the oldest frame that the slow one took, in the first half of the time and in the second.",
            "KB each: memory of the sender for one more receiver, from "
            + ", ".join(f"{sizes[0]} to {sizes[-1]} ({WHO[who]})" for who, sizes in SIZES.items()),
        ),
    )
    ours = stalls["ours"]
    early, late = _slow(ours)
    bars = [
        Bar(f"the sender grew by {ours.grown:.1f} MB; at most {FLAT_MB:g}", ours.grown <= FLAT_MB),
        Bar(
            f"{ours.well} frames in the worst second of the one that is well, {ours.well_before} before; "
            f"at least {DIP:g} times as many",
            ours.well >= DIP * ours.well_before,
        ),
        Bar(
            f"the slow one is at most {max(early, late):.0f} ms late; at most {SLOW_MS:g}", max(early, late) <= SLOW_MS
        ),
        Bar(f"it is {late:.0f} ms late in the end, {early:.0f} at first: not more", late <= early + 1e3 / 30),
    ]
    plots = [
        Plot(
            "Memory of the sender", "s since one receiver was stopped", "MB", {WHO[w]: s.rss for w, s in stalls.items()}
        ),
        Plot(
            "Age of the frames that a slow receiver takes",
            "s since another was stopped",
            "ms",
            {WHO[w]: s.slow_ms for w, s in stalls.items()},
        ),
    ]
    return Result([table], bars, plots, {"stalls": [asdict(one) for one in stalls.values()], "receivers": grown})


if __name__ == "__main__":
    alone(run)
