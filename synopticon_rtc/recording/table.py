"""Tables of faces: a row for each face in each frame, as Parquet, CSV or JSON lines."""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from synopticon_rtc.basics.life import not_open
from synopticon_rtc.basics.opening import open_in_thread
from synopticon_rtc.errors import TableError
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.recording.lines import CsvFile, JsonLinesFile, concatenate
from synopticon_rtc.recording.parquet import ParquetFile, join
from synopticon_rtc.recording.row import Row, Rows
from synopticon_rtc.recording.worker import Worker


class _File(Protocol):
    """What rows are written to. Each of these blocks, and raises OSError where it cannot write."""

    batch: int
    """How many rows are best written at once."""

    def write(self, rows: Sequence[Row]) -> None: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...


class _Kind(Protocol):
    def __call__(self, path: Path, *, landmarks: bool, whole: bool) -> _File: ...


KINDS: dict[str, _Kind] = {
    ".parquet": ParquetFile,
    ".csv": CsvFile,
    ".jsonl": JsonLinesFile,
    ".ndjson": JsonLinesFile,
    "": JsonLinesFile,  # pipes and devices
}
"""What is written, by the ending of the file's name."""


class FacesTable:
    """A table of the faces of moments: an async context manager.

    A frame without faces has a row too. Every column is told in docs/tables.md. Rows are written in a thread, some at a
    time, so memory is bounded. A Parquet file is in its place once the table is left, on whatever way; the others grow
    as they are written.

    Args:
        path: Where it is, with the ending .parquet, .csv or .jsonl; what is there is replaced.
        landmarks: Whether it has the landmarks; None: all but CSV have.
        first: The number of the first frame.
        kind: The ending that says what is written, where that of the path does not.
        whole: Whether others than Parquet too are in their place only once the table is left.

    Raises:
        TableError: The ending is another. When it is entered: it cannot be written.
        MissingExtra: When it is entered: it is to be Parquet, and pyarrow is not installed.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        landmarks: bool | None = None,
        first: int = 0,
        kind: str | None = None,
        whole: bool = False,
    ) -> None:
        self.path = Path(path)
        self._kind = kind_of(self.path) if kind is None else KINDS[kind]
        self._landmarks = self._kind is not CsvFile if landmarks is None else landmarks
        self._whole = whole
        self._file: _File | None = None
        self._worker = Worker("faces-table")
        self._make = Rows(first)
        self._rows: list[Row] = []
        self._failed = False

    async def __aenter__(self) -> Self:
        """Open it."""
        opened = functools.partial(self._kind, self.path, landmarks=self._landmarks, whole=self._whole)
        try:
            self._file = await open_in_thread(opened, lambda file: file.abandon())
        except OSError as error:
            raise self._error(error) from error
        return self

    async def write(self, moment: Moment[Any], *, time: float | None = None) -> None:
        """Write the faces of the next frame.

        Args:
            moment: The frame with its faces.
            time: Seconds of media up to it; by the RTP timestamps and capture times of all that came without it.

        Raises:
            TableError: What was written before cannot be written.
            RuntimeError: It is not open.
        """
        if self._file is None:
            raise not_open(self)
        self._rows += self._make.of(moment, time)
        if len(self._rows) >= self._file.batch:
            await self._flush(self._file)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left, and close it; raises :class:`~synopticon_rtc.errors.TableError` where it cannot."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            await self._worker.end(functools.partial(_finish, file, self._rows), file.abandon)
        except OSError as full:
            if not self._failed:  # else it has been said
                raise self._error(full) from full

    async def _flush(self, file: _File) -> None:
        rows, self._rows = self._rows, []
        try:
            await self._worker.do(functools.partial(file.write, rows))
        except OSError as error:
            self._failed = True
            raise self._error(error) from error

    def _error(self, error: OSError) -> TableError:
        return TableError(f"{self.path} cannot be written: {error.strerror or error}")


def _finish(file: _File, rows: Sequence[Row]) -> None:
    if rows:
        file.write(rows)
    file.close()


def kind_of(path: Path) -> _Kind:
    """Return what is written to a file of that name.

    Raises:
        TableError: Nothing is.
    """
    try:
        return KINDS[path.suffix.lower()]
    except KeyError:
        raise TableError(f"{path} does not end in .parquet, .csv or .jsonl: which of them is to be written?") from None


def join_tables(parts: Iterable[Path], path: Path) -> None:
    """Make one table of parts with the same ending and the same columns that follow one another; this blocks.

    Each is read when it comes, and the table is in its place after the last.

    Raises:
        OSError: It cannot be written.
    """
    if kind_of(path) is ParquetFile:
        join(parts, path)
    else:
        concatenate(parts, path, named=kind_of(path) is CsvFile)
