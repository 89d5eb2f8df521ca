import subprocess
import sys
from pathlib import Path

import pytest

import synopticon_rtc
from synopticon_rtc.commands import synopticon

PACKAGE = Path(synopticon_rtc.__file__).parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "synopticon_rtc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_has_every_command_that_there_is() -> None:
    doors = {file.stem for file in PACKAGE.glob("*.py") if '__name__ == "__main__"' in file.read_text()}
    assert set(synopticon.COMMANDS) == doors - {"__main__"} | {"signaling"}


def test_it_runs_the_command_that_is_named_first() -> None:
    done = run("export", "--help")
    assert done.stdout.startswith("Usage: synopticon export ")


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_it_lists_its_commands(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in synopticon.COMMANDS)


def test_it_says_which_version_it_is() -> None:
    assert run("--version").stdout == f"synopticon-rtc {synopticon_rtc.__version__}\n"


def test_a_command_that_there_is_not_is_refused_in_one_line() -> None:
    done = run("brodcast")
    assert done.returncode == 2
    assert done.stderr == "synopticon: there is no command 'brodcast'. Try --help\n"


def test_the_package_alone_imports_none_of_its_parts() -> None:
    program = "import synopticon_rtc, sys; print(*(name for name in sys.modules if name.startswith('synopticon_rtc')))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).split() == ["synopticon_rtc"]
