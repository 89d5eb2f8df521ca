"""Session descriptions and candidates."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzzing import Fuzzer
from rtc_helpers import Clip, Peer

from synopticon_rtc.errors import SynopticonError
from synopticon_rtc.rtc import sdp

pytestmark = pytest.mark.fuzz

SAMPLES = [path.read_bytes() for path in (Path(__file__).parents[1] / "rtc").rglob("*.sdp")]


async def own_offer() -> str:
    clip = Clip()
    async with Peer() as peer:
        peer.connection.add_video(lambda _: clip.stream)
        peer.connection.add_channel("faces")
        return await peer.connection.offer()


async def test_reading_an_offer(fuzz: Callable[[str, str], Fuzzer]) -> None:
    def feed(data: bytes) -> None:
        with contextlib.suppress(SynopticonError):
            sdp.read_offer(data.decode(errors="replace"))

    await fuzz("offers, read", "offers").run([*SAMPLES, (await own_offer()).encode()], feed)


async def test_answering_an_offer(fuzz: Callable[[str, str], Fuzzer]) -> None:
    async def feed(data: bytes) -> None:
        async with Peer() as peer:
            with contextlib.suppress(SynopticonError):
                await peer.connection.answer(data.decode(errors="replace"))

    await fuzz("offers, answered", "offers").run([*SAMPLES, (await own_offer()).encode()], feed)


async def test_taking_an_answer(fuzz: Callable[[str, str], Fuzzer]) -> None:
    clip = Clip()
    async with Peer() as peer:
        corpus = [(await peer.connection.answer(await own_offer())).encode()]

    async def feed(data: bytes) -> None:
        async with Peer() as peer:
            peer.connection.add_video(lambda _: clip.stream)
            peer.connection.add_channel("faces")
            await peer.connection.offer()
            with contextlib.suppress(SynopticonError):
                await peer.connection.set_answer(data.decode(errors="replace"))

    await fuzz("answers, taken", "answers").run(corpus, feed)


async def test_candidates(fuzz: Callable[[str, str], Fuzzer]) -> None:
    async with Peer() as peer:
        await peer.connection.answer(await own_offer())

        async def feed(data: bytes) -> None:
            with contextlib.suppress(SynopticonError):
                await peer.connection.add_candidate(data.decode(errors="replace"), None, 0)

        await fuzz("candidates", "candidates").run([], feed)
