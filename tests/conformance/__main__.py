"""Print two tables: every page in every role and browser, through every server, and every other WebRTC stack.

Exits 1 if any pair does not play, or is not refused as it must be.
"""

import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path

from browsers import BROWSERS, serving
from foreign import FOREIGN, Foreign, Workshop, all_foreign, meet, missing
from pairs import PAGES, SERVERS, Pair, all_pairs, check
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

AT_ONCE = 2
"""Other stacks that meet ours at a time, beside a page in each browser."""


class Results:
    """What came of each pair, shown as it comes."""

    def __init__(self, screen: Live) -> None:
        self.pages: dict[Pair, str] = {}
        self.stacks: dict[Foreign, str] = {}
        self.failures: list[str] = []
        self._screen = screen

    async def of(self, pair: Pair | Foreign, meeting: Awaitable[None], passed: str) -> None:
        """Wait for a pair that meets, and show how long it took, or that it failed."""
        began = time.monotonic()
        try:
            await meeting
            told = f"{passed} {time.monotonic() - began:.1f} s"
        except Exception as error:  # noqa: BLE001 - whatever it is, the pair failed
            told = "[red]FAIL[/]"
            self.failures.append(f"{pair}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        if isinstance(pair, Pair):
            self.pages[pair] = told
        else:
            self.stacks[pair] = told
        self._screen.update(Group(pages_table(self.pages), stacks_table(self.stacks)), refresh=True)


async def main() -> int:
    logging.disable(logging.WARNING)  # the tables tell
    console = Console(width=max(100, Console().width))  # a pipe is as wide as the table
    lacking = [f"{path} is not installed" for path, _ in BROWSERS.values() if not path.exists()]
    lacking += [reason for stack in FOREIGN if (reason := missing(stack))]
    if lacking:
        print(f"the tables need more: {'; '.join(dict.fromkeys(lacking))}", file=sys.stderr)  # noqa: T201
        return 1
    with Live(console=console, auto_refresh=False) as screen:
        results = Results(screen)
        async with asyncio.TaskGroup() as group:
            for browser in BROWSERS:
                group.create_task(pages(results, browser))
            group.create_task(stacks(results))
    console.print("\n(1) and must not:", next(pair.impossible for pair in all_pairs() if pair.impossible), "\n")
    for failure in results.failures:
        console.print(failure, markup=False)
    return bool(results.failures)


async def pages(results: Results, name: str) -> None:
    """Have the pages of a browser meet ours one after the other, as it lets only the tab in front run as it should."""
    async with AsyncExitStack() as stack:
        base = stack.enter_context(serving(PAGES))
        browser = await stack.enter_async_context(BROWSERS[name][1]())
        for pair in all_pairs():
            if pair.browser == name or (pair.page is None and name == "chromium"):
                passed = "[dim]cannot (1)[/]" if pair.impossible else "[green]pass[/]"
                await results.of(pair, check(pair, browser, base), passed)


async def stacks(results: Results) -> None:
    """Have the other stacks meet ours, a few at once."""
    turn = asyncio.Semaphore(AT_ONCE)
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(Path(folder))
        await asyncio.to_thread(workshop.prepare)

        async def see(foreign: Foreign) -> None:
            async with turn:
                passed = "[green]refused in words[/]" if foreign.refused else "[green]pass[/]"
                await results.of(foreign, meet(foreign, workshop), passed)

        async with asyncio.TaskGroup() as group:
            for foreign in all_foreign():
                group.create_task(see(foreign))


def stacks_table(results: dict[Foreign, str]) -> Table:
    grid = Table("stack", "it", "codec", "with", "")
    for foreign in all_foreign():
        if foreign in results:
            with_ = ", ".join(foreign.options)
            grid.add_row(FOREIGN[foreign.stack], foreign.role, foreign.codec, with_, results[foreign])
    return grid


def pages_table(results: dict[Pair, str]) -> Table:
    grid = Table("page", "it", "in", *SERVERS)
    rows: dict[str, dict[str, str]] = {pair.who: {} for pair in all_pairs()}
    for pair, told in results.items():
        rows[pair.who][pair.server] = told
    for who, cells in rows.items():
        page, role, browser = ("ours", "to ours", "") if who == "ours-ours" else who.rsplit("-", 2)
        grid.add_row(page, role, browser, *(cells.get(server, "") for server in SERVERS))
    return grid


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
