"""``python -m synopticon_rtc.receive``: receive the frames and faces of a broadcaster."""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import av
import click
import numpy as np
import numpy.typing as npt

from synopticon_rtc.basics.recent import Recent
from synopticon_rtc.basics.text import NAME, visible
from synopticon_rtc.commands.cli import Command, Output, Quantity
from synopticon_rtc.commands.everybody import Everybody
from synopticon_rtc.commands.files import Inbox, files_options
from synopticon_rtc.commands.kinds import Text
from synopticon_rtc.commands.meeting import DEFAULT_URL, News
from synopticon_rtc.commands.memory import collect_often
from synopticon_rtc.commands.options import (
    Reach,
    ca_option,
    detection_options,
    duration_option,
    landmarks_option,
    reach_options,
    room_option,
    token_file_option,
    trace_option,
)
from synopticon_rtc.commands.recording import record_option, recorder
from synopticon_rtc.commands.serving import Serving, serving_options
from synopticon_rtc.commands.sound_file import SoundFile
from synopticon_rtc.commands.speaker import Speaker
from synopticon_rtc.commands.status import Rates, Status, found, milliseconds
from synopticon_rtc.commands.window import Window
from synopticon_rtc.errors import ConnectionLost, NobodyAnswered, SynopticonError
from synopticon_rtc.events import DetectorEvent, StateEvent
from synopticon_rtc.faces import Face, FaceLandmarker, draw_faces
from synopticon_rtc.faces.engine import Choice
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.receiver import Receiver
from synopticon_rtc.receiving.options import Options
from synopticon_rtc.receiving.pairing import Sync
from synopticon_rtc.receiving.sound import AudioMoment
from synopticon_rtc.recording.lsl import LSLOutlet
from synopticon_rtc.recording.table import FacesTable
from synopticon_rtc.room import Room

logger = logging.getLogger(__name__)

WORDS = {
    "seeking": "looking for a broadcaster",
    "connecting": "connecting",
    "connected": "live",
    "interrupted": "interrupted",
    "refused": "not admitted",
    "closed": "closed",
}
STATUS_INTERVAL = 1.0  # seconds
T = TypeVar("T")
TIMEOUT = 15.0  # seconds; who is invited comes when they come
Sink = Callable[[AudioMoment], None]
STALE = 0.25  # seconds after which the faces of another frame are worse than none
LIGHT, SHADE = (255, 248, 214), (32, 22, 0)  # blue, green, red: of what is written on the picture


