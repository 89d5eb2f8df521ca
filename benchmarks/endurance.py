"""Endurance: a thousand joins of every kind, and a receiver that meets hundreds of broadcasters.

Receivers come and go: some leave with a goodbye, some are killed (SIGKILL), some take the offer and never answer, some
answer and never send a packet, some lose signaling on the way. A receiver meets broadcasters one after another, every
other of which is killed. Memory, descriptors, threads and tasks are read each time all have gone.
``python -m benchmarks.endurance [--quick]``.
"""

import asyncio
import collections
import contextlib
import dataclasses
import gc
import itertools
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.children import ANYWHERE, Child, child, serve
from benchmarks.process import holding
from benchmarks.report import Bar, Result, Table, alone
from benchmarks.strays import FPS, KINDS, SIZE, broadcast, heard, process
from synopticon_rtc import Broadcaster, Face, Receiver, SignalingServer, TestPattern

AT_ONCE = 25
"""Receivers that join at the same time."""
ROUNDS, JOINS = 10, 100
"""How often everybody goes, and joins from one time to the next; the first round warms up."""
MEETINGS = 25
"""Broadcasters that a receiver meets in a round; the first round warms up here too."""
GONE = 5.0
"""Seconds from the end of the last join until nobody is remembered."""
KB = 2.0
"""KB that a join may leave behind: what comes of an allocator's luck."""


class OneFace:
    """A detector that finds the same face in all frames."""

    def __init__(self) -> None:
        self._faces = (Face(np.full((478, 3), 0.5, np.float32), {}),)

    async def detect(self, frame: object) -> tuple[Face, ...]:  # noqa: ARG002 - as a Detector has it
        """Return it."""
        return self._faces


class Loud(logging.Handler):
    """Counts what is logged above INFO, the same lines together."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: collections.Counter[str] = collections.Counter()
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Count a line."""
        self.lines[f"{record.levelname} {record.name}: {record.msg}"] += 1

    async def count(self) -> int:
        """How many lines there were."""
        return self.lines.total()

    async def rest(self) -> dict[str, Any]:
        """Look at this process once nobody is there any more; with what it has logged, and its objects by kind."""
        await asyncio.sleep(GONE)
        gc.collect()
        kinds = collections.Counter(type(one).__qualname__ for one in gc.get_objects())
        return dataclasses.asdict(holding(objects=True)) | {"kinds": kinds, "loud": self.lines}


async def be_server() -> None:
    """Be the signaling server, and tell what that takes."""
    loud = Loud()

    async def url() -> str:
        return server.url

    async with SignalingServer(port=0) as server:
        await serve(rest=loud.rest, url=url)


async def be_broadcaster(url: str) -> None:
    """Broadcast, and tell what that takes."""
    loud = Loud()
    async with Broadcaster(url, TestPattern(SIZE, FPS), faces=OneFace()) as broadcaster:
        await broadcaster.signaling.wait_open()
        await serve(rest=loud.rest)


async def be_receiver(url: str) -> None:
    """Receive from whoever is there, and tell what that takes."""
    loud = Loud()
    came = asyncio.Event()

    async def take() -> None:
        async for _ in receiver:
            came.set()

    async def moment() -> None:
        came.clear()
        await came.wait()

    async with Receiver(url) as receiver, asyncio.TaskGroup() as group:
        group.create_task(take())
        await serve(rest=loud.rest, moment=moment)


