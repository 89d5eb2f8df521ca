"""What becomes of the files of recordings: a command is run for each, and old ones are deleted."""

import asyncio
import logging
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from synopticon_rtc.basics import system
from synopticon_rtc.basics.patience import warning_after
from synopticon_rtc.basics.text import WORDS, visible
from synopticon_rtc.errors import RecordingError
from synopticon_rtc.recording.recording import find_recording
from synopticon_rtc.recording.writer import FORMATS

logger = logging.getLogger(__name__)

WAITING = 1000
"""Files that wait for their command at most."""
LONGEST_RUN = 3600.0
"""Seconds that a command may take for one file."""
LOOK_EVERY = 600.0
"""Seconds between two looks for files that are too old."""
PATIENCE = 2.0
"""Seconds at the end after which it is said what is waited for."""
TAIL = 4096
"""Octets of what a command complains of that are kept."""


class OnSegment:
    """Runs a command for each file, one after another, with the path of the file as its last word; no shell reads it.

    Use it as an async context manager; at the end it waits until the command was run for all files.

    Args:
        command: It, with its options, as a shell would have it.

    Attributes:
        then: Called with each path once the command was run for it.

    Raises:
        RecordingError: There is no such command.
    """

    def __init__(self, command: str) -> None:
        self.then: Callable[[str], object] = lambda _: None
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise RecordingError(f"{command} is no command: {error}") from error
        if not self._words or shutil.which(self._words[0]) is None:
            raise RecordingError(f"{command} is no command: there is no program {(self._words or [''])[0]!r}")
        self._files: asyncio.Queue[str | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._work(), name="on segment")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Wait until the command was run for all files."""
        self._files.put_nowait(None)
        if self._task is not None:
            await ended(self._task, "--on-segment is still run, and that is waited for")

    def put(self, path: str) -> None:
        """Run the command for a file, after those that wait."""
        if self._files.qsize() >= WAITING:
            logger.error("--on-segment is not run for %s: it takes too long, and %d files wait for it", path, WAITING)
            self.then(path)
        else:
            self._files.put_nowait(str(Path(path).absolute()))  # which no program takes for an option

    async def _work(self) -> None:
        while (path := await self._files.get()) is not None:
            if failure := await self._run(path):
                logger.error("--on-segment failed for %s: %s", path, visible(failure, WORDS))
            self.then(path)

    async def _run(self, path: str) -> str:
        """Run it for one file, and return what went wrong."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._words,
                path,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                **system.group_of_its_own(),  # Ctrl-C is for us, and it may finish its work
            )
        except OSError as error:
            return f"{self._words[0]}: {error.strerror}"
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        said = b""
        try:
            async with asyncio.timeout(LONGEST_RUN):
                while more := await process.stderr.read(TAIL):
                    said = (said + more)[-TAIL:]
                code = await process.wait()
        except TimeoutError:
            return f"it took more than {LONGEST_RUN:g} s, and was ended"
        finally:
            if process.returncode is None:
                system.end_group(process.pid)
                await process.wait()
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        return f"exit code {code}{last and f': {last}'}" if code else ""


class Keep:
    """Deletes recordings that are older than they are to be kept, and nothing else.

    Use it as an async context manager.

    Args:
        folder: Below which they are.
        age: Seconds since a file was changed last, after which it goes.
        told: Called with the path of each file that was deleted.
    """

    def __init__(self, folder: Path, age: float, told: Callable[[str], object]) -> None:
        self._folder = folder
        self._age = age
        self._told = told
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._work(), name="keep")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        while True:
            for path in await asyncio.to_thread(delete_old, self._folder, time.time() - self._age):
                self._told(str(path))
            await asyncio.sleep(LOOK_EVERY)


async def ended(task: asyncio.Task[None], waiting: str) -> None:
    """Wait for the end of what is left to do, and say so where that takes its time."""
    with warning_after(PATIENCE, logger, "%s; Ctrl-C once more ends it at once", waiting):
        await task


def delete_old(folder: Path, before: float) -> list[Path]:
    """Delete the recordings below a folder that were changed last before a time (s since the epoch); return which."""
    deleted = []
    for path in _old(folder, before):
        if failure := _delete(path):
            logger.error("%s is old, and cannot be deleted: %s", path, failure)
        else:
            deleted.append(path)
    return deleted


def _old(folder: Path, before: float) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            if path.suffix in FORMATS and _is_older(path, before) and find_recording(str(path)):
                yield path


def _is_older(path: Path, before: float) -> bool:
    try:
        return not path.is_symlink() and path.stat().st_mtime < before
    except OSError:
        return False  # it is gone


def _delete(path: Path) -> str:
    """Delete a file, and return why it cannot be."""
    try:
        path.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return ""
