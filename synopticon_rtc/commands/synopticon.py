"""``synopticon``: all commands under one name, of which each is ``python -m synopticon_rtc.NAME`` too."""

import importlib
import sys

import click

from synopticon_rtc.basics.version import __version__

COMMANDS = {
    "broadcast": "Send video of faces, with the landmarks of each.",
    "receive": "Receive a broadcaster, or everybody in a room.",
    "record": "Record everybody in a room.",
    "relay": "Send on what a broadcaster sends, to receivers elsewhere.",
    "send": "Send files to somebody who broadcasts.",
    "signaling": "Serve signaling and the pages; make tokens; ask how a server is.",
    "analyse": "Find the faces in every frame of a film.",
    "export": "Make a table of the faces in a recording.",
    "trace": "Show what a trace of a connection says.",
}


def main() -> None:
    """Run the command that is named first; nothing is imported for the others."""
    name, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name == "--version":
        click.echo(f"synopticon-rtc {__version__}")
    elif name == "--help":
        click.echo(_help())
    elif name in COMMANDS:
        try:
            command = importlib.import_module(f"synopticon_rtc.commands.{name}")
        except ModuleNotFoundError as error:  # only what a machine with one role needs is installed
            click.echo(
                f"synopticon {name}: it needs {error.name}: pip install synopticon-rtc with all it asks for", err=True
            )
            sys.exit(1)
        run = command.run if name == "signaling" else command.main
        run(arguments, prog_name=f"synopticon {name}")
    else:
        click.echo(f"synopticon: there is no command {name[:100]!r}. Try --help", err=True)
        sys.exit(2)


def _help() -> str:
    formatter = click.HelpFormatter()
    formatter.write_usage("synopticon", "COMMAND [OPTIONS]")
    with formatter.section("Commands"):
        formatter.write_dl(list(COMMANDS.items()))
    with formatter.section("Options"):
        formatter.write_dl(
            [("--version", "Show the version."), ("--help", "Show this, or the options of a command after its name.")]
        )
    return formatter.getvalue().rstrip()
