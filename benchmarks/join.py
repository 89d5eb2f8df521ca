"""Join: from the first discovery message to the first decoded frame.

Ours and plain aiortc by turns, broadcaster and receiver in processes of their own, 1280x720 at 30 fps, VP8, over this
machine's own address; each with no STUN server, and with one that never answers. ``python -m benchmarks.join``.
"""

import asyncio
import contextlib
import socket
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator

from benchmarks import plain
from benchmarks.report import WHO, Bar, Result, Table, alone, percentile
from synopticon_rtc import IceServer, Receiver, SignalingServer

PAUSE = 0.3
"""Seconds for the broadcaster to forget the last receiver."""
MEDIAN_MS, P95_MS = 80.0, 150.0
STUN_SHARE = 1.2
"""How much longer a join may take where a STUN server does not answer."""


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


JOINS: dict[str, Callable[[str, str | None], Awaitable[float]]] = {"ours": ours, "plain": plain.join}
"""How to join once: seconds to the first frame, from a signaling server and perhaps a STUN server."""


async def measure(runs: int) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of each join, by who and with what STUN server."""
    results: dict[tuple[str, str], list[float]] = {}
    with silent_stun() as stun, contextlib.ExitStack() as stack:
        async with contextlib.AsyncExitStack() as servers:
            cases = []
            for server in (None, stun):
                for who in WHO:
                    url = (await servers.enter_async_context(SignalingServer(port=0))).url
                    command = ["benchmarks.plain", url, *([server] if server else [])]
                    if who == "ours":
                        command = ["synopticon_rtc.broadcast", "--url", url, "--source", "test", "--faces", "0"]
                        command += ["--ice-server", server] if server else []
                    await asyncio.to_thread(stack.enter_context, process(*command))
                    cases.append((who, "silent" if server else "no", url, server))
            for _ in range(runs):
                for who, how, url, server in cases:
                    results.setdefault((who, how), []).append(1e3 * await JOINS[who](url, server))
                    await asyncio.sleep(PAUSE)
    return results


async def run(*, quick: bool) -> Result:
    """Measure joins by turns."""
    runs = 2 if quick else 20
    results = await measure(runs)
    rows = [
        (
            f"{WHO[who]}, {how} STUN server",
            *(f"{value:.0f}" for value in (statistics.median(took), percentile(took, 95), min(took), max(took))),
        )
        for (who, how), took in results.items()
    ]
    table = Table(f"Seek to first decoded frame, ms, {runs} joins each", ("", "median", "p95", "least", "most"), rows)
    median, silent = (statistics.median(results["ours", how]) for how in ("no", "silent"))
    most = percentile(results["ours", "no"], 95)
    bars = [
        Bar(f"median {median:.0f} ms; at most {MEDIAN_MS:g}", median <= MEDIAN_MS),
        Bar(f"p95 {most:.0f} ms; at most {P95_MS:g}", most <= P95_MS),
        Bar(
            f"with a silent STUN server {silent:.0f} ms; at most {STUN_SHARE:g} times {median:.0f}",
            silent <= STUN_SHARE * median,
        ),
    ]
    return Result([table], bars, data={f"{who}, {how} STUN server": took for (who, how), took in results.items()})


if __name__ == "__main__":
    alone(run)
