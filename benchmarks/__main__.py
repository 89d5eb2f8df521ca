"""Measures, ours and others by turns: ``python -m benchmarks [NAME ...]``, all of them without a name."""

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Protocol

import click

from benchmarks import (
    analyse,
    audience,
    crowd,
    encoding,
    faces,
    fanout,
    files,
    films,
    glass,
    idle,
    janus,
    join,
    landmarks,
    loss,
    memory,
    mesh,
    pairing,
    participant,
    recording,
    recovery,
    relay,
    room,
    screen,
    signaling,
    sound,
    streams,
    tables,
)
from benchmarks.children import unpin
from benchmarks.machine import Machine
from benchmarks.report import Result, Run, as_json, draw, insert, show


class Benchmark(Protocol):
    """A module of this package that measures something; the first line of its docstring says what."""

    @property
    def run(self) -> Run:
        """What measures."""
        ...


MODULES: dict[str, Benchmark] = {
    "encoding": encoding,
    "fanout": fanout,
    "files": files,
    "crowd": crowd,
    "join": join,
    "glass": glass,
    "idle": idle,
    "janus": janus,
    "loss": loss,
    "memory": memory,
    "recovery": recovery,
    "relay": relay,
    "pairing": pairing,
    "faces": faces,
    "mesh": mesh,
    "landmarks": landmarks,
    "audience": audience,
    "signaling": signaling,
    "films": films,
    "screen": screen,
    "streams": streams,
    "sound": sound,
    "recording": recording,
    "room": room,
    "participant": participant,
    "tables": tables,
    "analyse": analyse,
}
logger = logging.getLogger(__name__)


def title(module: Benchmark) -> str:
    """Return what a benchmark measures."""
    return (module.__doc__ or "").splitlines()[0]


@click.command(epilog="\b\n" + "\n".join(f"{name:<10} {title(module)}" for name, module in MODULES.items()))
@click.argument("names", nargs=-1, type=click.Choice(list(MODULES)), metavar="[NAME]...")
@click.option("--quick", is_flag=True, help="Seconds instead of minutes each: for a first look.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures there.")
@click.option(
    "--markdown",
    type=click.Path(path_type=Path, exists=True),
    help="Write the tables there, each between <!-- NAME --> and <!-- /NAME -->.",
)
@click.option("--plots", type=click.Path(path_type=Path, file_okay=False), help="Draw plots there, as PNG.")
def main(
    names: tuple[str, ...], *, quick: bool, json_file: Path | None, markdown: Path | None, plots: Path | None
) -> None:
    """Measure joins, fan-out, delay, loss, memory, faces, signaling and films, beside others, and print tables.

    It takes an hour, or some minutes with --quick, and wants a machine that does nothing else.
    """
    machine = Machine.now()
    results: dict[str, Result] = {}
    broken = []
    for name in names or MODULES:
        unpin()
        click.echo(f"\n{name}: {title(MODULES[name])}", err=True)
        try:
            result = results[name] = asyncio.run(MODULES[name].run(quick=quick))
        except Exception:
            logger.exception("%s broke", name)
            broken.append(name)
            continue
        show(result, machine)
        if json_file is not None:
            told = {name: as_json(result) for name, result in results.items()}
            json_file.write_text(json.dumps({"machine": machine.as_json(), "quick": quick, "results": told}, indent=1))
        if markdown is not None:
            insert(name, result, machine, markdown)
        if plots is not None:
            plots.mkdir(parents=True, exist_ok=True)
            for path in draw(result, name, plots):
                click.echo(f"  {path}")
    if broken:
        sys.exit(f"these broke: {', '.join(broken)}")


if __name__ == "__main__":
    main()
