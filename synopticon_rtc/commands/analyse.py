"""``python -m synopticon_rtc.analyse``: a table of the faces in a film, as fast as the machine can make it."""

import asyncio
import math
import time
from pathlib import Path
from typing import Self

import click
from tqdm import tqdm

from synopticon_rtc.commands.cli import Command, Output
from synopticon_rtc.commands.options import engine_option, landmarks_option, model_option
from synopticon_rtc.commands.status import found
from synopticon_rtc.errors import TableError
from synopticon_rtc.faces import FaceLandmarker
from synopticon_rtc.faces.engine import Choice
from synopticon_rtc.media import VideoFile
from synopticon_rtc.recording.analysis import Analysis
from synopticon_rtc.recording.parts import Progress

INTERVAL = 1.0  # seconds between two events of how far it is


@click.command("analyse", cls=Command)
@click.argument("film", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    required=True,
    help="Write the table of faces here, as .parquet (extra parquet), .csv or .jsonl; docs/tables.md tells of it.",
)
@click.option(
    "--video-out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the film with the faces drawn on it here, as .mp4, .mkv or .mov, without sound.",
)
@landmarks_option
@click.option("--faces", type=click.IntRange(1, 10), default=1, show_default=True, help="Faces to look for at most.")
@model_option
@engine_option
async def main(
    film: Path,
    out: Path,
    video_out: Path | None,
    landmarks: bool | None,  # noqa: FBT001 - click passes flags so
    faces: int,
    model: str | None,
    engine: Choice,
    output: Output,
) -> None:
    """Look for faces in every frame of FILM, and write a table of them.

    If it ends before it is done, whatever the reason, the same command goes on where it was.
    """
    if video_out is not None and await asyncio.to_thread(lambda: video_out.resolve() == film.resolve()):
        raise click.UsageError(f"--video-out would replace {film} itself: give it another name.")
    video = VideoFile(film)
    detector = FaceLandmarker(max_faces=faces, model=model, blendshapes=True, matrix=True, live=False, engine=engine)
    job = {"faces": str(faces), "model": str(model), **await asyncio.to_thread(_known_by, film)}
    analysis = Analysis(video, detector, out, video=video_out, landmarks=landmarks, job=job)
    with _Report(output, await asyncio.to_thread(lambda: video.length)) as report:
        running = asyncio.create_task(analysis.run(report.tell))
        try:
            progress = await asyncio.shield(running)
        except asyncio.CancelledError:  # Ctrl-C
            analysis.stop()
            progress = await running
    if not progress.finished:
        raise TableError(f"stopped after {progress.frames} frames; the same command goes on there")
    report.summarize(progress, film, out)


def _known_by(film: Path) -> dict[str, str]:
    """Say what another film, or this one once it has changed, does not share."""
    about = film.stat()
    return {"film": str(film.resolve()), "bytes": str(about.st_size), "modified": str(about.st_mtime_ns)}


class _Report:
    """Tells people or programs how far it is: a bar on a terminal, or an event a second.

    Args:
        output: Where programs are told.
        length: About how many frames the film has, None where nobody knows.
    """

    def __init__(self, output: Output, length: int | None) -> None:
        self._output = output
        self._length = length
        self._bar = tqdm(total=length, unit=" frames", disable=True if output.json else None)  # None: on a terminal
        self._begun, self._told = time.monotonic(), -math.inf
        self._before: int | None = None  # frames that were done when it began

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def tell(self, progress: Progress) -> None:
        """Tell how far it is."""
        if self._before is None:
            self._before = self._bar.initial = self._bar.n = progress.frames
            self._begun = time.monotonic()
            if progress.frames:
                self._output.say(f"going on after {progress.frames} frames")
        self._bar.update(progress.frames - self._bar.n)
        if (now := time.monotonic()) - self._told >= INTERVAL:
            self._told = now
            self._output.event("progress", frames=progress.frames, length=self._length)

    def summarize(self, progress: Progress, film: Path, table: Path) -> None:
        """Say what it came to."""
        seconds = max(time.monotonic() - self._begun, 1e-3)
        rate = (progress.frames - (self._before or 0)) / seconds
        self._output.event(
            "summary",
            frames=progress.frames,
            detected=progress.detected,
            frames_with_faces=progress.with_faces,
            fps=round(rate, 1),
        )
        faces = found(progress.detected, progress.with_faces)
        self._output.say(f"{progress.frames} frames of {film} at {rate:.1f} a second; {faces}; written to {table}")
