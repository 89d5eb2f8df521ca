"""Write the landmarks of the first broadcaster that answers to a CSV file: frame, time, face, landmark, x, y, z.

The face is its id: the same from frame to frame for the same face. Needs a broadcaster, like examples/broadcaster.py.
"""

import asyncio
import contextlib
import csv
import os
import sys
from pathlib import Path

from synopticon_rtc import Receiver, SynopticonError

URL = os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")
FRAMES = 100


async def main(path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "captured", "face", "landmark", "x", "y", "z"])
        frame = 0
        print(f"waiting for a broadcaster at {URL}", flush=True)
        async with Receiver(URL, timeout=15) as receiver:
            async for moment in receiver:
                for face in moment.faces:
                    for landmark, (x, y, z) in enumerate(face.landmarks):
                        writer.writerow([frame, moment.captured, face.id, landmark, f"{x:.5f}", f"{y:.5f}", f"{z:.5f}"])
                frame += 1
                if frame == FRAMES:
                    break
    print(f"{frame} frames in {path}")


with contextlib.suppress(KeyboardInterrupt):
    try:
        asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else "landmarks.csv")))
    except (SynopticonError, OSError) as error:
        sys.exit(str(error))
