"""Record the first broadcaster that answers, and then tell what is in the file: ``python examples/record.py talk.mkv``.

Video and sound are written as they were sent, and the faces of each frame into the same file. Needs a broadcaster, like
examples/broadcaster.py.
"""

import asyncio
import contextlib
import os
import sys

from synopticon_rtc import Receiver, Recorder, Recording, SynopticonError

URL = os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")
FRAMES = 100


async def main(path: str) -> None:
    print(f"waiting for a broadcaster at {URL}", flush=True)
    async with Receiver(URL, decode=False, timeout=15) as receiver, Recorder(path, receiver):
        for _ in range(FRAMES):
            await anext(receiver)
    async with Recording(path) as recording:
        faces = [len(moment.faces) async for moment in recording]
    print(f"{len(faces)} frames in {path}, {sum(map(bool, faces))} of them with a face")


with contextlib.suppress(KeyboardInterrupt):
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "recording.mkv"))
    except SynopticonError as error:
        sys.exit(str(error))
