"""Files that come to a disk that is full in the middle, during a call: a small one, in a mount namespace of its own."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from field_helpers import command
from files_helpers import written

from synopticon_rtc import Broadcaster, SignalingServer, TestPattern
from synopticon_rtc.errors import FileError

pytestmark = [pytest.mark.field, pytest.mark.long]

MOUNTED = 'mount -t tmpfs -o size=20m tmpfs "$0" && exec "$@"'
SIZE = 15_000_000
FILLER = "filler"


class Command:
    """The receiving command in a namespace with a disk of its own, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.folder = Path(f"/proc/{process.pid}/root{folder}")
        self.told: list[dict[str, Any]] = []
        self._process = process

    async def until(self, event: str, **fields: object) -> dict[str, Any]:
        """Wait for an event with these fields."""
        assert self._process.stdout is not None
        while True:
            told = json.loads(await self._process.stdout.readline())
            self.told.append(told)
            if told["event"] == event and told.items() >= fields.items():
                return told  # type: ignore[no-any-return]

    def fill(self) -> None:
        """Have somebody else take all that is free."""
        with (self.folder / FILLER).open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(65536))

    def names(self) -> list[str]:
        """List what is on the disk."""
        return sorted(each.name for each in self.folder.iterdir())


@contextlib.asynccontextmanager
async def receiving(url: str, folder: Path) -> AsyncIterator[Command]:
    """Run a receiver that takes files to a disk of 20 MB."""
    words = command("receive", "--url", url, "--name", "bob", "--files", str(folder), "--json")
    process = await asyncio.create_subprocess_exec(
        "unshare", "-m", "sh", "-c", MOUNTED, str(folder), *words, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Command(process, folder)
    finally:
        process.terminate()
        await process.communicate()


@pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("unshare") or os.geteuid() != 0, reason="needs root on Linux"
)
async def test_one_error_at_both_ends_and_the_call_goes_on(tmp_path: Path) -> None:
    path, folder = written(tmp_path / "talk.bin", SIZE), tmp_path / "disk"
    folder.mkdir()
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, TestPattern((320, 240), 15)) as broadcaster,
        receiving(server.url, folder) as receiver,
    ):
        await receiver.until("state", state="connected")
        await receiver.until("stats")
        sent = await broadcaster.send_file(path, to="bob", rate=3_000_000)
        while sent.progress.octets < SIZE // 5:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)
        await asyncio.to_thread(receiver.fill)
        with pytest.raises(FileError, match="No space left on device"):
            await sent.wait()
        failed = await receiver.until("file", state="failed")
        assert "No space left on device" in failed["reason"]
        before = (await receiver.until("stats"))["frames"]
        await receiver.until("stats")
        after = await receiver.until("stats")
        assert after["frames"] > before
        assert not [told for told in receiver.told if told["event"] == "state" and told["state"] == "interrupted"]
        (filler, part) = await asyncio.to_thread(receiver.names)
        assert (filler, Path(part).suffix) == (FILLER, ".part")
        (receiver.folder / FILLER).unlink()
        again = await broadcaster.send_file(path, to="bob")
        await again.wait()
        assert again.moved < SIZE * 4 / 5
        assert (await receiver.until("file", state="complete"))["path"] == str(folder / "talk.bin")
        assert await asyncio.to_thread((receiver.folder / "talk.bin").read_bytes) == path.read_bytes()
        assert [told["state"] for told in receiver.told if told["event"] == "file"].count("failed") == 1
    assert not list(folder.iterdir())
