"""Plot how far the mouth is open and where the head turns, over ten seconds, to a PNG file. Needs matplotlib.

A second argument says for how many seconds: expression_plot.py expression.png 60.
The head's turn is that of `Face.pose`, for which the broadcaster has to look: FaceLandmarker(matrix=True), as in
examples/broadcaster.py, or python -m synopticon_rtc.broadcast --matrix.
"""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

from synopticon_rtc import Receiver, SynopticonError

mpl.use("Agg")
import matplotlib.pyplot as plt

URL = os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")
SECONDS = float(next(iter(sys.argv[2:]), 10))
UPPER_LIP, LOWER_LIP = 13, 14
FOREHEAD, CHIN = 10, 152


def mouth_opening(points: npt.NDArray[np.float32]) -> float:
    """Gap between the lips over the height of the face."""
    gap = np.linalg.norm(points[UPPER_LIP] - points[LOWER_LIP])
    return float(gap / np.linalg.norm(points[FOREHEAD] - points[CHIN]))


async def record() -> list[tuple[float, float, float]]:
    rows = []
    loop = asyncio.get_running_loop()
    print(f"watching faces for {SECONDS:g} s at {URL}", flush=True)
    async with Receiver(URL, timeout=15) as receiver:
        begun = None
        async for moment in receiver:
            begun = begun or loop.time()
            elapsed = loop.time() - begun
            if elapsed > SECONDS:
                break
            if moment.faces:
                face = moment.faces[0]
                turn = face.pose.yaw if face.pose else np.nan
                rows.append((elapsed, mouth_opening(face.to_pixels(moment.frame.width, moment.frame.height)), turn))
    return rows


def plot(rows: list[tuple[float, float, float]], path: Path) -> None:
    if not rows:
        sys.exit(f"no face was seen in {SECONDS:g} s")
    seconds, mouth, turn = np.array(rows).T
    if np.isnan(turn).all():
        print("the broadcaster does not tell how the head turns: it needs FaceLandmarker(matrix=True)")
    figure, (above, below) = plt.subplots(2, sharex=True, figsize=(8, 5), layout="constrained")
    above.plot(seconds, mouth, color="tab:red")
    above.set_ylabel("mouth opening\n(of face height)")
    below.plot(seconds, turn, color="tab:blue")
    below.set_ylabel("head turn (degrees,\nto the person's left)")
    below.set_xlabel("seconds")
    figure.savefig(path, dpi=120)
    print(f"{len(rows)} faces in {path}")


with contextlib.suppress(KeyboardInterrupt):
    try:
        plot(asyncio.run(record()), Path(sys.argv[1] if len(sys.argv) > 1 else "expression.png"))
    except (SynopticonError, OSError) as error:
        sys.exit(str(error))
