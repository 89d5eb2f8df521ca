"""The fuzzer itself: what it begins with, and what it leaves of a fault."""

import asyncio
import re
from pathlib import Path

import pytest
from fuzzing import BATCH, CORPUS, Fuzzer, read_corpus


async def test_each_input_of_the_corpus_is_tried_as_it_is_however_short_the_time(tmp_path: Path) -> None:
    inputs = [bytes([n]) * 40 for n in range(200)]
    (tmp_path / "some.hex").write_text("".join(f"{data.hex()}\n" for data in inputs[:150]))
    tried: list[bytes] = []
    await Fuzzer("target", tmp_path, 0, 1).run(inputs[150:], tried.append)
    assert set(inputs) <= set(tried)


def test_a_corpus_holds_text_a_line_hexadecimal_a_line_and_whole_files(tmp_path: Path) -> None:
    (tmp_path / "a.hex").write_text("# from a peer\n00ff\n\n0a  # a line feed\n-\n")
    (tmp_path / "b.txt").write_text('{"type":"ping"}\n{"type":"pong"}\n')
    (tmp_path / "c.sdp").write_bytes(b"v=0\r\ns=-\r\n")
    assert read_corpus(tmp_path) == [b"\0\xff", b"\n", b"", b'{"type":"ping"}', b'{"type":"pong"}', b"v=0\r\ns=-\r\n"]


@pytest.mark.parametrize("folder", sorted(CORPUS.iterdir()), ids=lambda folder: folder.name)
def test_every_corpus_can_be_read(folder: Path) -> None:
    assert read_corpus(folder)


def written(error: AssertionError, folder: Path) -> list[bytes]:
    """Read the file that a failure tells of."""
    (path,) = re.findall(rf"in ({re.escape(str(folder))}/\w+\.hex)$", str(error))
    assert Path(path).is_file()
    return read_corpus(folder)


async def test_an_input_that_finds_a_fault_is_written_whole_and_tried_from_then_on(tmp_path: Path) -> None:
    long = bytes(range(256)) * 300

    def feed(data: bytes) -> None:
        if len(data) > 70_000:
            raise ValueError(f"{len(data)}\nbytes")

    with pytest.raises(AssertionError, match=r"target, input 0 of seed 1: ValueError") as caught:
        await Fuzzer("target", tmp_path, 0, 1).run([long], feed)
    assert written(caught.value, tmp_path) == [long]
    with pytest.raises(AssertionError, match=r"input 1 of seed 2"):
        await Fuzzer("target", tmp_path, 0, 2).run([b"short"], feed)


async def test_of_a_fault_in_the_background_all_that_may_have_made_it_is_written(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("too late to tell whose fault it is")

    def feed(data: bytes) -> None:
        if data == b"bad":
            asyncio.get_running_loop().call_soon(fail)

    with pytest.raises(AssertionError, match=f"it is one of {BATCH}") as caught:
        await Fuzzer("target", tmp_path, 0, 1).run([b"good", b"bad"], feed)
    inputs = written(caught.value, tmp_path)
    assert len(inputs) == BATCH
    assert inputs[:2] == [b"good", b"bad"]
