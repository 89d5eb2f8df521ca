"""Where frames come from."""

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

import av


@runtime_checkable
class FrameSource(Protocol):
    """Anything that gives video frames when iterated asynchronously.

    Each ``aiter()`` opens the source anew and closes it when the iteration ends, so an async generator method named
    ``__aiter__`` is a whole source. Frames may come in any size and pixel format, and both may change on the way. A
    frame was captured when it came: ``pts`` is not looked at. Frames are only read, so the same object may come again.
    Arrays of uint8, (height, width, 3) with blue first, are taken as frames too. Raises
    :class:`synopticon_rtc.errors.SourceError` when there is no frame to be had and none to be expected.
    """

    def __aiter__(self) -> AsyncIterator[av.VideoFrame]: ...
