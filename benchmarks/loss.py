"""Bad links: one receiver that loses packets, or whose link is slow, and what it and the others make of it.

1280x720 at 30 fps, VP8 at 1.5 Mbit/s. A relay between sender and receiver drops packets at random, both ways, or lets
only so much through (benchmarks/between.py). ``python -m benchmarks.loss [--quick]``.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field

from aioice.ice import get_host_addresses

from benchmarks.between import Between
from benchmarks.children import RECEIVERS, SENDER, Child, child, pin
from benchmarks.crowd import worst_second
from benchmarks.fanout import SETTLE
from benchmarks.report import WHO, Bar, Plot, Result, Table, alone
from synopticon_rtc import SignalingServer

LOSS = 0.05
LOSSY_FPS, FREEZE = 20.0, 1.0
OTHERS_FPS = 29.5
KEYFRAMES = 2.0
"""Seconds from one keyframe to the next that the bad link of another may cost at the most often."""
LIMIT = 400_000
SETTLED = 5.0
STILL = 0.5
"""Seconds without a frame after which a picture does not count as settled."""
FRAME = 1 / 30

Seen = tuple[float, int | None, int, int, bool]
"""Time, number, height, size and whether it is a keyframe: as benchmarks/watching.py tells it."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What one receiver saw.

    Attributes:
        fps: Frames a second.
        worst: Frames in the worst second.
        freeze: The longest time from frame to frame, s.
        keyframes: How many came.
        apart: The shortest time from one keyframe to the next, s; None if there were not two.
        rate: Bit/s, 0 where frames were decoded.
        height: The least height of the picture, pixels.
    """

    fps: float
    worst: int
    freeze: float
    keyframes: int
    apart: float | None
    rate: float
    height: int


@dataclass(frozen=True, slots=True)
class Lossy:
    """One receiver that loses packets among several."""

    who: str
    receivers: int
    bad: Watched
    others: list[Watched]


@dataclass(frozen=True, slots=True)
class Limited:
    """One receiver whose link becomes slow.

    Attributes:
        who: ``ours`` or ``plain``.
        settled: Seconds from the limit on until for 5 s the picture neither changed its size nor stood still.
        freeze: The longest time from frame to frame from then on, s.
        settling_freeze: The same before that, s.
        fps: Frames a second from then on.
        height: Of the picture, pixels.
        age: Of the frames, from drawn to decoded, the median, ms.
        offered: What the sender sent into the link from then on, bit/s.
        back: Seconds from the end of the limit until the picture has its full size; None if not within the time.
        others_before: Bit/s of each of the others before the limit.
        others: What the others saw while it held.
        heights: Of the picture over time: seconds since the limit, pixels.
    """

    who: str
    settled: float | None
    freeze: float
    settling_freeze: float
    fps: float
    height: int
    age: float
    offered: float
    back: float | None
    others_before: list[float]
    others: list[Watched]
    heights: list[tuple[float, int]] = field(repr=False)


def watched(seen: Sequence[Seen], since: float, until: float) -> Watched:
    """Sum up what was seen in a time."""
    seen = [one for one in seen if since <= one[0] <= until]
    times = [at for at, *_ in seen]
    keyframes = [at for at, _, _, _, keyframe in seen if keyframe]
    return Watched(
        len(seen) / (until - since),
        worst_second(times, since, until),
        longest(times, since, until),
        len(keyframes),
        min((later - earlier for earlier, later in itertools.pairwise(keyframes)), default=None),
        sum(8 * size for _, _, _, size, _ in seen) / (until - since),
        min((height for _, _, height, _, _ in seen), default=0),
    )


def longest(times: Sequence[float], since: float, until: float) -> float:
    """Return the longest time without a frame."""
    marks = [since, *(at for at in times if since <= at <= until), until]
    return max(later - earlier for earlier, later in itertools.pairwise(marks))


def settled(seen: Sequence[Seen], since: float, until: float) -> float | None:
    """Return when the picture began to be the same for 5 s; None if it did not."""
    for start, *_ in seen:
        end = start + SETTLED
        if start < since or end > until:
            continue
        shown = [one for one in seen if start <= one[0] <= end]
        if len({height for _, _, height, _, _ in shown}) == 1 and longest([at for at, *_ in shown], start, end) < STILL:
            return start
    return None


@dataclass(slots=True)
class Cast:
    """A sender, one receiver behind a bad link that reads the numbers of frames, and others."""

    sender: Child
    link: Between
    bad: Child
    others: Child


async def cast(stack: AsyncExitStack, who: str, others: int) -> Cast:
    """Set everybody up."""
    server = await stack.enter_async_context(SignalingServer(port=0))
    sender = await stack.enter_async_context(child("benchmarks.sender", who, server.url, "card", core=SENDER))
    host, *_ = get_host_addresses(use_ipv4=True, use_ipv6=False)
    link = await stack.enter_async_context(Between().open(server.url, host))
    bad = await stack.enter_async_context(child("benchmarks.watching", who, link.url, core=RECEIVERS))
    rest = await stack.enter_async_context(child("benchmarks.watching", who, server.url, core=RECEIVERS))
    await rest.ask("join", count=others, encoded=True)
    await bad.ask("join", count=1, numbers=True)
    await asyncio.sleep(SETTLE)
    return Cast(sender, link, bad, rest)


async def lossy(who: str, others: int, seconds: float) -> Lossy:
    """Have one receiver lose packets."""
    async with AsyncExitStack() as stack:
        there = await cast(stack, who, others)
        there.link.up.loss = there.link.down.loss = LOSS
        since = time.monotonic()
        await asyncio.sleep(seconds)
        until = time.monotonic()
        (bad,) = await there.bad.ask("seen", since=since)
        rest = await there.others.ask("seen", since=since)
    return Lossy(who, others + 1, watched(bad, since, until), [watched(one, since, until) for one in rest])


async def limited(who: str, others: int, seconds: float) -> Limited:
    """Have the link of one receiver become slow, and fast again."""
    async with AsyncExitStack() as stack:
        there = await cast(stack, who, others)
        before = time.monotonic()
        await asyncio.sleep(SETTLED)
        there.link.down.rate = LIMIT
        since = time.monotonic()
        offered = [(0.0, 0)]
        while time.monotonic() < since + seconds:
            await asyncio.sleep(0.25)
            offered.append((time.monotonic(), there.link.down.offered))
        there.link.down.rate = None
        until = time.monotonic()
        await asyncio.sleep(seconds)
        (bad,) = await there.bad.ask("seen", since=before)
        rest = await there.others.ask("seen", since=before)
        drawn = {int(number): at for number, at in (await there.sender.ask("drawn")).items()}
    calm = settled(bad, since, until)
    start = calm if calm is not None else until - SETTLED
    shown = [one for one in bad if start <= one[0] <= until]
    times = [at for at, *_ in bad]
    sent = [(at, octets) for at, octets in offered if at >= start]
    return Limited(
        who,
        None if calm is None else calm - since,
        longest(times, start, until),
        longest(times, since, start),
        len(shown) / (until - start),
        statistics.mode(height for _, _, height, _, _ in shown) if shown else 0,
        1e3 * statistics.median(at - drawn[number] for at, number, *_ in shown if number in drawn) if shown else 0.0,
        8 * (sent[-1][1] - sent[0][1]) / (sent[-1][0] - sent[0][0]),
        next((at - until for at, _, height, _, _ in bad if at > until and height == bad[0][2]), None),
        [watched(one, before, since).rate for one in rest],
        [watched(one, since, until) for one in rest],
        [(at - since, height) for at, _, height, _, _ in bad],
    )


def _lossy_table(found: Sequence[Lossy]) -> Table:
    rows = []
    for one in found:
        apart = [other.apart for other in one.others if other.apart is not None]
        rows.append(
            (
                f"{one.receivers} receivers, {WHO[one.who]}",
                f"{one.bad.fps:.1f}",
                f"{one.bad.freeze:.2f}",
                f"{min(other.fps for other in one.others):.1f}",
                f"{min(other.worst for other in one.others)}",
                f"{max(other.freeze for other in one.others):.2f}",
                f"{min(other.height for other in one.others)}p",
                f"{max(other.keyframes for other in one.others)}",
                f"{min(apart):.1f}" if apart else "",
            )
        )
    columns = ("", "its fps", "freeze, s", "others' fps", "worst second", "freeze, s", "least", "keyframes", "apart, s")
    return Table(
        f"One receiver loses {LOSS:.0%} of its packets, both ways",
        columns,
        rows,
        ("freeze: the longest time from frame to frame; others': of whoever had it worst; apart: the shortest time.",),
    )


def _limited_table(found: Sequence[Limited]) -> Table:
    rows = [
        (
            f"{len(one.others) + 1} receivers, {WHO[one.who]}",
            "never" if one.settled is None else f"{one.settled:.1f}",
            f"{one.settling_freeze:.2f}",
            f"{one.freeze:.2f}",
            f"{one.height}p, {one.fps:.1f} fps",
            f"{one.offered / 1e3:.0f}",
            f"{one.age:.0f}",
            "never" if one.back is None else f"{one.back:.1f}",
            f"{min(other.fps for other in one.others):.1f}",
        )
        for one in found
    ]
    columns = (
        "",
        "settled, s",
        "freeze, s",
        "then",
        "picture",
        "kbit/s",
        "age, ms",
        "back, s",
        "others' fps",
    )
    return Table(
        f"The link of one receiver becomes slow, {LIMIT / 1e3:g} kbit/s, and fast again",
        columns,
        rows,
        (
            f"settled: from when on for {SETTLED:g} s the picture neither changed its size nor stood still;",
            "freeze: the longest time from frame to frame before that, and then;",
            "picture, what is sent, and how old it is: from then on; back: from the end of the limit to the full size.",
        ),
    )


def _bars(lost: Lossy, slow: Limited) -> list[Bar]:
    fps = min(other.fps for other in lost.others)
    apart = min((other.apart for other in lost.others if other.apart is not None), default=float("inf"))
    keyframes = max(other.keyframes for other in lost.others)
    freeze = max(slow.freeze, slow.settling_freeze)
    kept = min(other.rate / before for other, before in zip(slow.others, slow.others_before, strict=True))
    others_fps = min(other.fps for other in slow.others)
    return [
        Bar(f"{LOSS:.0%} loss: {lost.bad.fps:.1f} fps; at least {LOSSY_FPS:g}", lost.bad.fps >= LOSSY_FPS),
        Bar(f"its longest freeze is {lost.bad.freeze:.2f} s; at most {FREEZE:g}", lost.bad.freeze <= FREEZE),
        Bar(f"the others stay at {fps:.1f} fps; at least {OTHERS_FPS:g}", fps >= OTHERS_FPS),
        Bar(
            f"they get {keyframes} keyframes, {f'{apart:.1f} s apart' if keyframes > 1 else 'no two'}; "
            f"at least {KEYFRAMES:g} s apart",
            apart >= KEYFRAMES - FRAME,
        ),
        Bar(
            f"{LIMIT / 1e3:g} kbit/s: settled after {'more' if slow.settled is None else f'{slow.settled:.1f}'} s; "
            f"at most {SETTLED:g}",
            slow.settled is not None and slow.settled <= SETTLED,
        ),
        Bar(f"sent {slow.offered / 1e3:.0f} kbit/s from then on; at most {LIMIT / 1e3:g}", slow.offered <= LIMIT),
        Bar(f"its longest freeze is {freeze:.2f} s; at most {FREEZE:g}", freeze <= FREEZE),
        Bar(
            f"the others keep {others_fps:.1f} fps and {kept:.0%} of their bit rate; at least {OTHERS_FPS:g} and 90 %",
            others_fps >= OTHERS_FPS and kept >= 0.9,  # noqa: PLR2004 - said in the text
        ),
    ]


async def run(*, quick: bool) -> Result:
    """Measure one after the other, as each takes its time."""
    pin(RECEIVERS)
    seconds = 12.0 if quick else 40.0
    lost = [await lossy(who, others, seconds) for who, others in (("ours", 7), ("plain", 7), ("plain", 1))]
    slow = [await limited(who, others, seconds) for who, others in (("ours", 3), ("plain", 3), ("plain", 1))]
    plot = Plot(
        f"Height of the picture while a link has {LIMIT / 1e3:g} kbit/s",
        "s since the limit",
        "pixels",
        {WHO[one.who]: one.heights for one in slow[:2]},
    )
    data = {"lossy": [asdict(one) for one in lost], "limited": [asdict(one) for one in slow]}
    return Result([_lossy_table(lost), _limited_table(slow)], _bars(lost[0], slow[0]), [plot], data)


if __name__ == "__main__":
    alone(run)
