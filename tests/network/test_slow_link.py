"""Who has a slow link gets a smaller picture that moves, and the large one again when the link is fast."""

import itertools
from dataclasses import dataclass

import pytest
from stage import FPS, HEIGHT, Seen, Stage, Viewer, longest_gap, stage
from turned import run, turned

LIMIT = 400_000
QUARTER = LIMIT // 8 // 4
"""Octets that the bottleneck sends in a quarter of a second."""


async def slow(playing: Stage) -> Viewer:
    """Have somebody join whose link is slow after a while."""
    viewer = await playing.join()
    await playing.play(3)
    viewer.down.rate, viewer.down.queue = LIMIT, QUARTER
    return viewer


@dataclass
class Call:
    """What came over a link that was slow from a time on, and how many datagrams it dropped in the long run."""

    slow: float
    seen: list[Seen]
    sent: int
    dropped: int

    def since(self, at: float, until: float) -> list[Seen]:
        return [seen for seen in self.seen if at <= seen.at <= until]


@pytest.fixture(scope="module")
def call() -> Call:
    async def play() -> Call:
        async with stage() as playing:
            viewer = await slow(playing)
            begun = await playing.play(5)
            before = viewer.down.dropped, viewer.down.sent
            await playing.play(45)
            dropped, sent = viewer.down.dropped - before[0], viewer.down.sent - before[1]
            return Call(begun, viewer.seen, sent, dropped)

    return run(play())


def test_that_a_slow_link_gets_a_smaller_picture_that_moves(call: Call) -> None:
    settled, later = call.slow + 3, call.slow + 15
    assert longest_gap(call.seen, call.slow, settled) < 1.5
    heights = [each.height for each in call.since(settled, later)]  # more is tried now and then
    assert heights.count(HEIGHT // 2) > 0.9 * len(heights)
    assert len(heights) > 12 * 25
    assert longest_gap(call.seen, settled, later) < 1.5  # a larger one that is tried in vain costs its keyframe


def test_that_a_slow_link_is_not_sent_more_than_it_bears_in_the_long_run(call: Call) -> None:
    assert call.dropped < 0.1 * call.sent


@turned
async def test_that_the_others_keep_their_picture() -> None:
    async with stage() as playing:
        viewer = await slow(playing)
        other = await playing.join()
        begun = await playing.play(15)
        assert {each.height for each in other.since(begun + 1)} == {HEIGHT}
        assert len(other.since(begun + 1)) >= 14 * FPS - 1
        assert min(each.height for each in viewer.since(begun)) < HEIGHT


@turned
async def test_that_a_link_that_is_fast_again_gets_the_large_picture_again() -> None:
    async with stage() as playing:
        viewer = await slow(playing)
        await playing.play(10)
        viewer.down.rate = None
        await playing.play(15)
        begun = await playing.play(3)
        assert {each.height for each in viewer.since(begun)} == {HEIGHT}


def test_that_frames_never_go_back(call: Call) -> None:
    assert all(earlier.number < later.number for earlier, later in itertools.pairwise(call.seen))
