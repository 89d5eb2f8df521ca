import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest

from synopticon_rtc.basics import system


class WithoutReaders(asyncio.SelectorEventLoop):
    """Tells of readers and signals no more than the event loop of Windows."""


@pytest.fixture(autouse=True)
def without_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise NotImplementedError

    for name in ("add_reader", "add_signal_handler"):
        monkeypatch.setattr(WithoutReaders, name, lacking)


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, WithoutReaders])
def test_a_socket_is_told_of_while_it_can_be_read(loop: type[asyncio.SelectorEventLoop]) -> None:
    async def main() -> None:
        here, there = socket.socketpair()
        with here, there:
            told = asyncio.Event()
            forget = system.on_readable(here, told.set)
            await asyncio.sleep(2 * system.LOOK_EVERY)
            assert not told.is_set()
            there.send(b"x")
            async with asyncio.timeout(10):
                await told.wait()
            forget()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, WithoutReaders])
def test_a_signal_calls_back_until_it_is_forgotten(loop: type[asyncio.SelectorEventLoop]) -> None:
    async def main() -> None:
        told = asyncio.Event()
        forget = system.on_signal(signal.SIGTERM, told.set)
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            await told.wait()
        forget()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("without", [[], ["killpg"]], ids=["by its group", "alone"])
def test_a_process_of_a_group_of_its_own_is_ended(monkeypatch: pytest.MonkeyPatch, without: list[str]) -> None:
    for name in without:
        monkeypatch.delattr(os, name)
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, **system.group_of_its_own()) as process:
        system.end_group(process.pid)
        assert process.wait(20) < 0
    with contextlib.suppress(PermissionError):  # of somebody else's, where the number was given away meanwhile
        system.end_group(process.pid)


def test_a_file_is_locked_once(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as one, (tmp_path / "lock").open("w") as other:
        system.lock(one.fileno())
        with pytest.raises(BlockingIOError):
            system.lock(other.fileno())


def test_a_file_is_locked_once_where_windows_locks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: set[int] = set()

    def locking(handle: int, mode: int, octets: int) -> None:
        assert (mode, octets) == (2, 1)
        if handle in taken:
            raise PermissionError(13, "Permission denied")
        taken.add(handle)

    monkeypatch.setattr(system, "_fcntl", None)
    monkeypatch.setattr(system, "_msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))
    system.lock(7)
    with pytest.raises(BlockingIOError):
        system.lock(7)


@pytest.mark.parametrize("without", [[], ["memfd_create"]], ids=["in memory", "on disk"])
def test_a_scratch_file_gives_back_what_is_written(monkeypatch: pytest.MonkeyPatch, without: list[str]) -> None:
    for name in without:
        monkeypatch.delattr(os, name)
    with system.scratch_file() as file:
        file.write(b"something")
        file.seek(0)
        assert file.read() == b"something"


def test_a_system_without_limits_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert system.file_limit() != 0
    monkeypatch.setattr(system, "_resource", None)
    assert system.file_limit() is None
    system.raise_file_limit()
