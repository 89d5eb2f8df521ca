"""A table of faces as a Parquet file."""

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from synopticon_rtc.errors import MissingExtra
from synopticon_rtc.recording.beside import beside, written_beside
from synopticon_rtc.recording.row import COLUMNS, POINTS, Columns, Row

MATRIX = "facial transformation matrix, row by row: MediaPipe's upright face to the camera, centimetres"
LANDMARKS = "x, y, z of each of the 478 landmarks: fractions of width and height, z on the scale of x"
_REPEATING = ["frame", "width", "height", "face_id"]
_FLOATS = ["landmarks.list.element", "matrix.list.element", *(each.name for each in COLUMNS if "float" in each.kind)]


class ParquetFile:
    """A file that is written beside its place, and moved into it once it is whole: without its end nobody can read it.

    Args:
        path: Its place.
        landmarks: Whether it has a column for them.
        whole: Whether it is in its place only once it is closed, as it always is.

    Raises:
        MissingExtra: pyarrow is not installed.
        OSError: It cannot be written.
    """

    batch = 512
    """Rows of a group, which is kept in memory until it is written: 3 MB."""

    def __init__(self, path: Path, *, landmarks: bool, whole: bool = True) -> None:  # noqa: ARG002 - as the others
        self._schema = schema(landmarks=landmarks)
        self._path = path
        self._beside = beside(path)
        self._file = self._beside.open("wb")
        self._writer = _writer(self._file, self._schema)

    def write(self, rows: Sequence[Row]) -> None:
        """Write a group of rows."""
        pa, _ = _arrow()
        columns = Columns(rows)
        arrays = [
            pa.array(values, self._schema.field(column.name).type, from_pandas=True)
            for column, values in zip(COLUMNS, columns, strict=True)
        ]
        matrices = [None if row.face is None or row.face.matrix is None else row.face.matrix.ravel() for row in rows]
        arrays.append(pa.array(matrices, self._schema.field("matrix").type))
        if "landmarks" in self._schema.names:
            flat = pa.array(columns.landmarks.reshape(-1))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, POINTS * 3, mask=pa.array(~columns.faces)))
        self._writer.write_table(pa.table(arrays, schema=self._schema))

    def close(self) -> None:
        """Write its end, and move it into its place."""
        self._writer.close()
        with self._file:
            _sync(self._file)
        self._beside.replace(self._path)

    def abandon(self) -> None:
        """Leave nothing of it."""
        for step in (self._writer.close, self._file.close, self._beside.unlink):
            with contextlib.suppress(OSError):
                step()


def join(parts: Iterable[Path], path: Path) -> None:
    """Make one file of several that have the same columns.

    Raises:
        OSError: It cannot be written.
    """
    _, parquet = _arrow()
    following = iter(parts)
    first, second = next(following), next(following, None)
    with written_beside(path) as place, place.open("wb") as file:
        if second is None:  # the first is the whole already, and would take a tenth of a second a thousand rows
            with first.open("rb") as only:
                shutil.copyfileobj(only, file)
            _sync(file)
            return
        with _writer(file, parquet.read_schema(first)) as writer:
            for part in itertools.chain([first, second], following):
                with parquet.ParquetFile(part) as whole:
                    for group in range(whole.num_row_groups):  # in this thread alone, as others have work to do
                        writer.write_table(whole.read_row_group(group, use_threads=False))
        _sync(file)


def schema(*, landmarks: bool) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return the columns as Arrow has them, each with its words.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    pa, _ = _arrow()
    fields = [(column.name, pa.type_for_alias(column.kind), column.words) for column in COLUMNS]
    fields.append(("matrix", pa.list_(pa.float32(), 16), MATRIX))
    if landmarks:
        fields.append(("landmarks", pa.list_(pa.float32(), POINTS * 3), LANDMARKS))
    return pa.schema([pa.field(name, kind, metadata={"description": words}) for name, kind, words in fields])


def _writer(file: IO[bytes], columns: Any) -> Any:  # noqa: ANN401 - pyarrow has no types
    _, parquet = _arrow()
    split = [name for name in _FLOATS if name.split(".")[0] in columns.names]  # packs floats best, and fastest
    return parquet.ParquetWriter(
        file, columns, compression="zstd", use_dictionary=_REPEATING, use_byte_stream_split=split
    )


def _sync(file: IO[bytes]) -> None:
    """Have it on the disk before it is said to be whole."""
    file.flush()
    os.fsync(file.fileno())


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - takes its time, and is an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra("a .parquet file", "parquet") from error
    return pa, parquet
