import ctypes
import re
import subprocess
import sys
from collections.abc import Sequence

import pytest

from synopticon_rtc.commands import memory as memory_module

FREED_AND_TAKEN_AGAIN = """
import ctypes, runpy, sys

class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "mapped", "usmblks",
                                                     "fsmblks", "uordblks", "fordblks", "keepcost")]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo
if sys.argv[1] == "set":
    runpy.run_path(sys.argv[2])["map_large_pieces"]((1280, 720))
for size in (int(size) for size in sys.argv[3:]):
    before = mallinfo().mapped
    piece = bytearray(size)
    print(mallinfo().mapped - before >= size)
    del piece
"""
EACH_IN_A_THREAD = """
import ctypes, runpy, sys, threading

if sys.argv[1] == "set":
    runpy.run_path(sys.argv[2])["share_heaps"]()
malloc, barrier = ctypes.CDLL(None).malloc, threading.Barrier(8)

def work():
    malloc(100_000)
    barrier.wait()

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ctypes.CDLL(None).malloc_stats()
"""
IMPORTED, FOUND_AFTER = 200_000, 20_000
"""Objects that were there before, and how many new ones it takes until garbage is found."""
CONNECTION_ENDED = f"""
import gc, runpy, sys, weakref

class Connection:
    pass

imported = [[] for _ in range({IMPORTED})]
gc.collect()
if sys.argv[1] == "set":
    runpy.run_path(sys.argv[2])["collect_often"]()
else:
    gc.freeze()
connection = Connection()
connection.itself = connection
gc.collect(1)  # it is old by now
ended = weakref.ref(connection)
del connection
new = []
while ended() is not None and len(new) < {2 * FOUND_AFTER}:
    new.append([])
print(len(new))
"""
WITH_RECEIVERS = """
import asyncio, gc, time
from synopticon_rtc import Broadcaster, Receiver, SignalingServer, TestPattern
from synopticon_rtc.commands.memory import collect_often

async def watch(url, ready):
    async with Receiver(url) as receiver:
        async for moment in receiver.moments():
            ready.set()

async def main():
    async with SignalingServer(port=0) as server, Broadcaster(server.url, TestPattern((320, 240), 15)) as broadcaster:
        collect_often()
        ready = [asyncio.Event() for _ in range(8)]
        watching = [asyncio.create_task(watch(server.url, one)) for one in ready]
        for one in ready:
            await one.wait()
        took = []
        for _ in range(10):
            began = time.thread_time()
            gc.collect()
            took.append(time.thread_time() - began)
        print(min(took))
        for one in watching:
            one.cancel()
        await asyncio.wait(watching)

asyncio.run(main())
"""
LOOP_HELD = 0.005
"""The longest that anything of ours holds the loop, s."""
ENCODER, PICTURE = 22_000_000, 1280 * 720 * 3
glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc from 2.33 on")


def mapped(how: str, *sizes: int) -> list[bool]:
    """Whether each piece was mapped by itself, one after the other."""
    command = [sys.executable, "-c", FREED_AND_TAKEN_AGAIN, how, memory_module.__file__, *map(str, sizes)]
    return [line == "True" for line in subprocess.check_output(command, text=True).split()]


@glibc
def test_an_encoder_is_mapped_however_often_one_was_free() -> None:
    assert mapped("set", ENCODER, ENCODER, ENCODER) == [True, True, True]


@glibc
def test_without_it_glibc_maps_only_the_first() -> None:
    assert mapped("unset", ENCODER, ENCODER, ENCODER) == [True, False, False]


@glibc
def test_pictures_are_not_mapped() -> None:
    assert mapped("set", PICTURE, PICTURE, 2 * PICTURE - 100_000) == [False, False, False]


@glibc
@pytest.mark.parametrize(("how", "heaps"), [("set", [2]), ("unset", range(3, 20))])
def test_threads_share_two_heaps(how: str, heaps: Sequence[int]) -> None:
    command = [sys.executable, "-c", EACH_IN_A_THREAD, how, memory_module.__file__]
    told = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True).stderr
    assert len(re.findall("^Arena", told, re.MULTILINE)) in heaps


def test_where_there_is_no_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    memory_module.map_large_pieces((1280, 720))


def found_after(how: str) -> int:
    """How many new objects it takes until what is left of a connection is found."""
    command = [sys.executable, "-c", CONNECTION_ENDED, how, memory_module.__file__]
    return int(subprocess.check_output(command, text=True))


def test_what_is_left_of_a_connection_is_found_soon() -> None:
    assert found_after("set") < FOUND_AFTER


def test_without_it_that_waits_for_a_quarter_of_what_was_imported() -> None:
    assert found_after("unset") >= 2 * FOUND_AFTER


def test_what_was_imported_is_not_looked_through() -> None:
    command = "import gc, runpy, sys; runpy.run_path(sys.argv[1])['collect_often'](); print(len(gc.get_objects()))"
    left = subprocess.check_output([sys.executable, "-c", command, memory_module.__file__], text=True)
    assert int(left) < 100


def test_looking_through_a_broadcaster_with_receivers_does_not_hold_the_loop() -> None:
    took = float(subprocess.check_output([sys.executable, "-c", WITH_RECEIVERS], text=True))
    assert took < LOOP_HELD
