"""Who may watch is asked on the terminal."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator

import pytest

from synopticon_rtc import Receiver, SignalingServer, Visitor
from synopticon_rtc.commands.asking import Doorkeeper

ADA, BEN = Visitor("ws_1", "Ada"), Visitor("ws_2", "\x1b[2J")
QUESTION = "asks to watch. Let in? [y/N] "


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    there, here = os.pipe()
    yield there, here
    for end in there, here:
        os.close(end)


async def test_one_is_asked_about_after_the_other_and_anything_but_yes_is_no(
    pipe: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    doorkeeper, (there, here) = Doorkeeper(pipe[0]), pipe
    assert there
    asked = [asyncio.create_task(doorkeeper.admit(visitor)) for visitor in (ADA, BEN, ADA, ADA)]
    await asyncio.sleep(0)
    assert capsys.readouterr().err == f"Ada (ws_1) {QUESTION}"
    os.write(here, b"y\nno\n\n YES \n")
    assert await asyncio.gather(*asked) == [True, False, False, True]
    assert capsys.readouterr().err == f"\\x1b[2J (ws_2) {QUESTION}{f'Ada (ws_1) {QUESTION}' * 2}"


async def test_who_goes_before_the_answer_leaves_it_to_the_next(pipe: tuple[int, int]) -> None:
    doorkeeper = Doorkeeper(pipe[0])
    gone = asyncio.create_task(doorkeeper.admit(ADA))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    asked = asyncio.create_task(doorkeeper.admit(BEN))
    await asyncio.sleep(0)
    os.write(pipe[1], b"y\n")
    assert await asked


async def test_the_end_of_answers_is_no() -> None:
    with open(os.devnull) as nothing:  # noqa: ASYNC230, PTH123 - it is there at once
        assert not await Doorkeeper(nothing.fileno()).admit(ADA)
    assert not await Doorkeeper(-1).admit(ADA)


async def test_what_was_typed_before_the_question_is_no_answer() -> None:
    keyboard, terminal = os.openpty()
    try:
        os.write(keyboard, b"y\n")
        asked = asyncio.create_task(Doorkeeper(terminal).admit(ADA))
        await asyncio.sleep(0)
        os.write(keyboard, b"n\n")
        assert not await asked
    finally:
        os.close(keyboard)
        os.close(terminal)


async def test_the_command_lets_in_whom_it_is_told_to() -> None:
    async with SignalingServer(port=0) as server:
        command = ["-m", "synopticon_rtc.broadcast", "--url", server.url, "--source", "test", "--faces", "0", "--ask"]
        child = await asyncio.create_subprocess_exec(sys.executable, *command, stdin=PIPE, stdout=DEVNULL, stderr=PIPE)
        assert child.stdin
        assert child.stderr
        try:
            async with asyncio.timeout(30), Receiver(server.url) as stranger, Receiver(server.url) as friend:
                await child.stderr.readuntil(QUESTION.encode())
                child.stdin.write(b"n\n")
                await child.stderr.readuntil(QUESTION.encode())
                child.stdin.write(b"y\n")
                ends = [asyncio.ensure_future(anext(each)) for each in (stranger, friend)]
                (seen,), (refused,) = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                assert (await seen).frame.width > 0
                refused.cancel()
        finally:
            child.terminate()
            assert await child.wait() == 0
