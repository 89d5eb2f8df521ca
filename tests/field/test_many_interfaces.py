"""Machines with many addresses, and few files that may be open."""

import shlex
import subprocess
import sys

import pytest
from networks import PORT, connect, hosts

pytestmark = pytest.mark.field


def test_a_limit_of_files_is_raised_as_far_as_it_may_be() -> None:
    """The soft limit is what many systems have low; the hard one is what counts."""
    code = (
        "import resource, click; from synopticon_rtc.commands.cli import Command\n"
        "@click.command(cls=Command)\n"
        "async def main(output): print(resource.getrlimit(resource.RLIMIT_NOFILE))\n"
        "main([])"
    )
    limited = f"ulimit -Sn 256; ulimit -Hn 2000; exec {sys.executable} -c '{code}'"
    done = subprocess.run(["/bin/bash", "-c", limited], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "(2000, 2000)"


def test_receivers_come_one_after_another_where_few_files_may_be_open() -> None:
    """Twelve addresses, and room for fewer sockets than all receivers together would gather."""
    with hosts(2) as (one, other):
        for number in range(12):
            connect(one, f"10.77.{number}.1/24", other, f"10.77.{number}.2/24")
        few = f"ulimit -n 72; exec {sys.executable} -m synopticon_rtc.broadcast"
        options = f"--serve 0.0.0.0:{PORT} --insecure --json --faces 0 --source test --size 320x180"
        with one.run_shell(f"{few} {options}") as sending:
            sending.event("ready")
            url = f"ws://10.77.0.1:{PORT}/ws"
            receive = ("synopticon_rtc.receive", "--url", url, "--json", "--interface", "10.77.0.2")
            with (
                other.started(*receive) as first,
                other.started(*receive) as second,
                other.started(*receive) as third,
            ):
                for receiver in (first, second, third):
                    assert receiver.event("stats")["frames"] >= 0
                with other.started(*receive, "--frames", "20") as last:
                    assert last.event("summary")["frames"] == 20
            assert "Traceback" not in sending.errors()


def test_27_receivers_all_get_frames_where_256_files_may_be_open() -> None:
    code = f"""
import asyncio
from synopticon_rtc import Receiver

async def receive():
    async with Receiver("ws://10.77.0.1:{PORT}/ws", interfaces=["10.77.0.2"], timeout=30) as receiver:
        async for _ in receiver:
            print('{{"event": "frame"}}', flush=True)
            await asyncio.Event().wait()  # stays, so that all are there at once

async def main():
    await asyncio.gather(*(receive() for _ in range(27)))

asyncio.run(main())
"""
    with hosts(2) as (one, other):
        for number in range(12):
            connect(one, f"10.77.{number}.1/24", other, f"10.77.{number}.2/24")
        few = f"ulimit -n 256; exec {sys.executable} -m synopticon_rtc.broadcast"
        options = f"--serve 0.0.0.0:{PORT} --insecure --json --faces 0 --source test --size 320x180 --fps 5"
        with one.run_shell(f"{few} {options}") as sending:
            sending.event("ready")
            with other.run_shell(f"exec {sys.executable} -c {shlex.quote(code)}") as receivers:
                for _ in range(27):
                    receivers.event("frame")
            assert "Traceback" not in sending.errors()
