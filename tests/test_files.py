"""Files between a broadcaster and a receiver, in a lobby in memory."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from files_helpers import written
from lobby import Lobby
from turned import elapse, turned

from synopticon_rtc import Broadcaster, Receiver
from synopticon_rtc.errors import ConnectionLost
from synopticon_rtc.events import PeerEvent


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


@contextlib.asynccontextmanager
async def called(lobby: Lobby, broadcaster: Broadcaster, *names: str) -> AsyncIterator[list[Receiver[Any]]]:
    """Have receivers of these names watch a broadcaster, whoever else does."""
    async with contextlib.AsyncExitStack() as stack:
        receivers: list[Receiver[Any]] = []
        for name in names:
            receiver = Receiver(lobby.client(), name=name)
            receiver.network = lobby.here
            receivers.append(await stack.enter_async_context(receiver))
            while len(broadcaster.peers) < len(receivers):
                await elapse(0.1)
        yield receivers


@turned
async def test_a_receiver_is_reached_by_its_name_or_its_session(tmp_path: Path) -> None:
    lobby, path = Lobby(), written(tmp_path / "notes.bin", 100)
    async with lobby.broadcasting("anna") as anna, called(lobby, anna.broadcaster, "bob", "eve") as (bob, _):
        for number, to in enumerate(["bob", anna.broadcaster.peers[0]]):
            sent = await anna.broadcaster.send_file(path, to=to)
            assert sent.session == anna.broadcaster.peers[0]
            await (await anext(bob.files)).accept(tmp_path / str(number))
            await sent.wait()
        heard = bob.messages("notes")
        await anna.broadcaster.send("notes", "hello", to="bob")
        assert (await anext(heard)).data == "hello"
        with pytest.raises(ConnectionLost, match="carl is not connected"):
            await anna.broadcaster.send_file(path, to="carl")


@turned
async def test_nobody_takes_the_place_of_another_by_a_name(tmp_path: Path) -> None:
    lobby, path = Lobby(), written(tmp_path / "notes.bin", 100)
    async with lobby.broadcasting("anna") as anna, called(lobby, anna.broadcaster, "bob") as (bob,):
        session = anna.broadcaster.peers[0]
        for name in (session, "bob"):
            eve = Receiver(lobby.client(), name=name)
            eve.network = lobby.here
            async with eve:
                while len(anna.broadcaster.peers) < 2:
                    await elapse(0.1)
                assert (await anna.broadcaster.send_file(path, to=session)).session == session
                (await anext(bob.files)).reject()
                if name == "bob":
                    with pytest.raises(ValueError, match=f"several receivers are called bob: .*{session}, ws_"):
                        await anna.broadcaster.send_folder(tmp_path, to="bob")
            while len(anna.broadcaster.peers) > 1:
                await elapse(0.1)


@turned
async def test_events_say_what_a_receiver_calls_itself() -> None:
    lobby = Lobby()
    async with lobby.broadcasting("anna") as anna:
        told: list[PeerEvent] = []
        anna.broadcaster.events.subscribe(told.append)
        async with called(lobby, anna.broadcaster, "bob\x1b"):
            pass
        await elapse(1)
    assert [(event.state, event.name) for event in told] == [
        (state, "bob\\x1b") for state in ("connecting", "connected", "closed")
    ]


def test_a_name_is_a_text() -> None:
    with pytest.raises(TypeError, match="name must be a text, not 5"):
        Receiver("ws://127.0.0.1:1/ws", name=5)  # type: ignore[call-overload]


@turned
async def test_an_iteration_over_files_ends_with_the_receiver() -> None:
    lobby = Lobby()
    async with Receiver(lobby.client()) as receiver:
        offers = receiver.files
    assert [offer async for offer in offers] == []
