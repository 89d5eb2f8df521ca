"""Print the table: every page in every role and browser, through every server; exit 1 if any pair does not play."""

import asyncio
import contextlib
import sys
import time

from browsers import BROWSERS, serving
from pairs import PAGES, SERVERS, all_pairs, check
from rich.console import Console
from rich.live import Live
from rich.table import Table


async def main() -> int:
    console = Console(width=max(100, Console().width))  # a pipe is as wide as the table
    results: dict[str, dict[str, str]] = {}
    failures: list[str] = []
    if missing := [str(path) for path, _ in BROWSERS.values() if not path.exists()]:
        print(f"the table needs {' and '.join(missing)}: install the browser", file=sys.stderr)  # noqa: T201
        return 1
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
    console.print("\n(1) and must not:", next(pair.impossible for pair in all_pairs() if pair.impossible))
    for failure in failures:
        console.print(failure, markup=False)
    return bool(failures)


def table(results: dict[str, dict[str, str]]) -> Table:
    grid = Table("page", "it", "in", *SERVERS)
    for who, cells in results.items():
        page, role, browser = ("ours", "to ours", "") if who == "ours-ours" else who.rsplit("-", 2)
        grid.add_row(page, role, browser, *(cells.get(server, "") for server in SERVERS))
    return grid


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
