"""``python -m synopticon_rtc.broadcast``: send a camera, or another source, and the faces in it."""

import asyncio
import contextlib
import dataclasses
import functools
import itertools
import ssl
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import click

from synopticon_rtc.basics.text import NAME, visible
from synopticon_rtc.broadcaster import Broadcaster
from synopticon_rtc.commands.asking import Doorkeeper
from synopticon_rtc.commands.cli import Command, Output, Quantity
from synopticon_rtc.commands.files import Inbox, files_options
from synopticon_rtc.commands.kinds import Bitrate, KeyValue, Size, Text
from synopticon_rtc.commands.meeting import Meeting, News
from synopticon_rtc.commands.memory import collect_often, map_large_pieces
from synopticon_rtc.commands.options import (
    Reach,
    audio_option,
    ca_option,
    detection_options,
    duration_option,
    engines,
    publish_option,
    publish_token_file_option,
    reach_options,
    room_option,
    screen_option,
    token_file_option,
    trace_option,
)
from synopticon_rtc.commands.recording import record_option, recorder
from synopticon_rtc.commands.serving import Serving, serving_options
from synopticon_rtc.commands.status import Rates, Status, found, milliseconds
from synopticon_rtc.errors import without_password
from synopticon_rtc.events import DetectorEvent, PeerEvent, SourceEvent, StreamEvent
from synopticon_rtc.faces import Detector, FaceLandmarker
from synopticon_rtc.faces.engine import Choice
from synopticon_rtc.media import Codec, FrameSource, Screen, hint_of, parse_sound, parse_source
from synopticon_rtc.media.parse import FPS, SIZE
from synopticon_rtc.recording.recording import RecordedSource, Recording, find_recording
from synopticon_rtc.sending.published import PublishedStream
from synopticon_rtc.sending.stats import BroadcasterStats

STATUS_INTERVAL = 1.0  # seconds
SHOWN = 8  # receivers listed in the status
SCREEN_FPS = 10.0
SCREEN_SIZE = (1920, 1080)  # of most


