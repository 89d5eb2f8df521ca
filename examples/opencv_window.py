"""Show a broadcaster in a window of OpenCV, with the meshes of its faces: a plain loop, without asyncio. q ends it.

With the name of a file it writes a film of 100 frames instead, or of as many as a second word says. SYNOPTICON_URL
names another signaling server than the one on this machine.
"""

import contextlib
import os
import sys
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from synopticon_rtc import SynopticonError, draw_faces, sync

URL = os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")


def pictures() -> Iterator[npt.NDArray[np.uint8]]:
    print(f"waiting for a broadcaster at {URL}", flush=True)
    with sync.Receiver(URL, timeout=15) as receiver:
        for moment in receiver:
            yield draw_faces(np.asarray(moment.frame.to_ndarray(format="bgr24"), np.uint8), moment.faces)


def show() -> None:
    for picture in pictures():
        cv2.imshow(URL, picture)
        if cv2.waitKey(1) == ord("q"):
            break


def write(path: str, count: int) -> None:
    film = None
    for number, picture in enumerate(pictures(), 1):
        height, width, _ = picture.shape
        film = film or cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 30, (width, height))
        film.write(picture)
        if number == count:
            break
    if film is not None:
        film.release()


with contextlib.suppress(KeyboardInterrupt):
    try:
        if sys.argv[1:]:
            write(sys.argv[1], int((*sys.argv, "100")[2]))
        else:
            show()
    except SynopticonError as error:
        sys.exit(str(error))
