"""What ``receive --all`` does: it receives everybody in a room, writes files of each, and shows a table of all."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import click

from synopticon_rtc.basics.text import NAME, visible
from synopticon_rtc.commands.cli import Output
from synopticon_rtc.commands.files import Inbox
from synopticon_rtc.commands.meeting import News
from synopticon_rtc.commands.memory import collect_often
from synopticon_rtc.commands.room import Reel, Taped
from synopticon_rtc.commands.status import Rates, Status, found, milliseconds
from synopticon_rtc.events import ParticipantEvent
from synopticon_rtc.files.names import safe
from synopticon_rtc.recording.names import Names
from synopticon_rtc.recording.table import FacesTable, kind_of
from synopticon_rtc.room import Participant, ParticipantMoment, Room

STATUS_INTERVAL = 1.0  # seconds
SHOWN = 12  # participants in the table
COLUMNS = "name", "state", "fps", "faces", "delay", "recorded"


class Guest:
    """What is counted and written of a participant, or of whoever comes next: an async context manager.

    Args:
        participant: Who it is.
        record: Gives the paths of recordings, None for none.
        faces: Gives the path of the table of faces, None for none.
        landmarks: Whether that has the landmarks, as for :class:`~synopticon_rtc.recording.table.FacesTable`.
        inbox: Takes its files, each in a folder of its name.
        taped: Called with what happens to files of recordings.

    Attributes:
        frames: That were given out.
        looked_at: Of those, in how many faces were looked for.
        with_faces: Of those, how many have a face.
        reel: What records, None where nothing does.
        table: What faces are written to, None before there are any.
    """

    def __init__(
        self,
        participant: Participant[Any],
        *,
        record: Names | None,
        faces: Names | None,
        landmarks: bool | None,
        inbox: Inbox,
        taped: Callable[[Taped], object],
    ) -> None:
        self.frames = self.looked_at = self.with_faces = 0
        self.reel = None if record is None else Reel(participant, record, told=taped)
        self.table: FacesTable | None = None
        self._participant = participant
        self._faces = faces
        self._landmarks = landmarks
        self._inbox = inbox
        self._rates = Rates()
        self._exit = contextlib.AsyncExitStack()
        self._left = False

    async def __aenter__(self) -> Self:
        """Begin to record, and to take files."""
        if self.reel is not None:
            await self._exit.enter_async_context(self.reel)
        who = self._participant
        await self._exit.enter_async_context(self._inbox.taking(who.receiver, lambda: safe(who.name or who.session)))
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Complete all files."""
        self._left = True
        await self._exit.aclose()

    async def take(self, seen: ParticipantMoment[Any]) -> None:
        """Count a moment, and write its faces: in the table too it is captured by the clock of this machine."""
        moment = seen.moment
        self.frames += 1
        self.looked_at += moment.detected
        self.with_faces += bool(moment.faces)
        if self._faces is None or self._left:
            return
        if self.table is None:
            name = functools.partial(self._faces, self._participant.receiver.origin, dt.datetime.now(dt.UTC))
            table = FacesTable(await asyncio.to_thread(name), landmarks=self._landmarks)
            self.table = await self._exit.enter_async_context(table)
        await self.table.write(dataclasses.replace(moment, captured=seen.captured))

    def figures(self) -> dict[str, object]:
        """Return what there is to tell, with rates since the last time."""
        who, stats = self._participant, self._participant.receiver.stats
        return {
            "name": who.name,
            "session": who.session,
            "state": "here" if who.is_here else "away",
            "fps": round(self._rates.update(fps=self.frames)["fps"], 1),
            "frames": self.frames,
            "width": stats.width,
            "height": stats.height,
            "faces": stats.faces,
            "delay_ms": milliseconds(stats.delay),
            "recording": self.reel.path if self.reel is not None else "",
            "faces_out": str(self.table.path) if self.table is not None else "",
        }


