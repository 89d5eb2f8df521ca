"""``python -m synopticon_rtc.export``: tables of the faces in a recording."""

import asyncio
import contextlib
from pathlib import Path
from typing import Self

import click
from tqdm import tqdm

from synopticon_rtc.commands.cli import Command, Output
from synopticon_rtc.commands.options import landmarks_option
from synopticon_rtc.commands.status import found
from synopticon_rtc.errors import TableError
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.recording.export import export, length
from synopticon_rtc.recording.reader import Played
from synopticon_rtc.recording.table import FacesTable

PLACE = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command("export", cls=Command)
@click.argument("recording", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option("--parquet", type=PLACE, help="Write the table as Parquet here; needs the extra parquet.")
@click.option("--csv", type=PLACE, help="Write it as comma-separated values here.")
@click.option("--jsonl", type=PLACE, help="Write it as JSON here, an object a frame and line.")
@landmarks_option
@click.option("--stream", help="Name of the video whose faces are written; the first without it.")
async def main(
    recording: Path,
    parquet: Path | None,
    csv: Path | None,
    jsonl: Path | None,
    landmarks: bool | None,  # noqa: FBT001 - click passes flags so
    stream: str | None,
    output: Output,
) -> None:
    """Write the faces of RECORDING to tables; docs/tables.md tells what is in them."""
    places = {".parquet": parquet, ".csv": csv, ".jsonl": jsonl}
    tables = [
        FacesTable(path, landmarks=landmarks, kind=kind, whole=True)
        for kind, path in places.items()
        if path is not None
    ]
    if not tables:
        raise click.UsageError("Nothing is to be written: give --parquet, --csv or --jsonl.")
    names = [path.resolve() for path in (recording, *(table.path for table in tables))]
    if len(set(names)) < len(names):
        raise click.UsageError(
            f"{recording} and the tables that are made of it are different files: name each its own."
        )
    seconds = await asyncio.to_thread(length, recording)
    async with contextlib.AsyncExitStack() as stack:
        bar = stack.enter_context(_Bar(seconds, shown=not output.json))
        for table in tables:
            await stack.enter_async_context(table)
        try:
            await export(recording, tables, stream=stream, tell=bar.tell)
        except asyncio.CancelledError:  # Ctrl-C
            raise TableError(f"stopped after {bar.frames} frames, where each table ends now") from None
    output.event("summary", frames=bar.frames, detected=bar.detected, frames_with_faces=bar.with_faces)
    written = ", ".join(str(table.path) for table in tables)
    output.say(f"{bar.frames} frames of {recording}; {found(bar.detected, bar.with_faces)}; written to {written}")


class _Bar:
    """Shows how far it is, on a terminal, and counts.

    Args:
        seconds: That the recording has, None where nobody knows.
        shown: Whether it may be shown.

    Attributes:
        frames: That were written.
        detected: In how many of them faces were looked for.
        with_faces: In how many they were found.
    """

    def __init__(self, seconds: float | None, *, shown: bool) -> None:
        self.frames = self.detected = self.with_faces = 0
        self._bar = tqdm(total=None if seconds is None else round(seconds), unit=" s", disable=None if shown else True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._bar.total:
            self._bar.update(self._bar.total - self._bar.n)
        self._bar.close()

    def tell(self, played: Played) -> None:
        """Take note of a frame."""
        assert isinstance(played.moment, Moment)  # noqa: S101 - as videos have
        self.frames += 1
        self.detected += played.moment.detected
        self.with_faces += bool(played.moment.faces)
        self._bar.update(int(played.time) - self._bar.n)
