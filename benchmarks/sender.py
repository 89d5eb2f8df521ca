"""A broadcaster under measurement: ours or plain aiortc.

``python -m benchmarks.sender CORE (ours|plain) URL (reel|card|numbered|portrait)``, driven over its standard input.
What is broadcast: the test card drawn ahead, the test card that knows when it drew what, the same with faces that tell
its numbers, and the portrait drawn ahead with the faces that MediaPipe finds in it.
"""

import asyncio
import functools
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import plain
from benchmarks.children import pin, serve
from benchmarks.numbered import NumberedFaces
from benchmarks.reel import FPS, SIZE, Reel, StampedCard
from synopticon_rtc import Broadcaster, Detector, FaceLandmarker, Portrait
from synopticon_rtc.commands.memory import collect_often
from synopticon_rtc.rtc.pacer import Pacer
from synopticon_rtc.rtc.stream import VideoStream

TICK = 0.001


class Stopwatch:
    """The time that some methods take, those that they call among themselves counted once."""

    def __init__(self) -> None:
        self.cpu = 0.0
        """Seconds of the thread's CPU time."""
        self.wall = 0.0
        """Seconds, with the time in which others ran."""
        self._running = False

    def watch(self, owner: type, name: str) -> None:
        """Measure a method."""
        method: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(method)
        def measured(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever the method takes
            if self._running:
                return method(*arguments, **options)
            self._running = True
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return method(*arguments, **options)
            finally:
                self.cpu += time.thread_time() - cpu
                self.wall += time.perf_counter() - wall
                self._running = False

        setattr(owner, name, measured)


async def lag(seconds: float) -> list[float]:
    """How late a timer of 1 ms is each time, in seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    late = []
    while (now := loop.time()) < end:
        await asyncio.sleep(TICK)
        late.append(loop.time() - now - TICK)
    return late


async def drawn(source: Reel | StampedCard) -> dict[int, float]:
    """When each frame was drawn, by its number."""
    return source.drawn if isinstance(source, StampedCard) else {}


async def ours(url: str, source: Reel | StampedCard, faces: Detector | None) -> None:
    """Broadcast with this package."""
    sending = Stopwatch()
    sending.watch(VideoStream, "send")
    sending.watch(Pacer, "run")
    broadcaster = Broadcaster(url, source, faces=faces, codecs=["vp8"], fps=FPS)

    async def usage() -> dict[str, Any]:
        peers = broadcaster.peer_stats().values()
        return _usage() | {
            "send_cpu": sending.cpu,
            "send_wall": sending.wall,
            "packets": sum(peer.packets_sent for peer in peers),
            "dropped": sum(peer.frames_dropped for peer in peers),
            "retransmits": sum(peer.retransmits for peer in peers),
            "detected": broadcaster.stats.detected,
        }

    async with broadcaster:
        await broadcaster.signaling.wait_open()
        collect_often()  # as the command line does
        await serve(usage=usage, lag=lag, drawn=functools.partial(drawn, source))


async def aiortc(url: str, source: Reel | StampedCard, *, faces: bool) -> None:
    """Broadcast with aiortc alone."""
    if faces:
        from benchmarks.plain_faces import FaceCard  # noqa: PLC0415 - the memory that it takes is nobody else's

        card: plain.Card = FaceCard(source.draw)
    else:
        card = plain.Card(source.draw)

    async def usage() -> dict[str, Any]:
        return _usage()

    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(plain.broadcast(url, None, card, ready.set))
        await ready.wait()
        collect_often()  # both alike
        await serve(usage=usage, lag=lag, drawn=functools.partial(drawn, source))


def _usage() -> dict[str, float]:
    return {"time": time.monotonic(), "cpu": time.process_time(), "loop_cpu": time.thread_time()}


SOURCES: dict[str, Callable[[], tuple[Reel | StampedCard, Detector | None]]] = {
    "reel": lambda: (Reel(), None),
    "card": lambda: (StampedCard(), None),
    "numbered": lambda: (StampedCard(), NumberedFaces()),
    "portrait": lambda: (Reel(Portrait(SIZE, FPS)), FaceLandmarker()),
}


async def main(core: str, who: str, url: str, source: str) -> None:
    """Do as asked."""
    pin(int(core))
    frames, faces = SOURCES[source]()
    if who == "ours":
        await ours(url, frames, faces)
    else:
        await aiortc(url, frames, faces=faces is not None)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
