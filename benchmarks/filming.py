"""Films for measurements: a face that moves, and its time in the pixels, as phones, cameras and screens make them."""

import contextlib
import functools
import io
import itertools
import math
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from synopticon_rtc import Portrait, TestPattern
from synopticon_rtc.media.planes import Plane, planes

REEL = 300
"""Pictures that are drawn and encoded; a film repeats them, but not their timestamps."""
CARD = 5
"""The card with the number fills this part of the width and of the height, in the lower left corner."""
SQUARE = Fraction(1)
UPRIGHT: Sequence[int] = ()
ONE = 1 << 16
QUARTER = (0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30)
"""The display matrix of a phone that was held upright (ISO 14496-12, section 6.2.2)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a film is made.

    Attributes:
        name: What tables call it.
        suffix: Of its file.
        codec: FFmpeg's name of its encoder.
        size: Width and height in pixels, as it is seen.
        fps: Pictures a second.
        aspect: Width by height of a pixel.
        matrix: Its display matrix, of a phone that was turned.
        interlaced: Whether every other line is of a moment later.
        options: Of the encoder.
    """

    name: str
    suffix: str
    codec: str
    size: tuple[int, int]
    fps: int
    aspect: Fraction = SQUARE
    matrix: Sequence[int] = UPRIGHT
    interlaced: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def length(self) -> float:
        """Seconds of a reel."""
        return REEL / self.fps

    def draw(self, number: int) -> av.VideoFrame:
        """Draw a picture as it is to be seen, but with two fields where it is interlaced."""
        portrait, card = _artists(self.size, self.fps * 2 if self.interlaced else self.fps)
        if not self.interlaced:
            frame = portrait.draw(number)
        else:
            frame, later = (portrait.draw(2 * number + field) for field in range(2))
            for ours, theirs in zip(planes(frame), planes(later), strict=True):
                ours[0::2] = theirs[0::2]  # FFmpeg's encoder says that the lower field comes first
        for ours, theirs in zip(planes(frame), planes(card.draw(number)), strict=True):
            corner(ours)[:] = theirs
        return frame

    def picture(self, number: int) -> av.VideoFrame:
        """Draw a picture as it is stored."""
        frame = self.draw(number)
        if self.aspect != SQUARE:  # its lines stay as they are, and so do its fields
            frame = frame.reformat(width=round(frame.width / self.aspect), height=frame.height)
        if self.matrix:
            frame = _turned(frame)
        frame.pts, frame.time_base = number, Fraction(1, self.fps)
        return frame


