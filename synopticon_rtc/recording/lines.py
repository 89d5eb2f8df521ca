"""A table of faces as text: comma-separated values, or a JSON object a frame."""

import contextlib
import itertools
import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from synopticon_rtc.faces.face import Face
from synopticon_rtc.recording.beside import beside, written_beside
from synopticon_rtc.recording.row import COLUMNS, POINTS, Columns, Row


class _TextFile:
    """A file that holds what was written at any time, so that others can read along.

    Args:
        path: Where it is.
        landmarks: Whether they are written.
        whole: Whether it is in its place only once it is closed, unless a pipe or a device is there.

    Raises:
        OSError: It cannot be written.
    """

    batch = 32
    """Rows that are kept in memory until they are written: about a second."""

    def __init__(self, path: Path, *, landmarks: bool, whole: bool = False) -> None:
        self._landmarks = landmarks
        self._path = path
        self._written = beside(path) if whole and (path.is_file() or not path.exists() or path.is_dir()) else path
        self._file = self._written.open("wb")
        self._first = b""  # what is written before all rows, with the first of them

    def close(self) -> None:
        """Close it."""
        with self._file:
            self._write(b"")
        if self._written != self._path:
            self._written.replace(self._path)

    def abandon(self) -> None:
        """Close it as far as it came; leave nothing of it where it is not in its place."""
        with contextlib.suppress(OSError):
            self._file.close()
        if self._written != self._path:
            with contextlib.suppress(OSError):
                self._written.unlink()

    def _write(self, data: bytes) -> None:
        first, self._first = self._first, b""
        self._file.write(first + data)
        self._file.flush()


class CsvFile(_TextFile):
    """Comma-separated values (RFC 4180), with a line of names first; what is not known is empty.

    Landmarks are three columns each: x0, y0, z0 to x477, y477, z477.
    """

    def __init__(self, path: Path, *, landmarks: bool, whole: bool = False) -> None:
        super().__init__(path, landmarks=landmarks, whole=whole)
        names = [column.name for column in COLUMNS]
        if landmarks:
            names += [f"{axis}{point}" for point in range(POINTS) for axis in "xyz"]
        self._first = _line(names)

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows."""
        columns = Columns(rows)
        texts = [_texts(column.kind, values) for column, values in zip(COLUMNS, columns, strict=True)]
        lines = [list(values) for values in zip(*texts, strict=True)]
        if self._landmarks:
            for line, points in zip(lines, columns.landmarks.reshape(len(rows), -1).tolist(), strict=True):
                line += [_short(value) for value in points]
        self._write(b"".join(map(_line, lines)))


def _texts(kind: str, values: Sequence[Any] | npt.NDArray[Any]) -> list[str]:
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    if kind == "bool":
        return ["true" if value else "false" for value in listed]
    text = _short if kind == "float32" else repr
    return ["" if value is None or math.isnan(value) else text(value) for value in listed]


def _short(value: float) -> str:
    """Write as many digits as a float32 has."""
    return "" if math.isnan(value) else f"{value:.7g}"


def _line(fields: Sequence[str]) -> bytes:
    return ",".join(fields).encode() + b"\r\n"


class JsonLinesFile(_TextFile):
    """A JSON object a line, each a frame with the list of its faces.

    Numbers are rounded: landmarks and boxes to 5 decimals, scores and openness to 4, angles to 2. What is not known of
    a face is left out.
    """

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows, all of each frame at once."""
        opened = np.stack(Columns(rows).openness, axis=1).tolist()
        lines = []
        for _, group in itertools.groupby(zip(rows, opened, strict=True), lambda pair: pair[0].frame):
            faces = list(group)
            told = faces[0][0]._asdict()
            del told["face"]
            told["faces"] = [self._told(row.face, openness) for row, openness in faces if row.face is not None]
            lines.append(msgspec.json.encode(told) + b"\n")
        self._write(b"".join(lines))

    def _told(self, face: Face, openness: Sequence[float]) -> dict[str, object]:
        told: dict[str, object] = {"id": face.id, "box": _rounded(face.box._asdict(), 5)}
        if face.pose is not None:
            told["pose"] = _rounded(face.pose._asdict(), 2)
        names = ("left_eye_openness", "right_eye_openness", "mouth_openness")
        told |= {name: round(value, 4) for name, value in zip(names, openness, strict=True) if not math.isnan(value)}
        if face.blendshapes:
            told["blendshapes"] = _rounded(face.blendshapes, 4)
        if face.matrix is not None:
            told["matrix"] = _listed(face.matrix)
        if self._landmarks:
            told["landmarks"] = _listed(face.landmarks)
        return told


def _rounded(values: dict[str, float], decimals: int) -> dict[str, float]:
    return {name: round(value, decimals) for name, value in values.items()}


def _listed(array: npt.NDArray[np.float32]) -> object:
    # Rounded as float64: float32 has no 0.1, and would be written as 0.10000000149011612.
    return array.astype(np.float64).round(5).tolist()


def concatenate(parts: Iterable[Path], path: Path, *, named: bool) -> None:
    """Make one file of several, moved into its place once it is whole.

    Args:
        parts: Each of them.
        path: Its place.
        named: Whether each begins with a line of names, of which one is enough.

    Raises:
        OSError: It cannot be written.
    """
    with written_beside(path) as place, place.open("wb") as target:
        for number, part in enumerate(parts):
            with part.open("rb") as source:
                if named and number:
                    source.readline()
                shutil.copyfileobj(source, target)
