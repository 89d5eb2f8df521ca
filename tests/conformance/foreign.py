"""Peers of other WebRTC stacks, each a small program of its own in `stacks/`, and ours: what is a pass."""

import asyncio
import contextlib
import fractions
import functools
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from pairs import FACES, FRAMES, SIZE, MadeUpFace, receives

from synopticon_rtc import Broadcaster, PeerEvent, Receiver, SignalingServer, StateEvent, TestPattern
from synopticon_rtc.events import Events
from synopticon_rtc.rtc.stream import Codec

WITHIN = 60.0
"""Seconds for a program to start, meet ours and play: it takes 1 to 4 where the machine is not busy."""
STACKS = Path(__file__).parent / "stacks"
GO_PATH = Path("/usr/share/gocode")
GI_PATH = Path("/usr/lib/python3/dist-packages/gi")
GI = f"_gi.{sys.implementation.cache_tag}-*.so"
ELEMENTS = ("webrtcbin", "nicesrc", "vp8enc", "x264enc", "avdec_h264", "opusenc")
FOREIGN = {
    "gstreamer": "GStreamer",
    "pion": "Pion",
    "wrtc": "libwebrtc",
    "werift": "werift",
    "datachannel": "libdatachannel",
}
NOT_BUNDLED = "has transports of their own for video .* and application .*: set the peer's bundle policy to max-bundle"


@dataclass(frozen=True)
class Foreign:
    """A peer of another stack, in one role; ours has the other."""

    stack: str
    role: Literal["broadcast", "receive"]
    codec: Codec = "vp8"
    options: tuple[str, ...] = ()
    video: bool = True
    refused: str = ""
    """What ours says where it must refuse the peer, as a regular expression."""

    def __str__(self) -> str:
        return "-".join([self.stack, self.role, self.codec, *self.options])


def all_foreign() -> Iterator[Foreign]:
    """Every stack in both roles, with all that it can."""
    for stack in FOREIGN:
        codecs: tuple[Codec, ...] = ("vp8",) if stack == "wrtc" else ("vp8", "h264")
        for codec in codecs:
            yield Foreign(stack, "receive", codec)
            yield Foreign(stack, "broadcast", codec)
        yield Foreign(stack, "broadcast", codecs[-1], ("extras",))
    for role in ("receive", "broadcast"):
        yield Foreign("gstreamer", role, options=("ecdsa",))
        yield Foreign("pion", role, options=("lite",))
        yield Foreign("werift", role, options=("refused",), video=False)
        for stack in ("gstreamer", "werift"):
            yield Foreign(stack, role, options=("unbundled",), refused=NOT_BUNDLED)
    yield Foreign("wrtc", "receive", options=("refused",), video=False)


def missing(stack: str) -> str:
    """Why a stack cannot be run here; nothing where it can."""
    match stack:
        case "gstreamer" if not list(GI_PATH.glob(GI)) or not gstreamer_has(*ELEMENTS):
            return "GStreamer with webrtcbin, x264 and python3-gi for this Python are not installed"
        case "pion" if not shutil.which("go") or not (GO_PATH / "src/github.com/pion/webrtc").exists():
            return "golang-go and golang-github-pion-webrtc.v3-dev are not installed"
        case "wrtc" | "werift" | "datachannel" if not shutil.which("node") or not (STACKS / "node_modules").exists():
            return "the packages of tests/conformance/stacks are not installed: `make conformance` does"
    return ""


@functools.cache
def gstreamer_has(*elements: str) -> bool:
    """Whether GStreamer and these elements of it are there."""
    inspect = shutil.which("gst-inspect-1.0")
    return inspect is not None and all(
        subprocess.run([inspect, element], capture_output=True, check=False).returncode == 0 for element in elements
    )


@dataclass(frozen=True)
class Workshop:
    """What the programs need: the clip that those without an encoder send, and the one that is built."""

    folder: Path

    def prepare(self) -> None:
        """Make all of it; takes as long as Go compiles Pion."""
        for codec in ("vp8", "h264"):
            self.clip(codec).write_bytes(clip(codec))
        if not missing("pion"):
            environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(GO_PATH)}
            command = ["go", "build", "-o", str(self.folder / "pion"), str(STACKS / "pion" / "main.go")]
            subprocess.run(command, env=environment, check=True)

    def clip(self, codec: Codec) -> Path:
        return self.folder / f"{codec}.ivf"

    def command(self, foreign: Foreign, url: str) -> list[str]:
        program = {
            "gstreamer": [sys.executable, str(STACKS / "gstreamer.py")],
            "pion": [str(self.folder / "pion")],
        }.get(foreign.stack, ["node", str(STACKS / f"{foreign.stack}.mjs")])
        return [*program, url, foreign.role, foreign.codec, str(self.clip(foreign.codec)), *foreign.options]


