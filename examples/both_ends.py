"""A signaling server, a broadcaster and a receiver in one process."""

import asyncio

from synopticon_rtc import Broadcaster, FaceLandmarker, Portrait, Receiver, SignalingServer

FRAMES = 60


async def main() -> None:
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, Portrait(), faces=FaceLandmarker()),
        Receiver(server.url, timeout=15) as receiver,
    ):
        count = 0
        async for moment in receiver:
            nose = moment.faces[0].landmarks[1] if moment.faces else None
            print(f"{moment.frame.width}x{moment.frame.height}", "no face" if nose is None else f"nose at {nose[:2]}")
            count += 1
            if count == FRAMES:
                break


asyncio.run(main())
