"""``python -m synopticon_rtc.receive``: receive the frames and faces of a broadcaster."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO, Self

import av
import click
import msgspec
import numpy as np

from synopticon_rtc._cli import Command, Output
from synopticon_rtc._options import (
    duration_option,
    ice_server_option,
    room_option,
    signaling_client,
    token_file_option,
)
from synopticon_rtc._status import Rates, Status
from synopticon_rtc.errors import SynopticonError
from synopticon_rtc.events import StateEvent
from synopticon_rtc.faces import draw_faces
from synopticon_rtc.pairing import Moment
from synopticon_rtc.receiver import Receiver
from synopticon_rtc.rtc import IceServer

WORDS = {
    "seeking": "looking for a broadcaster",
    "connecting": "connecting",
    "connected": "live",
    "interrupted": "interrupted",
    "closed": "closed",
}
STATUS_INTERVAL = 1.0  # seconds
ESCAPE = 27  # key code


@click.command("receive", cls=Command)
@click.option("--url", default="ws://localhost:8081/ws", show_default=True, help="Signaling server to use.")
@room_option
@token_file_option
@click.option("--from", "broadcaster", help="Name or session of the broadcaster; the first that answers without it.")
@click.option("--no-video", is_flag=True, help="Receive the faces alone; the broadcaster then sends no video.")
@click.option("--show", is_flag=True, help="Show the video with the faces drawn on it in a window; q closes it.")
@click.option(
    "--faces-out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the landmarks of each frame here, one JSON object a line.",
)
@click.option("--frames", type=click.IntRange(min=1), help="Frames to receive before ending.")
@duration_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=15,
    show_default=True,
    help="Seconds without a frame after which to give up.",
)
@ice_server_option
async def main(
    url: str,
    room: str,
    token_file: Path | None,
    broadcaster: str | None,
    no_video: bool,  # noqa: FBT001 - click passes flags so
    show: bool,  # noqa: FBT001
    faces_out: Path | None,
    frames: int | None,
    duration: float | None,
    timeout: float,  # noqa: ASYNC109 - of the receiver, that says what was missing
    ice_servers: tuple[IceServer, ...],
    output: Output,
) -> None:
    """Receive the frames and faces of a broadcaster."""
    if show and no_video:
        raise click.UsageError("--show needs the video that --no-video leaves out.")
    receiver = Receiver(
        signaling_client(url, room, token_file),
        broadcaster=broadcaster,
        video=not no_video,
        timeout=timeout,
        ice_servers=ice_servers,
    )
    async with contextlib.AsyncExitStack() as stack:
        faces_file = stack.enter_context(_open(faces_out)) if faces_out else None
        window = stack.enter_context(_Window()) if show else None
        report = _Report(receiver, output)
        stack.callback(report.summarize)
        await stack.enter_async_context(receiver)
        await stack.enter_async_context(report.reporting())
        try:
            async with asyncio.timeout(duration):
                async for moment in receiver:
                    report.count(moment)
                    if faces_file is not None:
                        faces_file.write(_line(moment))
                    if window is not None and not window.show(moment):
                        break
                    if report.frames == frames:
                        break
        except TimeoutError as error:
            if isinstance(error, SynopticonError):  # nobody answered; else the duration is over
                raise


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from error


def _line(moment: Moment[object]) -> bytes:
    faces = [{"landmarks": face.landmarks.round(5).tolist()} for face in moment.faces]
    line = {"captured": moment.captured, "rtp_timestamp": moment.rtp_timestamp, "faces": faces}
    return msgspec.json.encode(line) + b"\n"


class _Window:
    """A window that shows moments until its user closes it."""

    TITLE = "synopticon"

    def __enter__(self) -> Self:
        try:
            import cv2  # noqa: PLC0415 - needs libGL, which servers lack
        except ImportError as error:
            raise SynopticonError(f"--show needs OpenCV with its system libraries: {error}") from error
        self._cv2 = cv2
        try:
            cv2.namedWindow(self.TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise SynopticonError(
                "--show needs a screen: there is none, or OpenCV was built without windows"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._cv2.destroyAllWindows()

    def show(self, moment: Moment[object]) -> bool:
        """Show a moment; False once the user has had enough."""
        assert isinstance(moment.frame, av.VideoFrame)  # noqa: S101 - tells the type checkers
        image = np.asarray(moment.frame.to_ndarray(format="bgr24"), np.uint8)
        self._cv2.imshow(self.TITLE, draw_faces(image, moment.faces))
        key = self._cv2.waitKey(1)
        return (
            key not in (ord("q"), ESCAPE) and self._cv2.getWindowProperty(self.TITLE, self._cv2.WND_PROP_VISIBLE) >= 1
        )


class _Report:
    """Tells people or programs what a receiver gets."""

    def __init__(self, receiver: Receiver[Any], output: Output) -> None:
        self.frames = 0
        self._receiver = receiver
        self._output = output
        self._status = Status("synopticon · receive", enabled=not output.json)
        self._rates = Rates()
        self._state = StateEvent("seeking", "")
        self._first = self._last = 0.0
        receiver.events.subscribe(self._changed)

    def count(self, _moment: Moment[object]) -> None:
        """Take note of a moment."""
        self._last = time.monotonic()
        self._first = self._first or self._last
        self.frames += 1

    @contextlib.asynccontextmanager
    async def reporting(self) -> AsyncIterator[None]:
        """Report meanwhile, once a second."""
        ticking = asyncio.create_task(self._tick())
        try:
            with self._status.show():
                yield
        finally:
            ticking.cancel()
            await asyncio.wait([ticking])

    def summarize(self) -> None:
        """Say what it came to."""
        stats = dataclasses.asdict(self._receiver.stats)
        first = stats.pop("first_frame")
        delay = stats.pop("delay")
        fps = round((self.frames - 1) / (self._last - self._first), 2) if self.frames > 1 else 0.0
        self._output.event(
            "summary",
            **stats | {"frames": self.frames},
            fps=fps,
            decoded=stats["frames"],
            first_frame_ms=_ms(first),
            delay_ms=_ms(delay),
        )
        size = f"{stats['width']}x{stats['height']}"
        self._output.say(f"{self.frames} frames of {size} at {fps:.1f} fps, {stats['frames_with_faces']} with faces")

    async def _tick(self) -> None:
        while True:
            stats = self._receiver.stats
            rates = self._rates.update(fps=self.frames, faces_messages=stats.faces_messages)
            fps, delay = round(rates["fps"], 1), _ms(stats.delay)
            self._output.event(
                "stats",
                fps=fps,
                frames=self.frames,
                decoded=stats.frames,
                width=stats.width,
                height=stats.height,
                faces=stats.faces,
                faces_messages=stats.faces_messages,
                delay_ms=delay,
            )
            self._status.update(
                {
                    "state": f"{WORDS[self._state.state]} ({self._state.reason})",
                    "from": self._state.name or self._state.session or "-",
                    "video": f"{stats.width}x{stats.height}   {fps:.1f} fps",
                    "faces": f"{stats.faces}   {rates['faces_messages']:.1f} messages a second",
                    "delay": f"{delay:.0f} ms" if delay is not None else "-",
                }
            )
            await asyncio.sleep(STATUS_INTERVAL)

    def _changed(self, event: StateEvent) -> None:
        self._state = event
        self._output.event("state", **dataclasses.asdict(event))
        if not self._status.shown:
            self._output.say(f"{WORDS[event.state]}: {event.reason}")


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


if __name__ == "__main__":
    main()
