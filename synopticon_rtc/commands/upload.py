"""Takes the files of recordings to where they belong, when that is elsewhere: in S3, or what else fsspec knows."""

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import platformdirs

from synopticon_rtc.basics import system
from synopticon_rtc.basics.patience import warning_after
from synopticon_rtc.basics.text import WORDS, visible
from synopticon_rtc.commands.afterwards import ended
from synopticon_rtc.errors import MissingExtra, RecordingError, without_password
from synopticon_rtc.recording.beside import written_beside
from synopticon_rtc.recording.writer import FORMATS

logger = logging.getLogger(__name__)

PAUSES = (5.0, 10.0, 20.0, 60.0)
"""Seconds before it is tried again where nothing could be uploaded; the last goes on."""
SLOW = 30.0
"""Seconds of one attempt after which it is said that it goes on: a store may hear, and never answer."""
LOCAL = ("file", "local")
LOCK = "lock"


def is_address(out: str) -> bool:
    """Whether it is one of fsspec's, like ``s3://bucket/{name}.mkv``, and not a path of this machine."""
    return "://" in out


class Upload:
    """Uploads files, one after another, each of which is kept on this machine until it is there.

    What is not there yet when the process ends is uploaded when the next one begins with the same address. Use it as an
    async context manager.

    Args:
        out: A pattern of addresses, like ``s3://bucket/{name}/{start}.mkv``.
        spool: The folder in which files wait; one of the user's data by default.

    Attributes:
        told: Called with the path and the address of each file that is there.
        pattern: Of the paths under which files are to be written on this machine.

    Raises:
        RecordingError: It is no address; on entering, another process uploads to it from the same folder.
        MissingExtra: On entering, what speaks with such a place is not installed.
    """

    def __init__(self, out: str, spool: Path | None) -> None:
        scheme, _, below = out.partition("://")
        spool = spool or platformdirs.user_data_path("synopticon_rtc", appauthor=False) / "spool"
        if "{" in f"{scheme}{spool}" or not below.strip("/"):
            raise RecordingError(f"{without_password(out)} is no address of files, or {spool} has a brace in it")
        self.told: Callable[[str, str], object] = lambda _path, _address: None
        self._out = out
        self._folder = spool.absolute() / hashlib.sha256(out.encode()).hexdigest()[:16]
        self._address = f"{scheme}:///" if below.startswith("/") else f"{scheme}://"
        self._files: asyncio.Queue[Path | None] = asyncio.Queue()
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._lock = -1
        self._store: Any = None  # fsspec's file system
        self.pattern = f"{self._folder}/{below.lstrip('/')}"

    async def __aenter__(self) -> Self:
        for path in await asyncio.to_thread(self._open):
            self._files.put_nowait(path)
        self._task = asyncio.create_task(self._work(), name="upload")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Upload what is left, unless that fails."""
        self._ending.set()
        self._files.put_nowait(None)
        if self._task is not None:
            await ended(self._task, "files are still uploaded, and that is waited for")
        os.close(self._lock)

    def put(self, path: str) -> None:
        """Upload a file that is complete, after those that wait."""
        self._files.put_nowait(Path(path))

    def _open(self) -> list[Path]:
        """Find what is left of the last time."""
        try:
            from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra

            options = {"auto_mkdir": True} if self._address.split("://")[0] in LOCAL else {}
            self._store, _ = url_to_fs(self._out.partition("{")[0], **options)
        except ImportError as error:
            raise MissingExtra(f"{self._address}...", "cloud") from error
        except ValueError as error:
            raise RecordingError(f"{without_password(self._out)} cannot be written to: {error}") from error
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            system.lock(self._lock)
        except BlockingIOError as error:
            raise RecordingError(
                f"another process uploads to {without_password(self._out)} from {self._folder}: give a --spool"
            ) from error
        except OSError as error:
            raise RecordingError(f"{self._folder} cannot be used: {error.strerror}") from error
        found = [path for path in self._folder.rglob("*") if path.suffix in FORMATS]
        return sorted(found, key=lambda path: path.stat().st_mtime)

    async def _work(self) -> None:
        while (path := await self._files.get()) is not None:
            if not await self._keep_trying(path):
                logger.error("what is not uploaded waits in %s for the next time", self._folder)
                return

    async def _keep_trying(self, path: Path) -> bool:
        """Upload a file, however long that takes; False where it is to end before."""
        for attempt, pause in enumerate(itertools.chain(PAUSES, itertools.repeat(PAUSES[-1]))):
            with warning_after(SLOW, logger, "%s has been uploaded for %g s, and is not there yet", path, SLOW):
                address, failure = await asyncio.to_thread(self._try, path)
            if not failure:
                if attempt:
                    logger.warning("uploading goes on")
                if address:
                    self.told(str(path), address)
                return True
            if not attempt:
                logger.error("%s is not uploaded yet, and tried again: %s", path, visible(failure, WORDS))
            if self._ending.is_set():
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ending.wait()
        return False

    def _try(self, path: Path) -> tuple[str, str]:
        """Upload a file; return its address, and what went wrong."""
        try:
            return (self._upload(path) if path.exists() else ""), ""  # somebody else may have taken it
        except Exception as error:  # noqa: BLE001 - it is told; what libraries of stores raise is anything
            return "", str(error) or type(error).__name__

    def _upload(self, path: Path) -> str:
        """Upload a file, delete it here, and return its address."""
        size, begun = path.stat().st_size, path.with_name(f"{path.name}.begun")
        if not begun.exists():
            with written_beside(begun) as place:  # half an address would be another one
                place.write_text(self._free(path.relative_to(self._folder)), encoding="utf-8")
        address = begun.read_text(encoding="utf-8")
        if self._size(address) != size:  # else the last attempt got as far as that
            self._store.put_file(str(path), f"{self._address}{address}")
            if (there := self._size(address)) != size:
                raise RecordingError(f"{there} of {size} octets have arrived")
        begun.unlink()
        path.unlink()
        return without_password(f"{self._address}{address}")

    def _free(self, wanted: Path) -> str:
        """Return a name under which there is nothing yet."""
        numbered = (wanted.with_stem(f"{wanted.stem}-{number}") for number in itertools.count(2))
        return next(
            name.as_posix() for name in itertools.chain([wanted], numbered) if self._size(name.as_posix()) is None
        )

    def _size(self, name: str) -> int | None:
        """Return the size of what is there under a name."""
        self._store.invalidate_cache()
        try:
            return int(self._store.info(f"{self._address}{name}")["size"])
        except FileNotFoundError:
            return None
