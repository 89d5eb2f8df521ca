"""An audience: three receivers and a browser watch one broadcaster, one receiver is killed, the others play on.

The portrait at 1280x720 with faces; the receivers decode, in processes of their own, and say once a second how it goes.
``python -m benchmarks.audience [--quick]``.
"""

import asyncio
import json
import statistics
import sys
from asyncio.subprocess import PIPE, Process

from playwright.async_api import async_playwright

from benchmarks.report import Result, Table, alone

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
RECEIVERS = 3
WARM_UP = 4  # seconds


async def start(module: str, *arguments: str) -> Process:
    """Start a command with ``--json``."""
    command = [sys.executable, "-m", f"synopticon_rtc.{module}", *arguments, "--json"]
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE)


async def follow(process: Process, rates: list[float]) -> None:
    """Collect the frame rates that a receiver tells."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    async for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "stats":
            rates.append(event["fps"])


async def measure(seconds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Frames a second of everybody, before and after one receiver is killed."""
    broadcaster = await start("broadcast", "--source", "portrait", "--serve", "0")
    assert broadcaster.stdout is not None  # noqa: S101 - it is a pipe
    ready = json.loads(await broadcaster.stdout.readline())
    rates: dict[str, list[float]] = {f"receiver {number + 1}": [] for number in range(RECEIVERS)}
    drain = asyncio.create_task(follow(broadcaster, []))
    receivers = [await start("receive", "--url", ready["url"]) for _ in rates]
    following = [
        asyncio.create_task(follow(receiver, told)) for receiver, told in zip(receivers, rates.values(), strict=True)
    ]
    rates["Chromium"] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = await browser.new_page()
        await page.goto(ready["viewer"])

        async def watch(span: int) -> dict[str, list[float]]:
            before = {name: len(told) for name, told in rates.items()}
            for _ in range(span):
                await asyncio.sleep(1)
                rates["Chromium"].append(await page.evaluate("synopticon.fps"))
            return {name: told[before[name] :] for name, told in rates.items()}

        await watch(WARM_UP)
        together = await watch(seconds)
        receivers[0].kill()
        alone = await watch(seconds)
        await browser.close()
    for process in (*receivers, broadcaster):
        if process.returncode is None:
            process.terminate()
        await process.wait()
    await asyncio.gather(drain, *following)
    return together, {name: told for name, told in alone.items() if name != "receiver 1"}


async def run(*, quick: bool) -> Result:
    """Watch, kill one, and watch on."""
    together, alone_left = await measure(4 if quick else 15)
    rows = [
        (f"{when}: {name}", f"{statistics.median(rates):.1f}", f"{min(rates):.1f}")
        for when, told in (("all there", together), ("receiver 1 killed", alone_left))
        for name, rates in told.items()
    ]
    table = Table("Frames a second, portrait with faces", ("", "median", "lowest second"), rows)
    return Result([table], data={"together": together, "receiver 1 killed": alone_left})


if __name__ == "__main__":
    alone(run)
