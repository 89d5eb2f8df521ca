"""Machines that have one role install what it needs, and no more."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from calls import running as peer
from rtc_network import free_port

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MOST = {"signaling": 80, "receive": 280}
"""MB that a new environment of each role may take."""
COMMANDS = {"signaling": ["signaling"], "receive": ["receive", "record", "relay", "send", "export", "analyse", "trace"]}
"""What is used on such a machine, or says what else it needs."""

pytestmark = [pytest.mark.field, pytest.mark.timeout(240)]


def listed(file: Path) -> set[str]:
    """Return what a file of requirements asks for, with that of the files which it names."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    others = [listed(file.parent / line.removeprefix("-r ")) for line in lines if line.startswith("-r ")]
    return {line for line in lines if not line.startswith("-r ")}.union(*others)


def name_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0].lower()


def installed(role: str, folder: Path) -> Path:
    """Make an environment for a role; return where its programs are."""
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "--quiet", folder], check=True)
    pip: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", folder]
    subprocess.run([*pip, "-r", DEPLOY / f"requirements-{role}.txt"], check=True)
    subprocess.run([*pip, "--no-deps", ROOT], check=True)
    return folder / "bin"


def megabytes(folder: Path) -> float:
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) / 2**20


@pytest.mark.parametrize("role", MOST)
def test_a_role_asks_for_the_versions_that_the_package_asks_for(role: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert listed(DEPLOY / f"requirements-{role}.txt") <= set(project["dependencies"])


@contextmanager
def serving(programs: Path) -> Iterator[str]:
    port = free_port()
    command = [str(programs / "synopticon"), "signaling", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            assert "ws://" in server.stdout.readline()
            yield f"ws://127.0.0.1:{port}/ws"
        finally:
            server.terminate()


def test_each_role_works_with_what_it_installs_and_takes_little_room(tmp_path: Path) -> None:
    programs = {role: installed(role, tmp_path / role) for role in MOST}
    for role, most in MOST.items():
        assert megabytes(tmp_path / role) <= most, role
    with (
        serving(programs["signaling"]) as url,
        peer("broadcast", "--source", "test", "--url", url, "--faces", "0"),
    ):
        receive = [str(programs["receive"] / "synopticon"), "receive", "--url", url, "--frames", "5", "--timeout", "20"]
        done = subprocess.run(receive, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("role", MOST)
def test_the_commands_of_a_role_import_nothing_that_it_does_not_install(role: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    left_out = {name_of(each) for each in set(project["dependencies"]) - listed(DEPLOY / f"requirements-{role}.txt")}
    modules = {module for module, owners in packages_distributions().items() if left_out & {*map(str.lower, owners)}}
    assert modules
    commands = ", ".join(f"synopticon_rtc.commands.{name}" for name in COMMANDS[role])
    found = subprocess.check_output([sys.executable, "-c", f"import {commands}, sys; print(*sys.modules)"], text=True)
    assert not modules & set(found.split())
