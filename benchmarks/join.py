"""Join: from the first discovery message to the first decoded frame, ours and plain aiortc by turns.

``python -m benchmarks.join [--runs 20]``. Broadcaster and receiver are processes of their own, 1280x720 at 30 fps, VP8,
over this machine's own address; each with no STUN server, and with one that never answers.
"""

import asyncio
import contextlib
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import click
from rich.console import Console
from rich.table import Table

from benchmarks import plain
from synopticon_rtc import IceServer, Receiver, SignalingServer

PAUSE = 0.3  # seconds for the broadcaster to forget the last receiver


@contextlib.contextmanager
def silent_stun() -> Iterator[str]:
    """A STUN server on this machine that takes every question and answers none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((socket.gethostbyname(socket.gethostname()), 0))
        host, port = server.getsockname()
        yield f"stun:{host}:{port}"


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[None]:
    """A broadcaster, from its first line of output to the end of the block."""
    child = subprocess.Popen([sys.executable, "-m", *arguments], stdout=subprocess.PIPE)
    assert child.stdout is not None  # noqa: S101 - it is a pipe
    try:
        child.stdout.readline()
        yield
    finally:
        child.terminate()
        child.communicate()


async def ours(url: str, stun: str | None) -> float:
    """Join once with this package."""
    servers = [IceServer(stun)] if stun else []
    async with Receiver(url, ice_servers=servers) as receiver:
        async for _ in receiver:
            break
        return receiver.stats.first_frame or 0.0


async def measure(runs: int) -> dict[str, list[float]]:
    """Seconds of each join, by who and how."""
    results: dict[str, list[float]] = {}
    with silent_stun() as stun, contextlib.ExitStack() as stack:
        async with contextlib.AsyncExitStack() as servers:
            cases = []
            for server in (None, stun):
                how = "silent STUN server" if server else "no STUN server"
                for who in ("synopticon-rtc", "plain aiortc"):
                    url = (await servers.enter_async_context(SignalingServer(port=0))).url
                    command = ["benchmarks.plain", url, *([server] if server else [])]
                    if who == "synopticon-rtc":
                        command = ["synopticon_rtc.broadcast", "--url", url, "--source", "test", "--faces", "0"]
                        command += ["--ice-server", server] if server else []
                    await asyncio.to_thread(stack.enter_context, process(*command))
                    cases.append((f"{who}, {how}", ours if who == "synopticon-rtc" else plain.join, url, server))
            for _ in range(runs):
                for name, join, url, server in cases:
                    results.setdefault(name, []).append(await join(url, server))
                    await asyncio.sleep(PAUSE)
    return results


@click.command("join")
@click.option("--runs", default=20, show_default=True, help="Joins of each kind.")
def main(runs: int) -> None:
    """Measure joins and print a table."""
    begun = time.perf_counter()
    results = asyncio.run(measure(runs))
    table = Table(title=f"seek to first decoded frame, ms, {runs} runs, {time.perf_counter() - begun:.0f} s")
    for column in ("", "median", "p95", "least", "most"):
        table.add_column(column, justify="left" if not column else "right")
    for name, seconds in results.items():
        ms = sorted(1000 * value for value in seconds)
        p95 = ms[min(len(ms) - 1, round(0.95 * (len(ms) - 1)))]
        table.add_row(name, *(f"{value:.0f}" for value in (statistics.median(ms), p95, ms[0], ms[-1])))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
