"""Tables of the faces in a recording."""

import asyncio
import contextlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from synopticon_rtc.errors import RecordingError
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.recording.ahead import ahead
from synopticon_rtc.recording.reader import Played, Reader
from synopticon_rtc.recording.table import FacesTable

AT_ONCE = 64
"""Frames that are read at once: to hand over each by itself takes longer than to read it."""


async def export(
    path: Path, tables: Sequence[FacesTable], *, stream: str | None = None, tell: Callable[[Played], None]
) -> None:
    """Write the faces of one video of a recording to tables, all that are open, without decoding it.

    Args:
        path: Of the recording.
        tables: Each gets a row for each face, and one for a frame without any, as from live moments. Their times are
            those of the file.
        stream: The name of the video; without it, the first that there is.
        tell: Called with each frame that was written.

    Raises:
        RecordingError: It is no recording, has no such video, or is damaged: all the rest is in the tables.
        TableError: A table cannot be written.
    """
    async with contextlib.aclosing(ahead(_read(path, stream))) as pieces:
        async for piece in pieces:
            for played in piece:
                if isinstance(played.moment, Moment):
                    for table in tables:
                        await table.write(played.moment, time=played.time)
                    tell(played)
            await asyncio.sleep(0)


def length(path: Path) -> float | None:
    """Return how many seconds a recording has; None where it was never completed.

    Raises:
        RecordingError: It is none.
    """
    with contextlib.closing(Reader(path, decode=False)) as reader:
        return reader.duration


def _read(path: Path, name: str | None) -> Generator[list[Played], None, None]:
    with contextlib.closing(Reader(path, decode=False)) as reader:
        videos = [stream.name for stream in reader.streams.values() if stream.kind == "video"]
        if not videos or name not in {None, *videos}:
            reader.check_head()
            there = ", ".join(map(repr, videos)) or "none"
            raise RecordingError(f"no video{'' if name is None else f' {name!r}'} is in {path}; there is {there}")
        piece: list[Played] = []
        try:
            for played in reader.read((name or videos[0],)):
                piece.append(played)
                if len(piece) == AT_ONCE:
                    yield piece
                    piece = []
        except RecordingError:
            yield piece  # what is right
            raise
        yield piece
