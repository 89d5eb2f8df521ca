"""What happens to each peer, written down for somebody who looks at a bad call later.

A trace is a file of JSON lines. Each is one of the events below; its kind stands in ``event``. ``docs/trace.md`` shows
one, and ``python -m synopticon_rtc.trace`` reads it.
"""

import asyncio
import logging
import os
import platform
import queue
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec

from synopticon_rtc.errors import TraceError

logger = logging.getLogger(__name__)

MOST_BYTES = 256 * 2**20
"""Bytes of a file, after which no more is written: about a day of ten peers."""
WAITING = 10_000
"""Lines that may wait for a slow disk; what comes beyond them is left out."""
INTERVAL = 1.0
"""Seconds between two lines of figures."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag=str.lower, omit_defaults=True):
    """Base of all events.

    Attributes:
        at: Seconds since the trace began.
        peer: The session of the peer that it is about; empty where it is about nobody.
    """

    at: float = 0.0
    peer: str = ""


class Begin(Event, frozen=True, kw_only=True):
    """The first line.

    Attributes:
        role: ``broadcaster`` or ``receiver``.
        time: When it was, on this machine's clock, as ISO 8601 has it.
        version: Of this package.
        python: The version of Python.
        system: The operating system.
    """

    role: str
    time: str = ""
    version: str = ""
    python: str = ""
    system: str = ""


class Signal(Event, frozen=True, kw_only=True):
    """A signaling message to or from the peer.

    Attributes:
        sent: Whether it was sent; else it was received.
        message: The message, without the ICE password of its session description.
    """

    sent: bool
    message: dict[str, Any]


class State(Event, frozen=True, kw_only=True):
    """The connection to the peer is in another state.

    Attributes:
        state: As the events of this package name it, such as ``connected``.
        reason: Why, in words.
    """

    state: str
    reason: str = ""


class Pair(Event, frozen=True, kw_only=True):
    """A pair of candidates was checked, or chosen (RFC 8445).

    Attributes:
        local: Ours: its type, address and port.
        remote: The peer's.
        state: ``succeeded``, ``failed`` or ``chosen``.
    """

    local: str
    remote: str
    state: str


class Figures(Event, frozen=True, kw_only=True):
    """What was sent and received so far, and how the way is; once a second.

    Attributes:
        packets_sent: RTP packets of video, those that were sent again not counted.
        bytes_sent: Bytes of their payloads.
        retransmits: Packets that were sent again, as the peer missed them.
        frames_sent: Frames.
        frames_dropped: Frames that were not sent, because the peer waited for a keyframe.
        bitrate: Of the video that was sent in the last second, bit/s.
        fps: Frames that were sent in the last second.
        bearable: What the way to the peer is thought to bear, bit/s; None where nothing speaks against what is sent.
        bitrate_limit: What the peer estimates that it can receive, bit/s.
        loss: Share of the packets that were lost on the way to the peer, 0 to 1, as it last reported.
        rtt: Round-trip time, seconds.
        packets_received: RTP packets of video.
        bytes_received: Bytes of their payloads.
        nacks: Packets that were missing, and asked for again.
        keyframes_asked: How often the peer was asked for a keyframe.
        frames_too_large: Frames that were left out, because they were larger than allowed.
        decode_errors: Frames that could not be decoded, or were not worth trying.
    """

    packets_sent: int = 0
    bytes_sent: int = 0
    retransmits: int = 0
    frames_sent: int = 0
    frames_dropped: int = 0
    bitrate: float = 0.0
    fps: float = 0.0
    bearable: float | None = None
    bitrate_limit: int | None = None
    loss: float | None = None
    rtt: float | None = None
    packets_received: int = 0
    bytes_received: int = 0
    nacks: int = 0
    keyframes_asked: int = 0
    frames_too_large: int = 0
    decode_errors: int = 0


class Rate(Event, frozen=True, kw_only=True):
    """It was decided how much the way to the peer bears.

    Attributes:
        bearable: Bit/s; None for whatever is sent.
        reason: Why, in words.
    """

    bearable: float | None
    reason: str


class Layer(Event, frozen=True, kw_only=True):
    """The peer is to be sent another layer, at its next keyframe.

    Attributes:
        scale: How many times smaller a side than the source it is, 1, 2 or 4.
        bitrate: Of it, bit/s.
    """

    scale: int
    bitrate: int


class Keyframe(Event, frozen=True, kw_only=True):
    """A keyframe is asked for.

    Attributes:
        reason: Who needs it and why, in words.
    """

    reason: str


class Pairing(Event, frozen=True, kw_only=True):
    """How frames and faces met so far, at a receiver; once a second.

    Attributes:
        frames: Frames that were decoded.
        frames_with_faces: Frames that were given out with a face.
        faces_messages: Faces messages that came.
        faces_late: Frames that were given out without their faces, which came after them.
        invalid_faces: Messages that were none.
        delay: Seconds from the capture of a frame to its being given out; None where it is not known.
    """

    frames: int
    frames_with_faces: int
    faces_messages: int
    faces_late: int
    invalid_faces: int
    delay: float | None = None


class End(Event, frozen=True, kw_only=True):
    """The last line.

    Attributes:
        left_out: Lines that the disk was too slow for.
        reason: Why it ends, in words.
    """

    left_out: int = 0
    reason: str = "closed"


KINDS = Begin | Signal | State | Pair | Figures | Rate | Layer | Keyframe | Pairing | End
Note = Callable[[Event], None]
"""What takes an event."""


def ignore(_: Event) -> None:
    """Take an event where nobody traces."""


class Trace:
    """Writes events to a file, in a thread, so that no disk holds up a call.

    Use it as an async context manager. Where the file cannot be written any more, the log says so once, and the call
    goes on. Without a path it writes nothing.

    Args:
        path: The file; what was in it is lost.
        role: ``broadcaster`` or ``receiver``.

    Raises:
        TraceError: The file cannot be opened; on entering.
    """

    def __init__(self, path: str | os.PathLike[str] | None, role: str) -> None:
        self._path = None if path is None else Path(path)
        self._role = role
        self._lines: queue.Queue[Event | None] = queue.Queue(WAITING)
        self._left_out = 0
        self._writing: threading.Thread | None = None
        self._watchers: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_on(self) -> bool:
        """Whether anything is written."""
        return self._path is not None

    async def __aenter__(self) -> Self:
        if self._path is None:
            return self
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        try:
            file = self._path.open("wb", buffering=0)
        except OSError as error:
            raise TraceError(f"the trace {self._path} cannot be written: {error.strerror or error}") from error
        from synopticon_rtc.basics.version import __version__  # noqa: PLC0415 - looking it up takes longer than most imports

        self._writing = threading.Thread(target=self._write, args=(file,), name="trace", daemon=True)
        self._writing.start()
        self.write(
            Begin(
                role=self._role,
                time=datetime.now(UTC).isoformat(timespec="milliseconds"),
                version=__version__,
                python=platform.python_version(),
                system=platform.platform(),
            )
        )
        self._tick()
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._writing is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        for watcher in self._watchers:
            watcher()  # the last figures
        self.write(End(left_out=self._left_out))
        self._watchers.clear()
        await self._loop.run_in_executor(None, self._close)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call somebody once a second, who writes figures."""
        if self.is_on:
            self._watchers.append(watcher)

    def of(self, peer: str) -> Note:
        """Return what writes events of a peer."""
        return (lambda event: self.write(event, peer)) if self.is_on else ignore

    def write(self, event: Event, peer: str = "") -> None:
        """Write an event down."""
        if self._writing is None:
            return
        at = round(self._loop.time() - self._begun, 4)
        try:
            self._lines.put_nowait(msgspec.structs.replace(event, at=at, peer=peer))
        except queue.Full:
            self._left_out += 1

    def _tick(self) -> None:
        self._timer = self._loop.call_later(INTERVAL, self._tick)
        for watcher in self._watchers:
            watcher()

    def _close(self) -> None:
        assert self._writing is not None  # noqa: S101 - it was begun
        self._lines.put(None)
        self._writing.join(timeout=5)

    def _write(self, file: Any) -> None:  # noqa: ANN401 - a raw file
        """Write what comes, in a thread of its own."""
        written, encoder = 0, msgspec.json.Encoder(enc_hook=str)
        working = True
        with file:
            while (event := self._lines.get()) is not None:
                if not working:
                    continue
                line = encoder.encode(event) + b"\n"
                written += len(line)
                if written > MOST_BYTES:
                    working = False
                    line = encoder.encode(End(at=event.at, reason="the file is full")) + b"\n"
                    logger.warning("no more is written to %s: it is full", self._path)
                try:
                    file.write(line)
                except OSError as error:
                    working = False
                    logger.warning("no more is written to %s: %s", self._path, error.strerror or error)