@click.command("broadcast", cls=Command)
@click.option("--url", help="Signaling server to use, like ws://localhost:8081/ws.")
@serving_options("receive")
@room_option
@token_file_option
@ca_option
@click.option(
    "--source",
    "sources",
    multiple=True,
    show_default="0",
    help="Camera (0, /dev/video0), video file or URL, - (standard input), portrait (a photograph that moves), or test "
    "(a test card). May be repeated: each is a stream.",
)
@screen_option
@audio_option
@click.option(
    "--size", type=Size(), help="Size of the picture, 1280x720 without it. A film is scaled down to fit, if at all."
)
@click.option(
    "--fps",
    type=Quantity(1, 120),
    help="Frames a second, 30 without it, and 10 of a screen. Of a film, those beyond are left out.",
)
@click.option("--no-loop", is_flag=True, help="End with the film instead of playing it again.")
@click.option("--format", "input_format", help="FFmpeg's name of the format of the film, like mpegts.")
@click.option(
    "--option",
    "options",
    type=KeyValue(),
    multiple=True,
    help="An option of FFmpeg for the film, like rtsp_transport=tcp; may be repeated.",
)
@detection_options(0, "1; on a screen 0")
@click.option(
    "--codec",
    type=click.Choice(["auto", *get_args(Codec)]),
    default="auto",
    show_default=True,
    help="Codec to offer first; receivers that do not take it get the other. auto is vp8.",
)
@click.option(
    "--encoder",
    help="FFmpeg's encoder to use, like h264_nvenc; its codec is offered first. Where it cannot be used, one in "
    "software takes its place. A screen is always encoded in software.",
)
@click.option("--bitrate", type=Bitrate(), default="1.5M", show_default=True, help="Of the video, like 1.5M or 800k.")
@click.option("--name", type=Text(), default="", help="Name by which receivers see and choose this broadcaster.")
@publish_option
@publish_token_file_option
@click.option("--ask", is_flag=True, help="Ask on the terminal about each receiver whether it may watch.")
@record_option
@files_options("receivers offer, as python -m synopticon_rtc.send does")
@click.option(
    "--detect", is_flag=True, help="Look for faces in a recording anew, instead of sending those that are in it."
)
@trace_option
@reach_options
@duration_option
async def main(
    url: str | None,
    serving: Serving,
    room: str,
    token_file: Path | None,
    ca: ssl.SSLContext | None,
    sources: tuple[str, ...],
    screen: str | None,
    audio: str | None,
    size: tuple[int, int] | None,
    fps: float | None,
    no_loop: bool,  # noqa: FBT001 - click passes flags so
    input_format: str | None,
    options: tuple[tuple[str, str], ...],
    faces: int | None,
    faces_fps: float | None,
    blendshapes: bool,  # noqa: FBT001 - as above
    matrix: bool,  # noqa: FBT001 - as above
    model: str | None,
    engine: Choice,
    codec: str,
    encoder: str | None,
    bitrate: int,
    name: str,
    publish: tuple[str, ...],
    publish_token_file: Path | None,
    ask: bool,  # noqa: FBT001 - as above
    record: Path | None,
    files: Path | None,
    file_size: int | None,
    file_rate: int | None,
    detect: bool,  # noqa: FBT001 - click passes flags so
    trace: Path | None,
    reach: Reach,
    duration: float | None,
    output: Output,
) -> None:
    """Send a camera, or another source, and the faces in it, or a screen, to every receiver that asks.

    Without --url and --serve, the signaling server at ws://localhost:8081/ws is used, or started if there is none.
    """
    serving.exclude(url)
    if ask and "-" in sources:
        raise click.UsageError("--ask reads answers from standard input, which is a --source.")
    films = size or no_loop or input_format or options
    if screen is not None and not sources and films:
        raise click.UsageError("--size, --no-loop, --format and --option are for a --source, and there is none.")
    look = faces or 0 if faces is not None or (screen is not None and not sources) else 1
    film = _Film(size, fps, not no_loop, input_format, dict(options), detect)
    videos = [
        _Video(text, film.open(text), fps or FPS, look) for text in sources or (() if screen is not None else ("0",))
    ]
    if screen is not None:
        rate = fps or SCREEN_FPS
        videos.append(_Video("screen", Screen(screen or None, fps=rate), rate, 0 if sources else look))
    map_large_pieces(size or (SIZE if screen is None else SCREEN_SIZE))

    landmarker = functools.partial(FaceLandmarker, model=model, blendshapes=blendshapes, matrix=matrix, engine=engine)

    codecs: tuple[Codec, ...] = ("h264", "vp8") if codec == "h264" else ("vp8", "h264")
    async with contextlib.AsyncExitStack() as stack:
        meeting = await stack.enter_async_context(
            Meeting(url, serving.where, serving.make, room=room, name=name, tls=ca)
        )
        meeting.viewer = serving.invite(meeting.server, room, reach["announce"], output) or meeting.viewer
        signaling = serving.client(meeting.url, room, token_file, ca, own=meeting.server is not None)
        try:
            broadcaster = Broadcaster(
                signaling,
                videos[0].source,
                faces=videos[0].detector(landmarker),
                audio=None if audio is None else parse_sound(audio),
                publish_to=engines(publish, publish_token_file, ca),
                name=name,
                admit=Doorkeeper().admit if ask else None,
                codecs=codecs,
                encoder=encoder,
                bitrate=bitrate,
                fps=videos[0].fps,
                faces_fps=faces_fps,
                trace=trace,
                **reach,
            )
        except ValueError as error:
            raise click.UsageError(f"{error}.") from error
        shown = " and ".join(without_password(video.text) for video in videos)
        looks = any(video.faces for video in videos)
        inbox = Inbox(files, output, largest=file_size, rate=file_rate)
        report = _Report(broadcaster, output, inbox, source=shown, meeting=meeting, looks=looks, lines=ask)
        stack.callback(report.summarize)
        await stack.enter_async_context(broadcaster)
        await stack.enter_async_context(inbox.taking(broadcaster))
        for video in videos[1:]:
            await broadcaster.publish(
                _name(hint_of(video.source), broadcaster.streams),
                video.source,
                faces=video.detector(landmarker),
                codecs=codecs,
                encoder=encoder,
                bitrate=bitrate,
                fps=video.fps,
                faces_fps=faces_fps,
            )
        if record is not None:
            recorded = recorder(record, broadcaster, output, aloud=not report.is_live)
            await stack.enter_async_context(recorded)
        collect_often()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration):
                await report.follow()


