"""Every platform and Python that the package is for has a wheel of all that it needs, as the index has them now."""

import functools
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LINUX, LINUX_ARM = "x86_64-manylinux_2_28", "aarch64-manylinux_2_28"
MAC, MAC_INTEL, WINDOWS = "aarch64-apple-darwin", "x86_64-apple-darwin", "x86_64-pc-windows-msvc"
PLATFORMS = (LINUX, LINUX_ARM, MAC, MAC_INTEL, WINDOWS)
AT_ONCE = 10  # it is the index that is waited for
ENGINES = {"mediapipe", "ai-edge-litert"}

pytestmark = [pytest.mark.field, pytest.mark.timeout(600)]


@functools.cache
def resolved() -> dict[tuple[str, str], subprocess.CompletedProcess[str]]:
    """Ask for what is installed with all extras, and wheels alone, on each platform with each Python."""
    wanted = list(product(PLATFORMS, PYTHONS))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return dict(zip(wanted, threads.map(resolve, *zip(*wanted, strict=True)), strict=True))


def resolve(platform: str, python: str) -> subprocess.CompletedProcess[str]:
    """Resolve as pip does there: uv evaluates markers for another machine than the one it runs on, pip does not."""
    command = [str(UV), "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"]
    command.append("--no-python-downloads")  # it would like to have the Python that it resolves for
    for_whom = ["--python-platform", platform, "--python-version", python, "--extra", "all"]
    return subprocess.run(
        [*command, *for_whom, str(ROOT / "pyproject.toml")], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_all_has_wheels_for(platform: str, python: str) -> None:
    done = resolved()[platform, python]
    assert done.returncode == 0, done.stderr
    found = set(re.findall(r"^([\w.-]+)==", done.stdout, flags=re.MULTILINE))
    assert {"av", "aiortc", "numpy", "picows"} <= found
    assert found & ENGINES == engines(platform, python)


def engines(platform: str, python: str) -> set[str]:
    """Return what finds faces there."""
    if platform == MAC_INTEL:
        return {"ai-edge-litert"} if python == "3.11" else set()
    return {"ai-edge-litert"} if platform == LINUX_ARM else ENGINES
