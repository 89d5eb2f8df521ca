"""Files on their way to a store: what fsspec keeps in memory, a folder, and an S3 server that goes and comes back."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import boto3
import fsspec
import pytest
from field_helpers import command
from moto.server import ThreadedMotoServer
from rtc_network import free_port
from waiting import until

from synopticon_rtc import Broadcaster, SignalingServer, TestPattern
from synopticon_rtc.commands import afterwards, upload
from synopticon_rtc.commands.upload import Upload
from synopticon_rtc.errors import MissingExtra, RecordingError

LONG = 60.0
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


class Store:
    """The store in memory, which can be away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.memory = fsspec.filesystem("memory")
        self.away = False
        self.mute = threading.Event()
        self.mute.set()
        self.puts = 0
        original = type(self.memory).put_file

        def put_file(store: Any, *args: Any, **options: Any) -> None:
            self.puts += 1
            assert self.mute.wait(LONG)
            if self.away:
                raise ConnectionError("the store\nis away")
            original(store, *args, **options)

        monkeypatch.setattr(type(self.memory), "put_file", put_file)

    @property
    def files(self) -> dict[str, bytes]:
        return {path.removeprefix("/lab/"): self.memory.cat_file(path) for path in self.memory.find("/lab")}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(upload, "PAUSES", (0.02,))
    store = Store(monkeypatch)
    yield store
    store.memory.store.clear()
    store.memory.pseudo_dirs[:] = [""]


def uploading(spool: Path, out: str = "memory://lab/{name}.mkv") -> tuple[Upload, "asyncio.Queue[str]"]:
    made, told = Upload(out, spool), asyncio.Queue[str]()
    made.told = lambda _path, address: told.put_nowait(address)
    return made, told


