"""Receivers that take every picture, and note when: ours or plain aiortc.

``python -m benchmarks.watching CORE (ours|plain) URL``, driven over its standard input.
"""

import asyncio
import contextlib
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import av
from aiortc.mediastreams import MediaStreamError

from benchmarks import plain
from benchmarks.children import pin, serve
from synopticon_rtc import EncodedVideoFrame, Receiver, TestPattern


@dataclass(slots=True)
class Picture:
    """One frame as it came.

    Attributes:
        time: When, as time.monotonic() has it.
        number: Of the frame, read from its pixels where that is wanted.
        height: In pixels; of a VP8 frame that was not decoded that of the last keyframe, 0 if there was none.
        size: In bytes, 0 where it was decoded.
        keyframe: Whether it was one.
    """

    time: float
    number: int | None
    height: int
    size: int
    keyframe: bool


@dataclass(slots=True)
class Watcher:
    """One receiver.

    Attributes:
        numbers: Whether to read the numbers of frames.
        pause: Seconds that it takes over every frame.
        encoded: Whether to leave frames encoded; plain aiortc always decodes.
    """

    numbers: bool
    pause: float
    encoded: bool
    pictures: list[Picture] = field(default_factory=list)
    first: asyncio.Event = field(default_factory=asyncio.Event)
    _height: int = 0

    async def ours(self, url: str) -> None:
        """Watch with this package."""
        async with Receiver(url, decode=not self.encoded) as receiver:
            async for moment in receiver:
                if moment.frame is not None:
                    await self._note(moment.frame)

    async def plain(self, url: str) -> None:
        """Watch with aiortc alone."""
        async with plain.receive(url) as track:
            with contextlib.suppress(MediaStreamError):
                while True:
                    frame = await track.recv()
                    assert isinstance(frame, av.VideoFrame)  # noqa: S101 - of a video track
                    await self._note(frame)

    async def _note(self, frame: av.VideoFrame | EncodedVideoFrame) -> None:
        now = time.monotonic()
        if isinstance(frame, EncodedVideoFrame):
            if frame.keyframe and frame.codec == "vp8":
                self._height = int.from_bytes(frame.data[8:10], "little") & 0x3FFF  # RFC 6386 section 9.1
            picture = Picture(now, None, self._height, len(frame.data), frame.keyframe)
        else:
            number = TestPattern.read_number(frame.to_ndarray()[: frame.height]) if self.numbers else None
            picture = Picture(now, number, frame.height, 0, frame.key_frame)
        self.pictures.append(picture)
        self.first.set()
        await asyncio.sleep(self.pause)


class Watchers:
    """The receivers of this process."""

    def __init__(self, who: str, url: str) -> None:
        self._who = who
        self._url = url
        self._watchers: list[Watcher] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def join(self, count: int, *, numbers: bool = False, pause: float = 0.0, encoded: bool = False) -> None:
        """Have more receivers join, and wait until each has a picture."""
        new = [Watcher(numbers, pause, encoded) for _ in range(count)]
        for watcher in new:
            watch = watcher.ours if self._who == "ours" else watcher.plain
            self._tasks.append(asyncio.create_task(watch(self._url)))
            await watcher.first.wait()
        self._watchers += new

    async def totals(self) -> dict[str, Any]:
        """Count frames of each receiver; the time, and the CPU time of this process."""
        frames = [len(watcher.pictures) for watcher in self._watchers]
        return {"time": time.monotonic(), "cpu": time.process_time(), "frames": frames}

    async def seen(self, since: float) -> list[list[tuple[float, int | None, int, int, bool]]]:
        """Tell what each receiver has had since then."""
        return [
            [
                (one.time, one.number, one.height, one.size, one.keyframe)
                for one in watcher.pictures
                if one.time >= since
            ]
            for watcher in self._watchers
        ]


async def main(core: str, who: str, url: str) -> None:
    """Do as asked."""
    pin(int(core))
    watchers = Watchers(who, url)
    await serve(join=watchers.join, totals=watchers.totals, seen=watchers.seen)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
