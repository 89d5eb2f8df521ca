"""An event loop in a thread of its own serves other threads, and forgets none of them at its end."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from synopticon_rtc.basics import system
from synopticon_rtc.basics.loop import LoopThread


async def nothing() -> None:
    pass


async def number(of: int) -> int:
    await asyncio.sleep(0)
    return of


@pytest.fixture
def make() -> Iterator[Callable[[], LoopThread]]:
    made: list[LoopThread] = []

    def make() -> LoopThread:
        made.append(LoopThread("loop", lambda: RuntimeError("not open")))
        return made[-1]

    yield make
    for thread in made:
        thread.stop(nothing())
    assert "loop" not in [thread.name for thread in threading.enumerate()]


@pytest.fixture
def thread(make: Callable[[], LoopThread]) -> LoopThread:
    thread = make()
    thread.start()
    return thread


def test_threads_get_what_is_returned_and_raised(thread: LoopThread) -> None:
    async def fail() -> None:
        raise LookupError("a bug")

    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(lambda each: thread.run(number(each)), range(100))] == [*range(100)]
    with pytest.raises(LookupError, match="a bug"):
        thread.run(fail())
    assert thread.call(lambda: threading.current_thread().name) == "loop"


def test_nothing_runs_before_the_start_and_after_the_end(make: Callable[[], LoopThread]) -> None:
    thread = make()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not open"):
            thread.run(number(1))
        assert thread.call(threading.current_thread) is threading.current_thread()
        if not thread.begun:
            thread.start()
            thread.stop(nothing())
    thread.stop(nothing())


@pytest.mark.skipif(system.file_limit() is None, reason="there is no limit here")
def test_without_room_for_an_event_loop_it_does_not_start() -> None:
    script = """
import os, resource
from synopticon_rtc.basics.loop import LoopThread
thread = LoopThread("loop", lambda: RuntimeError("not open"))
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
files = []
try:
    while True:
        files.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
try:
    thread.start()
except OSError as error:
    for file in files:
        os.close(file)
    print(error.strerror)
async def nothing():
    pass
thread.stop(nothing())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "Too many open files\n", done.stderr
    assert "never awaited" not in done.stderr


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_ends_its_thread_leaves_nobody_waiting(make: Callable[[], LoopThread]) -> None:
    async def leave() -> None:
        asyncio.get_running_loop().call_soon(sys.exit)
        await asyncio.Event().wait()

    thread = make()
    thread.start()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not open"):
            thread.run(leave())


def test_a_process_that_stops_nothing_ends_all_the_same(thread: LoopThread) -> None:
    assert thread._thread.daemon


def test_its_own_thread_can_read_and_not_wait(thread: LoopThread) -> None:
    def wait() -> None:
        with pytest.raises(RuntimeError, match="a callback cannot wait"):
            thread.run(number(1))
        with pytest.raises(RuntimeError, match="a callback cannot wait"):
            thread.stop(nothing())
        assert thread.call(lambda: 2) == 2

    thread.call(wait)
    assert thread.run(number(3)) == 3


def test_whoever_waits_at_the_end_waits_no_more(make: Callable[[], LoopThread]) -> None:
    async def for_ever() -> None:
        await asyncio.Event().wait()

    for _ in range(20):
        thread = make()
        thread.start()
        with ThreadPoolExecutor(8) as threads:
            waiting = [threads.submit(thread.run, for_ever()) for _ in range(8)]
            thread.stop(nothing())
            assert {str(each.exception(20)) for each in waiting} == {"not open"}


def test_who_is_interrupted_cancels_what_it_waits_for(thread: LoopThread) -> None:
    ended = threading.Event()

    async def wait() -> None:
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        thread.run(wait())
    assert ended.wait(20)


def test_an_iteration_ends_with_what_it_is_of_with_its_consumer_and_with_the_thread(thread: LoopThread) -> None:
    ended: list[str] = []
    waits = threading.Event()

    async def count(name: str, to: int) -> AsyncIterator[int]:
        try:
            for each in range(to):
                yield each
            if name == "endless":
                waits.set()
                await asyncio.Event().wait()
        finally:
            ended.append(name)

    assert [*thread.iterate(count("whole", 3))] == [0, 1, 2]
    for _ in thread.iterate(count("broken off", 3)):
        break
    gc.collect()
    thread.call(lambda: None)  # it is left in the loop's own time
    thread.call(lambda: None)
    assert ended == ["whole", "broken off"]
    with ThreadPoolExecutor(1) as threads:
        items = threads.submit(list, thread.iterate(count("endless", 2)))
        assert waits.wait(20)
        thread.stop(nothing())
        assert items.result(20) == [0, 1]
    assert ended[2:] == ["endless"]
    with pytest.raises(RuntimeError, match="not open"):
        next(thread.iterate(count("late", 1)))
