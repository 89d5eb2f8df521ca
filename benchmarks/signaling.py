"""Signaling: what a relayed message and a session cost the server, how late it is when busy, and under abuse.

The server has a core to itself; clients that cost less than it does (benchmarks/signaling_load.py) share another. Ours
runs as in production, with tokens, limits and metrics; beside it a bare relay on websockets, and PeerJS' server on its
own protocol, all with the same messages at the same pace. ``python -m benchmarks.signaling [--quick]``.
"""

import asyncio
import contextlib
import functools
import resource
import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import signaling_servers as servers
from benchmarks.children import RECEIVERS, Child, child, pin
from benchmarks.report import Bar, Plot, Result, Table, alone
from benchmarks.signaling_load import ice
from benchmarks.signaling_servers import NotHere, Server

Start = Callable[[], AbstractAsyncContextManager[Server]]
WHO: dict[str, tuple[str, Start]] = {
    "ours": ("synopticon-rtc", functools.partial(servers.ours, *servers.RAISED)),
    "bare": ("bare websockets", servers.bare),
    "peerjs": ("PeerJS' server", servers.peerjs),
}
"""Who is measured, what tables call them, and how they start."""

PAIRS = 50
BUSY = {"singly": (1, 1), "in bursts": (8, 2)}
"""Messages that a client writes at once, and how many such writes of a pair are on their way, by its name."""
PACED_PAIRS = 100
RATES = (5_000, 10_000, 20_000)
"""Messages a second, where the pace is fixed."""
SETTLE = 0.5
"""Seconds before anything is measured."""
IDLE = 5_000
RECEIVERS_SEEK = 200
ACROSS_RATE = 5_000
ACROSS: tuple[str | int, ...] = (*BUSY, ACROSS_RATE)

RELAYED = 100_000
IDLE_KIB = 20.0
OFFER_MS = 1000.0
P99_MS = 20.0
ACROSS_TIMES = 2.5
ACROSS_P99_MS = 10.0
HONEST_PAIRS, HONEST_RATE = 20, 1_000
ABUSERS, ABUSE = 50, 10_000
RECOVERY = 3.0
"""Seconds after abuse before memory is looked at."""
HONEST_MS = 100.0
MEMORY_TIMES = 1.1
MB = 1e6


@dataclass(frozen=True, slots=True)
class Sample:
    """A server over some seconds.

    Attributes:
        who: Which of WHO.
        how: One of BUSY, or the messages a second that were asked for.
        relayed: Messages a second that it passed on.
        per_cpu_second: The same for a second of its CPU time.
        cores: CPU time of the server a second.
        their_cores: CPU time of the clients a second.
        median_ms: From sending to receiving, where the pace is fixed.
        p99_ms: The same, of the late ones.
    """

    who: str
    how: str | int
    relayed: float
    per_cpu_second: float
    cores: float
    their_cores: float
    median_ms: float | None
    p99_ms: float | None

    @property
    def cpu_us(self) -> float:
        """CPU time of the server for a message."""
        return 1e6 / self.per_cpu_second


@contextlib.asynccontextmanager
async def loaded(start: Start) -> AsyncIterator[tuple[Server, Child]]:
    """A server, and a process of clients for it."""
    async with start() as server, child("benchmarks.signaling_load", core=RECEIVERS) as load:
        yield server, load


async def sample(who: str, relays: Sequence[Server], load: Child, how: str | int, seconds: float) -> Sample:
    """Measure what servers spend together, with the load that there is."""
    await asyncio.sleep(SETTLE)
    cpu, before = sum(server.cpu() for server in relays), await load.ask("totals")
    await asyncio.sleep(seconds)
    spent, after = sum(server.cpu() for server in relays) - cpu, await load.ask("totals")
    span, passed = after["time"] - before["time"], after["received"] - before["received"]
    late = after["late"]
    return Sample(
        who=who,
        how=how,
        relayed=passed / span,
        per_cpu_second=passed / spent,
        cores=spent / span,
        their_cores=(after["cpu"] - before["cpu"]) / span,
        median_ms=late.get("median"),
        p99_ms=late.get("p99"),
    )


