"""Screens: what stays as it is costs next to nothing, and what changes is sharp, at any rate."""

import itertools
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from test_encoder import decode
from turned import elapse, turned

from synopticon_rtc.media import Codec, SharedEncoder
from synopticon_rtc.media.stillness import AGAIN, Stillness, same

SIZE = WIDTH, HEIGHT = 320, 180
FPS = 10
BITRATE = 1_000_000
both = pytest.mark.parametrize("codec", ["vp8", "h264"])
Page = npt.NDArray[np.uint8]


def page(number: int) -> Page:
    """Draw a page of strokes, as YUV 4:2:0."""
    chance = np.random.default_rng(number)
    strokes = chance.integers(0, 2, (HEIGHT // 4, WIDTH // 2), np.uint8) * 219
    planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    planes[:HEIGHT] = 235
    planes[20:110] -= strokes.repeat(2, axis=0).repeat(2, axis=1)[:90]
    return planes


class Desk:
    """Gives pages to an encoder ten times a second, by a clock that is turned."""

    def __init__(self, codec: Codec, bitrate: int) -> None:
        self.packets: list[Any] = []
        self.shown: list[Page] = []
        self.now = 0.0
        self.encoder = SharedEncoder(codec, bitrate=bitrate, fps=FPS, hint="screen", on_packet=self.packets.append)

    async def show(self, shown: Page, seconds: float = 1 / FPS) -> list[Any]:
        """Give a page for a time, and return what came of it."""
        before = len(self.packets)
        for _ in range(round(seconds * FPS)):
            frame = av.VideoFrame.from_ndarray(shown, format="yuv420p")
            frame.pts, frame.time_base = round(self.now * 90_000), Fraction(1, 90_000)
            self.encoder.encode(frame)
            await self.wait(1 / FPS)
        return self.packets[before:]

    async def wait(self, seconds: float) -> None:
        self.now += seconds
        await elapse(seconds)


@asynccontextmanager
async def desk(codec: Codec = "vp8", bitrate: int = BITRATE) -> AsyncIterator[Desk]:
    it = Desk(codec, bitrate)
    async with it.encoder:
        yield it


def psnr(frame: av.VideoFrame, shown: Page) -> float:
    """Of the luma, dB."""
    luma = frame.to_ndarray(format="yuv420p")[:HEIGHT].astype(np.float64)
    return 10 * math.log10(255**2 / np.square(luma - shown[:HEIGHT]).mean())


@both
@turned
async def test_what_stays_as_it_is_is_encoded_a_few_times_and_then_but_for_a_sign_of_life(codec: Codec) -> None:
    async with desk(codec) as it:
        await it.show(page(1), 5)
        assert 1 < len(it.packets) <= len(AGAIN) + 1
        assert it.encoder.is_idle
        still = await it.show(page(1), 30)
        assert len(still) == pytest.approx(30 / AGAIN[-1], abs=2)
        assert sum(packet.size for packet in still) * 8 / 30 < 4000
        assert it.encoder.keyframes == 1


@both
@turned
async def test_one_pixel_that_changes_is_encoded_at_once(codec: Codec) -> None:
    async with desk(codec) as it:
        await it.show(page(1), 5)
        blinked = page(1)
        blinked[HEIGHT - 1, WIDTH - 1] ^= 1
        assert len(await it.show(blinked)) == 1
        assert not it.encoder.is_idle
        assert len(await it.show(page(1))) == 1


@both
@turned
async def test_the_quality_is_the_same_at_any_bit_rate_and_the_frames_are_fewer(codec: Codec) -> None:
    counts, worst = [], []
    for bitrate in 100_000, BITRATE:
        async with desk(codec, bitrate) as it:
            for number in range(60):
                await it.show(page(number))
            pages = [page(round(packet.pts * FPS / 90_000)) for packet in it.packets]
            frames = decode(codec, it.packets)
            assert {(frame.width, frame.height) for frame in frames} == {SIZE}
            worst.append(min(map(psnr, frames, pages)))
            counts.append(len(frames))
            seconds = it.now + it.packets[-1].size * 8 / bitrate
            assert sum(packet.size for packet in it.packets) * 8 / seconds < 1.1 * bitrate
    assert counts[0] < counts[1] / 3
    assert worst[0] == pytest.approx(worst[1], abs=1)


@both
@turned
async def test_a_bit_rate_is_followed_without_a_keyframe(codec: Codec) -> None:
    async with desk(codec) as it:
        for number in range(10):
            await it.show(page(number))
        it.encoder.set_bitrate(100_000)
        before = len(it.packets)
        for number in range(30):
            await it.show(page(number))
        assert len(it.packets) - before < 20
        assert it.encoder.keyframes == 1


@both
@turned
async def test_a_keyframe_of_a_screen_that_stays_waits_for_no_frame(codec: Codec) -> None:
    async with desk(codec) as it:
        await it.show(page(1), 5)
        await it.wait(60)
        before = it.packets[-1]
        it.encoder.request_keyframe()
        await it.wait(0.01)
        asked = it.packets[-1]
        assert asked.is_keyframe
        assert (asked.pts - before.pts) / 90_000 == pytest.approx(60, abs=AGAIN[-1])
        it.encoder.request_keyframe()  # who asked by then has that one
        await it.wait(0.5)
        keyframes = [packet.pts for packet in it.packets if packet.is_keyframe]
        assert (keyframes[-1] - keyframes[-2]) / 90_000 == pytest.approx(0.3, abs=0.02)
        assert psnr(decode(codec, it.packets)[-1], page(1)) > 25


@turned
async def test_a_source_that_tells_only_what_changes_is_repeated_as_well() -> None:
    async with desk() as it:
        await it.show(page(1))
        await it.wait(60)
        assert len(it.packets) == len(AGAIN)
        await it.show(page(2))
        await it.wait(60)
        assert len(it.packets) == 2 * len(AGAIN)
        assert psnr(decode("vp8", it.packets)[-1], page(2)) > 25


@turned
async def test_presentation_times_only_grow() -> None:
    async with desk() as it:
        for number in range(8):
            await it.show(page(number), 0.5)
            it.encoder.request_keyframe()
        times = [packet.pts for packet in it.packets]
        assert all(later > earlier for earlier, later in itertools.pairwise(times))
        shown = round(0.5 * 90_000)
        assert {number * shown for number in range(8)} <= set(times)  # of what changed, those of its frames


@turned
async def test_another_size_is_something_else() -> None:
    async with desk() as it:
        await it.show(page(1), 2)
        await it.show(np.ascontiguousarray(page(1)[: HEIGHT * 3 // 4]))
        assert it.packets[-1].is_keyframe


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("bgr0", 200),
        ("bgr24", 150),
        ("yuv420p", 25),
        ("nv12", 50),
        ("gray", 50),
        ("yuyv422", 100),
        ("yuv420p10le", 50),
        ("gbrp", 50),
        ("rgb565le", 100),
    ],
)
def test_no_octet_of_a_picture_is_overlooked(name: str, line: int) -> None:
    one, other = (av.VideoFrame(50, 6, name) for _ in range(2))
    for frame in one, other:
        for plane in frame.planes:
            np.frombuffer(memoryview(plane), np.uint8)[:] = 7
    assert same(one, other)
    plane = other.planes[-1]
    octets = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    octets[-1, line - 1] ^= 1
    assert not same(one, other)
    octets[-1, line - 1] ^= 1
    octets[:, line:] = 9  # what fills the lines up
    assert same(one, other)


def test_a_frame_of_another_size_or_format_is_another() -> None:
    frame = av.VideoFrame(64, 48, "yuv420p")
    assert not same(frame, av.VideoFrame(64, 50, "yuv420p"))
    assert not same(frame, av.VideoFrame(64, 48, "nv12"))


def test_a_frame_waits_until_the_one_before_it_is_sent() -> None:
    stillness = Stillness(100_000)
    stillness.encoded(10.0, octets=12_500, changed=True)
    assert stillness.free == 11.0
    assert stillness.again == 11.0
    stillness.bitrate = 1_000_000
    assert stillness.free == 10.1
    assert stillness.again == 10.1
    stillness.encoded(11.0, octets=100, changed=False)
    assert stillness.again == 11.0 + AGAIN[1]
    assert not stillness.settled
