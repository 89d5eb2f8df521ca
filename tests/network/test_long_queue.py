"""On a slow link with a queue of a second, repairs and keyframes must not keep the queue full for ever."""

import pytest
from stage import longest_gap, stage
from turned import turned
from wires import Losses


@pytest.mark.parametrize("seed", [2, 3, 4])
@turned
async def test_that_video_goes_on(seed: int) -> None:
    async with stage(seed, noise=12.0) as playing:  # more than the link bears, in every layer now and then
        viewer = await playing.join()
        await playing.play(3)
        viewer.down.rate, viewer.down.queue, viewer.down.losses = 400_000, 50_000, Losses(share=0.02, burst=3)
        begun = await playing.play(60)
        assert longest_gap(viewer.seen, begun, playing.now) < 8
        assert len(viewer.since(begun)) > 1000
        assert viewer.down.dropped < 0.1 * viewer.down.sent
