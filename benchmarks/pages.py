"""A broadcaster of a screen under measurement, which shows pages of text: ``python -m benchmarks.pages CORE URL KIND``.

It is driven over its standard input.
"""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar, NamedTuple

import av
import numpy as np
import numpy.typing as npt

from benchmarks.children import pin, serve
from synopticon_rtc import Broadcaster
from synopticon_rtc.media import Hint

SIZE = WIDTH, HEIGHT = 1920, 1080
FPS = 10
BITRATE = 2_000_000
COUNT = 4
"""Pages that are shown, again and again."""
WORDS = """
the of and to in is that for it as was with be by on not he his but at are this have from or had an they which
one you were her all she there would their we him been has when who will more no if out so said what up its
about into than them can only other new some could time these two may then do first any my now such like our
over man me even
"""  # the most frequent ones in English
WHITE = 255


class Kind(NamedTuple):
    """How a page is set, and from when on it can be read.

    Attributes:
        points: Size of the letters, at 96 dpi.
        letters: In a line, at most.
        left: Its margin, pixels.
        top: Likewise.
        readable: PSNR of the luma, dB.
    """

    points: float
    letters: int
    left: int
    top: int
    readable: float


KINDS = {"page": Kind(15, 55, 650, 220, 35), "small print": Kind(11, 150, 300, 60, 30)}
"""21 lines of 50 letters, as of a document that is shown to others; and 32 of 150: with five times as much on the page,
each letter is as sharp at 30 dB."""


def draw(number: int, kind: Kind) -> npt.NDArray[np.uint8]:
    """Draw a page in black on white, (height, width)."""
    from matplotlib import get_data_path  # noqa: PLC0415 - slow to import, and only wanted here
    from matplotlib.ft2font import FT2Font  # noqa: PLC0415 - likewise

    font = FT2Font(str(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"))
    font.set_size(kind.points, 96)
    chance = random.Random(number)  # noqa: S311 - the same pages each time
    words = WORDS.split()
    image = np.full((HEIGHT, WIDTH), WHITE, np.uint8)
    pitch = round(kind.points * 2)
    for y in range(kind.top, HEIGHT - kind.top - pitch, pitch):
        line = ""
        while len(longer := f"{line} {chance.choice(words)}".strip()) <= kind.letters:
            line = longer
        font.set_text(line)
        font.draw_glyphs_to_bitmap(antialiased=True)
        ink = np.asarray(font.get_image())[:pitch, : WIDTH - kind.left]
        image[y : y + ink.shape[0], kind.left : kind.left + ink.shape[1]] -= ink
    return image


class Pages:
    """Shows a page ten times a second, as a screen is read, until it is turned."""

    hint: ClassVar[Hint] = "screen"

    def __init__(self, kind: Kind) -> None:
        pages = [draw(number, kind) for number in range(COUNT)]
        # Two frames of each, so that a page that stays comes in another place in memory each time.
        self._frames = [[_frame(page) for _ in range(2)] for page in pages]
        self._number = 0
        self._wanted = 0
        self.turned = asyncio.Event()
        self.at = 0.0
        """When the page was first shown, as time.monotonic() has it."""

    async def turn(self) -> int:
        """Show the next page with the next frame, and return its number."""
        self._wanted = (self._number + 1) % COUNT
        self.turned.clear()
        await self.turned.wait()
        return self._number

    async def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        due, shown = time.monotonic(), 0
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += 1 / FPS
            shown += 1
            if self._wanted != self._number:
                self._number, self.at = self._wanted, time.monotonic()
                self.turned.set()
            yield self._frames[self._number][shown % 2]


def _frame(page: npt.NDArray[np.uint8]) -> av.VideoFrame:
    image = np.full((*page.shape, 4), WHITE, np.uint8)
    image[:, :, :3] = page[:, :, np.newaxis]
    return av.VideoFrame.from_ndarray(image, format="bgra")  # as X has it


async def main(url: str, kind: str) -> None:
    """Broadcast pages, and turn them when asked to."""
    source = Pages(KINDS[kind])

    async def turn() -> dict[str, float]:
        return {"number": await source.turn(), "at": source.at}

    async def usage() -> dict[str, float]:
        return {
            "cpu": time.process_time(),
            "time": time.monotonic(),
            "octets": sum(peer.bytes_sent for peer in broadcaster.peer_stats().values()),
            "encoded": broadcaster.stats.encoded,
        }

    async with Broadcaster(url, source, faces=None, codecs=["vp8"], bitrate=BITRATE, fps=FPS) as broadcaster:
        await broadcaster.signaling.wait_open()
        await serve(turn=turn, usage=usage)


if __name__ == "__main__":
    pin(int(sys.argv[1]))
    asyncio.run(main(*sys.argv[2:]))
