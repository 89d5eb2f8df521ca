"""What Python and glibc do with memory that is free."""

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of mallopt(3)
_LEAST, _MOST = 2**20, 32 * 2**20  # bytes; glibc takes no more
_PER_PIXEL = 6  # bytes: twice those of an RGB picture, and a quarter of the largest piece that an encoder takes


def collect_often() -> None:
    """Have Python look for objects that nobody holds among those that are made from now on, and there often.

    Looking through all that was imported would hold up every frame for 50 ms. Some things that are over, as errors on
    their way through tasks, hold themselves, and whatever hangs on them. Python would look for them once in some hours,
    as it goes by how many objects it found the last time, all that was imported. Until then memory grows.
    """
    gc.freeze()
    gc.collect()  # of nearly nothing, which is what the next time is held against
    gc.set_threshold(gc.get_threshold()[0], 1, 1)


def map_large_pieces(size: tuple[int, int]) -> None:
    """Have pieces of memory that are larger than pictures go back to the system, where glibc allocates.

    It maps a large piece by itself, and unmaps it when it is free. But with the first that is free it raises the limit
    from which a piece is large to that of an encoder, 22 MB for 1280x720. From then on encoders, which are opened anew
    when bit rates change, leave gaps in the heaps of threads, and on a busy machine memory grows for hours. The limit
    is set here, and so it stays. Pictures are below it: to map each would take a fifth more CPU time.

    Args:
        size: Of the pictures, pixels.
    """
    width, height = size
    map_pieces(min(max(_PER_PIXEL * width * height, _LEAST), _MOST))


def map_pieces(large: int) -> None:
    """Have pieces of so many bytes and more go back to the system as soon as they are free, where glibc allocates."""
    _set(_MMAP_THRESHOLD, large)
    _set(_TRIM_THRESHOLD, 4 * large)  # at the end of a heap: a few pieces of each kind, else each costs its pages


def share_heaps() -> None:
    """Have threads share two heaps, where glibc allocates.

    It gives each thread a heap of its own, which keeps what was free there once. Where every recording has a thread,
    memory grows until each of them has had its worst moment.
    """
    _set(_ARENA_MAX, 2)


def _set(option: int, value: int) -> None:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # it is another allocator, or Windows
        return
    mallopt(option, value)
