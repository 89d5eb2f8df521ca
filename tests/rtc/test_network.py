"""Which addresses and ports are gathered, and what others are told of them."""

import errno
import os
import random
import re
import socket

import pytest
from rtc_helpers import Clip, Peer, join

from synopticon_rtc.errors import NoCandidates
from synopticon_rtc.rtc import PeerConnection, network
from synopticon_rtc.rtc.network import LocalNetwork, host_addresses

CANDIDATE = re.compile(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ (\w+)")


async def candidates(**options: object) -> list[tuple[str, int, str]]:
    connection = PeerConnection(network=LocalNetwork(**options))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    connection.add_channel("some")
    try:
        offer = await connection.offer()
    finally:
        await connection.close()
    return [(host, int(port), kind) for host, port, kind in CANDIDATE.findall(offer)]


def free_range(count: int) -> tuple[int, int]:
    """Find ports that are free now, one behind the other, at every address, by chance: tests run side by side."""
    for low in random.sample(range(41_000, 60_000, count), 100):
        try:
            for port in range(low, low + count):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind(("0.0.0.0", port))  # noqa: S104 - for a moment
        except OSError:
            continue
        return low, low + count - 1
    raise AssertionError("no ports are free")


async def test_candidates_are_within_the_ports() -> None:
    low, high = free_range(20)
    for _ in range(5):
        found = await candidates(udp_ports=(low, high))
        assert found
        assert all(low <= port <= high for _, port, _ in found)


async def test_ports_that_are_taken_are_passed_by_and_where_all_are_that_is_said() -> None:
    low, high = free_range(2)
    address = "127.0.0.1"
    options = {"udp_ports": (low, high), "interfaces": [address]}
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
    ):
        one.bind((address, low))
        assert await candidates(**options) == [(address, high, "host")]
        two.bind((address, high))
        with pytest.raises(NoCandidates, match=f"no UDP port of {low}-{high} is free at 127.0.0.1: allow more"):
            await candidates(**options)


async def test_what_is_announced_is_told_instead_of_our_own_of_its_family(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = next(address for address in host_addresses() if ":" not in address)
    monkeypatch.setattr(network, "get_host_addresses", lambda **_: [mine, "::1"])
    assert {host for host, _, _ in await candidates(announce="203.0.113.5")} == {"203.0.113.5", "::1"}


async def test_peers_that_announce_what_leads_nowhere_are_called_at_what_the_other_tells() -> None:
    async with Peer(network=LocalNetwork(announce=["203.0.113.5", "2001:db8::5"])) as sender, Peer() as receiver:
        sender.connection.add_channel("faces")
        await join(sender, receiver)


async def test_loopback_is_told_beside_what_is_announced_on_the_same_port() -> None:
    found = await candidates(announce=["203.0.113.5", "2001:db8::5"], interfaces=["127.0.0.1", "::1"])
    ports = {host: port for host, port, _ in found}
    assert [host for host, _, _ in found] == ["127.0.0.1", "203.0.113.5", "::1", "2001:db8::5"]
    assert ports["127.0.0.1"] == ports["203.0.113.5"]
    assert ports["::1"] == ports["2001:db8::5"]
    assert {kind for _, _, kind in found} == {"host"}


async def test_only_the_interfaces_that_are_named_are_gathered() -> None:
    assert {host for host, _, _ in await candidates(interfaces=["lo"])} <= {"127.0.0.1", "::1"}
    mine = host_addresses()[0]
    assert [host for host, _, _ in await candidates(interfaces=[mine])] == [mine]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"udp_ports": (5, 4)}, "lowest and the highest port, 1 to 65535, not (5, 4)"),
        ({"udp_ports": (0, 4)}, "not (0, 4)"),
        ({"udp_ports": (65_000, 65_536)}, "not (65000, 65536)"),
        ({"announce": ["example.org"]}, "'example.org' cannot be announced: give an IP address"),
        ({"announce": "0.0.0.0"}, "'0.0.0.0' cannot be announced"),  # noqa: S104 - refused
        ({"interfaces": ["wg7"]}, r"no network interface or address 'wg7': there are .*lo \(127\.0\.0\.1\)"),
        ({"interfaces": "203.0.113.5"}, "no network interface or address '203.0.113.5'"),
    ],
)
def test_what_cannot_be_is_refused_in_words(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words if words.startswith("no network") else re.escape(words)):
        LocalNetwork(**options)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def test_sockets_that_were_not_chosen_are_closed_and_the_call_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "get_host_addresses", lambda **_: [f"127.0.0.{n}" for n in range(1, 13)])
    clip = Clip()
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda _: clip.stream)
        await join(sender, receiver)
        for peer in (sender, receiver):
            ice = peer.connection._ice
            assert ice is not None
            await peer.until(lambda ice=ice: len(ice._protocols) <= 3)  # type: ignore[misc]
            assert ice.selected_pair is not None
            assert ice.selected_pair.protocol in ice._protocols
        clip._request()
        await clip.play(5)
        await receiver.until(lambda: len(receiver.frames) >= 5)


async def test_where_no_socket_can_be_opened_the_limit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(LocalNetwork, "bind", full)
    with pytest.raises(NoCandidates, match=r"too many files and sockets are open: raise the limit \(ulimit -n"):
        await candidates()
