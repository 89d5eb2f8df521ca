"""Files between a broadcaster and a receiver, in a lobby in memory."""

from pathlib import Path
from typing import Any

import pytest
from files_helpers import written
from lobby import Lobby
from turned import elapse, turned

from synopticon_rtc import Broadcaster, Receiver
from synopticon_rtc.errors import ConnectionLost


@turned
async def test_files_go_both_ways_between_a_broadcaster_and_a_receiver(tmp_path: Path) -> None:
    lobby = Lobby()
    path = written(tmp_path / "notes.bin", 300_000)
    (tmp_path / "folder").mkdir()
    written(tmp_path / "folder" / "one.bin", 5)
    async with lobby.broadcasting("anna") as anna, Receiver(lobby.client()) as receiver:
        receiver.network = lobby.here
        with pytest.raises(ConnectionLost, match="nobody takes files"):
            await receiver.send_file(path)
        while not anna.broadcaster.peers:
            await elapse(0.1)
        (session,) = anna.broadcaster.peers
        ends: list[tuple[Broadcaster | Receiver[Any], Broadcaster | Receiver[Any], str]] = [
            (anna.broadcaster, receiver, session),
            (receiver, anna.broadcaster, anna.broadcaster.origin.session),
        ]
        for number, (end, other, to) in enumerate(ends):
            there = tmp_path / f"there {number}"
            sent = [await end.send_file(path, to=to), *await end.send_folder(tmp_path / "folder", to=to)]
            offers = other.files
            for transfer in sent:
                received = await (await anext(offers)).accept(there)
                await received.wait()
                await transfer.wait()
            assert (there / "notes.bin").read_bytes() == path.read_bytes()
            assert (there / "folder" / "one.bin").stat().st_size == 5


@turned
async def test_an_iteration_over_files_ends_with_the_receiver() -> None:
    lobby = Lobby()
    async with Receiver(lobby.client()) as receiver:
        offers = receiver.files
    assert [offer async for offer in offers] == []
