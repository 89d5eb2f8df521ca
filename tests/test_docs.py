"""What README and docs/ show can be done: their code is typed as the library is, and their commands and names exist."""

import ast
import importlib
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import benchmarks.__main__ as benchmark_command
import synopticon_rtc
from synopticon_rtc.commands import analyse, broadcast, export, receive, record, relay, send, signaling, trace
from synopticon_rtc.faces import model

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _name(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=_name)

COMMANDS = {
    "synopticon_rtc.broadcast": broadcast.main,
    "synopticon_rtc.receive": receive.main,
    "synopticon_rtc.record": record.main,
    "synopticon_rtc.relay": relay.main,
    "synopticon_rtc.analyse": analyse.main,
    "synopticon_rtc.send": send.main,
    "synopticon_rtc.export": export.main,
    "synopticon_rtc.trace": trace.main,
    "synopticon_rtc.signaling": signaling.main,
    "synopticon_rtc.signaling token": signaling.token,
    "synopticon_rtc.signaling invite": signaling.invite,
    "synopticon_rtc.signaling health": signaling.health,
    "synopticon_rtc.faces.model": model.main,
    "benchmarks": benchmark_command.main,
}
OTHERS = {"--help", "--ca", "--omit=dev"}  # of every command; of curl and so on
MODULES = r"python3? -m ([\w.]+)"

# What code takes for granted that stands between words.
GIVEN = """
# mypy: disable-error-code="no-untyped-def, no-untyped-call, type-arg, no-redef"
import asyncio
from collections.abc import Awaitable, Callable, Iterator
import av
import cv2
from synopticon_rtc import *
url: str
source: FrameSource
face: Face
receiver: Receiver[av.VideoFrame]
my_frames: Callable[[], Iterator[av.VideoFrame]]
friends: Callable[[str | None, str | None], Awaitable[bool]]
fetch_token: Callable[[], Awaitable[str]]
"""


def blocks(document: Path, *languages: str) -> Iterator[str]:
    for indent, language, code in re.findall(
        r"^( *)```(\w+)\n(.*?)^ *```$", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    ):
        if language in languages:
            yield textwrap.dedent(indent + code if indent else code)


def prose(document: Path) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def command_lines(document: Path) -> Iterator[list[str]]:
    """Give the words of each command that a document shows, in a block of its own or within a line."""
    shown = [*blocks(document, "sh", "bash", "console"), *re.findall(r"`([^`\n]+)`", prose(document))]
    for text in shown:
        for line in text.replace("\\\n", " ").splitlines():
            if re.search(rf"{MODULES}|^make ", line):
                yield shlex.split(line, comments=True)


def options(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.long
def test_code_is_typed_as_the_library_is(tmp_path: Path) -> None:
    files = []
    for document in DOCUMENTS:
        if code := "".join(blocks(document, "python")):  # each goes on from the one before it
            file = tmp_path / f"{_name(document).removesuffix('.md').replace('/', '_')}_shown.py"
            file.write_text(f"{GIVEN}async def shown() -> None:\n{textwrap.indent(code, '    ')}", encoding="utf-8")
            files.append(file)
    check = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", *map(str, files)]
    helpers = os.environ | {"MYPYPATH": os.pathsep.join(["tests/network", "tests/rtc"])}
    checked = subprocess.run(check, cwd=ROOT, env=helpers, capture_output=True, text=True, check=False)
    assert not checked.returncode, checked.stdout


@pytest.mark.parametrize("name", sorted(set(synopticon_rtc.__all__) - {"__version__"}))
def test_a_public_name_is_in_the_reference_and_says_what_it_is(name: str) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    public = getattr(synopticon_rtc, name)
    alone, with_its_module = rf"synopticon_rtc\.(\w+\.)*{name}", re.escape(public.__module__)
    assert re.search(rf"^::: ({alone}|{with_its_module})$", pages, re.MULTILINE)
    assert len(inspect.getdoc(public) or "") > len(f"{name}()")  # a dataclass without one has its signature
    own = {member: value for member, value in vars(public).items() if not member.startswith("_")}
    assert not [m for m, value in own.items() if inspect.isroutine(value) and not inspect.getdoc(value)]


@every_document
def test_commands_exist_and_have_the_options_that_are_shown(document: Path) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for words in command_lines(document):
        if "make" in words:
            assert words[words.index("make") + 1] in targets, words
            continue
        at = words.index("-m") + 1
        assert importlib.util.find_spec(words[at]), words
        command = COMMANDS.get(" ".join(words[at : at + 2])) or COMMANDS.get(words[at])
        assert command or not words[at].startswith("synopticon_rtc"), words
        named = {word.partition("=")[0] for word in words[at:] if word.startswith("--")}
        assert not command or named <= options(command) | OTHERS, words


@every_document
def test_options_that_are_told_of_exist(document: Path) -> None:
    known = set[str]().union(*map(options, COMMANDS.values())) | OTHERS
    assert set(re.findall(r"`(--[a-z][\w-]*)", prose(document))) <= known


def test_limits_that_security_names_exist() -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "synopticon_rtc").rglob("*.py"))
    table = [line for line in (ROOT / "docs/security.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    named = {name for line in table for name in re.findall(r"`(_?[A-Z][A-Z_]+)`", line)}
    assert named
    assert not {name for name in named if not re.search(rf"^[A-Z_, ]*\b{name}\b[\w:, ]* = ", code, re.MULTILINE)}


@every_document
def test_names_of_the_package_exist(document: Path) -> None:
    for name in re.findall(r"\bsynopticon_rtc(?:\.\w+)+", document.read_text(encoding="utf-8")):
        found: object = synopticon_rtc
        for position, part in enumerate(parts := name.split(".")[1:]):
            if not hasattr(found, part):
                importlib.import_module(".".join(["synopticon_rtc", *parts[: position + 1]]))
            found = getattr(found, part)


@every_document
def test_classes_have_the_attributes_and_arguments_that_are_told_of(document: Path) -> None:
    """Where it says `Receiver.stats` or `Receiver(max_size=...)`."""
    for text in re.findall(r"`([A-Z]\w+[.(][^`\n]*)`", prose(document)):
        try:
            tree = ast.parse(text.replace("(..., ", "("), mode="eval")
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            owner = node.func if isinstance(node, ast.Call) else node.value if isinstance(node, ast.Attribute) else None
            kind = getattr(synopticon_rtc, owner.id, None) if isinstance(owner, ast.Name) else None
            if isinstance(node, ast.Call) and kind is not None:
                known = set(inspect.signature(kind).parameters)
                assert {keyword.arg for keyword in node.keywords} <= known, text
            elif isinstance(node, ast.Attribute) and kind is not None:
                assert hasattr(kind, node.attr) or f"self.{node.attr}" in inspect.getsource(kind), text
