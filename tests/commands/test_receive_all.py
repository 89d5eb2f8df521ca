"""What `receive --all` tells and writes of everybody in a room."""

import asyncio
import csv
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import click
import pytest
from field_helpers import command, run, run_in_terminal
from files_helpers import written
from lobby import Lobby
from turned import elapse, turned

from synopticon_rtc import Broadcaster, Recording, SignalingServer, TestPattern
from synopticon_rtc.commands.cli import Output
from synopticon_rtc.commands.everybody import Everybody
from synopticon_rtc.commands.files import Inbox
from synopticon_rtc.commands.receive import _check_all
from synopticon_rtc.errors import TableError

URL = "ws://127.0.0.1:1/ws"
SECONDS = 60.0


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


def broadcast(server: SignalingServer, name: str) -> Broadcaster:
    return Broadcaster(server.url, TestPattern((320, 240), 20), name=name)


@turned
async def test_people_are_told_who_comes_and_goes(capsys: pytest.CaptureFixture[str]) -> None:
    lobby, told = Lobby(), everybody()
    async with lobby.broadcasting("Ada\n1"):
        room = lobby.room(beside=told.beside)
        receiving = asyncio.create_task(told.receive(room, frames=None, duration=20))
        await elapse(1)
        async with lobby.broadcasting("Bo"):
            await elapse(5)
        await receiving
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == [
        "joined     Ada\\n1: connected with Ada\\n1",
        "joined     Bo: connected with Bo",
        "away       Bo: the broadcaster left: closed",
        "left       Bo: not back within 10 s",
        "left       Ada\\n1: the room was left",
    ]
    assert re.fullmatch(r"\d{3} frames of 2 participants; faces were looked for in none of them.*", last)


async def test_each_has_files_of_its_own_which_are_told_with_its_figures(
    server: SignalingServer, tmp_path: Path
) -> None:
    words = ["--record", f"{tmp_path}/{{name}}/film.mkv", "--faces-out", f"{tmp_path}/{{name}}.csv", "--json"]
    async with broadcast(server, "../Ada"), broadcast(server, "Bo"), asyncio.timeout(SECONDS):
        process = await asyncio.create_subprocess_exec(
            *command("receive", "--url", server.url, "--all", *words, "--frames", "90"), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
    assert process.returncode == 0
    told = [json.loads(line) for line in out.splitlines()]
    assert {each["name"] for each in told if each["event"] == "participant"} == {"../Ada", "Bo"}
    stats = [each for each in told if each["event"] == "stats"][-1]["participants"]
    assert [each["state"] for each in stats] == ["here", "here"]
    assert {each["faces_out"] for each in stats} == {f"{tmp_path}/_Ada.csv", f"{tmp_path}/Bo.csv"}
    assert {each["recording"] for each in stats} == {f"{tmp_path}/_Ada/film.mkv", f"{tmp_path}/Bo/film.mkv"}
    assert all(each["width"] == 320 for each in stats)
    assert told[-1]["event"] == "summary"
    assert (told[-1]["participants"], told[-1]["frames"]) == (2, 90)
    rows = [list(csv.DictReader((tmp_path / f"{name}.csv").read_text().splitlines())) for name in ("_Ada", "Bo")]
    assert sum(map(len, rows)) == 90
    assert all(abs(float(row["captured"]) - float(rows[0][-1]["captured"])) < SECONDS for row in rows[1][5:])
    async with Recording(tmp_path / "Bo" / "film.mkv") as recording:
        assert recording.name == "Bo"


async def test_a_terminal_shows_a_table(server: SignalingServer) -> None:
    async with broadcast(server, "Ada"):
        words = ["receive", "--url", server.url, "--all", "--frames", "40", "--duration", str(SECONDS)]
        done = await asyncio.to_thread(run_in_terminal, *words)
    assert done.code == 0
    assert re.search(r"name +state +fps +faces +delay +recorded", done.text)
    assert re.search(r"Ada +here +\d+\.\d +0 +\d+ ms +-", done.text)
    assert "40 frames of 1 participant; faces were looked for in none of them" in done.text


def test_one_broadcaster_and_all_are_refused_in_one_line() -> None:
    done = run("receive", "--url", URL, "--all", "--from", "Ada")
    said = "receive: --from names one broadcaster, and --all takes everybody: leave out one of them. Try --help\n"
    assert (done.code, done.err) == (2, said)


@pytest.mark.parametrize(("option", "value"), [("--show", True), ("--play", ""), ("--audio-out", Path("a.wav"))])
def test_what_is_for_one_broadcaster_is_refused(option: str, value: object) -> None:
    given = {option.removeprefix("--").replace("-", "_"): value}
    with pytest.raises(click.UsageError, match=f"{option} is for one broadcaster, and --all for everybody"):
        _check_all(broadcaster=None, **given)
    _check_all(broadcaster=None, **dict.fromkeys(given))


def everybody(record: str | None = None, faces_out: str | None = None, files: Path | None = None) -> Everybody:
    paths = [None if path is None else Path(path) for path in (record, faces_out)]
    output = Output(json=False)
    inbox = Inbox(files, output, largest=None, rate=None)
    return Everybody(output, record=paths[0], faces_out=paths[1], landmarks=None, inbox=inbox)


@turned
async def test_the_files_of_each_go_into_a_folder_of_their_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lobby, told = Lobby(), everybody(files=tmp_path / "there")
    path = written(tmp_path / "notes.bin", 5000)
    async with lobby.broadcasting("../Ada") as ada, lobby.broadcasting("Bo") as bo:
        receiving = asyncio.create_task(told.receive(lobby.room(beside=told.beside), frames=None, duration=20))
        for far in (ada, bo):
            while not far.broadcaster.peers:
                await elapse(0.1)
            await (await far.broadcaster.send_file(path, to=far.broadcaster.peers[0])).wait()
        await receiving
    came = {str(each.relative_to(tmp_path / "there")) for each in (tmp_path / "there").rglob("*.bin")}
    assert came == {"_Ada/notes.bin", "Bo/notes.bin"}
    assert f"file notes.bin: {tmp_path}/there/Bo/notes.bin" in capsys.readouterr().out.splitlines()


def test_files_of_all_need_names() -> None:
    with pytest.raises(click.UsageError, match=r"--record with --all writes .* say \{name\}, as in out/a-\{name\}.mkv"):
        everybody(record="out/a.mkv")
    with pytest.raises(click.UsageError, match=r"--faces-out with --all writes .* say \{name\}, as in a-\{name\}.csv"):
        everybody(faces_out="a.csv")
    with pytest.raises(TableError, match=r"\{name\}.xyz does not end in .parquet, .csv or .jsonl"):
        everybody(faces_out="{name}.xyz")


def test_an_empty_room_is_no_error() -> None:
    done = run("receive", "--url", URL, "--all", "--duration", "0.3")
    missing = "signaling: not connected, trying again: [Errno 111] Connect call failed ('127.0.0.1', 1)\n"
    assert (done.code, done.out) == (0, f"{missing}no frames\n")
