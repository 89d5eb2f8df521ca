"""Glass to glass: from a frame that is drawn to the same frame decoded at the receiver, told by the number it shows.

1280x720 at 30 fps, VP8, over this machine's own address; sender and receiver each on a core. The clock starts when the
source has drawn the frame, and stops when the application gets it. ``python -m benchmarks.glass [--quick]``.
"""

import asyncio
import statistics
from dataclasses import asdict, dataclass

from benchmarks.children import RECEIVERS, Child, pin
from benchmarks.fanout import SETTLE, audience
from benchmarks.report import WHO, Bar, Plot, Result, Table, alone, percentile

MEDIAN_MS, P95_MS = 15.0, 25.0
PERCENTILES = (50, 95, 99, 100)


@dataclass(frozen=True, slots=True)
class Way:
    """How long frames were on their way, ms, and how many came a second."""

    ms: list[float]
    fps: float
    unread: int
    """Frames whose number could not be read."""


async def measure(who: str, seconds: float) -> Way:
    """Watch one sender with one receiver."""
    async with audience(who, "benchmarks.watching", "card") as (_, sender, receiver):
        return await watch(sender, receiver, seconds)


async def watch(sender: Child, receiver: Child, seconds: float) -> Way:
    """Have the receiver watch, and compare when it had each frame with when the sender drew it."""
    await receiver.ask("join", count=1, numbers=True)
    await asyncio.sleep(SETTLE)
    since = (await receiver.ask("totals"))["time"]
    await asyncio.sleep(seconds)
    (seen,) = await receiver.ask("seen", since=since)
    drawn = {int(number): at for number, at in (await sender.ask("drawn")).items()}
    ms = [1e3 * (at - drawn[number]) for at, number, *_ in seen if number in drawn]
    return Way(ms, len(seen) / seconds, len(seen) - len(ms))


async def run(*, quick: bool) -> Result:
    """Measure by turns."""
    pin(RECEIVERS)
    ways: dict[str, list[Way]] = {}
    for _ in range(1 if quick else 3):
        for who in WHO:
            ways.setdefault(who, []).append(await measure(who, 4 if quick else 20))
    ms = {who: [one for way in found for one in way.ms] for who, found in ways.items()}
    rows = [
        (
            WHO[who],
            *(f"{percentile(ms[who], percent):.1f}" for percent in PERCENTILES),
            f"{statistics.median(way.fps for way in found):.1f}",
            str(len(ms[who])),
        )
        for who, found in ways.items()
    ]
    table = Table("Glass to glass, ms", ("", "median", "p95", "p99", "most", "fps", "frames"), rows)
    median, p95 = (percentile(ms["ours"], percent) for percent in (50, 95))
    bars = [
        Bar(f"median {median:.1f} ms; at most {MEDIAN_MS:g}", median <= MEDIAN_MS),
        Bar(f"p95 {p95:.1f} ms; at most {P95_MS:g}", p95 <= P95_MS),
    ]
    lines = {
        name: [(percentile(ms[who], percent), float(percent)) for percent in range(100)] for who, name in WHO.items()
    }
    plot = Plot("Frames that were there in time", "ms from drawn to decoded", "% of frames", lines)
    return Result([table], bars, [plot], {who: [asdict(way) for way in found] for who, found in ways.items()})


if __name__ == "__main__":
    alone(run)
