"""Janus: whether each frame keeps its own faces through its VideoRoom, what it costs beside ours, and how it recovers.

Debian's Janus, of which each measurement starts one. The first part is as in benchmarks/pairing.py, and the link that
loses packets is between Janus and the receiver. Then 20 receivers that count packets, as in benchmarks/fanout.py, once
from Janus and once from our broadcaster, on two cores: one for who sends them, one for the receivers. Last, Janus is
killed and started again. ``python -m benchmarks.janus [--quick]``.
"""

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from urllib.parse import urlencode

import psutil
from aioice.ice import get_host_addresses
from playwright.async_api import async_playwright

from benchmarks.audience import ARGUMENTS, CHROMIUM
from benchmarks.between import Between
from benchmarks.children import ANYWHERE, RECEIVERS, SENDER, Child, child
from benchmarks.fanout import SETTLE, audience
from benchmarks.janus_server import ROOM, JanusServer
from benchmarks.pairing import Paired, bars_of, counted, looked_at
from benchmarks.report import Bar, Result, Table, alone
from synopticon_rtc import Receiver, SignalingServer
from synopticon_rtc.engines.janus_session import PROTOCOL

LOSS = 0.02
CLEAN_PAIRED, LOSSY_PAIRED, PAGE_RIGHT = 0.99, 0.95, 0.95
MANY = 20
BACK_WITHIN = 5.0
"""Seconds from when Janus is back."""


class JanusBetween(Between):
    """A bad link between Janus and a receiver."""

    subprotocols = (PROTOCOL,)

    def rewrite(self, text: str, *, from_receiver: bool) -> str:
        """Put the link in the place of the peer that speaks."""
        message = json.loads(text)
        if "jsep" in message:
            message["jsep"]["sdp"] = self.describe(message["jsep"]["sdp"], from_receiver=from_receiver)
        return json.dumps(message)


@contextlib.asynccontextmanager
async def link(loss: float) -> AsyncIterator[str]:
    """A room in which numbered faces are published, and its address for the receiver behind the link."""
    with JanusServer() as janus:
        async with child("benchmarks.sender", "ours", janus.url(), "numbered", core=ANYWHERE):
            if not loss:
                yield janus.url()
                return
            host, *_ = get_host_addresses(use_ipv4=True, use_ipv6=False)
            async with JanusBetween().open(f"ws://127.0.0.1:{janus.port}", host) as between:
                between.up.loss = between.down.loss = loss
                yield f"janus+{between.url.removesuffix('/ws')}/{ROOM}"


async def python(loss: float, seconds: float) -> Paired:
    """Watch with this package."""
    async with link(loss) as url, Receiver(url) as receiver:
        return await counted(receiver, loss, seconds)


async def chromium(loss: float, seconds: float) -> Paired:
    """Watch with the page for rooms of Janus."""
    async with link(loss) as url, SignalingServer(port=0) as server, async_playwright() as playwright:
        arguments = [*ARGUMENTS, "--disable-features=WebRtcHideLocalIpsWithMdns"]
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = await browser.new_page()
        await page.goto(f"{server.viewer}janus?{urlencode({'room': url})}")
        seen = await looked_at(page, loss, seconds)
        await browser.close()
    return seen


@dataclass(frozen=True, slots=True)
class Cost:
    """What sending to many costs.

    Attributes:
        who: Who sends to them.
        receivers: How many there are.
        fps: Frames a second, of the receiver in the middle.
        cores: CPU time a second of who sends.
        source: The same of the broadcaster, where it is another one.
        lost: Packets that did not arrive.
    """

    who: str
    receivers: int
    fps: float
    cores: float
    source: float
    lost: int


@contextlib.asynccontextmanager
async def _behind_janus() -> AsyncIterator[tuple[Child, Child, psutil.Process]]:
    with JanusServer() as janus:
        assert janus.process is not None  # noqa: S101 - it has been started
        process = psutil.Process(janus.process.pid)
        for thread in process.threads():
            psutil.Process(thread.id).cpu_affinity([SENDER])
        process.cpu_affinity([SENDER])
        async with (
            child("benchmarks.sender", "ours", janus.url(), "reel", core=SENDER) as source,
            child("benchmarks.counting", "janus", janus.url(), core=RECEIVERS) as crowd,
        ):
            await asyncio.sleep(SETTLE)  # until it is published
            yield source, crowd, process


