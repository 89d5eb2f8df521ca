"""Show a broadcaster in Rerun: its video as it was sent, the landmarks on it, and curves of a few blendshapes.

Needs Rerun (pip install rerun-sdk), and a broadcaster that sends what Rerun can show, with
python -m synopticon_rtc.broadcast --codec h264 --blendshapes. Start its viewer by rerun --bind 127.0.0.1, as else other
machines can look too; or give the name of a file, into which 1800 frames are written, or as many as a second word says.
SYNOPTICON_URL names another signaling server than the one on this machine.
"""

import asyncio
import contextlib
import math
import os
import sys

import av
import rerun as rr

from synopticon_rtc import EncodedVideoFrame, Moment, Receiver, SynopticonError

URL = os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")
CURVES = "jawOpen", "mouthSmileLeft", "eyeBlinkLeft", "browInnerUp"


def size(frame: EncodedVideoFrame) -> tuple[int, int]:
    """Decode a keyframe, as nothing else says how large the pictures are."""
    (picture,) = av.VideoCodecContext.create(frame.codec, "r").decode(frame.packet())
    return picture.width, picture.height


def show(moment: Moment[EncodedVideoFrame], seconds: float, width: int, height: int) -> None:
    """Give Rerun what is known of a frame."""
    rr.set_time("video", duration=seconds)
    rr.log("video", rr.VideoStream.from_fields(sample=moment.frame.data))
    if moment.detected:
        rr.log("video/faces", rr.Points2D([face.to_pixels(width, height)[:, :2] for face in moment.faces], radii=1))
    for face in moment.faces[:1]:
        for name in CURVES:
            rr.log(f"blendshapes/{name}", rr.Scalars(face.blendshapes.get(name, math.nan)))


async def main(count: float) -> None:
    print(f"waiting for a broadcaster at {URL}", flush=True)
    async with Receiver(URL, decode=False, timeout=15, faces_wait=0.5) as receiver:
        first, width, height = None, 0, 0
        async for moment in receiver:
            frame = moment.frame
            if frame.codec != "h264":
                sys.exit(f"Rerun shows no {frame.codec}: start the broadcaster with --codec h264")
            if first is None:
                first = frame.pts
                rr.log("video", rr.VideoStream(codec=rr.VideoCodec.H264), static=True)
            if frame.keyframe:
                width, height = size(frame)
            show(moment, (frame.pts - first) / 90_000, width, height)
            count -= 1
            if count <= 0:
                break


rr.init("synopticon")
if sys.argv[1:]:
    rr.save(sys.argv[1])
else:
    rr.connect_grpc()
with contextlib.suppress(KeyboardInterrupt):
    try:
        asyncio.run(main(float((*sys.argv, "1800")[2]) if sys.argv[1:] else math.inf))
    except SynopticonError as error:
        sys.exit(str(error))
