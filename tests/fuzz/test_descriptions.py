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

SAMPLES = [path.read_bytes() for path in (Path(__file__).parents[1] / "rtc").glob("*.sdp")]
CANDIDATES = [
    *(
        b"candidate:1 1 udp 2113937151 192.0.2.7 5000 typ host",
        b"candidate:1 1 udp 1 2001:db8::1 9 typ relay raddr :: rport 9",
    ),
    *(b"candidate:842163049 1 udp 1677729535 203.0.113.1 4444 typ srflx raddr 0.0.0.0 rport 0 generation 0 ufrag a",),
    b"candidate:1 1 tcp 1 192.0.2.7 9 typ host tcptype active",
    b"candidate:1 1 udp 1 0871ba70-73c9-4b3a-a8ce-9a57b81c3668.local 9 typ host",
]


async def own_offer() -> str:
    clip = Clip()
    async with Peer() as peer:
        peer.connection.add_video(lambda _: clip.stream)
        peer.connection.add_channel("faces")
        return await peer.connection.offer()


async def test_reading_an_offer(fuzz: Callable[[str], Fuzzer]) -> None:
    def feed(data: bytes) -> None:
        with contextlib.suppress(SynopticonError):
            sdp.read_offer(data.decode(errors="replace"))

    await fuzz("offers, read").run([*SAMPLES, (await own_offer()).encode()], feed)


async def test_answering_an_offer(fuzz: Callable[[str], Fuzzer]) -> None:
    async def feed(data: bytes) -> None:
        async with Peer() as peer:
            with contextlib.suppress(SynopticonError):
                await peer.connection.answer(data.decode(errors="replace"))

    await fuzz("offers, answered").run([*SAMPLES, (await own_offer()).encode()], feed)


async def test_taking_an_answer(fuzz: Callable[[str], Fuzzer]) -> None:
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

    await fuzz("answers, taken").run(corpus, feed)


async def test_candidates(fuzz: Callable[[str], Fuzzer]) -> None:
    async with Peer() as peer:
        await peer.connection.answer(await own_offer())

        async def feed(data: bytes) -> None:
            with contextlib.suppress(SynopticonError):
                await peer.connection.add_candidate(data.decode(errors="replace"), None, 0)

        await fuzz("candidates").run(CANDIDATES, feed)