def clip(codec: Codec) -> bytes:
    """Encode a second of a moving picture, every frame a keyframe, as IVF."""
    encoder = av.CodecContext.create({"vp8": "libvpx", "h264": "libx264"}[codec], "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height = SIZE
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", fractions.Fraction(1, 30), fractions.Fraction(30)
    encoder.bit_rate, encoder.gop_size = 1_000_000, 1
    encoder.options = {
        "vp8": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
        "h264": {"preset": "ultrafast", "tune": "zerolatency", "level": "3.1"},
    }[codec]
    if codec == "h264":
        encoder.profile = "Baseline"
    pictures = []
    for number in range(30):
        picture = np.full((SIZE[1] * 3 // 2, SIZE[0]), 128, np.uint8)
        picture[80:140, number * 8 : number * 8 + 60] = 235
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts, frame.pict_type = number, PictureType.I
        pictures += [bytes(packet) for packet in encoder.encode(frame)]
    header = struct.pack("<4sHH4sHHIIII", b"DKIF", 0, 32, b"VP80", *SIZE, 30, 1, len(pictures), 0)
    return header + b"".join(struct.pack("<IQ", len(each), at) + each for at, each in enumerate(pictures))


class CrashedError(AssertionError):
    """The other program died of a fault of its own: npm's libwebrtc does so now and then."""


class Program:
    """A peer that runs, and what it has told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.report: dict[str, Any] = {}
        self._news = asyncio.Event()

    async def read(self) -> None:
        assert self.process.stdout
        async for line in self.process.stdout:
            with contextlib.suppress(json.JSONDecodeError):  # what a library prints
                self.report.update(json.loads(line))
                self._news.set()
        self.report.setdefault("thrown", f"nothing, but ended with {await self.process.wait()}")
        self._news.set()

    def check(self) -> None:
        """See that it has thrown nothing.

        Raises:
            CrashedError: It died of a signal.
            AssertionError: It has thrown something.
        """
        status = self.process.returncode
        if status is not None and status < 0:
            raise CrashedError(f"it died of {signal.Signals(-status).name}")
        assert not self.report.get("thrown"), f"it threw {self.report['thrown']}"

    async def until(self, *keys: str, most: int = 1) -> None:
        """Wait until it has told of these, counts until they are as high as asked for."""
        told: dict[str, Any] = {}
        try:
            async with asyncio.timeout(WITHIN):
                while True:
                    self.check()
                    told = {key: self.report.get(key) for key in keys}
                    if all(value if isinstance(value, str) else (value or 0) >= most for value in told.values()):
                        return
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"it came no further than {told}, {self.report.get('state')}") from None


@contextlib.asynccontextmanager
async def running(command: list[str]) -> AsyncIterator[Program]:
    """Run a program until it is left."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, limit=2**22
    )
    program = Program(process)
    reading = asyncio.create_task(program.read())
    try:
        yield program
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading


async def meet(foreign: Foreign, workshop: Workshop) -> None:
    """Let the two meet, once more if the other program crashes.

    Raises:
        AssertionError: They do not play what they should, or are not refused as they should be.
        NobodyAnswered: Our receiver found no broadcaster.
    """
    try:
        await meet_once(foreign, workshop)
    except CrashedError as error:
        print(f"{foreign}, which is tried again: {error}")  # noqa: T201
        await meet_once(foreign, workshop)


async def meet_once(foreign: Foreign, workshop: Workshop) -> None:
    """Let the two meet.

    Raises:
        AssertionError: They do not play what they should, or are not refused as they should be.
        NobodyAnswered: Our receiver found no broadcaster.
    """
    async with SignalingServer(port=0) as server:
        if foreign.role == "receive":
            ours = Broadcaster(
                server.url, TestPattern(SIZE, 30), faces=MadeUpFace(), codecs=(foreign.codec, "vp8"), name=str(foreign)
            )
            async with ours, running(workshop.command(foreign, server.url)) as program:
                await (refuses(ours.events, foreign) if foreign.refused else plays(program, foreign))
        else:
            async with running(workshop.command(foreign, server.url)) as program:
                await program.until("session")
                if foreign.video:
                    async with Receiver(server.url, timeout=WITHIN) as receiver:
                        if foreign.refused:
                            await refuses(receiver.events, foreign)
                        else:
                            await receives(receiver, len(MadeUpFace.landmarks), WITHIN)
                else:
                    async with Receiver(server.url, video=False, timeout=WITHIN) as receiver:
                        await receives_faces(receiver)
                program.check()


async def plays(program: Program, foreign: Foreign) -> None:
    """The other stack gets frames, and faces that it can read."""
    if foreign.video:
        await program.until("frames", most=FRAMES)
        assert program.report.get("size") in (None, list(SIZE))
    await program.until("faces", most=FACES)
    landmarks = [[point["x"], point["y"], point["z"]] for point in program.report["landmarks"]]
    np.testing.assert_allclose(landmarks, MadeUpFace.landmarks, atol=1e-4)


async def receives_faces(receiver: Receiver[None]) -> None:
    """Our receiver gets faces, and no frames."""
    async with asyncio.timeout(WITHIN):
        for _ in range(FACES):
            moment = await anext(receiver)
            assert moment.frame is None
            np.testing.assert_allclose(moment.faces[0].landmarks, MadeUpFace.landmarks, atol=2e-3)


async def refuses(events: Events[PeerEvent] | Events[StateEvent], foreign: Foreign) -> None:
    """Ours says why it does not connect."""
    async with asyncio.timeout(WITHIN):
        async for event in events:
            assert event.state != "connected", "it connected all the same"
            if re.search(foreign.refused, event.reason):
                return
    raise AssertionError("nothing was told")
