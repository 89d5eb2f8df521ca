"""Draw how far the mouth is open while it happens, over the last ten seconds. Close the window to end it.

With the name of a file and a number of frames it writes a picture of these instead: live_plot.py mouth.png 60. Needs
matplotlib, and a broadcaster; SYNOPTICON_URL names another signaling server than the one on this machine.
"""

import contextlib
import os
import sys
from collections import deque

import matplotlib.pyplot as plt
import numpy as np

from synopticon_rtc import Face, SynopticonError, sync

URL = os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")
PATH, FRAMES = (sys.argv[1], int(sys.argv[2])) if sys.argv[2:] else (None, None)
UPPER_LIP, LOWER_LIP, FOREHEAD, CHIN = 13, 14, 10, 152
SECONDS = 10


def mouth_opening(face: Face, width: int, height: int) -> float:
    """Gap between the lips over the height of the face."""
    points = face.to_pixels(width, height)
    gap = np.linalg.norm(points[UPPER_LIP] - points[LOWER_LIP])
    return float(gap / np.linalg.norm(points[FOREHEAD] - points[CHIN]))


def main() -> None:
    if PATH:
        plt.switch_backend("Agg")
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    (curve,) = axes.plot([], [])
    axes.set(xlabel="seconds", ylabel="mouth opening\n(of face height)", ylim=(0, 0.4))
    seen: deque[tuple[float, float]] = deque()
    print(f"waiting for a broadcaster at {URL}", flush=True)
    with sync.Receiver(URL, timeout=15) as receiver:
        for number, moment in enumerate(receiver, 1):
            frame = moment.frame
            value = mouth_opening(moment.faces[0], frame.width, frame.height) if moment.faces else np.nan
            seen.append((frame.time or 0.0, value))
            while seen[-1][0] - seen[0][0] > SECONDS:
                seen.popleft()
            curve.set_data(*zip(*seen, strict=True))
            axes.set_xlim(seen[-1][0] - SECONDS, seen[-1][0])
            if number == FRAMES:
                figure.savefig(str(PATH))
                break
            if not PATH:
                plt.pause(0.001)  # draws, and lets the window hear of clicks
                if not plt.fignum_exists(figure.number):
                    break


with contextlib.suppress(KeyboardInterrupt):
    try:
        main()
    except SynopticonError as error:
        sys.exit(str(error))
