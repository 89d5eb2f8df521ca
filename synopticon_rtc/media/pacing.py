"""How frames get from a thread to the event loop: drawn when they are due, or taken when they come."""

import asyncio
import contextlib
import math
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from typing import TypeVar

import av

from synopticon_rtc.errors import SourceError

T = TypeVar("T")

_PATIENCE = 0.5  # seconds to wait for a thread that may hang


def checked_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return ``size``, width and height in pixels; raises SourceError unless a frame in 4:2:0 can have it."""
    width, height = checked_bounds(size)
    if width % 2 or height % 2:
        raise SourceError(f"no frame can be {width}x{height}; give an even, positive width and height")
    return size


def checked_bounds(size: tuple[int, int]) -> tuple[int, int]:
    """Return ``size``, width and height in pixels to ask for or to stay within; raises SourceError unless it is."""
    if not isinstance(size, Sequence) or [isinstance(side, Integral) for side in size] != [True, True]:
        raise SourceError(f"{size!r:.100} is no size of a frame; give a width and a height, as in (1280, 720)")
    if min(size) <= 0:
        raise SourceError(f"no frame can be {size[0]}x{size[1]}; give a positive width and height")
    return size


def checked_fps(fps: float) -> float:
    """Return ``fps``; raises SourceError unless it is a rate."""
    if not 0 < fps < math.inf:
        raise SourceError(f"no source can give {fps} frames a second; give a positive number")
    return fps


async def drawn(draw: Callable[[int], av.VideoFrame], fps: float) -> AsyncGenerator[av.VideoFrame, None]:
    """Give ``draw(0)``, ``draw(1)`` and so on in real time, each drawn in a thread when it is due.

    Frame ``n`` is due ``n / fps`` seconds after the start, whatever happened before: nothing drifts, and the frames
    that a slow consumer missed are left out.
    """
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, thread_name_prefix="draw")
    start = loop.time()
    number = 0
    try:
        while True:
            await asyncio.sleep(start + number / fps - loop.time())
            yield await loop.run_in_executor(thread, draw, number)
            number = max(number + 1, math.floor((loop.time() - start) * fps))
    finally:
        thread.shutdown(wait=False)


async def taken(
    produce: Callable[[Callable[[T], None], threading.Event], None], *, each: bool = False, keep: int = 1
) -> AsyncGenerator[T, None]:
    """Give the frames that ``produce(put, stop)`` puts, from a thread, the newest ``keep`` of them each time.

    With ``each``, none is left out: ``put`` returns when the next one is wanted. ``produce`` returns once ``stop`` is
    set, and what it raises is raised here. At the end it is waited for, so that a device is free again, but not for
    long: a read may hang in a driver or on the network.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()
    news = asyncio.Event()
    newest: deque[T] = deque(maxlen=keep)
    wanted = threading.Event()
    error: BaseException | None = None
    running = True

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, nobody listens
            loop.call_soon_threadsafe(news.set)

    def put(frame: T) -> None:
        wanted.clear()
        newest.append(frame)
        tell()
        if each and not stop.is_set():  # who sets it does so before it wants one more, and then none is
            wanted.wait()

    def run() -> None:
        nonlocal error, running
        try:
            produce(put, stop)
        except Exception as caught:  # noqa: BLE001 - raised in the consumer, below
            error = caught
        running = False
        tell()

    threading.Thread(target=run, name="frames", daemon=True).start()
    try:
        while running or newest:
            await news.wait()
            news.clear()
            while newest:
                yield newest.popleft()
                wanted.set()
        if error is not None:
            raise error
    finally:
        stop.set()
        wanted.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while running:
                    await news.wait()
                    news.clear()
