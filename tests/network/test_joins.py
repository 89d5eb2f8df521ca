"""Who joins sees the video at once, and those who watch already do not notice."""

import asyncio

from stage import FPS, stage
from turned import turned


@turned
async def test_that_the_first_frame_comes_within_a_quarter_of_a_second() -> None:
    async with stage() as playing:
        await playing.join()
        await playing.play(3)
        for _ in range(3):
            begun = playing.now
            viewer = await playing.join()
            await playing.play(0.5)
            assert viewer.seen[0].at - begun < 0.25
            assert viewer.seen[0].keyframe


@turned
async def test_that_twelve_who_join_at_once_cost_the_others_few_keyframes_and_no_frame() -> None:
    async with stage() as playing:
        first = await playing.join()
        begun = await playing.play(3)
        viewers = await asyncio.gather(*(playing.join() for _ in range(12)))
        await playing.play(3)
        assert all(len(viewer.seen) > 2 * FPS for viewer in viewers)
        assert len(first.since(begun)) >= round((playing.now - begun) * FPS) - 2
        assert sum(each.keyframe for each in first.since(begun + 1)) <= 3
