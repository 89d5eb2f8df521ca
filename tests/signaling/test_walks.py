"""Random walks of both handshakes through all that can go wrong between them: afterwards nobody is stuck."""

import pytest
from walk_world import BusyPage, Chaos, Peer, World, add_broadcaster, add_receivers

from synopticon_rtc.signaling.broadcaster_handshake import BroadcasterHandshake
from synopticon_rtc.signaling.handshake import LINK_CANDIDATES
from synopticon_rtc.signaling.receiver_handshake import EARLY_CANDIDATES, EARLY_SESSIONS, ReceiverHandshake

SEEDS = 25
STEP = 0.5

ROUGH = Chaos()
RENEWED = Chaos(lost=0, doubled=0, reordered=False)  # a real server's: it loses and reorders nothing

WORLDS: dict[
    str, tuple[int, list[list[str | None]]]
] = {  # broadcasters, and the receivers on each client with what they want
    "one of each": (1, [[None]]),
    "two of each": (2, [[None], [None]]),
    "a wanted one among two": (2, [["cam0"]]),
    "three for one": (1, [[None], [None], [None]]),
    "two on one client": (2, [[None, None]]),
    "wanted ones on one client": (2, [["cam0", "cam1"]]),
    "an idle one beside one that is served": (1, [[None, None]]),
}


@pytest.mark.parametrize(
    ("chaos", "tells", "recovered_within"),  # seconds of calm after which everybody has what they want, and keeps it
    [(ROUGH, True, 20), (ROUGH, False, 20), (RENEWED, True, 10), (RENEWED, False, 20)],
    ids=["rough", "rough-untold", "renewed", "renewed-untold"],
)
@pytest.mark.parametrize("which", WORLDS)
def test_nobody_is_stuck_and_nothing_grows(which: str, chaos: Chaos, *, tells: bool, recovered_within: float) -> None:
    count, clients = WORLDS[which]
    for seed in range(SEEDS):
        world = World(seed, tells=tells, chaos=chaos)
        broadcasters = [add_broadcaster(world, f"cam{number}") for number in range(count)]
        receivers = [add_receivers(world, *wants) for wants in clients]
        world.upset()
        while world.now < chaos.seconds + recovered_within:
            world.run(world.now + STEP)
            check_bounds(broadcasters, receivers)
        calm = [len(peer.told) for group in receivers for peer in group]
        for _ in range(60):
            world.run(world.now + STEP)
            for group in receivers:
                served = [peer for peer in group if peer.served]
                assert len(served) == min(len(group), count), (seed, world.now, [peer.told[-3:] for peer in group])
        assert calm == [len(peer.told) for group in receivers for peer in group], seed  # no stream changed hands
        links = sum(len(peer.handshake.links) for peer in broadcasters)
        assert links == sum(peer.served for group in receivers for peer in group), seed
        assert len(world.connections) == 2 * links, seed


def check_bounds(broadcasters: list[Peer], receivers: list[list[Peer]]) -> None:
    for peer in broadcasters:
        assert isinstance(peer.handshake, BroadcasterHandshake)
        assert all(link.taken <= LINK_CANDIDATES for link in peer.handshake.links.values())
    for group in receivers:
        linked = []
        for peer in group:
            handshake = peer.handshake
            assert isinstance(handshake, ReceiverHandshake)
            assert len(handshake.links) <= 1
            assert handshake.links.keys() == peer.connections.keys()
            assert len(handshake._early) <= EARLY_SESSIONS
            assert all(len(kept) <= EARLY_CANDIDATES for kept in handshake._early.values())
            assert len(handshake.heard) <= EARLY_SESSIONS
            linked += [link.session for link in handshake.links.values()]
        assert sorted(linked) == sorted(group[0].client.claimed)  # each is had once, and no claim is left


@pytest.mark.parametrize(("busy", "times"), [(0.01, 1.5), (0.1, 1.5), (0.3, 1.5), (0.7, 1.5), (1.2, 1.5), (3.0, 3)])
def test_a_busy_page_is_connected_with_once_and_soon(busy: float, times: float) -> None:
    for seed in range(SEEDS):
        world = World(seed, tells=False, chaos=Chaos(seconds=0))
        page = BusyPage(world, busy)
        world.run(2)
        (receiver,) = add_receivers(world, None)
        world.run(100)
        assert [change.state for change in receiver.told] == ["seeking", "connecting", "connected"]
        assert page.thrown == 0
        sought, _, connected = receiver.times
        asked_once = 3 * busy + 0.5  # the offer, and the answer; and what our own part may take
        assert connected - sought < times * asked_once + busy, (seed, page.offers)
