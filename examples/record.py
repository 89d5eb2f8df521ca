"""Record the first broadcaster that answers as it was sent, without decoding and encoding it again.

The file is Matroska (.mkv), which takes all that is sent; MP4 takes no VP8. Needs a broadcaster, like
examples/broadcaster.py.
"""

import asyncio
import contextlib
import os
import sys

import av
from av.error import FFmpegError

from synopticon_rtc import EncodedVideoFrame, Receiver, SynopticonError

URL = os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")
FRAMES = 100


def size(frame: EncodedVideoFrame) -> tuple[int, int]:
    """Decode one keyframe: a file says at its beginning how large the pictures are."""
    (picture,) = av.VideoCodecContext.create(frame.codec, "r").decode(frame.packet())
    return picture.width, picture.height


async def main(path: str) -> None:
    print(f"waiting for a broadcaster at {URL}", flush=True)
    async with Receiver(URL, decode=False, timeout=15) as receiver:
        frame = first = (await anext(receiver)).frame
        width, height = size(first)
        with av.open(path, "w") as file:
            try:
                stream = file.add_mux_stream(first.codec, rate=30, width=width, height=height)
            except ValueError:
                sys.exit(f"{path} cannot hold {first.codec}, which the broadcaster sends: choose a name ending in .mkv")
            for _ in range(FRAMES):
                packet = frame.packet(first.pts)
                packet.stream = stream
                file.mux(packet)
                frame = (await anext(receiver)).frame
    print(f"{FRAMES} frames in {path}")


with contextlib.suppress(KeyboardInterrupt):
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "recording.mkv"))
    except (SynopticonError, FFmpegError, OSError) as error:
        sys.exit(str(error))