@click.command("receive", cls=Command)
@click.option("--url", show_default=DEFAULT_URL, help="Signaling server to use.")
@serving_options("broadcast")
@room_option
@token_file_option
@ca_option
@click.option(
    "--from", "broadcaster", type=Text(), help="Name or session of the broadcaster; the first that answers without it."
)
@click.option(
    "--name",
    type=Text(),
    default="",
    help="Name of this receiver, which those who broadcast are shown, and by which they can send it files; that of "
    "--lab without it.",
)
@click.option("--all", "everybody", is_flag=True, help="Receive everybody who broadcasts in the room, and list them.")
@click.option(
    "--stream",
    "streams",
    type=Text(),
    multiple=True,
    help="Name of the only stream to take, like screen; may be repeated. Without it all, of which the first video is "
    "shown.",
)
@click.option("--no-video", is_flag=True, help="Receive the faces alone; the broadcaster then sends no video.")
@click.option("--show", is_flag=True, help="Show the video with the faces drawn on it in a window; q closes it.")
@click.option(
    "--play",
    is_flag=False,
    flag_value="",
    metavar="[DEVICE]",
    help="Play the sound: on the system's own loudspeaker, or DEVICE, its number or part of its name.",
)
@click.option(
    "--audio-out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the sound here, as a WAV file.",
)
@click.option(
    "--faces-out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the faces of each frame here: a table as .parquet (extra parquet) or .csv, or a JSON object a line as "
    ".jsonl; docs/tables.md tells what is in it. With --all a path with {name}, for a file of each.",
)
@landmarks_option
@record_option
@files_options("the broadcaster offers")
@click.option(
    "--lsl",
    is_flag=False,
    flag_value="",
    metavar="[NAME]",
    help="Give the faces to the lab streaming layer (LSL), as a stream called NAME, or like the broadcaster of --from.",
)
@click.option("--lsl-landmarks", is_flag=True, help="Give it x, y and z of all 478 landmarks too.")
@click.option("--detect", is_flag=True, help="Look for faces in the video of a broadcaster that sends none.")
@detection_options(1, "1")
@click.option(
    "--return-faces",
    is_flag=True,
    help="Send the faces that --detect finds back to broadcasters that ask for them, as pages with a camera do.",
)
@click.option(
    "--sync",
    type=click.Choice(get_args(Sync)),
    default="exact",
    show_default=True,
    help="exact: each frame waits for its own faces; latest: it gets the newest faces at once.",
)
@click.option(
    "--faces-wait",
    type=Quantity(min=0, max=10),
    show_default="0.05; of --detect 0.25",
    help="Seconds that a frame waits for its own faces at most; a slow detector needs more.",
)
@click.option("--frames", type=click.IntRange(min=1), help="Frames to receive before ending.")
@duration_option
@click.option(
    "--timeout",
    type=Quantity(min=0, min_open=True),
    show_default=f"{TIMEOUT:g}; with --serve and --all it waits for ever",
    help="Seconds without a frame after which to give up.",
)
@trace_option
@reach_options
async def main(
    url: str | None,
    serving: Serving,
    room: str,
    token_file: Path | None,
    ca: ssl.SSLContext | None,
    broadcaster: str | None,
    name: str,
    everybody: bool,  # noqa: FBT001 - click passes flags so
    streams: tuple[str, ...],
    no_video: bool,  # noqa: FBT001
    show: bool,  # noqa: FBT001
    play: str | None,
    audio_out: Path | None,
    faces_out: Path | None,
    landmarks: bool | None,  # noqa: FBT001
    record: Path | None,
    files: Path | None,
    file_size: int | None,
    file_rate: int | None,
    lsl: str | None,
    lsl_landmarks: bool,  # noqa: FBT001
    detect: bool,  # noqa: FBT001
    faces: int | None,
    faces_fps: float | None,
    blendshapes: bool,  # noqa: FBT001
    matrix: bool,  # noqa: FBT001
    model: str | None,
    engine: Choice,
    return_faces: bool,  # noqa: FBT001
    sync: Sync,
    faces_wait: float | None,
    frames: int | None,
    duration: float | None,
    timeout: float | None,  # noqa: ASYNC109 - of the receiver, that says what was missing
    trace: Path | None,
    reach: Reach,
    output: Output,
) -> None:
    """Receive the frames and faces of a broadcaster."""
    _check_together(no_video=no_video, show=show, record=record)
    if everybody:
        _check_all(broadcaster=broadcaster, show=show, play=play, audio_out=audio_out, lsl=lsl, trace=trace)
    inbox = Inbox(files, output, largest=file_size, rate=file_rate)
    detector = _detector(
        detect=detect,
        return_faces=return_faces,
        faces=faces,
        faces_fps=faces_fps,
        blendshapes=blendshapes,
        matrix=matrix,
        model=model,
        engine=engine,
    )
    outlet = _outlet(lsl, broadcaster, landmarks=lsl_landmarks, sync=sync)
    signaling = await serving.meet(url, room, token_file, ca, reach["announce"], output)
    options = Options(
        name=name or serving.lab,
        streams=streams or None,
        sync=sync,
        faces_wait=faces_wait,
        faces_fps=faces_fps,
        return_faces=return_faces,
        ice_servers=reach["ice_servers"],
        udp_ports=reach["udp_ports"],
        announce=reach["announce"],
        interfaces=reach["interfaces"],
    )
    if everybody:
        all_of = Everybody(output, record=record, faces_out=faces_out, landmarks=landmarks, inbox=inbox)
        await all_of.receive(
            _usable(lambda: Room(signaling, video=not no_video, detector=detector, beside=all_of.beside, **options)),
            frames=frames,
            duration=duration,
        )
        return
    receiver = _usable(
        lambda: Receiver(
            signaling,
            broadcaster=broadcaster,
            video=not no_video,
            detector=None if detector is None else detector(),
            timeout=timeout if timeout or serving.where else TIMEOUT,
            trace=trace,
            **options,
        )
    )
    async with contextlib.AsyncExitStack() as stack:
        table = await stack.enter_async_context(FacesTable(faces_out, landmarks=landmarks)) if faces_out else None
        window = await stack.enter_async_context(Window()) if show else None
        picture = _Picture(receiver)
        report = _Report(receiver, output, inbox)
        stack.callback(report.summarize)
        if record is not None:
            recorded = recorder(record, receiver, output, aloud=not report.is_live)
            await stack.enter_async_context(recorded)
        give = await _open_outlet(stack, outlet, receiver, report)
        await stack.enter_async_context(receiver)
        await stack.enter_async_context(inbox.taking(receiver))
        await stack.enter_async_context(report.reporting())
        sinks = await _open_sinks(stack, play, audio_out)
        collect_often()
        try:
            async with asyncio.timeout(duration) as limit:
                _listen(stack, receiver, sinks, limit)
                async for moment in receiver:
                    report.count(moment)
                    give(moment)
                    if table is not None:
                        await table.write(moment)
                    if window is not None and not window.show(picture.draw(moment)):
                        break
                    if report.frames == frames:
                        break
        except TimeoutError as error:
            if isinstance(error, SynopticonError):  # nobody answered; else the duration is over
                raise