@functools.lru_cache(maxsize=1)
def _artists(size: tuple[int, int], fps: int) -> tuple[Portrait, TestPattern]:
    width, height = size
    return Portrait(size, fps), TestPattern((width // CARD & ~1, height // CARD & ~1), fps)


def corner(plane: Plane) -> Plane:
    """Return the part of a plane where the card is."""
    height, width = plane.shape
    return plane[-(height // CARD & ~1) :, : width // CARD & ~1]


def _turned(frame: av.VideoFrame) -> av.VideoFrame:
    """Turn a picture by a quarter to the left."""
    turned = av.VideoFrame(frame.height, frame.width, "yuv420p")
    for ours, theirs in zip(planes(turned), planes(frame), strict=True):
        ours[:] = np.rot90(theirs)
    return turned


PHONE = Kind("phone", ".mp4", "libx264", (1080, 1920), 30, matrix=QUARTER, options={"preset": "veryfast"})
CAMERA = Kind(
    "camera",
    ".m2t",
    "mpeg2video",
    (1920, 1080),
    25,
    aspect=Fraction(4, 3),
    interlaced=True,
    options={"flags": "+ilme+ildct", "b": "25000000", "g": "12", "bf": "2"},
)
SCREEN = Kind("screen", ".mp4", "libx264", (3840, 2160), 60, options={"preset": "superfast"})
MJPEG = Kind("MJPEG", ".mjpeg", "mjpeg", (1280, 720), 30, options={"qscale": "4", "flags": "+qscale"})
NETWORK = Kind("network camera", ".ts", "libx264", (1280, 720), 25, options={"tune": "zerolatency", "g": "25"})


def film(kind: Kind, path: Path, seconds: float) -> Path:
    """Write a film of so many seconds at least."""
    with av.open(path, "w") as container:
        for packet in _packets(kind, container, seconds):
            container.mux(packet)
    return path


def chunks(kind: Kind, seconds: float) -> list[bytes]:
    """Return a stream of so many seconds at least, as MPEG-TS: what belongs to each picture."""
    told = []
    stream = io.BytesIO()
    options = {"flush_packets": "1", "mpegts_flags": "+pat_pmt_at_frames"}
    with av.open(stream, "w", format="mpegts", options=options) as container:
        for packet in _packets(kind, container, seconds):
            container.mux(packet)
            told.append(stream.getvalue())
            stream.seek(0)
            stream.truncate()
    return told


def jpegs(kind: Kind) -> list[bytes]:
    """Return a reel of pictures in JPEG."""
    with av.open(io.BytesIO(), "w", format="mjpeg") as container:
        return [bytes(packet) for packet in _reel(kind, container)]


def _reel(kind: Kind, container: OutputContainer) -> "list[av.Packet[VideoStream]]":
    """Encode a reel."""
    stream = cast("VideoStream", container.add_stream(kind.codec, rate=kind.fps, options=dict(kind.options)))
    stream.width, stream.height = _stored_size(kind)
    stream.pix_fmt = "yuvj420p" if kind.codec == "mjpeg" else "yuv420p"
    stream.codec_context.sample_aspect_ratio = kind.aspect
    if kind.matrix:
        stream.set_display_matrix(kind.matrix)
    packets = []
    for number in range(REEL):
        packets += stream.encode(kind.picture(number))
    return packets + stream.encode(None)


def _stored_size(kind: Kind) -> tuple[int, int]:
    width, height = round(kind.size[0] / kind.aspect), kind.size[1]
    return (height, width) if kind.matrix else (width, height)


def _packets(kind: Kind, container: OutputContainer, seconds: float) -> "Iterator[av.Packet[VideoStream]]":
    """Give the packets of a film."""
    reel = _reel(kind, container)
    stream = container.streams.video[0]
    for start in range(0, round(seconds * kind.fps), REEL):
        for packet in reel:
            shifted = cast("av.Packet[VideoStream]", av.Packet(bytes(packet)))
            assert packet.pts is not None  # noqa: S101 - as encoders say it
            assert packet.dts is not None  # noqa: S101 - as encoders say it
            shifted.stream, shifted.time_base = stream, Fraction(1, kind.fps)
            unit = packet.time_base * kind.fps if packet.time_base else 1
            shifted.pts, shifted.dts = round(packet.pts * unit) + start, round(packet.dts * unit) + start
            shifted.is_keyframe = packet.is_keyframe
            yield shifted


@dataclass(slots=True)
class Live:
    """A live source on this machine: what it sends at which moment, and when it cannot be had.

    Attributes:
        kind: How its film was made.
        parts: What is sent for each picture, over and over.
        content_type: As HTTP calls it.
        away: Seconds after the start, from and to, in which connections are reset.
        silent: Seconds after the start from which on those who are connected hear nothing any more.
        start: When picture 0 was made, as time.monotonic() has it.
    """

    kind: Kind
    parts: Sequence[bytes]
    content_type: str
    away: tuple[float, float] = (math.inf, math.inf)
    silent: float = math.inf
    start: float = 0.0

    @property
    def age(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def is_away(self) -> bool:
        """Whether connections are reset now."""
        return self.away[0] <= self.age < self.away[1]

    def send(self, connection: socket.socket, stop: threading.Event) -> None:
        """Send pictures when they are made, from the next one on that needs no other.

        Raises:
            OSError: The other side has gone.
        """
        silent = self.silent if self.age < self.silent else math.inf
        second = math.ceil(self.age)
        for number in itertools.count(second * self.kind.fps):
            if stop.wait(max(0.0, number / self.kind.fps - self.age)) or self.is_away():
                return
            if self.age < silent:
                connection.sendall(self.parts[number % len(self.parts)])


@contextlib.contextmanager
def served(live: Live) -> Iterator[str]:
    """Be a camera in the network; gives its address. It begins now."""
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not live.is_away():
                self.send_response(200)
                self.send_header("Content-Type", live.content_type)
                self.end_headers()
                with contextlib.suppress(OSError):
                    live.send(self.connection, stop)
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()  # by a reset

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the library's name

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().finish()

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def shutdown_request(self, request: object) -> None: ...  # the handler has closed it

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        live.start = time.monotonic()
        try:
            yield f"http://127.0.0.1:{server.server_port}/live"
        finally:
            stop.set()
            server.shutdown()
            thread.join()
