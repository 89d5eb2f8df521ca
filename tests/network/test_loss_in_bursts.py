"""Losses that come in bursts, as on a radio link, are repaired like others."""

from stage import longest_gap, stage
from turned import turned
from wires import Losses


@turned
async def test_that_bursts_of_loss_freeze_nothing() -> None:
    async with stage() as playing:
        viewer = await playing.join()
        await playing.play(2)
        viewer.down.losses = Losses(0.03, burst=8)
        begun = await playing.play(20)
        assert viewer.down.lost > 8
        assert len(viewer.since(begun)) > 20 * 20
        assert longest_gap(viewer.seen, begun, playing.now) < 1