async def cost(who: str, count: int, seconds: float) -> Cost:
    """Measure what it takes to send to so many."""
    async with contextlib.AsyncExitStack() as stack:
        process: psutil.Process | None = None
        if who == "Janus":
            source, crowd, process = await stack.enter_async_context(_behind_janus())
        else:
            _, source, crowd = await stack.enter_async_context(audience("ours"))
        await crowd.ask("join", count=count)
        await asyncio.sleep(SETTLE)
        begun, before = await asyncio.gather(source.ask("usage"), crowd.ask("totals"))
        took = -_cpu(process)
        await asyncio.sleep(seconds)
        took += _cpu(process)
        ended, after = await asyncio.gather(source.ask("usage"), crowd.ask("totals"))
    span, watched = ended["time"] - begun["time"], after["time"] - before["time"]
    frames = [now - then for then, now in zip(before["frames"], after["frames"], strict=True)]
    ours = (ended["cpu"] - begun["cpu"]) / span
    return Cost(
        who,
        count,
        fps=statistics.median(frames) / watched,
        cores=ours if process is None else took / span,
        source=0.0 if process is None else ours,
        lost=round(sum(after["lost"]) - sum(before["lost"])),
    )


def _cpu(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)


async def recovery(times: int) -> list[float]:
    """Seconds from when a Janus that was killed is back until a receiver has a picture, each time."""
    found = []
    with JanusServer() as janus:
        async with (
            child("benchmarks.sender", "ours", janus.url(), "numbered", core=ANYWHERE),
            Receiver(janus.url()) as one,
        ):
            moments = aiter(one)
            for _ in range(times):
                for _ in range(30):
                    await anext(moments)
                janus.kill()
                await asyncio.sleep(2)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await anext(moments)  # one that was there yet
                await asyncio.to_thread(janus.start)
                back = time.monotonic()
                await anext(moments)
                found.append(time.monotonic() - back)
    return found


def _least(one: Paired) -> float:
    return PAGE_RIGHT if one.who == "Chromium" else LOSSY_PAIRED if one.loss else CLEAN_PAIRED


async def run(*, quick: bool) -> Result:
    """Measure one after the other."""
    seconds = 6.0 if quick else 60.0
    paired = [await python(loss, seconds) for loss in (0.0, LOSS)]
    paired.append(await chromium(0.0, seconds))
    costs = [await cost(who, count, 3 if quick else 15) for count in (1, MANY) for who in ("Janus", "ours")]
    back = await recovery(2 if quick else 5)
    columns = ("", "frames", "fps", "paired", "wrong", "unread")
    rows = [
        (
            f"{one.who}, {one.loss:.0%} loss",
            str(one.frames),
            f"{one.fps:.1f}",
            f"{one.share:.2%}",
            str(one.wrong),
            str(one.unread),
        )
        for one in paired
    ]
    pairs = Table("Frames with their own faces, through Janus", columns, rows)
    each = {
        who: (last.cores - first.cores) / (last.receivers - first.receivers)
        for who in ("Janus", "ours")
        for first, last in [[one for one in costs if one.who == who]]
    }
    columns = ("", "receivers", "fps", "cores", "cores of the source", "lost")
    rows = [
        (one.who, str(one.receivers), f"{one.fps:.1f}", f"{one.cores:.3f}", f"{one.source:.3f}", str(one.lost))
        for one in costs
    ]
    notes = [f"{who}: {1e3 * cores:.2f} ms of CPU time a second for each receiver more" for who, cores in each.items()]
    spent = Table("20 receivers that count packets, 1280x720 at 30 fps, VP8 at 1.5 Mbit/s", columns, rows, notes)
    slowest = max(back)
    bars = [
        *(bar for one in paired for bar in bars_of(one, _least(one))),
        Bar(f"picture {slowest:.1f} s after Janus is back; within {BACK_WITHIN:g} s", slowest <= BACK_WITHIN),
    ]
    data = {"paired": [asdict(one) for one in paired], "cost": [asdict(one) for one in costs], "back": back}
    return Result([pairs, spent], bars, data=data)


if __name__ == "__main__":
    alone(run)
