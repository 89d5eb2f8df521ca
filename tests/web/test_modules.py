"""The modules of the pages that need no browser, under Node's test runner."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "synopticon_rtc" / "web"
NODE = shutil.which("node")


@pytest.mark.parametrize("tests", sorted(path.name for path in HERE.glob("*.test.js")))
@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_modules(tmp_path: Path, tests: str) -> None:
    assert NODE
    shutil.copytree(WEB, tmp_path / "web")
    shutil.copy(HERE / tests, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    result = subprocess.run(
        [NODE, "--test", tests], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
