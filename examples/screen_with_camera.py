"""Broadcast the camera, and the screen beside it for as long as Enter is not pressed. Ctrl-C ends it.

Run it with `--test` to send test cards in place of both, for a minute.
"""

import asyncio
import contextlib
import sys

from synopticon_rtc import Broadcaster, Camera, FaceLandmarker, Screen, SignalingServer, TestPattern

TEST = "--test" in sys.argv


async def main() -> None:
    camera, faces = (TestPattern((640, 360)), None) if TEST else (Camera(0), FaceLandmarker())
    async with SignalingServer(port=0) as server, Broadcaster(server.url, camera, faces=faces) as broadcaster:
        print(f"watch it at {server.viewer}", flush=True)
        screen = await broadcaster.publish("screen", TestPattern((640, 480), 10) if TEST else Screen())
        if TEST:
            await asyncio.sleep(60)
        else:
            await asyncio.to_thread(input, "Enter takes the screen away. ")
        await screen.unpublish()
        await broadcaster.wait_closed()


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
