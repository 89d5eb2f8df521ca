import asyncio
import itertools
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from turned import elapse, turned

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media import Portrait, TestPattern

SMALL = TestPattern((64, 48))


def luma(frame: av.VideoFrame) -> npt.NDArray[Any]:
    return frame.to_ndarray()[: frame.height, : frame.width]


@given(st.integers(0, 2**32 - 1))
def test_any_number_can_be_read_back(number: int) -> None:
    assert TestPattern.read_number(luma(SMALL.draw(number))) == number


def test_the_number_begins_anew_after_32_bits() -> None:
    assert TestPattern.read_number(luma(SMALL.draw(2**32 + 5))) == 5


@pytest.mark.parametrize("size", [(64, 48), (320, 240), (722, 406), (480, 854), (1280, 720), (1920, 1080)])
def test_the_number_can_be_read_at_any_size_from_luma_and_colour(size: tuple[int, int]) -> None:
    frame = TestPattern(size).draw(123_456_789)
    assert (frame.width, frame.height, frame.format.name) == (*size, "yuv420p")
    assert TestPattern.read_number(luma(frame)) == 123_456_789
    assert TestPattern.read_number(frame.to_ndarray(format="bgr24")) == 123_456_789


@pytest.mark.long
def test_the_number_survives_vp8_at_400_kbit_and_scaling_to_a_quarter() -> None:
    encoder = av.CodecContext.create("libvpx", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 1280, 720, "yuv420p"
    encoder.bit_rate, encoder.time_base, encoder.framerate = 400_000, Fraction(1, 30), Fraction(30)
    encoder.options = {"deadline": "realtime", "cpu-used": "-12", "minrate": "400000", "maxrate": "400000"}
    decoder = av.CodecContext.create("libvpx", "r")
    pattern = TestPattern()
    size = read = 0
    for number in range(60):
        frame = pattern.draw(number)
        frame.pts, frame.time_base = number, Fraction(1, 30)
        for packet in encoder.encode(frame):
            size += packet.size
            for decoded in decoder.decode(packet):
                quarter = decoded.reformat(320, 180)
                assert TestPattern.read_number(luma(decoded)) == number
                assert TestPattern.read_number(luma(quarter)) == number
                assert TestPattern.read_number(quarter.to_ndarray(format="rgb24")) == number
                read += 1
    assert read == 60
    assert size * 8 / 2 < 500_000


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((90, 160), np.uint8),
        np.full((90, 160), 255, np.uint8),
        np.full((90, 160), 128, np.uint8),
        np.random.default_rng(1).integers(0, 256, (90, 160), np.uint8),
        np.zeros((3, 5, 3), np.uint8),
        np.zeros((0, 0), np.uint8),
        Portrait((320, 180)).draw(0).to_ndarray(format="rgb24"),
    ],
    ids=["black", "white", "grey", "noise", "tiny", "empty", "portrait"],
)
def test_no_number_is_read_where_there_is_none(image: npt.NDArray[Any]) -> None:
    assert TestPattern.read_number(image) is None


@given(st.integers(0, 2**32 - 2), st.integers(0, 48))
def test_a_torn_frame_gives_no_other_number(number: int, line: int) -> None:
    torn = np.vstack([luma(SMALL.draw(number + 1))[:line], luma(SMALL.draw(number))[line:]])
    assert TestPattern.read_number(torn) in {None, number, number + 1}


def test_the_card_moves() -> None:
    pattern = TestPattern((320, 180))
    frames = [luma(pattern.draw(number))[90:] for number in range(0, 90, 15)]
    assert all(np.any(one != other) for one, other in itertools.pairwise(frames))


@turned
async def test_frames_come_in_real_time_from_0_on() -> None:
    loop = asyncio.get_running_loop()
    numbers, times = [], []
    frames = aiter(TestPattern((64, 48), fps=50))
    async for frame in frames:
        numbers.append(TestPattern.read_number(luma(frame)) or 0)
        times.append(loop.time())
        if len(numbers) == 25:
            break
    assert numbers == list(range(25))
    assert [time - times[0] for time in times] == pytest.approx([number / 50 for number in numbers])


@turned
async def test_a_slow_consumer_misses_frames_instead_of_getting_them_late() -> None:
    frames = aiter(TestPattern((64, 48), fps=50))
    await anext(frames)
    await elapse(0.5)
    assert [TestPattern.read_number(luma(await anext(frames))) for _ in range(3)] == [25, 26, 27]


@pytest.mark.parametrize("size", [(0, 0), (-2, 48), (641, 360), (640, 361), (32, 32)])
def test_an_impossible_size_is_refused_in_one_line(size: tuple[int, int]) -> None:
    with pytest.raises(SourceError, match=f"{size[0]}x{size[1]}; give [^\n]+$"):
        TestPattern(size)


@pytest.mark.parametrize("size", [640, "640x480", (640,), (640, 480, 3), (640.5, 480), None], ids=str)
def test_what_is_no_size_is_refused_in_one_line(size: Any) -> None:
    with pytest.raises(SourceError, match=r"is no size of a frame; give [^\n]+$"):
        TestPattern(size)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_an_impossible_rate_is_refused_in_one_line(fps: float) -> None:
    with pytest.raises(SourceError, match=r"frames a second; give"):
        TestPattern(fps=fps)
