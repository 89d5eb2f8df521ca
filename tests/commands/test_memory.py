import ctypes
import subprocess
import sys

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


def test_where_there_is_no_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    memory_module.map_large_pieces((1280, 720))
