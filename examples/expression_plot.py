"""Plot how far the mouth is open and where the head turns, over ten seconds, to a PNG file. Needs matplotlib."""

import asyncio
import os
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

from synopticon_rtc import Receiver

mpl.use("Agg")
import matplotlib.pyplot as plt

URL = os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")
SECONDS = 10
UPPER_LIP, LOWER_LIP = 13, 14
FOREHEAD, CHIN = 10, 152
RIGHT_CHEEK, NOSE_TIP, LEFT_CHEEK = 234, 1, 454


def mouth_opening(points: npt.NDArray[np.float32]) -> float:
    """Gap between the lips over the height of the face."""
    gap = np.linalg.norm(points[UPPER_LIP] - points[LOWER_LIP])
    return float(gap / np.linalg.norm(points[FOREHEAD] - points[CHIN]))


def head_turn(points: npt.NDArray[np.float32]) -> float:
    """Degrees by which the line from cheek to cheek leaves the plane of the picture; 0 looks at the camera."""
    across = points[LEFT_CHEEK] - points[RIGHT_CHEEK]
    return float(np.degrees(np.arctan2(across[2], across[0])))


async def record() -> list[tuple[float, float, float]]:
    rows = []
    loop = asyncio.get_running_loop()
    async with Receiver(URL, timeout=15) as receiver:
        begun = None
        async for moment in receiver:
            begun = begun or loop.time()
            elapsed = loop.time() - begun
            if elapsed > SECONDS:
                break
            if moment.faces:
                size = np.array([moment.frame.width, moment.frame.height, moment.frame.width], np.float32)
                points = moment.faces[0].landmarks * size
                rows.append((elapsed, mouth_opening(points), head_turn(points)))
    return rows


def plot(rows: list[tuple[float, float, float]], path: Path) -> None:
    seconds, mouth, turn = np.array(rows).T
    figure, (above, below) = plt.subplots(2, sharex=True, figsize=(8, 5), layout="constrained")
    above.plot(seconds, mouth, color="tab:red")
    above.set_ylabel("mouth opening\n(of face height)")
    below.plot(seconds, turn, color="tab:blue")
    below.set_ylabel("head turn (degrees)")
    below.set_xlabel("seconds")
    figure.savefig(path, dpi=120)
    print(f"{len(rows)} faces in {path}")


plot(asyncio.run(record()), Path(sys.argv[1] if len(sys.argv) > 1 else "expression.png"))
