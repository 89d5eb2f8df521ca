"""What cannot be meant on a command line is said in a line, and never a trace of a library further down."""

import importlib
from collections.abc import Sequence

import click
import pytest

from synopticon_rtc.commands.cli import Command
from synopticon_rtc.commands.kinds import Duration, Text

NO_UTF8 = "Zo\udceb"  # as Python reads "Zoë" in Latin-1


def parse(command: str, *arguments: str) -> click.Context:
    module, _, name = command.partition(" ")
    made = getattr(importlib.import_module(f"synopticon_rtc.commands.{module}"), name or "main")
    assert isinstance(made, Command)
    return made.make_context(command, list(arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ["broadcast", "--name"],
        ["broadcast", "--room"],
        ["receive", "--from"],
        ["receive", "--name"],
        ["receive", "--stream"],
        ["receive", "--lab"],
        ["record", "--name"],
        ["record", "--room"],
        ["relay", "--from", "ws://a/ws", "--to", "ws://b/ws", "--stream"],
        ["relay", "--from", "ws://a/ws", "--to", "ws://b/ws", "--name"],
        ["relay", "--from", "ws://a/ws", "--to", "ws://b/ws", "--to-room"],
        ["relay", "--from", "ws://a/ws", "--to", "ws://b/ws", "--broadcaster"],
        ["send", __file__, "--to"],
        ["signaling token", "--sub"],
        ["signaling token", "--room"],
        ["signaling token", "--name"],
        ["signaling invite", "https://lab/", "--room"],
        ["signaling invite", "https://lab/", "--name"],
        ["signaling invite", "https://lab/", "--lab"],
    ],
)
def test_nobody_is_told_what_is_not_in_utf8(arguments: Sequence[str]) -> None:
    with pytest.raises(click.BadParameter, match="is not in UTF-8"):
        parse(*arguments, NO_UTF8)
    parse(*arguments, "Zoë")


@pytest.mark.parametrize(
    ("room", "words"), [("x" * 101, "101 characters, and 100 are the most"), ("a\u202eb", "cannot be seen")]
)
def test_a_room_is_one_that_a_server_takes(room: str, words: str) -> None:
    with pytest.raises(click.BadParameter, match=words):
        parse("signaling invite", "https://lab/", "--room", room)
    parse("signaling invite", "https://lab/", "--room", "x" * 100)


def test_a_text_is_given_as_it_is() -> None:
    assert Text(5).convert("a b\n", None, None) == "a b\n"


@pytest.mark.parametrize("time", ["0", "0.5s", "36501d", "9" * 400, "1e3", "-1", "nan", "inf", "", "1 h", "1w"])
def test_times_that_no_calendar_has_are_refused(time: str) -> None:
    with pytest.raises(click.BadParameter, match="is no time"):
        Duration().convert(time, None, None)


def test_times_are_seconds() -> None:
    convert = Duration(0).convert
    assert [convert(time, None, None) for time in ("0", "90", "1.5s", "15m", "1h", "36500d")] == [
        0, 90, 1.5, 900, 3600, 36500 * 86400
    ]  # fmt: skip
