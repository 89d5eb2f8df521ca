"""A table, and perhaps a film, that is made in parts, so that nothing is lost of those that are whole."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from synopticon_rtc.errors import TableError
from synopticon_rtc.faces.tracking import Tracker
from synopticon_rtc.recording.annotated import join_video
from synopticon_rtc.recording.beside import beside, written_beside
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
    """A folder of parts beside what they become. All of this blocks.

    Args:
        table: What the tables become.
        video: What the films become; None where there are none.
    """

    def __init__(self, table: Path, video: Path | None) -> None:
        self.folder = table.with_name(f"{table.name}.parts")
        self._table = table
        self._video = video
        self._progress = self.folder / "progress.json"

    def begin(self, job: Mapping[str, str]) -> Progress:
        """Go on where the same job was, or begin it.

        Raises:
            TableError: It cannot be written.
        """
        progress = self._kept()
        if progress is not None and progress.job == job:
            return progress
        progress = Progress(job=dict(job))
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
        self.keep(progress)
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

    def drop(self) -> None:
        """Remove them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def table(self, part: int) -> Path:
        """Return where the table of a part is."""
        return self.folder / f"{part:0{_DIGITS}}{self._table.suffix}"

    def video(self, part: int) -> Path:
        """Return where the film of a part is."""
        return self.folder / f"{part:0{_DIGITS}}.nut"

    def keep(self, progress: Progress) -> None:
        """Note how far it is.

        Raises:
            TableError: It cannot be written.
        """
        try:
            with written_beside(self._progress) as place:
                place.write_bytes(msgspec.json.encode(progress))
        except OSError as error:
            raise TableError(f"{self._progress} cannot be written: {error.strerror}") from error

    def join(self, count: int) -> None:
        """Make of the parts what they are parts of, and remove them.

        Raises:
            TableError: It cannot be written.
        """
        for path, part, join in ((self._table, self.table, join_tables), (self._video, self.video, join_video)):
            if path is not None:
                whole: Sequence[Path] = [part(number) for number in range(count)]
                try:
                    join(whole, path)
                except OSError as error:
                    raise TableError(f"{path} cannot be written: {error.strerror or error}") from error
        self.drop()
