"""Broadcast frames of one's own making: any iteration of av.VideoFrame is a source. Ctrl-C ends it.

A plain iteration, like this one, runs in a thread, since drawing takes time; an async one is for frames that come by
themselves.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator

import av
import numpy as np

from synopticon_rtc import Broadcaster, SignalingServer


class Plasma:
    """A colourful pattern that flows."""

    def __iter__(self) -> Iterator[av.VideoFrame]:
        y, x = np.mgrid[0:360, 0:640] / 60
        step = 0
        while True:
            wave = np.sin(x + step / 20) + np.sin(y - step / 30) + np.sin((x + y) / 2 + step / 25)
            image = np.stack([np.sin(wave), np.sin(wave + 2), np.sin(wave + 4)], axis=-1)
            yield av.VideoFrame.from_ndarray((127 + 127 * image).astype(np.uint8), format="rgb24")
            step += 1
            time.sleep(1 / 30)


async def main() -> None:
    async with SignalingServer(port=0) as server, Broadcaster(server.url, Plasma(), name="plasma") as broadcaster:
        print(f"watch it at {server.viewer}", flush=True)
        await broadcaster.wait_closed()


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