def _detector(
    *,
    detect: bool,
    return_faces: bool,
    faces: int | None,
    faces_fps: float | None,
    blendshapes: bool,
    matrix: bool,
    model: str | None,
    engine: Choice,
) -> Callable[[], FaceLandmarker] | None:
    """Return what makes detectors, if that is asked for."""
    if detect:
        return functools.partial(
            FaceLandmarker,
            max_faces=faces or 1,
            model=model,
            blendshapes=blendshapes,
            matrix=matrix,
            engine=engine,
        )
    if return_faces or faces or faces_fps or blendshapes or matrix or model or engine != "auto":
        raise click.UsageError(
            "--faces, --faces-fps, --blendshapes, --matrix, --model, --engine and --return-faces belong to --detect."
        )
    return None


def _usable(make: Callable[[], T]) -> T:
    """Make something, of which the user has said how."""
    try:
        return make()
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error


def _check_together(*, no_video: bool, show: bool, record: Path | None) -> None:
    if no_video and (show or record):
        raise click.UsageError("--show and --record need the video that --no-video leaves out.")


def _check_all(*, broadcaster: str | None, **others: object) -> None:
    """Refuse what does not go with --all."""
    if broadcaster is not None:
        raise click.UsageError("--from names one broadcaster, and --all takes everybody: leave out one of them.")
    for name, value in others.items():
        if value not in (None, False):
            option = name.replace("_", "-")
            raise click.UsageError(
                f"--{option} is for one broadcaster, and --all for everybody: leave out one of them."
            )


def _outlet(name: str | None, broadcaster: str | None, *, landmarks: bool, sync: Sync) -> LSLOutlet | None:
    """Make the LSL stream that is asked for."""
    if name is None:
        if landmarks:
            raise click.UsageError("--lsl-landmarks belongs to --lsl.")
        return None
    if sync != "exact":
        raise click.UsageError("--lsl gives each frame its own faces: it goes with --sync exact alone.")
    try:
        return LSLOutlet(name or broadcaster or "synopticon-rtc", landmarks=landmarks)
    except ValueError as error:
        raise click.UsageError(f"--lsl: {error}.") from error


async def _open_outlet(
    stack: contextlib.AsyncExitStack, outlet: LSLOutlet | None, receiver: Receiver[Any], report: "_Report"
) -> Callable[[Moment[Any]], object]:
    """Open the LSL stream, if there is one, until the stack unwinds, and return what gives it a moment."""
    if outlet is None:
        return lambda _: None
    await stack.enter_async_context(outlet)
    report.tell_of(outlet)
    return lambda moment: outlet.push(moment, receiver.age(moment))


