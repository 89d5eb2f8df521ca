"""A captured frame, converted once for all encoders."""

import threading
import time

import av
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter


class Picture:
    """A frame of a source, which several encoders may take, each in its own thread.

    Args:
        frame: Any size and pixel format; an odd side loses one pixel. It is only read.
        converter: Of the source, used by all its pictures.
    """

    def __init__(self, frame: av.VideoFrame, converter: "Converter") -> None:
        self.frame = frame
        self.made = time.perf_counter()
        """When it was captured, or came to the encoder."""
        self._converter = converter
        self._planar: av.VideoFrame | None = None

    @property
    def pts(self) -> int | None:
        """Its presentation time, in the frame's time base."""
        return self.frame.pts

    def planar(self) -> av.VideoFrame:
        """Return it as encoders and receivers take it for granted: 4:2:0, BT.601, limited range; not to be written to.

        Whoever asks first converts it, and the others wait.
        """
        with self._converter.lock:
            if self._planar is None:
                self._planar = self._converter.planar(self.frame)
            return self._planar


class Converter:
    """Makes what encoders take of frames, in one thread at a time.

    Attributes:
        lock: Held by whoever converts.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._reformatter = VideoReformatter()

    def planar(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Return ``frame`` itself if it is as encoders take it, else a new one that is."""
        width, height = even(frame.width), even(frame.height)
        fits = (
            (frame.width, frame.height, frame.format.name) == (width, height, "yuv420p")
            and frame.colorspace != Colorspace.ITU709
            and frame.color_range != ColorRange.JPEG
        )
        if not fits:
            own = self._reformatter.reformat(
                frame,
                width,
                height,
                "yuv420p",
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
        elif frame.pict_type == PictureType.NONE:
            return frame
        else:
            own = av.VideoFrame.from_ndarray(frame.to_ndarray(), format="yuv420p")
            own.pts, own.time_base = frame.pts, frame.time_base
        own.pict_type = PictureType.NONE
        return own


def even(side: int) -> int:
    """Return the next even number of pixels, as 4:2:0 needs it: down, but at least 2."""
    return max(2, side & ~1)
