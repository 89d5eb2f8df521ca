"""A link that dies is noticed, and one that comes back in time goes on by itself."""

from stage import FPS, stage
from turned import turned


@turned
async def test_that_both_ends_notice_a_dead_link_within_five_seconds() -> None:
    async with stage() as playing:
        viewer = await playing.join()
        await playing.play(1)
        playing.network.cut(playing.home, viewer.host)
        await playing.play(5)
        assert viewer.sender.connection.state == viewer.receiver.connection.state == "failed"


@turned
async def test_that_a_link_that_comes_back_after_two_seconds_goes_on_by_itself() -> None:
    async with stage() as playing:
        viewer = await playing.join()
        await playing.play(1)
        playing.network.cut(playing.home, viewer.host)
        await playing.play(2)
        playing.network.cut(playing.home, viewer.host, up=True)
        await playing.play(2)
        begun = await playing.play(1)
        assert len(viewer.since(begun)) >= FPS - 1
        assert viewer.sender.connection.state == viewer.receiver.connection.state == "connected"


@turned
async def test_that_one_who_is_away_costs_the_others_nothing() -> None:
    async with stage() as playing:
        away, other = await playing.join(), await playing.join()
        await playing.play(1)
        playing.network.cut(playing.home, away.host)
        begun = await playing.play(10)
        assert len(other.since(begun)) >= 10 * FPS - 1
        assert not any(each.keyframe for each in other.since(begun))
