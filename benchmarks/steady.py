"""Endurance: the memory of a broadcaster that streams for hours, faces included, and of its receivers.

The portrait at 1280x720 and 30 fps, MediaPipe, two receivers that decode, each in a process of its own. Variants run
beside each other, so that they share the machine's other load; a variant is a name and the environment variables of its
broadcaster, like ``old:PYTHONSAFEPATH=1,PYTHONPATH=/tmp/old`` for another copy of the code.
``python -m benchmarks.steady [--minutes 120] [--load 4]``.
"""

import asyncio
import contextlib
import csv
import dataclasses
import functools
import gc
import itertools
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click
import numpy as np

from benchmarks.children import ANYWHERE, Child, child, serve
from benchmarks.machine import Machine
from benchmarks.process import Holding, holding, trim
from benchmarks.reel import SIZE
from benchmarks.report import Bar, Result, Table, show
from synopticon_rtc import Broadcaster, FaceLandmarker, Portrait, Receiver, SignalingServer
from synopticon_rtc.commands.memory import collect_often, map_large_pieces

INTERVAL = 10.0
"""Seconds between samples."""
COUNTED = 6
"""Every how many samples objects are counted too."""
SETTLED = 20.0
"""Minutes after which memory shall grow no more."""
GROWTH = 0.03
"""MB a minute that a broadcaster may grow by then."""
COLUMNS = ("minute", "variant", "who", "frames", "detected", *(field.name for field in dataclasses.fields(Holding)))


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to run a broadcaster: its name, and what is set in its environment."""

    name: str
    environment: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> "Variant":
        """Read ``NAME[:KEY=VALUE[,KEY=VALUE...]]``."""
        name, _, rest = text.partition(":")
        return cls(name, dict(pair.split("=", 1) for pair in rest.split(",") if pair))


def growth(minutes: Sequence[float], mb: Sequence[float]) -> float:
    """MB a minute, of the straight line that fits best."""
    return float(np.polyfit(minutes, mb, 1)[0]) if len(minutes) > 1 else 0.0


def busy() -> None:
    """Keep a core busy."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        sum(range(100_000))


@contextlib.contextmanager
def loaded(count: int) -> Iterator[None]:
    """Keep the machine busy meanwhile."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=busy, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


@contextlib.contextmanager
def environment(changed: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started meanwhile."""
    before = dict(os.environ)
    os.environ.update(changed)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.asynccontextmanager
async def streaming(variant: Variant, receivers: int) -> AsyncIterator[dict[str, Child]]:
    """A broadcaster with its receivers."""
    async with contextlib.AsyncExitStack() as stack:
        url = (await stack.enter_async_context(SignalingServer(port=0))).url

        async def start(what: str) -> Child:
            return await stack.enter_async_context(child("benchmarks.steady", what, url, core=ANYWHERE))

        with environment(variant.environment):
            found = {"broadcaster": await start("broadcast")}
        for number in range(receivers):
            found[f"receiver {number + 1}"] = await start("receive")
        yield found


async def watch(variants: Sequence[Variant], minutes: float, receivers: int, file: TextIO) -> list[dict[str, Any]]:
    """Sample all processes, and write each sample down as it comes."""
    rows = []
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    async with contextlib.AsyncExitStack() as stack:
        running = {variant.name: await stack.enter_async_context(streaming(variant, receivers)) for variant in variants}
        begun = time.monotonic()
        number = 0
        while (now := time.monotonic() - begun) < minutes * 60:
            for name, processes in running.items():
                for who, process in processes.items():
                    told = await process.ask("sample", objects=number % COUNTED == 0)
                    rows.append({"minute": round(now / 60, 3), "variant": name, "who": who} | told)
                    writer.writerow(rows[-1])
            file.flush()
            number += 1
            await asyncio.sleep(max(0.0, begun + number * INTERVAL - time.monotonic()))
        for name, processes in running.items():  # what of it was only kept
            for who, process in processes.items():
                told = await process.ask("trim")
                rows.append({"minute": round(minutes, 3), "variant": name, "who": f"{who}, trimmed"} | told)
                writer.writerow(rows[-1])
    return rows


