"""What a process holds: memory by kind, threads, descriptors, tasks, and what the C library's allocator makes of it."""

import asyncio
import ctypes
import gc
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

MB = 1e6
MALLINFO = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
"""The fields of struct mallinfo2 (mallinfo(3)), bytes but for the counts of blocks."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What this process holds; memory in MB, 0 where the system does not tell.

    Attributes:
        time: When, as time.monotonic() has it.
        cpu: Seconds of CPU time that it took.
        rss: Resident memory.
        anonymous: The part of it that no file backs: what was allocated.
        heap: What glibc has from the system for small pieces, in all its arenas.
        heap_used: The part of it that is in use. What is left is free, and kept: fragments, if it grows.
        mapped: What glibc has mapped for large pieces, each by itself.
        blocks: Pieces of memory that Python's own allocator has given out, a count.
        objects: Objects that the garbage collector knows, a count; -1 where they were not counted.
        tasks: Of the event loop.
        threads: That Python knows.
        native_threads: Of the process.
        descriptors: Open files and sockets.
    """

    time: float
    cpu: float
    rss: float
    anonymous: float
    heap: float
    heap_used: float
    mapped: float
    blocks: int
    objects: int
    tasks: int
    threads: int
    native_threads: int
    descriptors: int


class _Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in MALLINFO]


def holding(*, objects: bool = False) -> Holding:
    """Look at this process, in which an event loop runs.

    Args:
        objects: Count objects too, which takes some 20 ms.
    """
    process = psutil.Process()
    found = _mallinfo()
    return Holding(
        time.monotonic(),
        time.process_time(),
        process.memory_info().rss / MB,
        _anonymous() / MB,
        found.arena / MB,
        found.uordblks / MB,
        found.hblkhd / MB,
        sys.getallocatedblocks(),
        len(gc.get_objects()) if objects else -1,
        len(asyncio.all_tasks()),
        threading.active_count(),
        process.num_threads(),
        process.num_fds(),
    )


def _anonymous() -> int:
    rollup = Path("/proc/self/smaps_rollup")
    if rollup.exists():
        for line in rollup.read_text().splitlines():
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) * 1024
    return 0


def _mallinfo() -> _Mallinfo:
    """Ask glibc, from 2.33 on; all zeros elsewhere."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return _Mallinfo()
    ask.restype = _Mallinfo
    told = ask()
    assert isinstance(told, _Mallinfo)  # noqa: S101 - as said
    return told


def trim() -> None:
    """Have glibc give free pages back to the system: what memory falls by was not leaked, but kept."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
