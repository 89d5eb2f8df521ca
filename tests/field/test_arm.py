"""On ARM Linux, as far as an emulator has it: tools/arm_smoke.sh tells how."""

import shutil
import subprocess
from pathlib import Path

import pytest

SMOKE = Path(__file__).parents[2] / "tools" / "arm_smoke.sh"

pytestmark = [
    pytest.mark.field,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("qemu-aarch64-static") is None, reason="needs qemu-user-static"),
]


def test_it_imports_finds_a_face_and_calls_on_arm(tmp_path: Path) -> None:
    done = subprocess.run([str(SMOKE), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "import: Broadcaster on aarch64\n" in done.stdout
    assert "its nose is at 49.6% of the width and 56.5% of the height" in done.stdout  # as on x86-64
    assert "20 frames of 320x180" in done.stdout
