"""What would be uploaded to an index: it builds without complaint, is whole, and runs in an environment of its own."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
PROGRAMS = Path(sys.executable).parent

pytestmark = [pytest.mark.field, pytest.mark.timeout(400)]


def run(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source distribution and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    return folder


def test_it_builds_and_an_index_would_take_it(built: Path) -> None:
    (wheel,), (source,) = built.glob("*.whl"), built.glob("*.tar.gz")
    run(PROGRAMS / "twine", "check", "--strict", wheel, source)
    run(PROGRAMS / "check-wheel-contents", wheel)


def test_it_holds_all_of_the_package_and_nothing_else(built: Path) -> None:
    (wheel,), (source,) = built.glob("*.whl"), built.glob("*.tar.gz")
    tracked = set(run("git", "ls-files", "synopticon_rtc").split())
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in held if ".dist-info/" not in name} == tracked
    assert any(name.endswith(".pyi") for name in tracked)
    assert {"synopticon_rtc/py.typed", "synopticon_rtc/web/basis.js"} <= tracked
    assert {Path(name).name for name in held if "/licenses/" in name} == {"LICENSE", "NOTICE"}
    with tarfile.open(source) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked | {"NOTICE", "SECURITY.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml"} <= sources


def test_the_changelog_has_the_version() -> None:
    versions = re.findall(r"^## \[(\d[^]]*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == VERSION


def test_the_wheel_runs_in_an_environment_of_its_own(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    uv = PROGRAMS / "uv"
    run(uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    run(uv, "pip", "install", "--quiet", "--python", tmp_path / "venv", wheel)
    synopticon = tmp_path / "venv" / "bin" / "synopticon"
    assert run(synopticon, "--version") == f"synopticon-rtc {VERSION}\n"
    assert "--encoder" in run(synopticon, "broadcast", "--help")
