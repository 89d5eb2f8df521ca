"""Packets that overtake others are put in order, and nothing is taken for lost."""

import itertools

from stage import FPS, stage
from turned import turned


@turned
async def test_that_reordering_loses_no_frame_and_asks_for_no_keyframe() -> None:
    async with stage() as playing:
        viewer = await playing.join()
        await playing.play(1)
        viewer.down.jitter, viewer.down.reordered, viewer.down.late = 0.01, 0.05, 0.02
        begun = await playing.play(10)
        seen = viewer.since(begun)
        assert viewer.down.overtaken > 10
        assert len(seen) >= 10 * FPS - 3
        assert all(earlier.number + 1 == later.number for earlier, later in itertools.pairwise(seen))
        assert not any(each.keyframe for each in seen)
