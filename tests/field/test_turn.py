"""TURN servers whose names have several addresses, not all of which can be reached."""

import socket
from pathlib import Path
from typing import Any

import pytest
from rtc_helpers import Clip, Peer, join
from rtc_network import coturn, silence

from synopticon_rtc.rtc import IceServer

pytestmark = pytest.mark.field


def named(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> str:
    """Give a name to addresses, and return it."""
    look_up = socket.getaddrinfo

    def known(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if host != "turn.test":
            return look_up(host, port, *args, **more)
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [(f, socket.SOCK_DGRAM, 17, "", (a, port)) for f, a in zip(families, addresses, strict=True)]

    monkeypatch.setattr(socket, "getaddrinfo", known)
    return "turn.test"


@pytest.mark.parametrize("kind", ["udp", "tcp"])
@pytest.mark.parametrize("other", ["2001:db8::1", "255.255.255.255", "127.0.0.77"])
async def test_an_address_that_leads_nowhere_costs_a_second_and_the_next_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, other: str
) -> None:
    clip = Clip()
    with silence("127.0.0.77"):
        async with coturn(tmp_path) as turn:
            host = named(monkeypatch, other, "127.0.0.1")
            suffix = "?transport=tcp" if kind == "tcp" else ""
            server = (IceServer(f"turn:{host}:{turn.port}{suffix}", "user", "secret"),)
            async with (
                Peer(ice_servers=server, relay_only=True) as sender,
                Peer(ice_servers=server, relay_only=True) as receiver,
            ):
                sender.connection.add_video(lambda _: clip.stream)
                await join(sender, receiver)
                assert sender.connection.stats().local_candidate == "relay"


async def test_where_no_address_can_be_reached_that_is_told(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    host = named(monkeypatch, "255.255.255.255")
    async with Peer(ice_servers=(IceServer(f"turn:{host}:9", "user", "secret"),), relay_only=True) as sender:
        sender.connection.add_channel("some")
        with pytest.raises(ConnectionError, match="no TURN server gave an address"):
            await sender.connection.offer()
    assert "ICE server turn:turn.test:9 is of no use: " in caplog.text
