"""Fan-out: what one more receiver costs the sender, and how many receivers one core can serve.

1280x720 at 30 fps, VP8 at 1.5 Mbit/s. The sender has a core to itself; the receivers, which share another, do the whole
handshake, and then count packets and frames (benchmarks/counting.py). Both senders have the same source, a test card
drawn ahead that costs a copy a frame. ``python -m benchmarks.fanout [--quick]``.
"""

import asyncio
import contextlib
import statistics
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass

from benchmarks.children import RECEIVERS, SENDER, Child, child, pin
from benchmarks.report import WHO, Bar, Plot, Result, Table, alone
from synopticon_rtc import SignalingServer

SIZES = (1, 4, 16, 32)
DECODED = 4
"""Receivers that decode, to see that what is counted can be seen."""
LEAST = {16: 14, 32: 27}
"""How many times less CPU than plain aiortc we promise to take, by the number of receivers."""
MANY = 100
MANY_US = 10.0
"""Microseconds of loop time a packet and peer that we promise for as many."""
STEP = 50
MOST = 2000
FULL = 29.5
"""Frames a second from which on a receiver counts as served."""
BUSY = 0.9
"""The share of a core above which it is the receivers that are measured."""
SETTLE = 2.0
"""Seconds after joins before anything is measured."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A sender over some seconds.

    Attributes:
        who: ``ours`` or ``plain``.
        receivers: How many there were.
        fps: Frames a second, of the receiver in the middle.
        lowest_fps: Of the one that had least.
        cores: CPU time of the sender a second.
        frame_ms: CPU time of the sender for each frame that each receiver got, ms.
        loop_us: CPU time of the event loop's thread for each packet that each receiver got, us: whatever it did.
        send_us: The part of it that our send loop took, us; None for plain aiortc.
        send_wall_us: The same by the clock, with the time in which other threads and processes ran.
        lost: Packets that did not arrive.
        their_cores: CPU time of the receivers a second.
    """

    who: str
    receivers: int
    fps: float
    lowest_fps: float
    cores: float
    frame_ms: float
    loop_us: float | None
    send_us: float | None
    send_wall_us: float | None
    lost: int
    their_cores: float


@contextlib.asynccontextmanager
async def audience(
    who: str, receivers: str = "benchmarks.counting", source: str = "reel", *, core: int = SENDER
) -> AsyncIterator[tuple[str, Child, Child]]:
    """A sender and a process for its receivers, and the address of the signaling server between them."""
    async with (
        SignalingServer(port=0) as server,
        child("benchmarks.sender", who, server.url, source, core=core) as sender,
        child(receivers, who, server.url, core=RECEIVERS) as crowd,
    ):
        yield server.url, sender, crowd


async def sample(who: str, sender: Child, crowd: Child, seconds: float) -> Sample:
    """Measure a sender with the receivers that it has."""
    begun, before = await asyncio.gather(sender.ask("usage"), crowd.ask("totals"))
    await asyncio.sleep(seconds)
    ended, after = await asyncio.gather(sender.ask("usage"), crowd.ask("totals"))
    span, watched = ended["time"] - begun["time"], after["time"] - before["time"]
    frames = [ended_at - begun_at for begun_at, ended_at in zip(before["frames"], after["frames"], strict=True)]

    def a_second(name: str) -> float:
        return float((ended[name] - begun[name]) / span)

    def received(name: str) -> float:
        return float(sum(after[name]) - sum(before[name])) if name in after else 0.0

    packets = received("packets")
    sent = ended["packets"] - begun["packets"] if "packets" in ended else 0
    return Sample(
        who=who,
        receivers=len(frames),
        fps=statistics.median(frames) / watched,
        lowest_fps=min(frames) / watched,
        cores=a_second("cpu"),
        frame_ms=a_second("cpu") * 1e3 / max(1, sum(frames)) * watched,
        loop_us=a_second("loop_cpu") * 1e6 / packets * watched if packets else None,
        send_us=a_second("send_cpu") * span * 1e6 / sent if sent else None,
        send_wall_us=a_second("send_wall") * span * 1e6 / sent if sent else None,
        lost=round(received("lost")),
        their_cores=(after["cpu"] - before["cpu"]) / watched,
    )


async def grow(who: str, sizes: Sequence[int], seconds: float) -> list[Sample]:
    """Measure one sender with ever more receivers."""
    samples = []
    async with audience(who) as (_, sender, crowd):
        there = 0
        for size in sizes:
            await crowd.ask("join", count=size - there)
            there = size
            await asyncio.sleep(SETTLE)
            samples.append(await sample(who, sender, crowd, seconds))
    return samples


async def decoded(who: str, count: int, seconds: float) -> Sample:
    """Measure a sender whose receivers decode."""
    async with audience(who, "benchmarks.watching") as (_, sender, watchers):
        await watchers.ask("join", count=count)
        await asyncio.sleep(SETTLE)
        return await sample(who, sender, watchers, seconds)


async def search(seconds: float) -> list[Sample]:
    """Give our sender ever more receivers until they get less than the full frame rate."""
    samples: list[Sample] = []
    async with audience("ours") as (_, sender, crowd):
        for there in range(MANY, MOST + STEP, STEP):
            await crowd.ask("join", count=STEP if samples else MANY)
            await asyncio.sleep(SETTLE)
            samples.append(await sample("ours", sender, crowd, seconds))
            if samples[-1].fps < FULL or there >= MOST:
                break
    return samples


