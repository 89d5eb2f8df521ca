"""Print where the nose is in each frame of a broadcaster. Ctrl-C ends it; docs/tutorial.md explains it."""

import asyncio
import contextlib

from synopticon_rtc import Receiver


async def main() -> None:
    async with Receiver("ws://localhost:8081/ws") as receiver:
        async for moment in receiver:
            for face in moment.faces:
                x, y, _ = face.landmarks[1]  # the tip of the nose
                print(f"face {face.id}: nose at {x:.0%} of the width, {y:.0%} of the height", flush=True)


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
