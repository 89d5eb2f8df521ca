"""What commands that record share: the option, the recorder, and what they say of it."""

from pathlib import Path

import click

from synopticon_rtc.commands.cli import Output
from synopticon_rtc.events import RecordingEvent
from synopticon_rtc.peers.tap import Tappable
from synopticon_rtc.recording.recorder import Recorder

record_option = click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.mkv",
    help="Record all streams here as they are sent, with the faces of each frame in the same file.",
)


def recorder(path: Path, of: Tappable, output: Output, *, aloud: bool) -> Recorder:
    """Make what records, and have it tell of its files.

    Args:
        path: Of the file.
        of: What is recorded.
        output: Where it is told.
        aloud: Whether each file is told to people, too. A failure always is, on stderr.

    Raises:
        RecordingError: The path has another ending.
    """
    made = Recorder(path, of)

    def told(event: RecordingEvent) -> None:
        output.event("recording", state=event.state, path=event.path, reason=event.reason)
        if aloud and event.state == "begun":
            output.say(f"recording  video, sound and faces to {event.path}: {event.reason}")

    made.events.subscribe(told)
    return made