async def joins(rounds: int, count: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Have receivers join, and read what the broadcaster and the server hold after each round."""
    at_broadcaster, at_server = [], []
    async with (
        child("benchmarks.endurance", "be_server", core=ANYWHERE) as server,
        _broadcaster(await server.ask("url")) as (url, broadcaster),
    ):
        kinds = itertools.cycle(KINDS.values())
        for _ in range(rounds):
            coming = iter([next(kinds) for _ in range(count)])

            async def some(coming: Iterator[Callable[[str], Awaitable[None]]] = coming) -> None:
                for join in coming:
                    await join(url)

            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(some())
            at_broadcaster.append(await broadcaster.ask("rest"))
            at_server.append(await server.ask("rest"))
    return at_broadcaster, at_server


@contextlib.asynccontextmanager
async def _broadcaster(url: str) -> AsyncIterator[tuple[str, Child]]:
    async with child("benchmarks.endurance", "be_broadcaster", url, core=ANYWHERE) as broadcaster:
        yield url, broadcaster


async def meetings(rounds: int, count: int) -> list[dict[str, Any]]:
    """Have broadcasters come and go, and read what a receiver holds after each round."""
    found = []
    async with (
        SignalingServer(port=0) as server,
        child("benchmarks.endurance", "be_receiver", server.url, core=ANYWHERE) as receiver,
    ):
        for _ in range(rounds):
            for number in range(count):
                await _meet(server.url, receiver, kill=number % 2 == 0)
            found.append(await receiver.ask("rest"))
    return found


async def _meet(url: str, receiver: Child, *, kill: bool) -> None:
    if kill:
        with process(broadcast, url) as pipe:
            await heard(pipe)
            await receiver.ask("moment")
    else:
        async with Broadcaster(url, TestPattern(SIZE, FPS), faces=OneFace()):
            await receiver.ask("moment")


def grown(found: Sequence[dict[str, Any]]) -> collections.Counter[str]:
    """Which kinds of objects there are more of than after the first round."""
    return collections.Counter(found[-1]["kinds"]) - collections.Counter(found[0]["kinds"])


def _kb(found: Sequence[dict[str, Any]], count: int, what: str) -> float:
    """KB for each of those who came after the first round of these."""
    return 1e3 * float(found[-1][what] - found[0][what]) / (count * (len(found) - 1))


def _row(what: str, found: Sequence[dict[str, Any]], count: int) -> tuple[str, ...]:
    first, half, last = found[0], found[len(found) // 2], found[-1]
    return (
        what,
        *(f"{one['rss']:.1f}" for one in (first, half, last)),
        f"{_kb(found[len(found) // 2 :], count, 'rss'):.2f}",
        f"{_kb(found, count, 'heap_used'):.2f}",
        *(f"{last[name] - first[name]:+d}" for name in ("blocks", "objects", "descriptors", "native_threads", "tasks")),
        str(sum(last["loud"].values())),
    )


def _bars(what: str, found: Sequence[dict[str, Any]], count: int) -> list[Bar]:
    first, last = found[0], found[-1]
    held, used = _kb(found[len(found) // 2 :], count, "rss"), _kb(found, count, "heap_used")
    more = {name: last[name] - first[name] for name in ("descriptors", "native_threads", "tasks")}
    loud = sum(last["loud"].values())
    return [
        Bar(f"{what}: {used:.2f} KB more in use each, {held:.2f} KB more held; at most {KB:g}", max(used, held) <= KB),
        Bar(f"{what}: {', '.join(f'{n:+d} {name}' for name, n in more.items())}; none", not any(more.values())),
        Bar(f"{what}: {loud} lines logged above INFO; none", not loud),
    ]


async def run(*, quick: bool) -> Result:
    """Measure both ends."""
    rounds, many, few = (4, 50, 6) if quick else (ROUNDS, JOINS, MEETINGS)
    at_broadcaster, at_server = await joins(rounds, many)
    taken = {
        "joins at a broadcaster": (at_broadcaster, many),
        "joins at a signaling server": (at_server, many),
        "broadcasters at a receiver": (await meetings(rounds, few), few),
    }
    notes = []
    for what, (found, _) in taken.items():
        notes += [f"{what}: {line} ({times}x)" for line, times in found[-1]["loud"].items()]
        notes += [f"{what}: {times} more of {kind}" for kind, times in grown(found).most_common(5)]
    notes += [
        "KB held: for each in the second half: an allocator keeps room for the most that were ever there at a time.",
        "KB used: for each after the first round.",
    ]
    columns = ("", "MB", "half", "end", "KB held", "KB used", "blocks", "objects", "fds", "threads", "tasks", "loud")
    table = Table(
        "What those who come and go leave behind, after the first round",
        columns,
        [_row(what, found, count) for what, (found, count) in taken.items()],
        notes,
    )
    bars = [bar for what, (found, count) in taken.items() for bar in _bars(what, found, count)]
    return Result([table], bars, data={what: found for what, (found, _) in taken.items()})


CHILDREN: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
    "be_server": be_server,
    "be_broadcaster": be_broadcaster,
    "be_receiver": be_receiver,
}

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == str(ANYWHERE):
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(CHILDREN[sys.argv[2]](*sys.argv[3:]))
    else:
        alone(run)
