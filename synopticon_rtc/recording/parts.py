"""A table, and perhaps a film, that is made in parts, so that nothing is lost of those that are whole."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from synopticon_rtc.errors import TableError
from synopticon_rtc.faces.tracking import Tracker
from synopticon_rtc.recording.annotated import join_video
from synopticon_rtc.recording.beside import beside, written_beside
from synopticon_rtc.recording.joining import Joining
from synopticon_rtc.recording.table import join_tables

_DIGITS = 6  # of the number of a part


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far it is.

    Attributes:
        job: What it is made of, and how; parts of something else are of no use.
        parts: How many are whole.
        frames: How many frames are in them.
        detected: In how many of them faces were looked for.
        with_faces: In how many they were found.
        size: Width and height of the first frame.
        tracker: Whom the tracker of faces follows, as it says itself.
        finished: Whether the parts have become what they are parts of.
    """

    job: dict[str, str]
    parts: int = 0
    frames: int = 0
    detected: int = 0
    with_faces: int = 0
    size: tuple[int, int] = (0, 0)
    tracker: msgspec.Raw = msgspec.Raw(Tracker().save())
    finished: bool = False


class Parts:
    """A folder of parts beside what they become, into which each is joined as soon as it is whole. All of this blocks.

    The parts stay until all are joined: what is joined of them before is made anew after an end that nobody foresaw.

    Args:
        table: What the tables become.
        video: What the films become; None where there are none.
    """

    def __init__(self, table: Path, video: Path | None) -> None:
        self.folder = table.with_name(f"{table.name}.parts")
        self._table = table
        self._video = video
        self._progress = self.folder / "progress.json"
        self._whole = 0  # parts
        self._joinings: list[tuple[Joining, Callable[[int], Path]]] = []

    def begin(self, job: Mapping[str, str]) -> Progress:
        """Go on where the same job was, or begin it.

        Raises:
            TableError: It cannot be written.
        """
        progress = self._kept()
        if progress is None or progress.job != job:
            progress = self._anew(Progress(job=dict(job)))
        self._joinings.append((Joining(join_tables, self._table), self.table))
        if self._video is not None:
            self._joinings.append((Joining(join_video, self._video), self.video))
        self._join(progress.parts)
        return progress

    def _anew(self, progress: Progress) -> Progress:
        try:
            for path in filter(None, (self._table, self._video)):
                beside(path).touch()  # so that it is not said after hours
                beside(path).unlink()
            if self.folder.exists():
                if not self._progress.exists() and not all(map(self._is_ours, self.folder.iterdir())):
                    raise TableError(
                        f"{self.folder} is in the way, and nothing of ours: move it, or choose another name"
                    )
                shutil.rmtree(self.folder)
            self.folder.mkdir()
        except OSError as error:
            raise TableError(f"{error.filename or self._table} cannot be written: {error.strerror}") from error
        self._note(progress)
        return progress

    def _kept(self) -> Progress | None:
        try:
            progress = msgspec.json.decode(self._progress.read_bytes(), type=Progress)
            Tracker.restored(bytes(progress.tracker))
        except (OSError, msgspec.MsgspecError):
            return None
        return progress

    def _is_ours(self, path: Path) -> bool:
        """Whether a file in the folder may be what an end that nobody foresaw has left, before all else or after it."""
        return path.name.startswith(self._progress.name) or path.name[:_DIGITS].isdecimal()

    def table(self, part: int) -> Path:
        """Return where the table of a part is."""
        return self.folder / f"{part:0{_DIGITS}}{self._table.suffix}"

    def video(self, part: int) -> Path:
        """Return where the film of a part is."""
        return self.folder / f"{part:0{_DIGITS}}.nut"

    def keep(self, progress: Progress) -> None:
        """Note how far it is, now that one more part is whole.

        Raises:
            TableError: It cannot be written, or what the parts become cannot.
        """
        self._note(progress)
        self._join(progress.parts)

    def _note(self, progress: Progress) -> None:
        try:
            with written_beside(self._progress) as place:
                place.write_bytes(msgspec.json.encode(progress))
        except OSError as error:
            raise TableError(f"{self._progress} cannot be written: {error.strerror}") from error

    def _join(self, whole: int) -> None:
        parts, self._whole = range(self._whole, whole), whole
        for joining, path in self._joinings:
            for part in parts:
                joining.add(path(part))

    def finish(self) -> None:
        """Have all of the parts become what they are parts of, and remove them.

        Raises:
            TableError: It cannot be written.
        """
        for joining, _ in self._joinings:
            joining.finish()
        self._drop()

    def leave(self) -> None:
        """Keep those that are whole for another time, and leave nothing where none is."""
        for joining, _ in self._joinings:
            joining.give_up()
        if not self._whole:
            self._drop()

    def _drop(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
