"""``python -m synopticon_rtc.record``: record every broadcaster of a room, as they come and go."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path

import click

from synopticon_rtc.basics.text import NAME, visible
from synopticon_rtc.commands.afterwards import Keep, OnSegment
from synopticon_rtc.commands.cli import Command, Output
from synopticon_rtc.commands.kinds import Duration, Octets, Text
from synopticon_rtc.commands.meeting import DEFAULT_URL, News
from synopticon_rtc.commands.memory import collect_often, share_heaps
from synopticon_rtc.commands.options import (
    Reach,
    ca_option,
    duration_option,
    reach_options,
    room_option,
    signaling_client,
    token_file_option,
)
from synopticon_rtc.commands.room import Reel, RoomRecorder, Taped
from synopticon_rtc.commands.status import Status
from synopticon_rtc.commands.upload import Upload, is_address
from synopticon_rtc.errors import without_password
from synopticon_rtc.events import StateEvent
from synopticon_rtc.recording.names import START, Names
from synopticon_rtc.signaling.session import Signaling

STATUS_INTERVAL = 1.0  # seconds
REFUSED_WITHIN = 0.3  # seconds in which a server says that nobody may be recorded, before we say that we do
SHOWN = 10  # broadcasters in the status


@click.command("record", cls=Command)
@click.option("--url", default=DEFAULT_URL, show_default=True, help="Signaling server to use.")
@room_option
@token_file_option
@ca_option
@click.option(
    "--name", type=Text(), default="", help="Name of who records, as the pages of those who are recorded show it."
)
@click.option(
    "--out",
    default=f"recordings/{{name}}/{{start:{START}}}.mkv",
    show_default=True,
    metavar="PATTERN",
    help="Files to write: {name} is the broadcaster's, {start} when the file begins. Folders are made. Or addresses, "
    "like s3://bucket/{name}/{start}.mkv.",
)
@click.option(
    "--spool",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder in which files wait until they are uploaded, where --out is an address.",
)
@click.option("--segment", type=Duration(), help="Go on in another file after this time, like 10m.")
@click.option("--max-size", type=Octets(), help="Go on in another file after this size, like 500M.")
@click.option(
    "--keep", type=Duration(), help="Delete recordings below the folder of --out that are older than this, like 30d."
)
@click.option(
    "--on-segment",
    metavar="COMMAND",
    help="Run this for each file that is complete, with its path as the last word; no shell reads it.",
)
@duration_option
@reach_options
async def main(
    url: str,
    room: str,
    token_file: Path | None,
    ca: ssl.SSLContext | None,
    name: str,
    out: str,
    spool: Path | None,
    segment: float | None,
    max_size: int | None,
    keep: float | None,
    on_segment: str | None,
    duration: float | None,
    reach: Reach,
    output: Output,
) -> None:
    """Record every broadcaster of a room, as they come and go: video, sound and faces as they were sent."""
    share_heaps()
    if is_address(out) and keep is not None:
        raise click.UsageError("--keep is for files of this machine: have the store itself delete what is old.")
    if not is_address(out) and spool is not None:
        raise click.UsageError("--spool is for an --out that is an address, like s3://bucket/{name}.mkv.")
    upload = Upload(out, spool) if is_address(out) else None
    command = None if on_segment is None else OnSegment(on_segment)
    names = Names(out if upload is None else upload.pattern)
    await asyncio.to_thread(names.prepare)
    signaling = signaling_client(url, room, token_file, ca)
    recorder = RoomRecorder(
        signaling,
        names,
        name=name,
        segment=segment,
        max_size=max_size,
        **reach,
    )
    whom = f"everybody who broadcasts in {f'room {room}' if room else 'the room'}"
    report = _Report(recorder, signaling, output, whom=whom, where=without_password(out))
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(report.summarize)
        if upload is not None:
            upload.told = report.uploaded
            report.then = upload.put
            await stack.enter_async_context(upload)
        if command is not None:
            command.then = report.then
            report.then = command.put
            await stack.enter_async_context(command)
        try:
            await stack.enter_async_context(recorder)
        except ValueError as error:
            raise click.UsageError(f"{error}.") from error
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration):
                await signaling.wait_open()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REFUSED_WITHIN):
                        await recorder.wait()
                report.ready()
                if keep is not None:
                    await stack.enter_async_context(Keep(names.folder, keep, report.deleted))
                await stack.enter_async_context(report.reporting())
                collect_often()
                await recorder.wait()


class _Report:
    """Tells people or programs what is recorded."""

    def __init__(self, recorder: RoomRecorder, signaling: Signaling, output: Output, *, whom: str, where: str) -> None:
        self._whom, self._where = whom, where
        self._is_ready = False
        self._recorder = recorder
        self._signaling = signaling
        self._output = output
        self.then: Callable[[str], object] = lambda _: None  # what becomes of a file that is complete
        self._status = Status("synopticon · record", enabled=not output.json)
        self._news = News(signaling, output, aloud=not self._status.shown)
        self._files = 0  # that are complete
        recorder.events.subscribe(self._taped)
        recorder.states.subscribe(self._changed)

    def ready(self) -> None:
        """Say what is written, and where: once, and before all else."""
        if not self._is_ready:
            self._is_ready = True
            self._output.event("ready", url=self._signaling.url, session=self._signaling.session, out=self._where)
            self._output.say(f"recording  {self._whom}, with sound and faces, to {self._where}")

    def deleted(self, path: str) -> None:
        """Say that a file was too old."""
        self._output.event("deleted", path=path)
        if not self._status.shown:
            self._output.say(f"deleted    {path}: it is too old")

    def uploaded(self, path: str, address: str) -> None:
        """Say that a file has come to where it belongs."""
        self._output.event("uploaded", path=path, address=address)
        if not self._status.shown:
            self._output.say(f"uploaded   {address}")

    def reporting(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Report meanwhile, once a second."""
        return self._status.kept_up(self._tick())

    def summarize(self) -> None:
        """Say what it came to."""
        self._output.event("summary", files=self._files)
        self._output.say(f"{self._files} files" if self._files != 1 else "1 file")

    async def _tick(self) -> None:
        while True:
            reels = self._recorder.reels
            self._output.event("stats", files=self._files, recordings=[_fields(reel) for reel in reels])
            more = {"": f"and {len(reels) - SHOWN} more"} if len(reels) > SHOWN else {}
            lost = {"signaling": f"not connected: {self._news.missing}"} if self._news.missing else {}
            self._status.update(
                {"recorded": f"{len(reels)} now   {self._files} files complete"}
                | {f"{number}": _row(reel) for number, reel in enumerate(reels[:SHOWN], 1)}
                | more
                | lost
            )
            await asyncio.sleep(STATUS_INTERVAL)

    def _taped(self, taped: Taped) -> None:
        self.ready()
        file = taped.file
        self._output.event(
            "recording",
            name=taped.name,
            session=taped.session,
            state=file.state,
            path=file.path,
            reason=file.reason,
        )
        if not self._status.shown and file.state != "failed":  # of which the log tells
            who = visible(taped.name or taped.session, NAME)
            self._output.say(f"{'recording' if file.state == 'begun' else file.state:<10} {who}: {file.path}")
        if file.state == "complete":
            self._files += 1
            self.then(file.path)

    def _changed(self, event: StateEvent) -> None:
        self.ready()
        self._output.event(
            "broadcaster", name=event.name, session=event.session, state=event.state, reason=event.reason
        )
        if not self._status.shown and event.state in ("connected", "interrupted"):
            self._output.say(f"{visible(event.name or event.session, NAME)} {event.state}: {event.reason}")


def _fields(reel: Reel) -> dict[str, object]:
    who = reel.participant
    return {
        "name": who.name,
        "session": who.session,
        "state": who.state.state,
        "path": reel.path,
        "frames": reel.frames,
    }


def _row(reel: Reel) -> str:
    who = reel.participant
    state = "" if who.is_here else f"   {who.state.state}"
    return f"{visible(who.name or who.session, NAME)}{state}\n{reel.path}   {reel.frames} frames"
