"""Frames and images that an application makes itself."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable

import av
import numpy as np

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media.pacing import taken
from synopticon_rtc.media.source import FrameSource

PATIENCE = 5.0
"""Seconds without a first frame after which it is said what is waited for."""
BLOCKING = 0.01
"""Seconds for which a source may hold up the event loop, for one frame."""
_FORMATS = {(): "gray", (3,): "bgr24", (4,): "bgra"}  # by what follows height and width in the shape

log = logging.getLogger(__name__)


class Images:
    """The frames or images of a plain iterator, each asked for in a thread when the one before it was taken.

    Args:
        images: Gives ``av.VideoFrame``, or arrays as OpenCV has them: uint8, (height, width, 3), blue first.
    """

    def __init__(self, images: Iterable[object]) -> None:
        self._images = images

    def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        return taken(self._give, each=True)

    def _give(self, put: Callable[[av.VideoFrame], None], stop: threading.Event) -> None:
        images = iter(self._images)
        try:
            for image in images:
                if stop.is_set():
                    return
                put(as_frame(image))
        finally:
            close = getattr(images, "close", None)  # of a generator
            if close is not None:
                close()


def as_frame(image: object) -> av.VideoFrame:
    """Return a frame as it is, and an image as a frame.

    Args:
        image: ``av.VideoFrame``, or an array of uint8: (height, width) grey, (height, width, 3) blue, green, red, or
            (height, width, 4) with an alpha channel, which is not looked at.

    Raises:
        SourceError: It is neither.
    """
    if isinstance(image, av.VideoFrame):
        return image
    if not isinstance(image, np.ndarray):
        raise SourceError(f"a source gave {type(image).__name__}; give av.VideoFrame or numpy arrays")
    if image.dtype != np.uint8 or not image.size or image.shape[2:] not in _FORMATS or image.ndim == 1:
        raise SourceError(
            f"a source gave an array of {image.dtype} and shape {image.shape}; "
            "give uint8 in the shape (height, width, 3), in the order blue, green, red"
        )
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=_FORMATS[image.shape[2:]])


async def frames_of(source: FrameSource) -> AsyncGenerator[av.VideoFrame, None]:
    """Give the frames of a source, and let the event loop have its turn after each, whatever the source does.

    Says in the log if the first frame does not come, and if the source holds up the loop.

    Raises:
        SourceError: The source says so, or gives something else than frames and images.
    """
    loop = asyncio.get_running_loop()
    name = getattr(source, "name", None) or type(source).__name__
    late = loop.call_later(PATIENCE, log.warning, "%s has given no frame in %g s; it is waited for", name, PATIENCE)
    frames = aiter(source)
    warned = False
    try:
        while True:
            turn = asyncio.Event()
            handle = loop.call_soon(turn.set)
            begun = time.perf_counter()
            try:
                image: object = await anext(frames)
            except StopAsyncIteration:
                return
            late.cancel()
            if not turn.is_set():  # it never waited for anything
                handle.cancel()
                if not warned and time.perf_counter() - begun > BLOCKING:
                    warned = True
                    log.warning("%s %s", name, _HINT)
                await asyncio.sleep(0)
            yield as_frame(image)
    finally:
        late.cancel()
        if isinstance(frames, AsyncGenerator):
            await frames.aclose()


_HINT = (
    "holds up the event loop while it waits for a frame, and with it everything else; "
    "write it as a plain generator (def, not async def), which is asked in a thread"
)
