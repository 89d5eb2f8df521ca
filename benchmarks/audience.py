"""An audience: three receivers and a browser watch one broadcaster, one receiver is killed, the others play on.

``python -m benchmarks.audience``. The portrait at 1280x720 with faces; the receivers decode, in processes of their own,
and say once a second how it goes.
"""

import asyncio
import json
import statistics
import sys
from asyncio.subprocess import PIPE, Process

import click
from playwright.async_api import async_playwright
from rich.console import Console
from rich.table import Table

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


@click.command("audience")
@click.option("--seconds", default=10, show_default=True, help="Before the kill, and after it.")
def main(seconds: int) -> None:
    """Measure and print a table."""
    table = Table("", "median fps", "lowest second", title="frames a second, 1280x720 with faces")
    for when, told in zip(("all there", "receiver 1 killed"), asyncio.run(measure(seconds)), strict=True):
        for name, rates in told.items():
            table.add_row(f"{when}: {name}", f"{statistics.median(rates):.1f}", f"{min(rates):.1f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
