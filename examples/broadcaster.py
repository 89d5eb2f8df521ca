"""Broadcast a camera, or with --portrait a photograph that moves, and print who watches.

Needs a signaling server: python -m synopticon_rtc.signaling (SYNOPTICON_URL names another). Ctrl-C ends it.
"""

import asyncio
import contextlib
import os
import sys

from synopticon_rtc import Broadcaster, Camera, FaceLandmarker, Portrait, SynopticonError

URL = os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")


async def main() -> None:
    source = Portrait() if "--portrait" in sys.argv else Camera(0)
    async with Broadcaster(URL, source, faces=FaceLandmarker(max_faces=2, matrix=True), name="example") as broadcaster:
        await broadcaster.signaling.wait_open()
        print(f"broadcasting at {URL}", flush=True)
        async for event in broadcaster.events:
            print(f"{event.session} {event.state}: {event.reason}", flush=True)
        await broadcaster.wait_closed()  # says why, where it was an error


with contextlib.suppress(KeyboardInterrupt):
    try:
        asyncio.run(main())
    except SynopticonError as error:
        sys.exit(str(error))
