"""Recording whoever is in a room: real broadcasters at a real server, on this machine."""

import asyncio
import contextlib
import functools
import itertools
import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import click
import pytest
import waiting
from field_helpers import command, run, run_in_terminal
from test_recorder import largest_file

import synopticon_rtc.room
from synopticon_rtc import Broadcaster, Recording, SignalingClient, SignalingServer, TestPattern
from synopticon_rtc.commands import room
from synopticon_rtc.commands.cli import Output
from synopticon_rtc.commands.kinds import Octets
from synopticon_rtc.commands.record import _Report
from synopticon_rtc.commands.room import RoomRecorder, Taped
from synopticon_rtc.errors import SignalingError
from synopticon_rtc.events import RecordingEvent, StateEvent
from synopticon_rtc.recording.names import Names
from synopticon_rtc.signaling.access import Role
from synopticon_rtc.signaling.server.tokens import Claims, TokenKeys, make_token

LONG = 30.0
until = functools.partial(waiting.until, seconds=LONG)


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


def recorder(server: SignalingServer, folder: Path) -> RoomRecorder:
    return RoomRecorder(SignalingClient(server.url), Names(f"{folder}/{{name}}/{{session}}.mkv"))


def broadcast(server: SignalingServer, name: str) -> Broadcaster:
    return Broadcaster(server.url, TestPattern((320, 240)), name=name)


