"""The processes of a benchmark: each on its core, each doing what it is asked."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import psutil

LINE = 64 * 1024 * 1024
"""Most bytes of an answer."""
PATIENCE = 10.0
"""Seconds in which a child must end."""

_cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
SENDER = _cores[0]
"""The core of the sender, alone."""
RECEIVERS = _cores[-1]
"""The core of the receivers, and of all else."""
ANYWHERE = -1
"""No core in particular."""


def pin(core: int) -> None:
    """Keep this process on one core, where the system allows that and has more than one."""
    if core != ANYWHERE and hasattr(os, "sched_setaffinity") and len(_cores) > 1:
        os.sched_setaffinity(0, {core})


def unpin() -> None:
    """Let this process run everywhere again."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, _cores)


class Child:
    """A process that answers questions, one after the other."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._lock = asyncio.Lock()

    async def ask(self, what: str, **arguments: Any) -> Any:  # noqa: ANN401 - as JSON has it
        """Have the child do something, and return what it says."""
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        async with self._lock:
            self.process.stdin.write(json.dumps({"what": what, "arguments": arguments}).encode() + b"\n")
            line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"a process of the benchmark ended at {what!r}, with exit code {self.process.returncode}"
            )
        return json.loads(line)

    def rss(self) -> int:
        """Bytes of memory that the child holds."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def send_signal(self, number: signal.Signals) -> None:
        """Send the child a signal."""
        self.process.send_signal(number)


@contextlib.asynccontextmanager
async def child(module: str, *arguments: str, core: int) -> AsyncIterator[Child]:
    """Run a module that calls :func:`serve`, from when it is ready to the end of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, str(core), *arguments, stdin=PIPE, stdout=PIPE, limit=LINE
    )
    started = Child(process)
    try:
        await started.ask("hello")
        yield started
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await ended(process)


async def ended(process: asyncio.subprocess.Process) -> None:
    """Wait for the end of a process that was told to end, and kill it if it does not."""
    try:
        async with asyncio.timeout(PATIENCE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def serve(**handlers: Callable[..., Awaitable[Any]]) -> NoReturn:
    """Be a child: do what is asked until nobody can ask any more, then end the process.

    It ends at once: hundreds of connections take long to close, and nobody waits for that.
    """
    loop = asyncio.get_running_loop()
    questions = asyncio.StreamReader(LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    while line := await questions.readline():
        question = json.loads(line)
        answer = None
        if question["what"] != "hello":
            answer = await handlers[question["what"]](**question["arguments"])
        print(json.dumps(answer), flush=True)
    os._exit(0)