async def _open_sinks(stack: contextlib.AsyncExitStack, play: str | None, audio_out: Path | None) -> list[Sink]:
    """Open what sound goes to, until the stack unwinds."""
    sinks: list[Sink] = []
    if audio_out is not None:
        sinks.append(stack.enter_context(SoundFile(audio_out)).write)
    if play is not None:
        device = int(play) if play.isdecimal() else play or None
        sinks.append((await stack.enter_async_context(Speaker(device))).play)
    return sinks


def _listen(
    stack: contextlib.AsyncExitStack, receiver: Receiver[Any], sinks: Sequence[Sink], limit: asyncio.Timeout
) -> None:
    """Give what is heard to each sink, until the stack unwinds; where that fails, the time is over at once."""
    if not sinks:
        return

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            limit.reschedule(0)

    task = asyncio.create_task(_hear(receiver, sinks))
    task.add_done_callback(ended)
    stack.push_async_callback(_stop, task)


async def _hear(receiver: Receiver[Any], sinks: Sequence[Sink]) -> None:
    while True:
        try:
            async for moment in receiver.audio():
                for sink in sinks:
                    sink(moment)
        except (NobodyAnswered, ConnectionLost) as error:
            logger.warning("%s", error)  # the picture goes on


async def _stop(task: asyncio.Task[None]) -> None:
    """End a task, and raise what it ended with before."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


class _Picture:
    """Draws moments: the faces, and in a corner the frame rate and the delay.

    Args:
        receiver: Whose moments they are.
    """

    def __init__(self, receiver: Receiver[Any]) -> None:
        self._receiver = receiver
        self._faces: tuple[float, tuple[Face, ...]] = 0.0, ()  # the last that were found, and when
        self._shown, self._ages = Recent(), Recent()

    def draw(self, moment: Moment[object]) -> npt.NDArray[np.uint8]:
        """Draw a moment, in BGR."""
        assert isinstance(moment.frame, av.VideoFrame)  # noqa: S101 - tells the type checkers
        now = time.monotonic()
        if moment.detected or moment.faces or now - self._faces[0] > STALE:
            self._faces = now, moment.faces
        image = draw_faces(np.asarray(moment.frame.to_ndarray(format="bgr24"), np.uint8), self._faces[1])
        self._shown.add(now)
        if (age := self._receiver.age(moment)) is not None:
            self._ages.add(now, age)
        age = self._ages.mean(now)
        self._write(image, f"{self._shown.rate(now):.0f} fps" + (f"  {age * 1000:.0f} ms" if age is not None else ""))
        return image

    @staticmethod
    def _write(image: npt.NDArray[np.uint8], text: str) -> None:
        """Write small in the top left corner, readable on light and on dark."""
        import cv2  # noqa: PLC0415 - needs libGL, which servers lack

        size = max(image.shape[0] / 1200, 0.4)
        x, y = round(16 * size), round(40 * size)
        for place, colour in ((x + 1, y + 1), SHADE), ((x - 1, y + 1), SHADE), ((x, y), LIGHT):
            cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, lineType=cv2.LINE_AA)


class _Report:
    """Tells people or programs what a receiver gets."""

    def __init__(self, receiver: Receiver[Any], output: Output, inbox: Inbox) -> None:
        self.frames = 0
        self._looked_at = 0
        self._with_faces = 0
        self._receiver = receiver
        self._output = output
        self._status = Status("synopticon · receive", enabled=not output.json)
        self._inbox = inbox
        inbox.aloud = not self._status.shown
        self._news = News(receiver.signaling, output, aloud=not self._status.shown)
        self._rates = Rates()
        self._state = StateEvent("seeking", "")
        self._first = self._last = 0.0
        receiver.events.subscribe(self._changed)
        receiver.detector_events.subscribe(self._detector)

    def tell_of(self, outlet: LSLOutlet) -> None:
        """Say that the faces are given to LSL, and who sees them there."""
        self._output.event("lsl", name=outlet.name, source_id=outlet.source_id, seen_by=outlet.seen_by)
        self._output.say(f"LSL stream {outlet.name}: seen by {outlet.seen_by}")

    def count(self, moment: Moment[object]) -> None:
        """Take note of a moment."""
        self._looked_at += moment.detected
        self._with_faces += bool(moment.faces)
        self._last = time.monotonic()
        self._first = self._first or self._last
        self.frames += 1

    @property
    def is_live(self) -> bool:
        """Whether people see a status that changes, instead of lines."""
        return self._status.shown

    def reporting(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Report meanwhile, once a second."""
        return self._status.kept_up(self._tick())

    def summarize(self) -> None:
        """Say what it came to."""
        stats = dataclasses.asdict(self._receiver.stats)
        first = stats.pop("first_frame")
        delay, delays = stats.pop("delay"), stats.pop("delays")
        fps = round((self.frames - 1) / (self._last - self._first), 2) if self.frames > 1 else 0.0
        self._output.event(
            "summary",
            **stats | {"frames": self.frames},
            fps=fps,
            detected=self._looked_at,
            decoded=stats["frames"],
            first_frame_ms=milliseconds(first),
            delay_ms=milliseconds(delay),
            delays_ms=_in_ms(delays),
        )
        if not self.frames:
            self._output.say("no frames")
            return
        size = f"{stats['width']}x{stats['height']}"
        faces = found(self._looked_at, self._with_faces)
        self._output.say(f"{self.frames} frames of {size} at {fps:.1f} fps; {faces}")
        if stats["faces_late"]:
            self._output.say(
                f"the faces of {stats['faces_late']} frames came too late for them: --faces-wait with more, "
                "or --sync latest, gets them"
            )

    async def _tick(self) -> None:
        while True:
            stats = self._receiver.stats
            rates = self._rates.update(fps=self.frames, faces_messages=stats.faces_messages, looked_at=stats.looked_at)
            fps, delay = round(rates["fps"], 1), milliseconds(stats.delay)
            delays = _in_ms(dataclasses.asdict(stats.delays))
            self._output.event(
                "stats",
                fps=fps,
                frames=self.frames,
                decoded=stats.frames,
                width=stats.width,
                height=stats.height,
                faces=stats.faces,
                faces_messages=stats.faces_messages,
                looked_at=stats.looked_at,
                delay_ms=delay,
                delays_ms=delays,
                relays=list(self._receiver.relays),
            )
            looked = f"looked for {rates['looked_at']:.1f} times a second"
            came = f"{rates['faces_messages']:.1f} messages a second"
            lost = {"signaling": f"not connected: {self._news.missing}"} if self._news.missing else {}
            relays = ", ".join(visible(relay, NAME) for relay in self._receiver.relays)
            self._status.update(
                {
                    "state": _words(self._state),
                    "from": visible(self._state.name or self._state.session or "-", NAME),
                    "video": f"{stats.width}x{stats.height}   {fps:.1f} fps",
                    "faces": f"{stats.faces}   {looked if stats.looked_at else came}",
                    "delay": f"{delay:.0f} ms{_split(delays)}" if delay is not None else "-",
                }
                | ({"by way of": relays} if relays else {})
                | self._inbox.rows()
                | lost
            )
            await asyncio.sleep(STATUS_INTERVAL)

    def _detector(self, event: DetectorEvent) -> None:
        self._output.event("detector", state=event.state, reason=event.reason)

    def _changed(self, event: StateEvent) -> None:
        self._state = event
        self._output.event("state", **dataclasses.asdict(event))
        if not self._status.shown:
            self._output.say(_words(event))


def _words(event: StateEvent) -> str:
    """Say what a state is and why, once where both are the same."""
    return ": ".join(dict.fromkeys(filter(None, (WORDS[event.state], event.reason))))


def _in_ms(delays: dict[str, float | None]) -> dict[str, float | None]:
    return {name: milliseconds(seconds) for name, seconds in delays.items()}


def _split(delays: dict[str, float | None]) -> str:
    """Say what a delay consists of; detection runs beside the rest."""
    known = [f"{name} {part:.1f}" for name, part in delays.items() if part is not None]
    return f"   {'  '.join(known)}" if known else ""
