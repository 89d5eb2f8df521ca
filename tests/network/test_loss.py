"""Who loses one packet in twenty, both ways, still sees the video, and nobody else notices."""

from stage import FPS, HEIGHT, longest_gap, stage
from turned import turned
from wires import Losses


@turned
async def test_that_five_percent_of_loss_freezes_nothing() -> None:
    async with stage() as playing:
        bad, good = await playing.join(), await playing.join()
        await playing.play(2)
        bad.down.losses, bad.up.losses = Losses(0.05), Losses(0.05)
        begun = await playing.play(20)
        assert len(bad.since(begun)) > 20 * 20
        assert longest_gap(bad.seen, begun, playing.now) < 1
        assert bad.sender.connection.stats().retransmits > 0
        assert len(good.since(begun)) >= 20 * FPS - 1
        assert {each.height for each in good.since(begun)} == {HEIGHT}
