"""Who has a slow link sees a screen in full size, and little later than the link needs for it."""

import contextlib
import itertools
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from stage import Stage, Viewer, played
from turned import elapse, turned

from synopticon_rtc.media import Picture
from synopticon_rtc.sending.ladder import Ladder

WIDTH, HEIGHT = 480, 270
FPS = 10
BITRATE = 2_000_000
LIMIT = 300_000
QUARTER = LIMIT // 8 // 4
"""Octets that the bottleneck sends in a quarter of a second."""


def page(number: int) -> npt.NDArray[np.uint8]:
    """Draw strokes, as YUV 4:2:0; one page is some 30 kB."""
    strokes = np.random.default_rng(number).integers(0, 2, (HEIGHT, WIDTH), np.uint8)
    planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    planes[:HEIGHT] = 235 - 219 * strokes[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
    return planes


class Office(Stage):
    """Shows a page until it is turned."""

    def __init__(self) -> None:
        super().__init__()
        self.ladder = Ladder("vp8", bitrate=BITRATE, fps=FPS, origin=0, hint="screen", on_packet=lambda _: None)
        self.shown = page(0)

    async def _show(self) -> None:
        begun = self.now
        for number in itertools.count():
            frame = av.VideoFrame.from_ndarray(self.shown, format="yuv420p")
            frame.pts, frame.time_base = number * 90_000 // FPS, Fraction(1, 90_000)
            self.ladder.encode(Picture(frame, self._converter))
            await elapse(begun + (number + 1) / FPS - self.now)


def office() -> contextlib.AbstractAsyncContextManager[Office]:
    """Set up a screen, and let it play."""
    return played(Office())


async def turn(playing: Office, viewer: Viewer, number: int) -> float:
    """Turn to another page, and return after how many seconds it was seen."""
    playing.shown = page(number)
    begun = await playing.play(8)
    large = [seen.at for seen in viewer.since(begun) if seen.octets > 10_000]
    assert large, "it was not seen"
    return large[0] - begun


@turned
async def test_that_a_page_is_seen_soon_on_a_slow_link_and_asked_for_once() -> None:
    async with office() as playing:
        viewer = await playing.join()
        await playing.play(3)
        viewer.down.rate, viewer.down.queue = LIMIT, QUARTER
        assert await turn(playing, viewer, 1) < 4  # nothing was known of the link
        begun = playing.now
        assert max([await turn(playing, viewer, number) for number in (2, 3)]) < 2.5
        assert sum(seen.keyframe for seen in viewer.since(begun)) <= 1  # where a packet was lost at the wrong moment
        assert {seen.height for seen in viewer.seen} == {HEIGHT}
        assert list(playing.ladder._layers) == [0]


@turned
async def test_that_the_others_see_it_at_once() -> None:
    async with office() as playing:
        viewer = await playing.join()
        await playing.play(3)
        viewer.down.rate, viewer.down.queue = LIMIT, QUARTER
        await turn(playing, viewer, 1)
        other = await playing.join()
        await playing.play(3)
        assert max([await turn(playing, other, number) for number in (2, 3)]) < 0.3


@turned
async def test_that_a_page_whose_last_packets_get_lost_is_seen_all_the_same() -> None:
    async with office() as playing:
        viewer = await playing.join()
        await playing.play(5)
        playing.shown = page(1)
        begun = await playing.play(0.105)
        viewer.down.up = False  # from the middle of the page on
        await playing.play(0.05)
        viewer.down.up = True
        await playing.play(2)
        assert any(seen.octets > 10_000 for seen in viewer.since(begun))
