"""What commands do with files: one takes them, another sends them, over a lobby in memory."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import click
import pytest
from files_helpers import written
from lobby import Far, Lobby
from turned import elapse, turned

from synopticon_rtc import Receiver, SignalingServer
from synopticon_rtc.commands.cli import Output
from synopticon_rtc.commands.files import Inbox, bar
from synopticon_rtc.commands.send import NO_STREAM, _Sending
from synopticon_rtc.errors import FileError, NobodyAnswered, SignalingError
from synopticon_rtc.files.transfer import FileProgress
from synopticon_rtc.signaling.server.tokens import TokenKeys


@contextlib.asynccontextmanager
async def sending(lobby: Lobby, *, json: bool = False, rate: int | None = None) -> AsyncIterator[_Sending]:
    """Be what sends files to whoever is called anna."""
    receiver = Receiver(lobby.client(), broadcaster="anna", video=False, streams=(NO_STREAM,))
    receiver.network = lobby.here
    async with receiver:
        yield _Sending(receiver, Output(json=json), to="anna", rate=rate, timeout=5)


def inbox(folder: Path | None, *, json: bool = False, largest: int | None = None) -> Inbox:
    """Return what takes files."""
    return Inbox(folder, Output(json=json), largest=largest, rate=None)


def taking(far: Far, folder: Path, *, largest: int | None = None) -> contextlib.AbstractAsyncContextManager[None]:
    """Have a broadcaster take files."""
    return inbox(folder, largest=largest).taking(far.broadcaster)


@turned
async def test_files_and_folders_are_sent_and_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lobby = Lobby()
    (tmp_path / "folder").mkdir()
    paths = [written(tmp_path / "a.bin", 400_000), tmp_path / "folder"]
    written(tmp_path / "folder" / "b.bin", 3)
    async with lobby.broadcasting("anna") as anna, taking(anna, tmp_path / "there"), sending(lobby) as sent:
        await sent.send(paths)
    assert (tmp_path / "there" / "folder" / "b.bin").stat().st_size == 3
    said = capsys.readouterr().out.splitlines()
    assert said.count(f"file a.bin: {tmp_path / 'there' / 'a.bin'}") == 1
    assert "a.bin: sent, 400000 bytes" in said


@turned
async def test_programs_are_told_how_far_a_file_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lobby = Lobby()
    async with lobby.broadcasting("anna") as anna, sending(lobby, json=True, rate=20_000) as sent:
        box = inbox(tmp_path / "there", json=True)
        async with box.taking(anna.broadcaster):
            await sent.send([written(tmp_path / "a.bin", 50_000)])
            assert not box.rows()
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["state"] for line in told if line["event"] == "file"].count("complete") == 2


@turned
async def test_sending_goes_on_where_it_was_when_the_connection_is_there_again(tmp_path: Path) -> None:
    lobby = Lobby()
    path = written(tmp_path / "a.bin", 2_000_000)
    async with sending(lobby, rate=400_000) as sent:
        task = asyncio.create_task(sent.send([path]))
        async with lobby.broadcasting("anna") as anna:
            box = inbox(tmp_path / "there")
            async with box.taking(anna.broadcaster):
                await elapse(3)
                assert "a.bin" in box.rows()["files"]
        async with lobby.broadcasting("anna") as anna, taking(anna, tmp_path / "there"):
            await task
    assert (tmp_path / "there" / "a.bin").read_bytes() == path.read_bytes()


@turned
async def test_a_file_that_is_too_large_is_refused_with_the_reason(tmp_path: Path) -> None:
    lobby = Lobby()
    paths = [written(tmp_path / name, 100) for name in ("a", "b")]
    async with (
        lobby.broadcasting("anna") as anna,
        taking(anna, tmp_path / "there", largest=99),
        sending(lobby) as sent,
    ):
        with pytest.raises(FileError, match="a is not taken: it has 100 bytes, and 99 are taken at most"):
            await sent.send(paths)


@turned
async def test_who_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    async with sending(Lobby()) as sent:
        with pytest.raises(NobodyAnswered, match="no broadcaster called anna was there within 5 s"):
            await sent.send([written(tmp_path / "a", 1)])


async def sent_to(url: str, path: Path, within: float) -> None:
    """Send a file to whoever is called anna at this signaling server."""
    async with Receiver(url, broadcaster="anna", video=False, streams=(NO_STREAM,)) as receiver:
        await _Sending(receiver, Output(json=False), to="anna", rate=None, timeout=within).send([path])


async def test_a_signaling_server_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(NobodyAnswered, match=r"the signaling server ws://127\.0\.0\.1:1/ws was not there"):
        await sent_to("ws://127.0.0.1:1/ws", written(tmp_path / "a", 1), 0.5)


async def test_a_signaling_server_that_refuses_us_is_quoted_at_once(tmp_path: Path) -> None:
    async with SignalingServer(port=0, tokens=TokenKeys(secret=b"s" * 32)) as server:
        with pytest.raises(SignalingError, match="A token is needed here"):
            await sent_to(server.url, written(tmp_path / "a", 1), 60)


@turned
async def test_a_folder_that_cannot_be_made_and_options_without_one_are_wrong_use(tmp_path: Path) -> None:
    receiver = Receiver("ws://127.0.0.1:1/ws")
    with pytest.raises(click.UsageError, match="belong to --files"):
        inbox(None, largest=5)
    with pytest.raises(FileError, match="cannot be made"):
        async with inbox(written(tmp_path / "a", 1) / "b").taking(receiver):
            pass


def test_a_bar_shows_share_rate_and_time() -> None:
    assert bar(FileProgress(50, 100, 2e6, 3.2)) == "██████████░░░░░░░░░░  50%   2.0 MB/s   4 s left"