async def relaying(who: str, seconds: float) -> list[Sample]:
    """Measure a server as fast as it can, and at some rates."""
    samples = []
    async with loaded(WHO[who][1]) as (server, load):
        for how, (batch, batches) in BUSY.items():
            await load.ask("pairs", url=server.url, other=server.url, token=server.token, count=PAIRS)
            await load.ask("saturate", batch=batch, batches=batches)
            samples.append(await sample(who, [server], load, how, seconds))
            await load.ask("close")
        await load.ask("pairs", url=server.url, other=server.url, token=server.token, count=PACED_PAIRS)
        for rate in RATES:
            await load.ask("pace", rate=rate)
            samples.append(await sample(who, [server], load, rate, seconds))
        await load.ask("stop")
    return samples


async def idling(who: str, count: int) -> float:
    """Return the KiB of memory that a session takes that says nothing."""
    async with loaded(WHO[who][1]) as (server, load):
        await load.ask("idle", url=server.url, token=server.token, count=1)  # what the first one loads is not its own
        empty = server.rss()
        there = await load.ask("idle", url=server.url, token=server.token, count=count)
        await asyncio.sleep(SETTLE)
        if there != count + 1:
            raise RuntimeError(f"{who} kept {there} of {count + 1} sessions")
        return (server.rss() - empty) / count / 1024


async def joining() -> dict[str, Any]:
    """Let receivers join one broadcaster of our server within a second."""
    async with loaded(WHO["ours"][1]) as (server, load):
        tokens = [servers.token("broadcast"), servers.token("receive")]
        found: dict[str, Any] = await load.ask("join", url=server.url, tokens=tokens, count=RECEIVERS_SEEK, within=1.0)
        return found


@dataclass(frozen=True, slots=True)
class Crossing:
    """What it costs to be on another server than one's peer.

    Attributes:
        local: Both ends on one server, by how.
        across: The ends on two servers.
        nats_us: CPU time of the NATS server for a message from one to the other, us, by how.
    """

    local: dict[str | int, Sample]
    across: dict[str | int, Sample]
    nats_us: dict[str | int, float]


async def crossing(seconds: float) -> Crossing:
    """Measure two servers on NATS, with both ends on one, and with the ends on either."""
    found = Crossing({}, {}, {})
    async with contextlib.AsyncExitStack() as stack:
        nats = await stack.enter_async_context(servers.nats())
        options = (*servers.RAISED, "--backplane", nats.url)
        here, there = [await stack.enter_async_context(servers.ours(*options, core=None)) for _ in range(2)]
        load = await stack.enter_async_context(child("benchmarks.signaling_load", core=RECEIVERS))
        for samples, other in ((found.local, here), (found.across, there)):
            for how in ACROSS:
                await load.ask("pairs", url=here.url, other=other.url, token=here.token, count=PAIRS)
                await asyncio.sleep(SETTLE)  # until both servers know all sessions
                if isinstance(how, int):
                    await load.ask("pace", rate=how)
                else:
                    await load.ask("saturate", **dict(zip(("batch", "batches"), BUSY[how], strict=True)))
                spent = nats.cpu()
                samples[how] = await sample("ours", [here, there], load, how, seconds)
                if other is there:
                    found.nats_us[how] = 1e6 * (nats.cpu() - spent) / samples[how].relayed / (seconds + SETTLE)
                await load.ask("stop")
                await load.ask("close")
    return found


@dataclass(frozen=True, slots=True)
class Abused:
    """A server with honest pairs on it while others misbehave.

    Attributes:
        sent: Honest messages.
        lost: Those that did not arrive.
        forged: Those that claimed to be honest.
        most_ms: The latest honest one, ms.
        p99_ms: The latest but one in a hundred.
        before_mb: Memory of the server before, MB.
        most_mb: The most while it lasted.
        after_mb: Afterwards.
        bad: Bad messages by kind.
        closed: The codes with which abusers were closed.
        refused: Connections of abusers that were refused.
    """

    sent: int
    lost: int
    forged: int
    most_ms: float
    p99_ms: float
    before_mb: float
    most_mb: float
    after_mb: float
    bad: dict[str, int]
    closed: dict[str, int]
    refused: int


