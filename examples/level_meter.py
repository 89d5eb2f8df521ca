"""Show how loud a broadcaster is, ten times a second: a receiver that listens. Ctrl-C ends it.

Start `python -m synopticon_rtc.broadcast --audio` first, or `--audio test` without a microphone. SYNOPTICON_URL names
another signaling server than the one on this machine. With a number of seconds it ends by itself.
"""

import asyncio
import contextlib
import math
import os
import sys

import numpy as np

from synopticon_rtc import Receiver

URL = os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")
SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else math.inf
FLOOR, WIDTH = -60, 40  # decibels of full scale that are no bar, and characters of a full one


async def main() -> None:
    heard, pieces = 0.0, []
    async with Receiver(URL, timeout=15) as receiver:
        async for moment in receiver.audio():
            pieces.append(moment.samples)
            if sum(map(len, pieces)) < moment.rate / 10:
                continue
            power = float(np.mean(np.square(np.concatenate(pieces)))) + 1e-12
            heard, pieces = heard + 0.1, []
            decibels = 10 * math.log10(power)
            bar = "#" * round(WIDTH * max(0.0, 1 - decibels / FLOOR))
            print(f"{decibels:6.1f} dB {bar}", flush=True)
            if heard >= SECONDS:
                break


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
