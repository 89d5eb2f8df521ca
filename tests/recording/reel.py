"""Streams for a tape: a test card that tells its number, faces that tell it as their id, and sound."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from itertools import count
from pathlib import Path

import av
import numpy as np

from synopticon_rtc import RecordingEvent, TestPattern
from synopticon_rtc.faces import Face
from synopticon_rtc.faces.wire import FacesMessage, encode
from synopticon_rtc.peers.published import Kind
from synopticon_rtc.peers.tap import Origin
from synopticon_rtc.recording.tape import Tape
from synopticon_rtc.rtc import Codec, EncodedSound, EncodedVideoFrame

FPS = 30
BEGUN = 1_700_000_000.0
"""When the first frame is captured, seconds since the epoch."""
OFFSET = 12.5
"""The broadcaster's clock minus ours, seconds."""
WAY = 0.02
"""Seconds from capture to arrival."""
LANDMARKS = np.random.default_rng(1).uniform(0.3, 0.6, (478, 3)).astype(np.float32)


@dataclass(eq=False)
class Named:
    """A stream, as its publisher holds it."""

    name: str
    kind: Kind = "video"
    hint: str = "camera"
    muted: bool = False
    detector: str = "a detector"


@cache
def encoded(codec: Codec, size: tuple[int, int], frames: int, every: int = 30) -> tuple[tuple[bytes, bool], ...]:
    """Encode a test card: the data of each frame, and whether it is a keyframe, as each ``every``-th is."""
    card = TestPattern(size, FPS)
    encoder = av.CodecContext.create("libvpx" if codec == "vp8" else "libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height = size
    encoder.pix_fmt, encoder.time_base, encoder.gop_size = "yuv420p", Fraction(1, FPS), every
    encoder.options = (
        {"deadline": "realtime", "cpu-used": "8", "keyint_min": str(every), "lag-in-frames": "0"}
        if codec == "vp8"
        else {"preset": "ultrafast", "tune": "zerolatency", "x264-params": f"keyint={every}:repeat-headers=1"}
    )
    made = []
    for number in range(frames):
        frame = card.draw(number)
        frame.pts, frame.time_base = number, encoder.time_base
        made += [(bytes(packet), packet.is_keyframe) for packet in encoder.encode(frame)]
    made += [(bytes(packet), packet.is_keyframe) for packet in encoder.encode(None)]
    assert len(made) == frames
    return tuple(made)


@cache
def spoken(packets: int) -> tuple[bytes, ...]:
    """Encode a tone: packets of 20 ms."""
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "flt"
    tone = np.sin(np.arange(960 * packets) * 2 * np.pi * 440 / 48_000).astype(np.float32) / 2
    made = []
    for number in range(packets + 1):
        block = np.resize(tone[960 * number : 960 * (number + 1)], 960)
        frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), "flt", "mono")
        frame.sample_rate, frame.pts = 48_000, 960 * number
        made += [bytes(packet) for packet in encoder.encode(frame)]
    return tuple(made[:packets])


def when(number: float) -> float:
    """When a frame is captured, by the broadcaster's clock."""
    return BEGUN + number / FPS


def ours(number: float) -> float:
    """When it comes, by our clock."""
    return when(number) - OFFSET + WAY


def timestamp(number: int) -> int:
    """Its RTP timestamp, which begins anew after a second."""
    return (2**32 - 90_000 + number * 3000) % 2**32


def message(number: int, *, detected: bool = True) -> FacesMessage:
    """Return what is found in it."""
    faces = (Face(LANDMARKS, {"jawOpen": 1.0}, id=number),) if detected else ()
    return FacesMessage(faces, 320, 240, timestamp(number), when(number), detected)


@dataclass
class Studio:
    """A tape, and what it is given and tells."""

    folder: Path
    segment: float | None = None
    most: int | None = None
    published: list[Named] = field(default_factory=list)
    events: list[RecordingEvent] = field(default_factory=list)
    wishes: int = 0
    names: Iterator[Path] | None = None
    session: str = "ws_1"

    def __post_init__(self) -> None:
        self.camera = Named("camera")
        self.published.append(self.camera)
        names = self.names or (self.folder / f"part-{number}.mkv" for number in count(1))
        self.tape = Tape(
            lambda _origin, _begun: next(names),
            published=lambda: self.published,
            origin=lambda: Origin("lab-1", self.session, OFFSET),
            wish=self._wish,
            tell=self.events.append,
            segment=self.segment,
            most=self.most,
        )

    def _wish(self) -> None:
        self.wishes += 1

    def frame(
        self,
        number: int,
        stream: Named | None = None,
        *,
        codec: Codec = "vp8",
        size: tuple[int, int] = (320, 240),
        late: float = 0.0,
    ) -> None:
        """Give it a frame, ``late`` seconds of capture and of our time after its own."""
        data, keyframe = encoded(codec, size, 120)[number % 120]
        now = ours(number) + late
        frame = EncodedVideoFrame(codec, data, timestamp(number), keyframe, now)
        self.tape.video(stream or self.camera, frame, when(number) + late, now)
        self.tape.tick(now)

    def faces(self, number: int, stream: Named | None = None, *, detected: bool = True, late: float = 0.01) -> None:
        """Give it the faces of a frame."""
        told = message(number, detected=detected)
        self.tape.faces(stream or self.camera, told, encode(told), ours(number) + late)

    def sound(self, stream: Named, number: int) -> None:
        """Give it 20 ms of sound."""
        at = number * FPS / 50
        self.tape.sound(stream, EncodedSound(spoken(100)[number % 100], number * 960, when(at)), ours(at))

    def play(self, frames: range, *streams: Named, codec: Codec = "vp8") -> None:
        """Give it frames with their faces."""
        for number in frames:
            for stream in streams or (self.camera,):
                self.frame(number, stream, codec=codec)
                self.faces(number, stream)

    @property
    def files(self) -> list[Path]:
        """What it has written."""
        return [Path(event.path) for event in self.events if event.state == "begun"]
