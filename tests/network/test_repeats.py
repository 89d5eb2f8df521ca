"""A minute over a bad link takes seconds, and goes the same way each time."""

from stage import Seen, Viewer, stage
from turned import elapse, run
from wires import Losses


def counts(viewer: Viewer) -> list[int]:
    """Return all that is counted."""
    sender = viewer.sender.connection.stats()
    found = [sender.packets_sent, sender.bytes_sent, sender.retransmits, sender.frames_dropped]
    for way in viewer.down, viewer.up:
        found += [way.sent, way.lost, way.dropped, way.delivered, way.octets, way.overtaken]
    return found


async def minute(seed: int, seconds: float = 60) -> tuple[list[Seen], list[int]]:
    """Play over 400 kbit/s that lose, delay and reorder, and return all that can be counted of it."""
    async with stage(seed) as playing:
        viewer = await playing.join()
        await elapse(0.5)  # the handshake, whose timers are OpenSSL's, may have something on its way
        before = counts(viewer)  # a DTLS handshake has a byte more or less each time
        for way in viewer.down, viewer.up:
            way.delay, way.jitter, way.reordered, way.losses = 0.03, 0.01, 0.01, Losses(0.02, 3)
        viewer.down.rate, viewer.down.queue = 400_000, 12_500
        await playing.play(seconds)
        return viewer.seen, [after - earlier for after, earlier in zip(counts(viewer), before, strict=True)]


def test_that_the_same_seed_gives_the_same_minute() -> None:
    seen, figures = run(minute(7, 20))
    assert (seen, figures) == run(minute(7, 20))
    assert len(seen) > 200


def test_that_another_seed_gives_another() -> None:
    assert run(minute(7, 5)) != run(minute(8, 5))
