"""A crowd: what fifty who watch notice of one who joins, and how late the sender's event loop is.

1280x720 at 30 fps, VP8 at 1.5 Mbit/s. The fifty count packets and frames (benchmarks/counting.py), those who join
decode. ``python -m benchmarks.crowd [--quick]``.
"""

import asyncio
import bisect
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks import join
from benchmarks.children import RECEIVERS, pin
from benchmarks.fanout import SETTLE, audience
from benchmarks.reel import FPS
from benchmarks.report import WHO, Bar, Result, Table, alone, percentile

THERE = 50
PAUSE = 1.0
"""Seconds between joins."""
JOIN_MS = 80.0
DIP = 0.1
"""The share of the frame rate that we promise nobody loses in any second in which others join."""
LAG_MS = 5.0


@dataclass(frozen=True, slots=True)
class Joined:
    """Receivers that joined while others watched.

    Attributes:
        who: ``ours`` or ``plain``.
        there: How many watched.
        first_frame_ms: From asking to the first decoded frame of each that joined, ms.
        quiet: Frames in the worst second of any of those who watched, while nobody joined.
        joining: The same while others joined.
        lag_ms: How late a timer on the sender's loop was while nobody joined: percentiles 50, 99 and 100, ms.
    """

    who: str
    there: int
    first_frame_ms: list[float]
    quiet: int | None
    joining: int | None
    lag_ms: tuple[float, float, float]


async def watch(who: str, there: int, joins: int, seconds: float) -> Joined:
    """Have receivers join a sender one after the other."""
    async with audience(who) as (url, sender, crowd):
        await crowd.ask("join", count=there)
        await asyncio.sleep(SETTLE)
        late = [1e3 * one for one in await sender.ask("lag", seconds=seconds)]
        quiet_since = (await crowd.ask("totals"))["time"]
        await asyncio.sleep(seconds)
        since = (await crowd.ask("totals"))["time"]
        took = []
        for _ in range(joins):
            took.append(1e3 * await join.JOINS[who](url, None))
            await asyncio.sleep(PAUSE)
        until = (await crowd.ask("totals"))["time"]
        times = await crowd.ask("times", since=quiet_since)
    return Joined(
        who,
        there,
        took,
        min((worst_second(one, quiet_since, since) for one in times), default=None),
        min((worst_second(one, since, until) for one in times), default=None),
        (percentile(late, 50), percentile(late, 99), percentile(late, 100)),
    )


def worst_second(times: Sequence[float], since: float, until: float) -> int:
    """Count the frames in the second that had fewest."""
    starts = [since, *(at for at in times if since <= at <= until - 1)]
    return min(bisect.bisect_right(times, at + 1) - bisect.bisect_right(times, at) for at in starts)


def _row(one: Joined) -> tuple[str, ...]:
    return (
        f"{one.there} there, {WHO[one.who]}",
        f"{statistics.median(one.first_frame_ms):.0f}",
        f"{max(one.first_frame_ms):.0f}",
        "" if one.quiet is None else str(one.quiet),
        "" if one.joining is None else str(one.joining),
        *(f"{late:.1f}" for late in one.lag_ms),
    )


def _bars(ours: Joined) -> list[Bar]:
    took = statistics.median(ours.first_frame_ms)
    least = (1 - DIP) * FPS
    joining = ours.joining or 0
    lag = ours.lag_ms[1]
    return [
        Bar(f"join with {ours.there} there: median {took:.0f} ms; at most {JOIN_MS:g}", took <= JOIN_MS),
        Bar(f"{joining} frames in their worst second while others join; at least {least:g}", joining >= least),
        Bar(f"the event loop with {ours.there} receivers: p99 {lag:.1f} ms late; at most {LAG_MS:g}", lag <= LAG_MS),
    ]


async def run(*, quick: bool) -> Result:
    """Measure: alone and with the crowd, both senders by turns."""
    pin(RECEIVERS)
    seconds, joins = (3.0, 3) if quick else (10.0, 10)
    found = [await watch(who, there, joins, seconds) for there in (0, THERE) for who in WHO]
    (ours,) = (one for one in found if one.who == "ours" and one.there)
    table = Table(
        f"Joins while others watch, {joins} each, and how late the event loop is",
        ("", "join, ms", "slowest", "fps, quiet", "fps, joining", "late, ms", "p99", "most"),
        [_row(one) for one in found],
        (
            "fps: frames in the worst second of whoever of those there had fewest.",
            "late: a timer of 1 ms on the sender's event loop, while nobody joins.",
        ),
    )
    return Result([table], _bars(ours), data={"joined": [asdict(one) for one in found]})


if __name__ == "__main__":
    alone(run)
