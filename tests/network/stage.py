"""One source in layers, and receivers that watch it over a network in memory: all of it real but the sockets."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import av
import numpy as np
import numpy.typing as npt
from rtc_helpers import Peer, describe
from turned import elapse
from wires import Host, Network, Way

from synopticon_rtc.media import Converter, Picture
from synopticon_rtc.rtc import EncodedVideoFrame
from synopticon_rtc.sending.ladder import Ladder

WIDTH, HEIGHT = 320, 240
"""Large enough for two layers."""
FPS = 30
BITRATE = 800_000
ADAPT_INTERVAL = 0.25
"""Seconds, as a broadcaster has it."""
PICTURES = 45
"""After which the film begins anew."""


def _film(noise: float) -> list[npt.NDArray[np.uint8]]:
    """Draw waves that wander under noise, as YUV 4:2:0: with a little as hard to encode as a face before a wall."""
    chance = np.random.default_rng(1)
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    film = []
    for number in range(PICTURES):
        turn = 2 * np.pi * number / PICTURES
        luma = 120 + 60 * np.sin(x / 17 + turn) * np.cos(y / 23 - turn) + chance.normal(0, noise, (HEIGHT, WIDTH))
        film.append(np.concatenate([luma, np.full((HEIGHT // 2, WIDTH), 128)]).clip(0, 255).astype(np.uint8))
    return film


S = TypeVar("S", bound="Stage")


@dataclass(frozen=True)
class Seen:
    """A frame that came: when, which, how large."""

    at: float
    number: int
    octets: int
    height: int
    keyframe: bool


class Viewer:
    """A receiver on a machine of its own, and the sender's end of its connection."""

    def __init__(self, network: Network, home: Host) -> None:
        self.host = network.host()
        self.down: Way = network.way(home.address, self.host.address)
        self.up: Way = network.way(self.host.address, home.address)
        self.seen: list[Seen] = []
        self._height = 0
        self.sender = Peer(network=home)
        self.receiver = Peer(network=self.host, on_encoded=self._see)

    def _see(self, frame: EncodedVideoFrame) -> None:
        at = asyncio.get_running_loop().time()
        number = round(frame.rtp_timestamp * FPS / 90_000)
        if frame.keyframe:
            self._height = int.from_bytes(frame.data[8:10], "little") & 0x3FFF  # RFC 6386 section 9.1
        self.seen.append(Seen(at, number, len(frame.data), self._height, frame.keyframe))

    def since(self, at: float, until: float = float("inf")) -> list[Seen]:
        """Return what came in a time."""
        return [seen for seen in self.seen if at <= seen.at <= until]


def longest_gap(seen: Sequence[Seen], since: float, until: float) -> float:
    """Return the longest time without a frame, s."""
    marks = [since, *(each.at for each in seen if since <= each.at <= until), until]
    return max(later - earlier for earlier, later in itertools.pairwise(marks))


class Stage:
    """A source that plays for whoever has joined.

    Args:
        seed: Of the network.
        noise: In the pictures; the more, the larger their frames.
    """

    def __init__(self, seed: int = 0, noise: float = 4.0) -> None:
        self.network = Network(seed)
        self.home = self.network.host()
        self.viewers: list[Viewer] = []
        self.ladder = Ladder("vp8", bitrate=BITRATE, fps=FPS, origin=0, on_packet=lambda _: None)
        self._converter = Converter()
        self._film = _film(noise)

    @property
    def now(self) -> float:
        """The time, s."""
        return asyncio.get_running_loop().time()

    async def join(self) -> Viewer:
        """Have one more receiver watch, from the moment on that it is connected."""
        viewer = Viewer(self.network, self.home)
        viewer.sender.connection.add_video(lambda _: self.ladder.top, ["vp8"])
        self.viewers.append(viewer)
        await describe(viewer.sender, viewer.receiver)
        await viewer.sender.until_state("connected")
        await viewer.receiver.until_state("connected")
        return viewer

    async def leave(self, viewer: Viewer) -> None:
        """Have a receiver go."""
        self.viewers.remove(viewer)
        async with viewer.sender, viewer.receiver:
            pass

    async def play(self, seconds: float) -> float:
        """Go on for a time, and return when that began."""
        begun = self.now
        await elapse(seconds)
        return begun

    async def _show(self) -> None:
        begun = self.now
        for number in itertools.count():
            frame = av.VideoFrame.from_ndarray(self._film[number % PICTURES], format="yuv420p")
            frame.pts, frame.time_base = number * 90_000 // FPS, Fraction(1, 90_000)
            self.ladder.encode(Picture(frame, self._converter))
            await elapse(begun + (number + 1) / FPS - self.now)

    async def _adapt(self) -> None:
        while True:
            await elapse(ADAPT_INTERVAL)
            senders = [sender for viewer in self.viewers for sender in viewer.sender.connection.senders]
            self.ladder.adapt(senders, self.now)


def stage(seed: int = 0, noise: float = 4.0) -> contextlib.AbstractAsyncContextManager[Stage]:
    """Set up a source, and let it play."""
    return played(Stage(seed, noise))


@contextlib.asynccontextmanager
async def played(made: S) -> AsyncIterator[S]:
    """Let a source play."""
    tasks = [asyncio.create_task(made._show()), asyncio.create_task(made._adapt())]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for viewer in list(made.viewers):
            await made.leave(viewer)
        await made.ladder.aclose()
