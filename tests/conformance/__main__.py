"""Print two tables: every page in every role and browser, through every server, and every other WebRTC stack.

Exits 1 if any pair does not play, or is not refused as it must be.
"""

import asyncio
import contextlib
import logging
import sys
import tempfile
import time
from pathlib import Path

from browsers import BROWSERS, serving
from foreign import FOREIGN, Foreign, Workshop, all_foreign, meet, missing
from pairs import PAGES, SERVERS, all_pairs, check
from rich.console import Console
from rich.live import Live
from rich.table import Table

AT_ONCE = 3
"""Other stacks that meet ours at a time."""


async def main() -> int:
    logging.disable(logging.WARNING)  # the tables tell
    console = Console(width=max(100, Console().width))  # a pipe is as wide as the table
    lacking = [f"{path} is not installed" for path, _ in BROWSERS.values() if not path.exists()]
    lacking += [reason for stack in FOREIGN if (reason := missing(stack))]
    if lacking:
        print(f"the tables need more: {'; '.join(dict.fromkeys(lacking))}", file=sys.stderr)  # noqa: T201
        return 1
    failures = [*await pages(console), *await stacks(console)]
    for failure in failures:
        console.print(failure, markup=False)
    return bool(failures)


async def pages(console: Console) -> list[str]:
    """Show the pages, one after the other; returns what failed."""
    results: dict[str, dict[str, str]] = {}
    failures: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        base = stack.enter_context(serving(PAGES))
        browsers = {name: await stack.enter_async_context(start()) for name, (_, start) in BROWSERS.items()}
        screen = stack.enter_context(Live(console=console, auto_refresh=False))
        for pair in all_pairs():
            began = time.monotonic()
            try:
                await check(pair, browsers[pair.browser] if pair.browser else None, base)
                told = "[dim]cannot (1)[/]" if pair.impossible else f"[green]pass[/] {time.monotonic() - began:.1f} s"
            except Exception as error:  # noqa: BLE001 - whatever it is, the pair failed
                told = "[red]FAIL[/]"
                failures.append(f"{pair}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            results.setdefault(pair.who, {})[pair.server] = told
            screen.update(table(results), refresh=True)
    console.print("\n(1) and must not:", next(pair.impossible for pair in all_pairs() if pair.impossible), "\n")
    return failures


async def stacks(console: Console) -> list[str]:
    """Show the other stacks, a few at once; returns what failed."""
    results: dict[Foreign, str] = {}
    failures: list[str] = []
    turn = asyncio.Semaphore(AT_ONCE)
    with tempfile.TemporaryDirectory() as folder, Live(console=console, auto_refresh=False) as screen:
        workshop = Workshop(Path(folder))
        await asyncio.to_thread(workshop.prepare)

        async def see(foreign: Foreign) -> None:
            async with turn:
                began = time.monotonic()
                try:
                    await meet(foreign, workshop)
                    told = "[green]refused in words[/]" if foreign.refused else "[green]pass[/]"
                    results[foreign] = f"{told} {time.monotonic() - began:.1f} s"
                except Exception as error:  # noqa: BLE001 - whatever it is, the pair failed
                    results[foreign] = "[red]FAIL[/]"
                    failures.append(f"{foreign}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
                screen.update(stacks_table(results), refresh=True)

        async with asyncio.TaskGroup() as group:
            for foreign in all_foreign():
                group.create_task(see(foreign))
    return failures


def stacks_table(results: dict[Foreign, str]) -> Table:
    grid = Table("stack", "it", "codec", "with", "")
    for foreign in all_foreign():
        if foreign in results:
            with_ = ", ".join(foreign.options)
            grid.add_row(FOREIGN[foreign.stack], foreign.role, foreign.codec, with_, results[foreign])
    return grid


def table(results: dict[str, dict[str, str]]) -> Table:
    grid = Table("page", "it", "in", *SERVERS)
    for who, cells in results.items():
        page, role, browser = ("ours", "to ours", "") if who == "ours-ours" else who.rsplit("-", 2)
        grid.add_row(page, role, browser, *(cells.get(server, "") for server in SERVERS))
    return grid


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