def middle(samples: Sequence[Sample]) -> Sample:
    """Return the sample whose cost is in the middle."""
    return sorted(samples, key=lambda one: one.frame_ms)[len(samples) // 2]


def _text(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _row(label: str, one: Sample, other: Sample | None) -> tuple[str, ...]:
    return (
        label,
        _text(one.fps),
        _text(one.lowest_fps),
        _text(one.cores, 2),
        _text(one.frame_ms, 2),
        f"1/{other.frame_ms / one.frame_ms:.1f}" if other is not None else "",
        _text(one.loop_us),
        _text(one.send_us),
    )


def _table(found: dict[tuple[str, int], Sample], seen: dict[str, Sample]) -> Table:
    rows = [
        _row(f"{size}, {name}", found[who, size], found["plain", size] if who == "ours" else None)
        for size in SIZES
        for who, name in WHO.items()
    ]
    rows += [
        _row(f"{DECODED} that decode, {name}", seen[who], seen["plain"] if who == "ours" else None)
        for who, name in WHO.items()
    ]
    return Table(
        "Fan-out: what the sender spends, by the number of receivers",
        ("", "fps", "lowest", "cores", "ms CPU", "of plain", "us loop", "us sending"),
        rows,
        (
            "ms CPU: of the sender, for each frame that each receiver got.",
            "us loop: CPU time of the event loop's thread, whatever it did, for each packet that each receiver got.",
            "us sending: the part of it from the encoded frame to the system's buffers, encryption included.",
        ),
    )


def _search_table(samples: Sequence[Sample]) -> Table:
    rows = [
        (
            f"{one.receivers}",
            _text(one.fps),
            _text(one.lowest_fps),
            _text(one.cores, 2),
            _text(one.frame_ms, 3),
            _text(one.loop_us),
            _text(one.send_us),
            _text(one.their_cores, 2),
            str(one.lost),
        )
        for one in samples
    ]
    columns = ("receivers", "fps", "lowest", "cores", "ms CPU", "us loop", "us sending", "their cores", "lost")
    return Table("How many receivers one core serves", columns, rows, (_limit(samples),))


def _limit(samples: Sequence[Sample]) -> str:
    most = max((one.receivers for one in samples if one.fps >= FULL), default=0)
    last = samples[-1]
    if last.fps >= FULL:
        return f"One core serves {most} and perhaps more: more were not tried."
    if last.their_cores > BUSY:
        return f"One core serves {most} and perhaps more: at {last.receivers} it was the receivers' core that was busy."
    return f"One core serves {most} at {FULL} fps or more; {last.receivers} get {last.fps:.1f}."


def _bars(found: dict[tuple[str, int], Sample], many: Sample) -> list[Bar]:
    bars = []
    for size, least in LEAST.items():
        ratio = found["plain", size].frame_ms / found["ours", size].frame_ms
        text = f"{size} receivers: {ratio:.1f} times less CPU a frame and receiver than plain aiortc; at least {least}"
        bars.append(Bar(text, ratio >= least))
    text = f"{many.receivers} receivers on one core: {many.fps:.1f} fps; at least {FULL}"
    bars.append(Bar(text, many.fps >= FULL))
    text = f"{many.receivers} receivers: {_text(many.send_us)} us of loop time a packet and peer; at most {MANY_US:g}"
    bars.append(Bar(text, many.send_us is not None and many.send_us <= MANY_US))
    return bars


def _plots(found: dict[tuple[str, int], Sample], samples: Sequence[Sample]) -> list[Plot]:
    cost = {name: [(size, found[who, size].frame_ms) for size in SIZES] for who, name in WHO.items()}
    rate = {name: [(size, found[who, size].fps) for size in SIZES] for who, name in WHO.items()}
    load = {
        "sender": [(one.receivers, one.cores) for one in samples],
        "receivers": [(one.receivers, one.their_cores) for one in samples],
    }
    return [
        Plot("CPU time of the sender for a frame and receiver", "receivers", "ms", cost),
        Plot("Frames that each receiver gets", "receivers", "fps", rate),
        Plot("Our sender, and the receivers, each on a core", "receivers", "cores", load),
    ]


async def run(*, quick: bool) -> Result:
    """Measure: both by turns, then ours alone with many."""
    pin(RECEIVERS)
    seconds = 3.0 if quick else 8.0
    taken: dict[tuple[str, int], list[Sample]] = {}
    seen: dict[str, list[Sample]] = {}
    for _ in range(1 if quick else 3):
        for who in WHO:
            for one in await grow(who, SIZES, seconds):
                taken.setdefault((who, one.receivers), []).append(one)
            seen.setdefault(who, []).append(await decoded(who, DECODED, seconds))
    found = {key: middle(samples) for key, samples in taken.items()}
    seeing = {who: middle(samples) for who, samples in seen.items()}
    many = await search(seconds)
    every = [one for samples in (*taken.values(), *seen.values()) for one in samples]
    return Result(
        (_table(found, seeing), _search_table(many)),
        _bars(found, many[0]),
        _plots(found, many),
        {"samples": [asdict(one) for one in every], "many": [asdict(one) for one in many]},
    )


if __name__ == "__main__":
    alone(run)
