"""A signaling server, a broadcaster and a receiver in one process. Ctrl-C ends it."""

import asyncio
import contextlib

from synopticon_rtc import Broadcaster, FaceLandmarker, Moment, Portrait, Receiver, SignalingServer

FRAMES = 30


def describe(moment: Moment) -> str:
    if moment.faces:
        x, y, _ = moment.faces[0].landmarks[1]
        return f"nose at {x:.3f}, {y:.3f}"
    return "no face" if moment.detected else "not looked at"


async def main() -> None:
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, Portrait(), faces=FaceLandmarker()),
        Receiver(server.url, timeout=15) as receiver,
    ):
        count = 0
        async for moment in receiver:
            print(f"{moment.frame.width}x{moment.frame.height}", describe(moment), flush=True)
            count += 1
            if count == FRAMES:
                break


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
