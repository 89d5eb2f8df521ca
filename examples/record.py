"""Record the first broadcaster that answers as it was sent, without decoding and encoding it again."""

import asyncio
import os
import sys

import av

from synopticon_rtc import EncodedVideoFrame, Receiver

URL = os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")
FRAMES = 100


def size(frame: EncodedVideoFrame) -> tuple[int, int]:
    """Decode one keyframe: a file says at its beginning how large the pictures are."""
    (picture,) = av.VideoCodecContext.create(frame.codec, "r").decode(frame.packet())
    return picture.width, picture.height


async def main(path: str) -> None:
    async with Receiver(URL, decode=False, timeout=15) as receiver:
        frame = first = (await anext(receiver)).frame
        width, height = size(first)
        with av.open(path, "w") as file:
            stream = file.add_mux_stream(first.codec, rate=30, width=width, height=height)
            for _ in range(FRAMES):
                packet = frame.packet(first.pts)
                packet.stream = stream
                file.mux(packet)
                frame = (await anext(receiver)).frame
    print(f"{FRAMES} frames in {path}")


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "recording.mkv"))
