"""A captured frame, converted once for all encoders."""

import threading
import time
from fractions import Fraction

import av
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from synopticon_rtc.media.pictures import Pictures

TIME_BASE = Fraction(1, 90_000)
_SD = {2, 5, 6}  # ITU-T H.273: BT.601 by its two names, and what does not say


class Picture:
    """A frame of a source, which several encoders may take, each in its own thread.

    Args:
        frame: Any size and pixel format; an odd side loses one pixel. It is only read, and may be the one of an earlier
            picture.
        converter: Of the source, used by all its pictures.
        pts: Its presentation time in 1/90000 s; that of the frame by default.

    Attributes:
        pts: Its presentation time.
    """

    def __init__(self, frame: av.VideoFrame, converter: "Converter", pts: int | None = None) -> None:
        self.frame = frame
        self.pts = frame.pts if pts is None else pts
        self._time_base = frame.time_base if pts is None else TIME_BASE
        self.made = time.perf_counter()
        """When it was captured, or came to the encoder."""
        self._converter = converter
        self._planar: av.VideoFrame | None = None

    def planar(self) -> av.VideoFrame:
        """Return it as encoders and receivers take it for granted: 4:2:0, BT.601, limited range; not to be written to.

        Whoever asks first converts it, and the others wait.
        """
        with self._converter.lock:
            if self._planar is None:
                self._planar = self._converter.planar(self.frame)
                self._planar.pts, self._planar.time_base = self.pts, self._time_base
            return self._planar


class Converter:
    """Makes what encoders take of frames, in one thread at a time.

    Attributes:
        lock: Held by whoever converts.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._reformatter = VideoReformatter()
        self._pictures = Pictures()

    def planar(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Return a new frame that is as encoders take it; its time is not set."""
        width, height = even(frame.width), even(frame.height)
        if (
            (frame.width, frame.height, frame.format.name) == (width, height, "yuv420p")
            and frame.colorspace in _SD
            and frame.color_range != ColorRange.JPEG
        ):
            own = copied(frame, self._pictures)
        else:
            own = self._reformatter.reformat(
                frame,
                width,
                height,
                "yuv420p",
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
            if own is frame:  # there was nothing to convert
                own = copied(frame, self._pictures)
        own.pict_type = PictureType.NONE
        return own


def copied(frame: av.VideoFrame, pictures: Pictures) -> av.VideoFrame:
    """Return a frame of one's own with the same picture, which is in 4:2:0; nothing else of it is copied."""
    own = pictures.new(frame.width, frame.height)
    planes = list(zip(own.planes, frame.planes, strict=True))
    if any(mine.buffer_size != theirs.buffer_size for mine, theirs in planes):  # lines of another length
        return av.VideoFrame.from_ndarray(frame.to_ndarray(), format="yuv420p")
    for mine, theirs in planes:
        mine.update(theirs)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - any buffer will do
    return own


def even(side: int) -> int:
    """Return the next even number of pixels, as 4:2:0 needs it: down, but at least 2."""
    return max(2, side & ~1)