@contextlib.asynccontextmanager
async def broadcasting(server: SignalingServer, name: str) -> AsyncIterator[None]:
    """Have a process broadcast meanwhile, and kill it."""
    words = command("broadcast", "--url", server.url, "--source", "test", "--size", "320x240", "--faces", "0")
    process = await asyncio.create_subprocess_exec(*words, "--name", name, stdout=asyncio.subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


def recorded(recorder: RoomRecorder) -> dict[str, int]:
    """Return how many frames of each broadcaster are written, by its name."""
    return {reel.participant.name: reel.frames for reel in recorder.reels}


def files(folder: Path) -> list[Path]:
    """Return the files that are written."""
    return sorted(folder.rglob("*.mkv"))


async def frames(path: Path) -> list[float]:
    """Return when each frame of a file was captured."""
    async with Recording(path, decode=False) as recording:
        return [moment.captured async for moment in recording if moment.captured is not None]


async def test_everybody_is_recorded_in_files_of_their_own(
    server: SignalingServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with broadcast(server, "lab-1"), recorder(server, tmp_path) as recording:
        await until(lambda: recorded(recording).get("lab-1", 0) > 10)
        async with broadcast(server, "../lab-2"):
            await until(lambda: recorded(recording).get("../lab-2", 0) > 10)
    written = files(tmp_path)
    assert [file.parent.name for file in written] == ["_lab-2", "lab-1"]
    for file, name in zip(written, ["../lab-2", "lab-1"], strict=True):
        assert len(await frames(file)) > 10
        async with Recording(file) as played:
            assert played.name == name
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.long
async def test_who_is_killed_and_comes_back_goes_on_in_the_recording_and_who_stays_away_does_not(
    server: SignalingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synopticon_rtc.room, "AWAY", LONG)
    states: list[str] = []
    async with recorder(server, tmp_path) as recording:
        recording.states.subscribe(lambda event: states.append(event.state))
        async with broadcasting(server, "lab-1"):
            await until(lambda: recorded(recording).get("lab-1", 0) > 20)
        await until(lambda: "interrupted" in states)
        before = recorded(recording)["lab-1"]
        monkeypatch.setattr(synopticon_rtc.room, "AWAY", 0.2)
        async with broadcasting(server, "lab-1"):
            await until(lambda: recorded(recording)["lab-1"] > before + 20)
        await until(lambda: not recording.reels)
        (file,) = files(tmp_path)
        captured = await frames(file)
        assert len(captured) > 40
        assert max(later - earlier for earlier, later in itertools.pairwise(captured)) > 0.3


async def test_a_disk_that_was_full_is_written_to_again(
    server: SignalingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True
    monkeypatch.setattr(room, "PAUSES", (0.05,))
    monkeypatch.setattr(room, "_is_full", lambda _folder: full)
    told: list[str] = []
    async with recorder(server, tmp_path) as recording, broadcast(server, "lab-1"):
        recording.events.subscribe(lambda event: told.append(event.file.state))
        with largest_file(300_000):
            await until(lambda: "failed" in told)
        before = recorded(recording)["lab-1"]
        assert told == ["begun", "failed"]
        full = False
        await until(lambda: recorded(recording)["lab-1"] > before + 10)
    assert told == ["begun", "failed", "begun", "complete"]
    assert len(files(tmp_path)) == 2
    assert not room._is_full(tmp_path / "nowhere")


async def test_a_server_that_refuses_ends_it(tmp_path: Path) -> None:
    secret = b"a secret of thirty-two bytes, at least"
    async with SignalingServer(port=0, tokens=TokenKeys(secret=secret)) as server, recorder(server, tmp_path) as waits:
        with pytest.raises(SignalingError, match="A token is needed"):
            await waits.wait()
        assert not waits.room.participants


@pytest.mark.parametrize("roles", [None, frozenset[Role]({"receive"})])
async def test_nobody_is_recorded_where_the_token_does_not_allow_it(
    roles: frozenset[Role] | None, tmp_path: Path
) -> None:
    secret = b"a secret of thirty-two bytes, at least"

    def client(server: SignalingServer, roles: frozenset[Role] | None) -> SignalingClient:
        return SignalingClient(server.url, token=make_token(secret, Claims(roles=roles)))

    async with (
        SignalingServer(port=0, tokens=TokenKeys(secret=secret)) as server,
        Broadcaster(client(server, frozenset({"broadcast"})), TestPattern((320, 240))) as broadcaster,
        RoomRecorder(client(server, roles), Names(f"{tmp_path}/{{name}}.mkv")) as recording,
    ):
        async with asyncio.timeout(LONG):
            with pytest.raises(SignalingError, match="does not give the role record"):
                await recording.wait()
        assert not broadcaster.peers
    assert not files(tmp_path)


@pytest.mark.parametrize(("program", "option"), [("record --out", "--name"), ("receive --record", "--lab")])
async def test_who_records_is_told_by_name(server: SignalingServer, tmp_path: Path, program: str, option: str) -> None:
    words = [*program.split(), str(tmp_path / "a.mkv"), "--url", server.url, option, "Perception Lab"]
    async with Broadcaster(server.url, TestPattern((320, 240))) as broadcaster, asyncio.timeout(LONG):
        process = await asyncio.create_subprocess_exec(*command(*words), stdout=asyncio.subprocess.DEVNULL)
        recording = await anext(event async for event in broadcaster.events if event.state == "recording")
        process.send_signal(signal.SIGINT)
        await process.wait()
    assert recording.name == "Perception Lab"


async def test_the_command_refuses_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = b"a secret of thirty-two bytes, at least"
    monkeypatch.setenv("SYNOPTICON_TOKEN", make_token(secret, Claims(roles=frozenset({"receive"}))))
    async with SignalingServer(port=0, tokens=TokenKeys(secret=secret)) as server:
        words = ["record", "--url", server.url, "--out", f"{tmp_path}/{{name}}.mkv"]
        done = await asyncio.to_thread(lambda: run(*words))
    assert (done.code, done.out) == (1, "0 files\n")
    assert done.err == (
        "record: not allowed by the signaling server: This link, or its token, does not give the role record\n"
    )


async def test_the_command_tells_what_it_does_and_runs_another_for_each_file(
    server: SignalingServer, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    done.mkdir()
    out = f"{tmp_path}/all/{{name}}.mkv"
    words = ["--url", server.url, "--out", out, "--segment", "1s", "--on-segment", f"cp -t '{done}'", "--keep", "1d"]
    process = await asyncio.create_subprocess_exec(*command("record", *words, "--json"), stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    told = []
    try:
        async with broadcast(server, "lab-1"), asyncio.timeout(LONG):
            async for line in process.stdout:
                told.append(json.loads(line))
                if told[-1]["event"] == "recording" and told[-1]["state"] == "complete":
                    break
            process.send_signal(signal.SIGINT)
            rest, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode == 0
    told += [json.loads(line) for line in rest.splitlines()]
    events = [each["event"] for each in told]
    assert (events[0], events[-1]) == ("ready", "summary")
    assert told[0]["out"] == out
    assert "stats" in events
    complete = [each["path"] for each in told if each["event"] == "recording" and each["state"] == "complete"]
    assert complete[:2] == [f"{tmp_path}/all/lab-1.mkv", f"{tmp_path}/all/lab-1-2.mkv"]
    assert told[-1]["files"] == len(complete)
    assert {path.name for path in done.iterdir()} == {Path(path).name for path in complete}


async def test_people_are_told_in_lines(
    server: SignalingServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signaling = SignalingClient(server.url)
    recording = RoomRecorder(signaling, Names(f"{tmp_path}/{{name}}.mkv"))
    report = _Report(recording, signaling, Output(json=False), whom="everybody", where="here.mkv")
    async with report.reporting():
        recording.states.emit(StateEvent("connected", "it answered", "ws_1", "lab\n1"))
        recording.events.emit(Taped("lab\n1", "ws_1", RecordingEvent("begun", "a.mkv", "it begins")))
        recording.events.emit(Taped("", "ws_2", RecordingEvent("complete", "b.mkv", "it is over")))
        report.deleted("c.mkv")
        await asyncio.sleep(0)
    report.summarize()
    assert capsys.readouterr().out.splitlines() == [
        "recording  everybody, with sound and faces, to here.mkv",
        "lab\\n1 connected: it answered",
        "recording  lab\\n1: a.mkv",
        "complete   ws_2: b.mkv",
        "deleted    c.mkv: it is too old",
        "1 file",
    ]


async def test_a_terminal_shows_who_is_recorded(server: SignalingServer, tmp_path: Path) -> None:
    words = ["record", "--url", server.url, "--out", f"{tmp_path}/{{name}}.mkv"]
    async with broadcast(server, "lab-1"):
        done = await asyncio.to_thread(run_in_terminal, *words, "--duration", "3")
    assert done.code == 0
    assert re.search(r"recorded +1 now", done.text)
    assert re.search(r"lab-1.mkv +\d+ frames", done.text.replace("\n", ""))


def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    done = run("record", "--url", "ws://127.0.0.1:1/ws", "--out", f"{tmp_path}/{{name}}.mkv", "--segment", "0s")
    told = "record: Invalid value for '--segment': '0s' is no time to choose: give 1s to 36500d. Try --help\n"
    assert (done.code, done.err) == (2, told)


def test_it_ends_in_time_where_there_is_no_server(tmp_path: Path) -> None:
    done = run("record", "--url", "ws://127.0.0.1:1/ws", "--out", f"{tmp_path}/{{name}}.mkv", "--duration", "0.5")
    assert done.code == 0
    assert done.out.endswith("0 files\n")


@pytest.mark.parametrize(("said", "octets"), [("500M", 500_000_000), ("1.5k", 1500), ("7", 7), ("2G", 2_000_000_000)])
def test_sizes_have_units(said: str, octets: int) -> None:
    assert Octets().convert(said, None, None) == octets
    for wrong in ("5T", "0", "-1", ""):
        with pytest.raises(click.BadParameter, match="is no size"):
            Octets().convert(wrong, None, None)