async def abusing(count: int) -> Abused:
    """Let pairs signal while others send bad messages."""
    async with loaded(servers.ours) as (server, load), child("benchmarks.signaling_abuse", core=RECEIVERS) as abusers:
        await load.ask("pairs", url=server.url, other=server.url, token=server.token, count=HONEST_PAIRS)
        honest = await load.ask("sessions")
        arguments = {"url": server.url, "token": server.token, "honest": honest, "sessions": ABUSERS}
        await load.ask("pace", rate=HONEST_RATE)
        await asyncio.sleep(2 * SETTLE)
        before = most = server.rss()
        abuse = asyncio.create_task(abusers.ask("abuse", count=count, **arguments))
        while not abuse.done():
            most = max(most, server.rss())
            await asyncio.sleep(0.05)
        bad = abuse.result()
        await asyncio.sleep(RECOVERY)
        await load.ask("stop")
        totals = await load.ask("totals")
        return Abused(
            sent=totals["sent"],
            lost=totals["sent"] - totals["received"],
            forged=totals["forged"],
            most_ms=totals["late"]["most"],
            p99_ms=totals["late"]["p99"],
            before_mb=before / MB,
            most_mb=most / MB,
            after_mb=server.rss() / MB,
            bad=bad["sent"],
            closed=bad["closed"],
            refused=bad["refused"],
        )


