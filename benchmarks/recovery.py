"""Recovery: how soon a receiver notices that its broadcaster was killed, and has a picture again once it is back.

Signaling server, broadcaster and receiver are processes of their own. Beside it, a plain aiortc receiver whose
broadcaster is killed; and the gaps between the frames of a running stream while the signaling server is killed and
started again. ``python -m benchmarks.recovery [--quick]``.
"""

import asyncio
import itertools
import socket
import statistics
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence

from aiortc import MediaStreamTrack, RTCPeerConnection
from websockets.asyncio.client import connect

from benchmarks import plain
from benchmarks.report import Bar, Result, Table, alone
from synopticon_rtc import Receiver
from synopticon_rtc.events import StateEvent

STREAM = 3.0  # seconds of stream before anything is killed
PATIENCE = 90.0  # seconds
KILLED = "broadcaster killed: interrupted"
BACK = "broadcaster back: first frame"
GAP = "signaling killed and back: longest gap between frames"
MOST = {KILLED: 3.0, BACK: 5.0, GAP: 0.2}
"""Seconds that we promise."""


async def start(*arguments: str) -> Process:
    """Start a process and wait for its first line."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", *arguments, stdout=PIPE)
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    await process.stdout.readline()
    return process


async def end(process: Process) -> None:
    """Kill a process, and read what it has said, lest it waits for us."""
    if process.returncode is None:
        process.kill()
    await process.communicate()


def free_port() -> str:
    """A port for the signaling server, the same each time it starts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def ours(url: str) -> Sequence[str]:
    """The command line of our broadcaster."""
    return ["synopticon_rtc.broadcast", "--url", url, "--source", "test", "--faces", "0"]


async def broadcaster_killed(url: str) -> tuple[float, float]:
    """Seconds from the kill to ``interrupted``, and from the return of the broadcaster to the next frame."""
    broadcaster = await start(*ours(url))
    interrupted = asyncio.Event()
    frame = asyncio.Event()

    def changed(event: StateEvent) -> None:
        if event.state == "interrupted":
            interrupted.set()

    async def consume(receiver: Receiver) -> None:
        async for _ in receiver:
            frame.set()

    async with Receiver(url) as receiver, asyncio.timeout(PATIENCE):
        receiver.events.subscribe(changed)
        consuming = asyncio.create_task(consume(receiver))
        await frame.wait()
        await asyncio.sleep(STREAM)
        broadcaster.kill()
        killed = time.perf_counter()
        await interrupted.wait()
        noticed = time.perf_counter() - killed
        await end(broadcaster)
        frame.clear()
        broadcaster = await start(*ours(url))
        back = time.perf_counter()
        await frame.wait()
        seconds = time.perf_counter() - back
        consuming.cancel()
    await end(broadcaster)
    return noticed, seconds


async def plain_broadcaster_killed(url: str) -> float:
    """Seconds from the kill until a plain aiortc receiver's connection is over."""
    broadcaster = await start("benchmarks.plain", url)
    over = asyncio.Event()
    first = asyncio.Event()
    connection = RTCPeerConnection(plain.configuration(None))

    @connection.on("connectionstatechange")
    def on_change() -> None:
        if connection.connectionState in ("failed", "closed"):
            over.set()

    @connection.on("track")
    async def on_track(track: MediaStreamTrack) -> None:
        await track.recv()
        first.set()

    async with connect(url) as signaling, asyncio.timeout(PATIENCE):
        await signaling.recv()
        await plain.answer(connection, signaling)
        await first.wait()
        await asyncio.sleep(STREAM)
        broadcaster.kill()
        killed = time.perf_counter()
        await over.wait()
    await connection.close()
    await end(broadcaster)
    return time.perf_counter() - killed


async def signaling_killed(port: str) -> tuple[float, float]:
    """The longest gap between frames around the kill and return of signaling, and seconds until it is used again."""
    url = f"ws://127.0.0.1:{port}/ws"
    server = await start("synopticon_rtc.signaling", "--port", port)
    broadcaster = await start(*ours(url))
    times: list[float] = []

    def note() -> None:
        times.append(time.perf_counter())

    async def consume(receiver: Receiver) -> None:
        async for _ in receiver:
            note()

    async with Receiver(url) as receiver, asyncio.timeout(PATIENCE):
        consuming = asyncio.create_task(consume(receiver))
        await asyncio.sleep(STREAM)
        times.clear()
        await end(server)
        await asyncio.sleep(STREAM)
        server = await start("synopticon_rtc.signaling", "--port", port)
        back = time.perf_counter()
        async with Receiver(url) as another:
            async for _ in another:
                break
        found = time.perf_counter() - back
        await asyncio.sleep(STREAM)
        consuming.cancel()
    await end(broadcaster)
    await end(server)
    return max(later - earlier for earlier, later in itertools.pairwise(times)), found


async def measure(runs: int, plain_runs: int) -> dict[str, list[float]]:
    """Seconds, by what was measured."""
    results: dict[str, list[float]] = {
        KILLED: [],
        BACK: [],
        "plain aiortc, broadcaster killed: connection over": [],
        GAP: [],
        "signaling back: a new receiver has a picture": [],
    }
    noticed, frame, over, gap, found = results.values()
    port = free_port()
    url = f"ws://127.0.0.1:{port}/ws"
    for run in range(runs):
        server = await start("synopticon_rtc.signaling", "--port", port)
        for seconds, into in zip(await broadcaster_killed(url), (noticed, frame), strict=True):
            into.append(seconds)
        if run < plain_runs:
            over.append(await plain_broadcaster_killed(url))
        await end(server)
        for seconds, into in zip(await signaling_killed(port), (gap, found), strict=True):
            into.append(seconds)
    return results


async def run(*, quick: bool) -> Result:
    """Kill, and measure; plain aiortc once, as it takes half a minute to notice."""
    runs = 1 if quick else 5
    results = await measure(runs, 1)
    rows = [
        (name, str(len(seconds)), f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}")
        for name, seconds in results.items()
    ]
    bars = [
        Bar(f"{name}: at most {max(results[name]):.2f} s; at most {most:g}", max(results[name]) <= most)
        for name, most in MOST.items()
    ]
    return Result([Table("Recovery, s", ("", "runs", "median", "most"), rows)], bars, data=results)


if __name__ == "__main__":
    alone(run)