@dataclass(frozen=True, slots=True)
class _Film:
    """How sources are opened."""

    size: tuple[int, int] | None
    """Within which a film is scaled down; that of a camera."""
    fps: float | None
    """Frames a second, of a film at the most."""
    loop: bool
    """Whether a film begins again at its end."""
    format: str | None
    """FFmpeg's name of the format."""
    options: dict[str, str]
    """FFmpeg's options."""
    detect: bool
    """Whether the faces that are in a recording are left aside."""

    def open(self, text: str) -> FrameSource:
        """Return the source that a text names; a recording brings its faces."""
        film = self.size or self.fps or self.format or self.options
        if not (film or self.detect) and find_recording(text):
            return Recording(text).source(loop=self.loop)
        return parse_source(
            text, size=self.size, fps=self.fps, loop=self.loop, format=self.format, options=self.options
        )


@dataclass(frozen=True, slots=True)
class _Video:
    """One of the videos that are sent."""

    text: str
    """As the command line has it."""
    source: FrameSource
    """Where its frames come from."""
    fps: float
    """Its frame rate, as far as it is known."""
    faces: int
    """How many faces to look for, 0 for none."""

    def detector(self, make: Callable[..., Detector]) -> Detector | None:
        """Make what finds them; a recording has them already."""
        if not self.faces:
            return None
        return self.source if isinstance(self.source, RecordedSource) else make(max_faces=self.faces)


def _name(hint: str, taken: Container[str]) -> str:
    """Return a name for one more stream of its kind: ``camera``, ``camera-2``."""
    return next(
        name for name in itertools.chain([hint], (f"{hint}-{n}" for n in itertools.count(2))) if name not in taken
    )


