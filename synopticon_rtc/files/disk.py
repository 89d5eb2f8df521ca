"""Files on this machine's disk, as they are read and written in threads. All of it may block."""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from synopticon_rtc.basics import system
from synopticon_rtc.errors import FileError
from synopticon_rtc.files.names import numbered, part_of

BLOCK = 262_144
"""Bytes that are read, written and hashed at once."""
SAME_TIME = 2.0
"""Seconds that file systems are wrong of when a file was changed, at most."""


class Source:
    """A file that is sent.

    Args:
        path: Where it is.

    Attributes:
        size: Bytes.
        modified: When it was changed last, seconds since the epoch.

    Raises:
        FileError: It cannot be read, or is no file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file: BinaryIO = open(path, "rb", opener=_unblocked)  # noqa: SIM115 - it is closed by close()
        except OSError as error:
            raise FileError(f"{path} cannot be read: {error.strerror}") from error
        found = os.fstat(self._file.fileno())
        if not stat.S_ISREG(found.st_mode):
            self._file.close()
            raise FileError(f"{path} is no file that can be sent")
        self.size = found.st_size
        self.modified = found.st_mtime
        self._hash = hashlib.sha256()
        self._lock = threading.Lock()

    def matches(self, octets: int, digest: str, is_over: Callable[[], bool]) -> bool:
        """Whether its first bytes have this hash; if so, it is read on from there, else from the beginning.

        Raises:
            FileError: It cannot be read, or ``is_over`` has said meanwhile that nobody waits for this any more.
        """
        with self._lock:
            try:
                hashed = _hash_of(self._file, octets, is_over) if 0 < octets <= self.size else None
            except (OSError, ValueError) as error:
                raise FileError(f"{self._path} cannot be read: {_words(error)}") from error
            if hashed is not None and hashed.hexdigest() == digest:
                self._hash = hashed
                return True
            self._file.seek(0)
            return False

    def read(self, octets: int) -> bytes:
        """Read on.

        Raises:
            FileError: It cannot be read, or has become shorter.
        """
        with self._lock:
            try:
                data = self._file.read(octets)
            except (OSError, ValueError) as error:
                raise FileError(f"{self._path} cannot be read: {_words(error)}") from error
            if len(data) < octets:
                raise FileError(f"{self._path} has become shorter while it was sent")
            self._hash.update(data)
            return data

    def end(self) -> str:
        """Return the hash of all that was read.

        Raises:
            FileError: Somebody has written to it meanwhile.
        """
        with self._lock:
            found = os.fstat(self._file.fileno())
            if (found.st_size, found.st_mtime) != (self.size, self.modified):
                raise FileError(f"{self._path} has changed while it was sent")
            return self._hash.hexdigest()

    def close(self) -> None:
        """Read no more."""
        with self._lock:
            self._file.close()


class Part:
    """A file that is received: what is there of it, until it is whole.

    Args:
        folder: Where it goes; made where it is not there.
        within: The folders in that one to which it goes, the outermost first; made likewise, and none of them a link.
        name: What it is called.
        size: Bytes of it when it is whole.
        modified: When its sender has changed it last, seconds since the epoch; None where that is not known.
        overwrite: Whether one of its name gives way to it.
        promised: Bytes that others on their way will take of the disk.
        is_over: Whether nobody waits for it any more.

    Attributes:
        path: Where it is written to, while it is not whole.
        octets: Bytes of it that are there.
        digest: Their hash, in hexadecimal digits.

    Raises:
        FileError: It cannot be written there, is written already, or there is no room for it.
    """

    def __init__(
        self,
        folder: Path,
        within: Sequence[str],
        name: str,
        size: int,
        modified: float | None,
        *,
        overwrite: bool,
        promised: int,
        is_over: Callable[[], bool],
    ) -> None:
        self._folder = folder
        self._wanted = folder.joinpath(*within, name)
        self._is_over = is_over
        self._size = size
        self._modified = modified
        self._overwrite = overwrite
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._whole: Path | None = None  # where the same file seems to be already
        self._hash: Any = hashlib.sha256()
        self.path = part_of(self._wanted, size, modified)
        self.octets = 0
        try:
            self._make_folders()
            self._find()
            self._check_room(promised)
        except OSError as error:
            self.close()
            raise FileError(f"{name} cannot be written in {self._wanted.parent}: {_words(error)}") from error
        except FileError:
            self.close()
            raise
        self.digest = self._hash.hexdigest() if self.octets else ""

    def _make_folders(self) -> None:
        """Make the folders, of which those that a stranger names lead nowhere else."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for folder in reversed([each for each in self._wanted.parents if each.is_relative_to(self._folder)][:-1]):
            folder.mkdir(exist_ok=True)
            if folder.is_symlink():
                raise FileError(f"{self._wanted.name} is not written to {folder}: that is a link to elsewhere")

    def _find(self) -> None:
        """Open what is there already: all of it under its own name, or a part."""
        with contextlib.suppress(OSError):
            found = self._wanted.stat()
            whole = stat.S_ISREG(found.st_mode) and 0 < found.st_size == self._size and self._modified is not None
            if whole and abs(found.st_mtime - (self._modified or 0)) < SAME_TIME:
                self._file, self._whole = self._wanted.open("rb"), self._wanted
        if self._file is None:
            self._open_part()
        assert self._file is not None  # noqa: S101 - one of both is open
        there = os.fstat(self._file.fileno()).st_size
        if there > self._size:
            self._file.truncate(0)
            there = 0
        self._hash, self.octets = _hash_of(self._file, there, self._is_over) or hashlib.sha256(), there

    def _check_room(self, promised: int) -> None:
        free = shutil.disk_usage(self._wanted.parent).free - promised
        needed = self._size - self.octets
        if needed > free:
            raise FileError(f"there is no room for {self._wanted.name}: it needs {needed} bytes, and {free} are free")

    def _open_part(self) -> None:
        """Open what is not whole yet, or begin it, for nobody else to write to at the same time.

        Raises:
            FileError: Somebody does, in whichever process.
            OSError: It cannot be opened.
        """
        file = open(  # noqa: SIM115 - it is closed by close()
            self.path, "r+b", buffering=0, opener=lambda path, flags: _unlinked(path, flags | os.O_CREAT)
        )
        try:
            system.lock(file.fileno())
        except BlockingIOError:
            file.close()
            raise FileError(f"{self._wanted.name} is being received already") from None
        except OSError:  # this file system knows no locks
            pass
        self._file = file
        if not self._is_there:  # whoever had it has given it its name meanwhile
            raise FileError(f"{self._wanted.name} was being received already")

    @property
    def _is_there(self) -> bool:
        """Whether what is written to still is what is called so."""
        assert self._file is not None  # noqa: S101 - it is open
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self.path.lstat())
        except FileNotFoundError:
            return False

    def begin(self, at: int) -> None:
        """Take the content from here on: from the end of what is there, or from the beginning.

        Raises:
            FileError: It cannot be written.
        """
        with self._lock:
            if at == self.octets and at:
                return
            try:
                if self._whole is not None:
                    self._close()
                    self._whole = None
                    self._open_part()
                assert self._file is not None  # noqa: S101 - it is open
                self._file.truncate(0)
                self._file.seek(0)
            except OSError as error:
                raise FileError(f"{self._wanted.name} cannot be written: {error.strerror}") from error
            self._hash, self.octets = hashlib.sha256(), 0

    def write(self, data: bytes | bytearray) -> None:
        """Write on.

        Raises:
            FileError: It cannot be written.
        """
        with self._lock:
            view = memoryview(data)
            try:
                while view:
                    if self._file is None:
                        raise FileError(f"{self._wanted.name} is received no more")
                    count = self._file.write(view)
                    self._hash.update(view[:count])
                    self.octets += count
                    view = view[count:]
            except OSError as error:
                raise FileError(f"{self._wanted.name} cannot be written: {error.strerror}") from error

    def finish(self, digest: str) -> Path:
        """Give it its name, now that it is whole, and return where it is.

        Raises:
            FileError: It is not what was sent, and is gone; or it cannot be given its name.
        """
        with self._lock:
            if self._file is None:
                raise FileError(f"{self._wanted.name} is received no more")
            if self.octets != self._size or self._hash.hexdigest() != digest:
                self._close()
                if self._whole is None:
                    self.path.unlink(missing_ok=True)
                raise FileError(f"{self._wanted.name} is not what was sent: its SHA-256 is another")
            if self._whole is not None:
                self._close()
                return self._whole
            try:
                os.fsync(self._file.fileno())
                if not self._is_there:
                    raise FileError(
                        f"{self._wanted.name} cannot be given its name: somebody has taken {self.path} away"
                    )
                if os.name == "nt":  # pragma: no cover - where nobody renames what is open
                    self._close()
                if self._modified is not None:
                    os.utime(self.path, (self._modified, self._modified))
                return self._rename()
            except (OSError, OverflowError) as error:
                raise FileError(f"{self._wanted.name} cannot be given its name: {_words(error)}") from error
            finally:
                self._close()

    def _rename(self) -> Path:
        if self._overwrite:
            self.path.replace(self._wanted)
            return self._wanted
        for name in numbered(self._wanted.name):
            path = self._wanted.with_name(name)
            try:
                _move(self.path, path)
            except FileExistsError:
                continue
            return path
        raise AssertionError  # pragma: no cover - there is no end of numbers

    def close(self) -> None:
        """Write no more; what is there stays."""
        with self._lock:
            if self._file is not None and self._whole is None and not self.octets and self._is_there:
                with contextlib.suppress(OSError):
                    self.path.unlink()  # nothing is
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def files_in(folder: Path, most: int) -> list[tuple[Path, tuple[str, ...], int]]:
    """List the files in a folder and below: each, the folders that it is in, that one first, and its bytes.

    Links are left out, so that nothing is sent that lies elsewhere, and what goes meanwhile.

    Raises:
        FileError: It cannot be read, or there are too many.
    """
    found: list[tuple[Path, tuple[str, ...], int]] = []

    def fail(error: OSError) -> None:
        raise FileError(f"{error.filename} cannot be read: {error.strerror}")

    outermost = folder.resolve()
    for root, folders, names in os.walk(outermost, onerror=fail):
        folders.sort()
        within = Path(root).relative_to(outermost).parts
        for name in sorted(names):
            path = Path(root, name)
            with contextlib.suppress(FileNotFoundError):
                state = path.lstat()
                if stat.S_ISREG(state.st_mode):
                    found.append((path, (outermost.name or "files", *within), state.st_size))
        if len(found) > most:
            raise FileError(f"{folder} has more than {most} files: send what is in it in parts, or as an archive")
    return found


def _hash_of(file: BinaryIO, octets: int, is_over: Callable[[], bool]) -> Any:  # noqa: ANN401 - hashlib names no type
    """Hash the first bytes of a file, and stand behind them; None where there are fewer.

    That takes minutes of a large one, which nobody waits for at the end of a process.

    Raises:
        FileError: It is over.
    """
    file.seek(0)
    hashed = hashlib.sha256()
    left = octets
    while left and (data := file.read(min(left, BLOCK))):
        if is_over():
            raise FileError("nobody waits for it any more")
        hashed.update(data)
        left -= len(data)
    return None if left else hashed


def _unblocked(path: str, flags: int) -> int:
    """Open without waiting for whoever writes into a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _unlinked(path: str, flags: int) -> int:
    """Open, but not through a link that somebody has put there."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _move(path: Path, to: Path) -> None:
    """Rename, where nothing is there.

    Raises:
        FileExistsError: Something is.
    """
    if os.name == "nt":  # pragma: no cover - where this is how it renames
        path.rename(to)
        return
    try:
        os.link(path, to)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}:
            raise
        if os.path.lexists(to):  # the file system knows no links
            raise FileExistsError from error
        path.rename(to)
    else:
        path.unlink()


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
