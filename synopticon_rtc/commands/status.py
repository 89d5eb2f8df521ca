"""A short status that keeps itself up to date on a terminal."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from rich import box
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from synopticon_rtc.basics.text import visible

WIDTH = 76
ROW = 200  # characters of a row, which is folded into lines


class Rates:
    """Rates per second from totals that only grow."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._totals: dict[str, float] = {}

    def update(self, **totals: float) -> dict[str, float]:
        """Give the rate of each total since the last update."""
        now = time.monotonic()
        elapsed = max(now - self._at, 1e-3)
        rates = {name: (total - self._totals.get(name, 0)) / elapsed for name, total in totals.items()}
        self._at, self._totals = now, totals
        return rates


def milliseconds(seconds: float | None) -> float | None:
    """Give a time as it is printed."""
    return None if seconds is None else round(seconds * 1000, 1)


def found(looked_at: int, with_faces: int) -> str:
    """Say in how many frames faces were looked for, and found: in more where frames have the newest of others."""
    if not looked_at:
        return "faces were looked for in none of them"
    if with_faces > looked_at:
        return f"faces were looked for in {looked_at} of them, and {with_faces} came with the newest faces"
    return f"faces were looked for in {looked_at} of them, and found in {with_faces}"


class Status:
    """Rows of a label and a text in a panel, drawn where stdout is a terminal. Names of others may be in all of it."""

    def __init__(self, title: str, *, enabled: bool) -> None:
        self._title = Text(visible(title))
        self._title.truncate(WIDTH - 6, overflow="ellipsis")
        self._live = Live(auto_refresh=False, transient=False) if enabled and sys.stdout.isatty() else None

    @property
    def shown(self) -> bool:
        """Whether there is a terminal to show it on."""
        return self._live is not None

    @contextmanager
    def show(self) -> Iterator[None]:
        """Keep the panel on the screen meanwhile."""
        if self._live is None:
            yield
        else:
            with self._live:
                yield

    @asynccontextmanager
    async def kept_up(self, ticking: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Keep the panel on the screen meanwhile, and run what updates it."""
        task = asyncio.create_task(ticking)
        try:
            with self.show():
                yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def update(self, rows: dict[str, str], listed: Sequence[Sequence[str]] = ()) -> None:
        """Draw these rows, and below them a table of which the first row is the headings."""
        if self._live is None:
            return
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", min_width=10)
        table.add_column(overflow="fold")
        for label, text in rows.items():
            table.add_row(label, _shown(text))
        shown = Group(table, _listed(*listed)) if listed else table
        panel = Panel(shown, title=self._title, title_align="left", box=box.ROUNDED, border_style="cyan", width=WIDTH)
        self._live.update(panel, refresh=True)


def _listed(headings: Sequence[str], *lines: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for line in lines:
        table.add_row(*map(_shown, line))
    return table


def _shown(text: str) -> Text:
    """Take each line as it is: rich reads words in brackets as commands where it is given a string."""
    return Text("\n".join(visible(line, ROW) for line in text.split("\n")))
