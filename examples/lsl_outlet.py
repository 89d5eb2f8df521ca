"""Give the faces before a camera to the lab streaming layer (LSL), and broadcast them too. Ctrl-C ends it.

With --portrait it takes a photograph that moves instead of the camera. Needs the extra lsl, and a signaling server:
python -m synopticon_rtc.signaling (SYNOPTICON_URL names another). docs/instruments.md tells what is in the stream, and
who can see it.
"""

import asyncio
import contextlib
import os
import sys
import time

from synopticon_rtc import Broadcaster, Camera, FaceLandmarker, LSLOutlet, Portrait, SynopticonError

URL = os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")


async def main() -> None:
    source = Portrait() if "--portrait" in sys.argv else Camera(0)
    faces = FaceLandmarker(blendshapes=True, matrix=True)
    async with LSLOutlet("camera") as outlet, Broadcaster(URL, source, faces=faces, name="camera") as broadcaster:
        print(f"LSL stream {outlet.name}: seen by {outlet.seen_by}", flush=True)
        async for moment in broadcaster.faces:
            outlet.push(moment, None if moment.captured is None else time.time() - moment.captured)
        await broadcaster.wait_closed()  # says why, where it was an error


with contextlib.suppress(KeyboardInterrupt):
    try:
        asyncio.run(main())
    except SynopticonError as error:
        sys.exit(str(error))
