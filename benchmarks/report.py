"""What a benchmark found, for people and for machines."""

import asyncio
import json
import sys
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import click
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.machine import Machine

WIDTH = 120
WHO = {"ours": "synopticon-rtc", "plain": "plain aiortc"}
"""Who is measured, and what tables call them."""


@dataclass(frozen=True, slots=True)
class Table:
    """Figures for people; the first column tells what each row is about."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """What is promised, with what was measured, and whether it holds."""

    text: str
    met: bool


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines of points."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Result:
    """What one benchmark found.

    Attributes:
        tables: For people.
        bars: What is promised.
        plots: Drawn on request.
        data: The figures as they were measured, for machines.
    """

    tables: Sequence[Table]
    bars: Sequence[Bar] = ()
    plots: Sequence[Plot] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


class Run(Protocol):
    """Measures; for seconds where it is to be quick, else for minutes."""

    def __call__(self, *, quick: bool) -> Coroutine[Any, Any, Result]:
        """Return what was found."""
        ...


def show(result: Result, machine: Machine) -> None:
    """Print a result."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    console.print(f"\n{machine}", style="dim")
    for table in result.tables:
        shown = RichTable(title=table.title, title_justify="left")
        for column in table.columns:
            shown.add_column(column, justify="right" if shown.columns else "left")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
        for note in table.notes:
            console.print(f"  {note}", style="dim")
    for bar in result.bars:
        console.print(f"  {'[green]met[/]' if bar.met else '[red]MISSED[/]'}  {bar.text}")


def insert(name: str, result: Result, machine: Machine, path: Path) -> None:
    """Write a result into a Markdown file, between ``<!-- name -->`` and ``<!-- /name -->``.

    Raises:
        ValueError: The file has no such place.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = path.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"there is no {begin} and {end} in {path}: put them where the figures shall be")
    path.write_text(f"{before}{begin}\n{_markdown(result, machine)}\n{end}{after}")


def _markdown(result: Result, machine: Machine) -> str:
    parts = []
    for table in result.tables:
        rows = [table.columns, ["---", *("---:" for _ in table.columns[1:])], *table.rows]
        lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts += [f"**{table.title}**", lines, *(["<br>\n".join(table.notes)] if table.notes else [])]
    if result.bars:
        parts.append("\n".join(f"- {'met' if bar.met else '**missed**'}: {bar.text}" for bar in result.bars))
    return "\n\n".join([*parts, f"*{machine}*"])


def as_json(result: Result) -> dict[str, Any]:
    """Return a result for machines."""
    return {
        "tables": [{"title": table.title, "columns": table.columns, "rows": table.rows} for table in result.tables],
        "bars": [{"text": bar.text, "met": bar.met} for bar in result.bars],
        "data": result.data,
    }


def draw(result: Result, prefix: str, directory: Path) -> list[Path]:
    """Draw the plots as PNG files; return where they are."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import, and only wanted here

    paths = []
    for number, plot in enumerate(result.plots):
        figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
        axes = figure.add_subplot(title=plot.title, xlabel=plot.x, ylabel=plot.y)
        for name, points in plot.lines.items():
            axes.plot(*zip(*points, strict=True), marker="o" if len(points) < 20 else None, label=name)  # noqa: PLR2004
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
        paths.append(directory / f"{prefix}{number or ''}.png")
        figure.savefig(paths[-1])
    return paths


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile of some values."""
    return sorted(values)[round(percent / 100 * (len(values) - 1))]


def alone(run: Run) -> None:
    """Be the command line of one benchmark."""

    @click.command(help=sys.modules["__main__"].__doc__)
    @click.option("--quick", is_flag=True, help="Seconds instead of minutes: for a first look.")
    @click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there.")
    def command(*, quick: bool, json_file: Path | None) -> None:
        machine = Machine.now()
        result = asyncio.run(run(quick=quick))
        show(result, machine)
        if json_file is not None:
            json_file.write_text(json.dumps({"machine": machine.as_json(), **as_json(result)}, indent=1) + "\n")

    command()
