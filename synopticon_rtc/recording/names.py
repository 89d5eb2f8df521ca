"""Where the files of recordings go whose names are the words of strangers."""

import datetime as dt
import os
import string
import threading
from collections.abc import Callable
from itertools import chain, count
from pathlib import Path

from synopticon_rtc.basics.filename import fit, not_a_device
from synopticon_rtc.errors import RecordingError
from synopticon_rtc.peers.tap import Origin
from synopticon_rtc.recording.writer import file_format

FIELDS = ("name", "session", "start")
START = "%Y-%m-%d_%H-%M-%S"
LONGEST = 100
"""Octets of what a stranger says in a path; file systems take 255 in each of its parts."""
LONGEST_PART = 240
"""Octets of a part of a path, with room for a number."""
NOBODY = "nobody"
"""What those are called who have neither a name nor a session that can be written."""


class Names:
    """Names files by a pattern, like ``recordings/{name}/{start:%Y-%m-%d_%H-%M-%S}.mkv``.

    It may be used from several threads. No name leads out of the folder of the pattern.

    Args:
        pattern: A path with ``{name}`` (of the broadcaster), ``{session}``, and ``{start}`` (when the file begins, by
            the time of this machine), which may say by what it is formatted, as ``time.strftime`` has it.
        fits: Raises :class:`~synopticon_rtc.errors.SynopticonError` where nothing can be written to such a path.

    Attributes:
        folder: Below which all files are: what the pattern has before its first field.

    Raises:
        RecordingError: The pattern is none.
    """

    def __init__(self, pattern: str, *, fits: Callable[[Path], object] = file_format) -> None:
        # Windows takes both kinds of slash.
        self._pattern = os.path.expanduser(pattern).replace(os.sep, "/")  # noqa: PTH111 - a part of a path that has fields
        self._lock = threading.Lock()
        self._promised: set[Path] = set()  # paths that were given, and are not there yet
        _check(self._pattern)
        fixed = self._pattern.partition("{")[0].rpartition("/")[0:2]
        self._below = self._pattern[len("".join(fixed)) :]
        self.folder = Path("".join(fixed).replace("}}", "}") or ".")
        try:
            example = self._fill(Origin("x" * LONGEST, "x" * LONGEST, None), dt.datetime.now(dt.UTC))
        except ValueError as error:
            raise RecordingError(f"{pattern!r} is no pattern of a path: {error}") from error
        fits(Path(self._pattern))
        if ".." in example.relative_to(self.folder).parts or "\0" in str(example):
            raise RecordingError(f"{pattern!r} is no pattern of a path: there can be no .. after a field")
        if any(len(os.fsencode(part)) > LONGEST_PART for part in example.parts):
            raise RecordingError(f"{pattern} makes names that are too long: say less between two slashes")

    def prepare(self) -> None:
        """Make the folder, and see whether it can be written to.

        Raises:
            RecordingError: It cannot.
        """
        _make(self.folder)
        if not os.access(self.folder, os.W_OK):
            raise RecordingError(f"nothing can be recorded: {self.folder} is read-only for this user")

    def __call__(self, origin: Origin, begun: dt.datetime) -> Path:
        """Return a path that is not taken, and make its folder.

        Raises:
            RecordingError: The folder cannot be made.
        """
        path = self._fill(origin, begun)
        _make(path.parent)
        with self._lock:
            self._promised = {promised for promised in self._promised if not promised.exists()}
            numbered = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
            free = next(
                each for each in chain([path], numbered) if each not in self._promised and not os.path.lexists(each)
            )
            self._promised.add(free)
        return free

    def _fill(self, origin: Origin, begun: dt.datetime) -> Path:
        session = fit(origin.session, LONGEST) or NOBODY
        fields = {"name": fit(origin.name, LONGEST) or session, "session": session, "start": _Start(begun.astimezone())}
        parts = self._below.format(**fields).split("/")
        return self.folder.joinpath(*(not_a_device(part) for part in parts if part))


class _Start:
    """A time that has a format of its own where none is asked for."""

    def __init__(self, at: dt.datetime) -> None:
        self._at = at

    def __format__(self, form: str) -> str:
        return self._at.strftime(form or START)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordingError(f"the folder {folder} cannot be made: {error.strerror}") from error


def _check(pattern: str) -> None:
    """Refuse a pattern that is none, or that would have a stranger say more than a name."""
    try:
        fields = [
            (field, form or "", by) for _, field, form, by in string.Formatter().parse(pattern) if field is not None
        ]
    except ValueError as error:
        raise RecordingError(f"{pattern} is no pattern of a path: {error}") from error
    for field, form, conversion in fields:
        if field not in FIELDS or conversion or "{" in form or (form and field != "start"):
            raise RecordingError(
                f"{pattern} is no pattern of a path: it may have {{name}}, {{session}}, {{start:{START}}}"
            )
    if ".." in pattern[pattern.find("{") :].split("/"):
        raise RecordingError(f"{pattern} is no pattern of a path: there can be no .. after a field")