def written(made: Upload, name: str, data: bytes = b"12345") -> str:
    path = Path(made.pattern.replace("{name}", name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def waiting(spool: Path) -> set[str]:
    return {path.name for path in spool.rglob("*") if path.is_file()} - {upload.LOCK}


async def test_a_file_is_uploaded_and_then_deleted_here(store: Store, tmp_path: Path) -> None:
    made, told = uploading(tmp_path)
    async with made, asyncio.timeout(LONG):
        made.put(written(made, "a"))
        made.put(str(tmp_path / "gone.mkv"))
        made.put(written(made, "b/c"))
        assert [await told.get(), await told.get()] == ["memory://lab/a.mkv", "memory://lab/b/c.mkv"]
    assert store.files == {"a.mkv": b"12345", "b/c.mkv": b"12345"}
    assert not waiting(tmp_path)


async def test_it_is_kept_and_tried_again_while_the_store_is_away(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, told = uploading(tmp_path)
    store.away = True
    async with made:
        path = written(made, "a")
        made.put(path)
        await until(lambda: store.puts > 3, LONG)
        assert waiting(tmp_path) == {"a.mkv", "a.mkv.begun"}
        assert [record.message for record in caplog.records] == [
            f"{path} is not uploaded yet, and tried again: the store\\nis away"
        ]
        store.away = False
        async with asyncio.timeout(LONG):
            assert await told.get() == "memory://lab/a.mkv"
    assert store.files == {"a.mkv": b"12345"}


async def test_a_store_that_hears_and_does_not_answer_is_told_of(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upload, "SLOW", 0.01)
    monkeypatch.setattr(afterwards, "PATIENCE", 0.02)
    store.mute.clear()
    made, told = uploading(tmp_path)
    await made.__aenter__()
    path = written(made, "a")
    made.put(path)
    await until(lambda: len(caplog.records) > 0, LONG)
    ending = asyncio.create_task(made.__aexit__())
    await until(lambda: len(caplog.records) > 1, LONG)
    assert [record.message for record in caplog.records] == [
        f"{path} has been uploaded for 0.01 s, and is not there yet",
        "files are still uploaded, and that is waited for; Ctrl-C once more ends it at once",
    ]
    store.mute.set()
    await ending
    assert told.get_nowait() == "memory://lab/a.mkv"


async def test_what_is_left_at_the_end_is_uploaded_the_next_time(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, _ = uploading(tmp_path)
    store.away = True
    async with made:
        made.put(written(made, "a"))
        made.put(written(made, "b"))
    assert "waits in" in caplog.text
    assert waiting(tmp_path) == {"a.mkv", "a.mkv.begun", "b.mkv"}
    store.away = False
    again, told = uploading(tmp_path)
    async with again, asyncio.timeout(LONG):
        assert {await told.get(), await told.get()} == {"memory://lab/a.mkv", "memory://lab/b.mkv"}
    assert not waiting(tmp_path)


async def test_what_arrived_before_the_process_ended_is_not_sent_again(store: Store, tmp_path: Path) -> None:
    made, _ = uploading(tmp_path)
    path = Path(written(made, "a"))
    path.with_name("a.mkv.begun").write_text("lab/a.mkv")
    store.memory.pipe_file("/lab/a.mkv", b"12345")
    async with made:
        pass
    assert store.puts == 0
    assert store.files == {"a.mkv": b"12345"}
    assert not waiting(tmp_path)


async def test_what_is_there_already_stays_as_it_is(store: Store, tmp_path: Path) -> None:
    store.memory.pipe_file("/lab/a.mkv", b"other")
    made, _ = uploading(tmp_path)
    async with made:
        made.put(written(made, "a"))
    assert store.files == {"a.mkv": b"other", "a-2.mkv": b"12345"}


async def test_what_did_not_arrive_whole_is_sent_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(type(store.memory), "put_file", lambda memory, _, there: memory.pipe_file(there, b"1"))
        made, _ = uploading(tmp_path)
        async with made:
            made.put(written(made, "a"))
        assert waiting(tmp_path) == {"a.mkv", "a.mkv.begun"}
    async with uploading(tmp_path)[0]:
        pass
    assert store.files == {"a.mkv": b"12345"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_a_disk_that_is_full_leaves_no_half_of_an_address(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, told = uploading(tmp_path)
    path = Path(written(made, "a"))
    path.with_name("a.mkv.begun.part").symlink_to("/dev/full")
    async with made, asyncio.timeout(LONG):
        made.put(str(path))
        assert await told.get() == "memory://lab/a.mkv"  # once there was room
    assert "No space left on device" in caplog.text
    assert store.files == {"a.mkv": b"12345"}


async def test_one_process_at_a_time_uploads_from_a_folder(store: Store, tmp_path: Path) -> None:
    async with uploading(tmp_path)[0]:
        with pytest.raises(RecordingError, match="another process uploads to memory://lab"):
            await uploading(tmp_path)[0].__aenter__()
    assert not store.files


async def test_a_folder_can_be_a_store(tmp_path: Path) -> None:
    made, told = uploading(tmp_path / "spool", f"file://{tmp_path}/all/{{name}}.mkv")
    async with made, asyncio.timeout(LONG):
        made.put(written(made, "lab-1/a"))
        assert await told.get() == f"file://{tmp_path}/all/lab-1/a.mkv"
    assert (tmp_path / "all/lab-1/a.mkv").read_bytes() == b"12345"


async def test_what_is_no_store_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecordingError, match="is no address of files"):
        Upload("s3://", None)
    with pytest.raises(RecordingError, match="Protocol not known: nowhere"):
        await uploading(tmp_path, "nowhere://lab/{name}.mkv")[0].__aenter__()
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match="Not a directory"):
        await uploading(tmp_path / "file")[0].__aenter__()
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtra, match=r"\[cloud\]"):
        await uploading(tmp_path)[0].__aenter__()


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


@pytest.fixture
def s3() -> Iterator["S3"]:
    server = S3()
    server.start()
    yield server
    server.stop()


class S3:
    """A server, which keeps what it has while it is stopped."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()


@contextlib.asynccontextmanager
async def killed(process: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """See to it that a process ends."""
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.mark.long
async def test_recordings_come_to_s3_also_when_it_was_away_meanwhile(
    server: SignalingServer, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=s3.url)
    client.create_bucket(Bucket="lab")
    words = ["--url", server.url, "--out", "s3://lab/all/{name}/{start}.mkv", "--segment", "1s", "--json"]
    process = await asyncio.create_subprocess_exec(
        *command("record", *words, "--spool", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"AWS_ENDPOINT_URL": s3.url},
    )
    told: list[dict[str, Any]] = []

    async def comes(event: str, state: str | None = None) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            told.append(json.loads(line))
            if (told[-1]["event"], told[-1].get("state")) == (event, state):
                return
        raise AssertionError(told)

    async with killed(process), broadcast(server), asyncio.timeout(LONG):
        await comes("uploaded")
        s3.stop()
        for _ in range(2):
            await comes("recording", "complete")
        s3.start()
        await comes("uploaded")
        process.send_signal(signal.SIGINT)
        rest, _ = await process.communicate()
    told += map(json.loads, rest.splitlines())
    uploaded = sorted(each["address"] for each in told if each["event"] == "uploaded")
    listed = client.list_objects_v2(Bucket="lab")["Contents"]
    client.close()
    assert len(uploaded) > 2
    assert uploaded == sorted(f"s3://lab/{each['Key']}" for each in listed)
    assert all(each["Size"] > 1000 for each in listed)
    assert not waiting(tmp_path)
    assert told[-1]["event"] == "summary"


def broadcast(server: SignalingServer) -> Broadcaster:
    return Broadcaster(server.url, TestPattern((320, 240)), name="lab-1")