def middle(samples: list[Sample]) -> Sample:
    """Return the sample whose cost is in the middle."""
    return sorted(samples, key=lambda one: one.cpu_us)[len(samples) // 2]


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _table(found: dict[tuple[str, str | int], Sample], idle: dict[str, float], absent: dict[str, str]) -> Table:
    rows = [
        (
            name,
            *(f"{found[who, how].per_cpu_second:,.0f}" for how in BUSY),
            *(f"{found[who, rate].cpu_us:.1f}" for rate in RATES),
            _ms(found[who, RATES[-1]].median_ms),
            _ms(found[who, RATES[-1]].p99_ms),
            f"{idle[who]:.1f}",
        )
        for who, (name, _) in WHO.items()
        if who not in absent
    ]
    paced = (f"us at {rate // 1000}k/s" for rate in RATES)
    return Table(
        f"One server on one core: relayed webrtc_ice of {len(ice('ws_' + 30 * 'x'))} bytes, and idle sessions",
        ("", "singly", "in bursts", *paced, "median, ms", "p99, ms", "KiB each"),
        rows,
        (
            f"singly, in bursts: messages for a second of CPU time. {PAIRS} pairs send as fast as they can, each with",
            "one message on its way, or with two writes of eight messages.",
            f"us: CPU time for a message at a fixed rate. {PACED_PAIRS} pairs by turns, a write for each message.",
            f"median and p99: from sending to receiving, at {RATES[-1]:,} a second.",
            f"KiB each: resident memory of {IDLE:,} sessions that have said nothing since they came.",
            *(f"{WHO.get(who, (who,))[0]} was not measured: {why}." for who, why in absent.items()),
        ),
    )


def _joins_table(joins: dict[str, Any]) -> Table:
    rows = [
        (name, str(found["count"]), *(_ms(found.get(key)) for key in ("median", "p99", "most")))
        for name, found in (
            ("offer, from the broadcaster's sending it", joins["offers"]),
            ("join, from connecting to the last candidate", joins["joins"]),
        )
    ]
    title = f"{RECEIVERS_SEEK} receivers connect and seek within a second, ms"
    return Table(title, ("", "how many", "median", "p99", "most"), rows)


def _crossing_table(found: Crossing) -> Table:
    rows = [
        (
            where,
            *(f"{samples[how].cpu_us:.1f}" for how in ACROSS),
            _ms(samples[ACROSS_RATE].median_ms),
            _ms(samples[ACROSS_RATE].p99_ms),
        )
        for where, samples in (("both ends on one server", found.local), ("the ends on two servers", found.across))
    ]
    nats = ", ".join(f"{us:.1f}" for us in found.nats_us.values())
    return Table(
        "Two servers on NATS, and their clients, on all cores",
        ("", *(f"us CPU, {how}" for how in BUSY), f"us CPU at {ACROSS_RATE:,}/s", "median, ms", "p99, ms"),
        rows,
        (f"us CPU: of both servers together, for a message; across, the NATS server takes {nats} beside.",),
    )


def _abuse_table(found: Abused) -> Table:
    row = (
        f"{found.sent:,}",
        str(found.lost),
        str(found.forged),
        _ms(found.p99_ms),
        _ms(found.most_ms),
        f"{found.before_mb:.1f}",
        f"{found.most_mb:.1f}",
        f"{found.after_mb:.1f}",
    )
    closed = ", ".join(f"{why}: {count}" for why, count in sorted(found.closed.items()))
    return Table(
        f"{HONEST_PAIRS} honest pairs while {ABUSERS} sessions send {sum(found.bad.values()):,} bad messages",
        ("honest", "lost", "forged", "p99, ms", "most, ms", "MB before", "most", "after"),
        [row],
        (
            f"Bad ones: {', '.join(found.bad)}.",
            f"How abusers were closed: {closed}; {found.refused} connections were refused.",
        ),
    )


def _bars(
    found: dict[tuple[str, str | int], Sample],
    idle: float,
    joins: dict[str, Any],
    across: Crossing | None,
    abused: Abused,
) -> list[Bar]:
    singly, bursts = (found["ours", how].per_cpu_second for how in BUSY)
    late = found["ours", RATES[-1]].p99_ms or 0.0
    offers = joins["offers"]
    lost = abused.lost + abused.forged
    bars = [
        Bar(
            f"{bursts:,.0f} messages in bursts, or {singly:,.0f} singly, a second of CPU time; at least {RELAYED:,}",
            bursts >= RELAYED,
        ),
        Bar(f"{idle:.1f} KiB a session at {IDLE:,}; at most {IDLE_KIB:g}", idle <= IDLE_KIB),
        Bar(
            f"{offers['count']} of {RECEIVERS_SEEK} got their offer, latest {offers['most']:.0f} ms after it was sent; "
            f"at most {OFFER_MS:g}",
            offers["count"] == RECEIVERS_SEEK and offers["most"] <= OFFER_MS,
        ),
        Bar(f"p99 at {RATES[-1]:,} messages a second: {late:.1f} ms; at most {P99_MS:g}", late <= P99_MS),
    ]
    if across is not None:
        times = max(across.across[how].cpu_us / across.local[how].cpu_us for how in BUSY)
        most = across.across[ACROSS_RATE].p99_ms or 0.0
        bars += [
            Bar(
                f"across two servers a message takes {times:.1f} times the CPU time or less; at most {ACROSS_TIMES:g}",
                times <= ACROSS_TIMES,
            ),
            Bar(f"p99 across two servers: {most:.1f} ms; at most {ACROSS_P99_MS:g}", most <= ACROSS_P99_MS),
        ]
    grown = abused.after_mb / abused.before_mb
    return [
        *bars,
        Bar(f"under abuse {lost} of {abused.sent:,} honest messages lost or forged: none", lost == 0),
        Bar(
            f"the latest came {abused.most_ms:.0f} ms after it was sent; at most {HONEST_MS:g}",
            abused.most_ms <= HONEST_MS,
        ),
        Bar(f"memory after abuse {grown:.2f} times that before; at most {MEMORY_TIMES:g}", grown <= MEMORY_TIMES),
    ]


async def run(*, quick: bool) -> Result:
    """Measure: all by turns on one core, then ours alone: joins, two servers, abuse."""
    pin(RECEIVERS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    seconds = 1.5 if quick else 4.0
    absent: dict[str, str] = {}
    taken: dict[tuple[str, str | int], list[Sample]] = {}
    memory: dict[str, list[float]] = {}
    for _ in range(1 if quick else 3):
        for who in WHO:
            try:
                for one in await relaying(who, seconds):
                    taken.setdefault((who, one.how), []).append(one)
                memory.setdefault(who, []).append(await idling(who, IDLE))
            except NotHere as reason:
                absent[who] = str(reason)
    found = {key: middle(samples) for key, samples in taken.items()}
    idle = {who: statistics.median(kib) for who, kib in memory.items()}
    joins = await joining()
    try:
        across = await crossing(seconds)
    except NotHere as reason:
        absent["NATS"] = str(reason)
        across = None
    abused = await abusing(ABUSE)
    tables = [_table(found, idle, absent), _joins_table(joins), _abuse_table(abused)]
    if across is not None:
        tables.insert(2, _crossing_table(across))
    lines = {
        name: [(rate, found[who, rate].cores) for rate in RATES] for who, (name, _) in WHO.items() if who not in absent
    }
    return Result(
        tables,
        _bars(found, idle["ours"], joins, across, abused),
        [Plot("A server that relays at a fixed rate", "messages a second", "cores", lines)],
        {
            "samples": [asdict(one) for samples in taken.values() for one in samples],
            "memory": memory,
            "joins": joins,
            "across": None if across is None else asdict(across),
            "abuse": asdict(abused),
        },
    )


if __name__ == "__main__":
    alone(run)
