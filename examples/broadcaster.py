"""Broadcast a camera, or with --portrait a photograph that moves, and print who watches.

Needs a signaling server: python -m synopticon_rtc.signaling
"""

import asyncio
import os
import sys

from synopticon_rtc import Broadcaster, Camera, FaceLandmarker, Portrait

URL = os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")


async def main() -> None:
    source = Portrait() if "--portrait" in sys.argv else Camera(0)
    async with Broadcaster(URL, source, faces=FaceLandmarker(max_faces=2), name="example") as broadcaster:
        print(f"broadcasting at {URL}")
        async for event in broadcaster.events:
            print(f"{event.session} {event.state}: {event.reason}")
        await broadcaster.wait_closed()  # says why, where it was an error


asyncio.run(main())