def result(rows: Sequence[dict[str, Any]], settled: float) -> Result:
    """Make a table of samples: how much each process grew after the first minutes."""
    table, bars = [], []
    for variant, who in dict.fromkeys((row["variant"], row["who"]) for row in rows):
        if who.endswith("trimmed"):
            continue
        mine = [row for row in rows if (row["variant"], row["who"]) == (variant, who) and row["minute"] >= settled]
        if not mine:
            continue
        at = [row["minute"] for row in mine]
        by = {name: growth(at, [row[name] for row in mine]) for name in ("rss", "anonymous", "heap", "heap_used")}
        first, last = mine[0], mine[-1]
        fps = (last["frames"] - first["frames"]) / max(last["time"] - first["time"], 1e-9)
        table.append(
            (
                f"{variant}, {who}",
                f"{last['rss']:.1f}",
                *(f"{value:+.3f}" for value in by.values()),
                f"{max((b['rss'] - a['rss'] for a, b in itertools.pairwise(mine)), default=0):.1f}",
                f"{fps:.1f}",
                *(f"{last[name] - first[name]:+d}" for name in ("blocks", "threads", "descriptors", "tasks")),
            )
        )
        if who == "broadcaster":
            text = f"{variant}: {by['rss']:+.3f} MB a minute after the first {settled:g} minutes; at most {GROWTH}"
            bars.append(Bar(text, by["rss"] <= GROWTH))
    columns = ("", "MB", "MB/min", "anonymous", "heap", "in use", "step", "fps", "blocks", "threads", "fds", "tasks")
    return Result([Table("Growth while streaming", columns, table)], bars)


def read(path: Path) -> list[dict[str, Any]]:
    """Read samples back, also of a run that goes on."""
    with path.open() as file:
        return [
            {key: value if key in {"variant", "who"} else _number(value) for key, value in row.items()}
            for row in csv.DictReader(file)
            if row[COLUMNS[-1]]
        ]


def _number(text: str) -> float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


async def sample(frames: list[int], *, objects: bool) -> dict[str, Any]:
    """Look at this process."""
    return {"frames": frames[0], "detected": frames[1]} | dataclasses.asdict(holding(objects=objects))


async def trimmed(frames: list[int]) -> dict[str, Any]:
    """Look at this process after all that is free was given back."""
    gc.collect()
    trim()
    return await sample(frames, objects=True)


async def broadcast(url: str) -> None:
    """Be a broadcaster, as the command line is one."""
    map_large_pieces(SIZE)
    frames = [0, 0]
    async with Broadcaster(url, Portrait(SIZE), faces=FaceLandmarker()) as broadcaster:
        await broadcaster.signaling.wait_open()
        collect_often()

        async def asked(*, objects: bool) -> dict[str, Any]:
            stats = broadcaster.stats
            frames[:] = stats.encoded, stats.detected
            return await sample(frames, objects=objects)

        await serve(sample=asked, trim=functools.partial(trimmed, frames))


async def receive(url: str) -> None:
    """Be a receiver."""
    frames = [0, 0]

    async def take() -> None:
        async with Receiver(url) as receiver:
            async for moment in receiver:
                frames[0] += 1
                frames[1] += moment.detected

    async with asyncio.TaskGroup() as group:
        group.create_task(take())
        await serve(sample=functools.partial(sample, frames), trim=functools.partial(trimmed, frames))


@click.command(help=sys.modules["__main__"].__doc__)
@click.option("--minutes", default=120.0, show_default=True)
@click.option("--settled", default=SETTLED, show_default=True, help="Minutes that do not count.")
@click.option("--receivers", default=2, show_default=True)
@click.option("--load", default=0, show_default=True, help="Processes that keep the machine busy beside it.")
@click.option("--variant", "variants", multiple=True, default=("default",), help="NAME[:KEY=VALUE,...]")
@click.option("--csv", "path", type=click.Path(path_type=Path), default=Path("steady.csv"), show_default=True)
@click.option("--show", "shown", is_flag=True, help="Only show what that file has, also while a run goes on.")
def main(
    *, minutes: float, settled: float, receivers: int, load: int, variants: tuple[str, ...], path: Path, shown: bool
) -> None:
    """Measure, or show."""
    logging.basicConfig(level=logging.WARNING)
    machine = Machine.now()
    if shown:
        rows = read(path)
    else:
        with loaded(load), path.open("w", newline="") as file:
            rows = asyncio.run(watch([Variant.parse(one) for one in variants], minutes, receivers, file))
    show(result(rows, settled), machine)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == str(ANYWHERE):
        asyncio.run({"broadcast": broadcast, "receive": receive}[sys.argv[2]](*sys.argv[3:]))
    else:
        main()