class Everybody:
    """Receives everybody in a room.

    Args:
        output: Where it is told.
        record: The pattern of paths of recordings, with ``{name}``; None for none.
        faces_out: The same of tables of faces.
        landmarks: Whether those have the landmarks; None: all but CSV have.
        inbox: Takes the files that participants offer.

    Raises:
        UsageError: A path has no ``{name}``.
        SynopticonError: A pattern is none, or has an ending of which nothing can be written.
    """

    def __init__(
        self,
        output: Output,
        *,
        record: Path | None = None,
        faces_out: Path | None = None,
        landmarks: bool | None = None,
        inbox: Inbox,
    ) -> None:
        self._names = [
            None if record is None else Names(_with_name("--record", record)),
            None if faces_out is None else Names(_with_name("--faces-out", faces_out), fits=kind_of),
        ]
        self._landmarks = landmarks
        self._output = output
        self._status = Status("synopticon · receive", enabled=not output.json)
        self._inbox = inbox
        inbox.aloud = not self._status.shown
        self._met = 0  # that have joined
        self._frames = self._looked_at = self._with_faces = self._late = 0

    def beside(self, participant: Participant[Any]) -> Guest:
        """Make what is beside the receiver of a participant."""
        record, faces = self._names
        return Guest(
            participant, record=record, faces=faces, landmarks=self._landmarks, inbox=self._inbox, taped=self._taped
        )

    async def receive(self, room: Room[Any], *, frames: int | None, duration: float | None) -> None:
        """Receive until there were so many frames in all, or the time is over.

        Raises:
            SynopticonError: The server refuses for good, or something cannot be written.
        """
        for names in filter(None, self._names):
            await asyncio.to_thread(names.prepare)
        await self._inbox.prepare()
        news = News(room.signaling, self._output, aloud=not self._status.shown)
        room.events.subscribe(self._changed)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._summarize)
            await stack.enter_async_context(room)
            await stack.enter_async_context(self._status.kept_up(self._tick(room, news)))
            collect_often()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(duration):
                    async for seen in room.moments():
                        self._count(seen)
                        await seen.participant.beside.take(seen)
                        if self._frames == frames:
                            break

    def _count(self, seen: ParticipantMoment[Any]) -> None:
        self._frames += 1
        self._looked_at += seen.moment.detected
        self._with_faces += bool(seen.moment.faces)
        self._late += seen.late

    def _changed(self, event: ParticipantEvent) -> None:
        self._met += event.state == "joined"
        self._output.event("participant", **dataclasses.asdict(event))
        self._say(f"{event.state:<10} {visible(event.name or event.session, NAME)}: {event.reason}")

    def _taped(self, taped: Taped) -> None:
        file = taped.file
        self._output.event("recording", name=taped.name, session=taped.session, **dataclasses.asdict(file))
        if file.state != "failed":  # of which the log tells
            what = "recording" if file.state == "begun" else file.state
            self._say(f"{what:<10} {visible(taped.name or taped.session, NAME)}: {file.path}")

    def _say(self, line: str) -> None:
        if not self._status.shown:
            self._output.say(line)

    async def _tick(self, room: Room[Any], news: News) -> None:
        while True:
            told = [participant.beside.figures() for participant in room.participants]
            self._output.event("stats", frames=self._frames, late=self._late, participants=told)
            more = {"": f"and {len(told) - SHOWN} more"} if len(told) > SHOWN else {}
            lost = {"signaling": f"not connected: {news.missing}"} if news.missing else {}
            here = sum(participant.is_here for participant in room.participants)
            self._status.update(
                {"room": f"{here} here   {self._frames} frames, {self._late} of them late"}
                | more
                | self._inbox.rows()
                | lost,
                [COLUMNS, *(_row(figures) for figures in told[:SHOWN])] if told else (),
            )
            await asyncio.sleep(STATUS_INTERVAL)

    def _summarize(self) -> None:
        self._output.event(
            "summary",
            participants=self._met,
            frames=self._frames,
            detected=self._looked_at,
            frames_with_faces=self._with_faces,
            late=self._late,
        )
        if not self._frames:
            self._output.say("no frames")
            return
        late = f"; {self._late} came after later ones of others" if self._late else ""
        people = f"{self._met} participants" if self._met != 1 else "1 participant"
        self._output.say(f"{self._frames} frames of {people}; {found(self._looked_at, self._with_faces)}{late}")


def _with_name(option: str, path: Path) -> str:
    if "{name}" not in str(path):
        example = path.with_stem(f"{path.stem}-{{name}}")
        raise click.UsageError(f"{option} with --all writes a file of each participant: say {{name}}, as in {example}.")
    return str(path)


def _row(figures: dict[str, Any]) -> tuple[str, ...]:
    delay = figures["delay_ms"]
    return (
        visible(figures["name"] or figures["session"], NAME),
        figures["state"],
        f"{figures['fps']:.1f}",
        str(figures["faces"]),
        "-" if delay is None else f"{delay:.0f} ms",
        " ".join(filter(None, (figures["recording"], figures["faces_out"]))) or "-",
    )