class _Report:
    """Tells people or programs what a broadcaster does."""

    def __init__(
        self,
        broadcaster: Broadcaster,
        output: Output,
        inbox: Inbox,
        *,
        source: str,
        meeting: Meeting,
        looks: bool,
        lines: bool,
    ) -> None:
        self._looks = looks
        self._broadcaster = broadcaster
        self._output = output
        self._meeting = meeting
        self._status = Status(f"synopticon · {broadcaster.name or source}", enabled=not (output.json or lines))
        self._rates = Rates()
        self._inbox = inbox
        inbox.aloud = not self._status.shown
        self._news = News(broadcaster.signaling, output, aloud=not self._status.shown)
        broadcaster.events.subscribe(self._peer)
        broadcaster.source_events.subscribe(self._source)
        broadcaster.detector_events.subscribe(self._detector)

    @property
    def is_live(self) -> bool:
        """Whether people see a status that changes, instead of lines."""
        return self._status.shown

    async def follow(self) -> None:
        """Report until the broadcaster is closed."""
        self._broadcaster.stream_events.subscribe(self._stream)  # those that it begins with are no news
        closed = asyncio.create_task(self._broadcaster.wait_closed())
        arrival = asyncio.create_task(self._arrive())
        taking_over = asyncio.create_task(self._take_over())
        try:
            if not self._status.shown:  # else the status tells that nobody is there yet
                await asyncio.wait([closed, arrival], return_when=asyncio.FIRST_COMPLETED)
            if arrival.done():
                await arrival
            with self._status.show():
                while not closed.done():
                    self._tick()
                    await asyncio.wait([closed], timeout=STATUS_INTERVAL)
            await closed
        finally:
            for task in (closed, arrival, taking_over):
                task.cancel()
            await asyncio.gather(closed, arrival, taking_over, return_exceptions=True)  # told above, or not at all

    async def _arrive(self) -> None:
        """Wait for signaling, and say where receivers and browsers find us."""
        signaling = self._broadcaster.signaling
        session = await signaling.wait_open()
        await self._meeting.find_viewer()
        own = self._meeting.server is not None
        viewer = self._meeting.viewer or None
        self._output.event(
            "ready",
            url=signaling.url,
            session=session,
            viewer=viewer,
            serving=own,
            streams=list(self._broadcaster.streams),
        )
        self._say_addresses()

    async def _take_over(self) -> None:
        """Serve where another broadcaster did, once that has ended."""
        if await self._meeting.take_over(self._broadcaster.signaling):
            url, viewer = self._meeting.url, self._meeting.viewer
            self._output.event("serving", url=url, viewer=viewer)
            if not self._status.shown:
                self._output.say(f"the server that was used has ended: serving in its place, at {viewer}")

    def _say_addresses(self) -> None:
        if not self._status.shown:
            for label, text in self._addresses().items():
                self._output.say(f"{label:<10} {text}")

    def summarize(self) -> None:
        """Say what it came to."""
        stats = self._broadcaster.stats
        fps = round((stats.frames - 1) / stats.seconds, 2) if stats.seconds else 0.0
        faces_fps = round(stats.detected / stats.seconds, 2) if stats.seconds else 0.0
        self._output.event("summary", **_fields(stats) | {"fps": fps, "faces_fps": faces_fps})
        faces = f"; {found(stats.detected, stats.frames_with_faces)}" if self._looks else ""
        nobody = "" if stats.detected or not self._looks else ": no receiver asked for any"
        self._output.say(f"{stats.frames} frames at {fps:.1f} fps{faces}{nobody}" if stats.frames else "no frames")

    def _addresses(self) -> dict[str, str]:
        rows = {"viewer": self._meeting.viewer} if self._meeting.viewer else {}
        note = f"   not connected: {self._news.missing}" if self._news.missing else ""
        note = note or ("   that of another broadcaster here" if self._meeting.others else "")
        url, server = self._broadcaster.signaling.url, self._meeting.server
        if server is not None:
            url = url.replace(server.url, server.public_url)  # what is in its query is kept
        return rows | {"signaling": url + note}

    def _tick(self) -> None:
        stats = self._broadcaster.stats
        bitrate = self._rates.update(bitrate=stats.bytes * 8)["bitrate"]
        self._output.event(
            "stats", bitrate=round(bitrate, 1), recorders=len(self._broadcaster.recorders), **_fields(stats)
        )
        found = "" if stats.detection is None else f", found after {stats.detection * 1000:.0f} ms"
        peers = self._broadcaster.peers
        recorders = self._broadcaster.recorders
        recorded = {"recorded": f"by {', '.join(visible(session, NAME) for session in recorders)}"} if recorders else {}
        self._status.update(
            self._addresses()
            | recorded
            | {
                "video": f"{stats.width}x{stats.height}   {stats.fps:.1f} fps   {bitrate / 1e6:.2f} Mbit/s",
                "streams": ", ".join(map(_streamed, self._broadcaster.streams.values())),
                "faces": f"{stats.faces}   looked for {stats.faces_fps:.1f} times a second{found}",
                "receivers": "\n".join([str(len(peers)), *(visible(session, NAME) for session in peers[:SHOWN])]),
            }
            | self._inbox.rows()
        )

    def _stream(self, event: StreamEvent) -> None:
        fields = {"name": event.name, "kind": event.kind, "state": event.state, "reason": event.reason}
        self._output.event("stream", **fields, session=event.session)
        if not self._status.shown:
            self._output.say(f"stream {visible(event.name, NAME)} {event.state}: {event.reason}")

    def _source(self, event: SourceEvent) -> None:
        self._output.event("source", state=event.state, reason=event.reason)
        if not self._status.shown:
            self._output.say(f"source {event.state}: {event.reason}")

    def _detector(self, event: DetectorEvent) -> None:
        self._output.event("detector", state=event.state, reason=event.reason)

    def _peer(self, event: PeerEvent) -> None:
        self._output.event("peer", **dataclasses.asdict(event))
        if not self._status.shown:
            who = visible(event.name or event.session, NAME)
            self._output.say(f"peer {who} {event.state}: {event.reason}")


def _streamed(stream: PublishedStream) -> str:
    return f"{visible(stream.name, NAME)} (muted)" if stream.muted else visible(stream.name, NAME)


def _fields(stats: BroadcasterStats) -> dict[str, object]:
    """Statistics as they are printed."""
    fields = dataclasses.asdict(stats)
    rates = {name: round(fields.pop(name), 1) for name in ("fps", "faces_fps", "seconds")}
    return rates | {"detection_ms": milliseconds(fields.pop("detection"))} | fields
