"""Where frames come from."""

from collections.abc import AsyncIterator
from typing import Literal, Protocol, get_args, runtime_checkable

import av

from synopticon_rtc.errors import SourceError

Hint = Literal["camera", "screen"]
"""What a source shows: what moves, or what is read (W3C mst-content-hint calls that ``motion`` and ``text``)."""


@runtime_checkable
class FrameSource(Protocol):
    """Anything that gives video frames when iterated asynchronously.

    Each ``aiter()`` opens the source anew and closes it when the iteration ends, so an async generator method named
    ``__aiter__`` is a whole source. Frames may come in any size and pixel format, and both may change on the way. A
    frame was captured when it came: ``pts`` is not looked at. Frames are only read, so the same object may come again.
    Arrays of uint8, (height, width, 3) with blue first, are taken as frames too. One that has ``hint = "screen"`` is
    sent as a screen is: sharp, and only when it changes; it may then give no frame for as long as nothing does. Raises
    :class:`synopticon_rtc.errors.SourceError` when there is no frame to be had and none to be expected.
    """

    def __aiter__(self) -> AsyncIterator[av.VideoFrame]: ...


def hint_of(source: FrameSource) -> Hint:
    """Return what a source shows; raises SourceError where its ``hint`` is none."""
    hint: Hint = getattr(source, "hint", "camera")
    if hint not in get_args(Hint):
        raise SourceError(f"a source has the hint {hint!r:.100}; give one of {', '.join(get_args(Hint))}, or none")
    return hint
