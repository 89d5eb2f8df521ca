"""RTP and RTCP, after decryption, into a sender and a receiver that are up."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiortc.clock import current_ms
from fuzzing import Fuzzer, recorded
from rtc_helpers import Clip, Peer, watching
from rtpdump import read
from waiting import turns

from synopticon_rtc.rtc.budget import Budget

pytestmark = pytest.mark.fuzz

CAPTURES = Path(__file__).parents[1] / "rtc" / "captures"


def dtls_of(peer: Peer) -> Any:
    (transceiver,) = peer.connection._connection.getTransceivers()
    return transceiver.receiver.transport


async def record(clip: Clip, peer: Peer, name: str) -> list[bytes]:
    async with recorded(dtls_of(peer), name) as got:
        playing = asyncio.create_task(clip.play(10_000))
        await asyncio.sleep(1.5)
        playing.cancel()
    return got


def aimed(data: bytes, live: bytes) -> bytes:
    """Mostly give an RTP packet the payload type and the source of one that is expected."""
    if len(data) < 12 or not data[-1] % 8:
        return data
    return data[:1] + bytes([data[1] & 0x80 | live[1] & 0x7F]) + data[2:8] + live[8:12] + data[12:]


@pytest.mark.parametrize(("codec", "whose"), [("vp8", "receiver"), ("h264", "receiver"), ("vp8", "sender")])
async def test_rtp(codec: Any, whose: str, fuzz: Callable[[str, str], Fuzzer]) -> None:
    clip = Clip(codec)
    captured = [record.data for path in CAPTURES.glob(f"*-{codec}.rtpdump") for record in read(path) if not record.rtcp]
    async with watching(clip) as (sender, receiver):
        live = await record(clip, receiver, "_handle_rtp_data")
        receiver.frames.clear()
        peer = sender if whose == "sender" else receiver
        dtls = dtls_of(peer)
        number = 0

        async def feed(data: bytes) -> None:
            nonlocal number
            number += 1
            data = aimed(data, live[0])
            if len(data) > 4 and data[-1] % 4:  # else with whichever number
                data = data[:2] + (number % 2**16).to_bytes(2, "big") + data[4:]
            await dtls._handle_rtp_data(data, arrival_time_ms=current_ms())
            receiver.frames.clear()
            if number % 64 == 0:
                await turns()

        await fuzz(f"RTP into a {whose}, {codec}", f"rtp-{codec}").run([*live, *captured], feed)
        assert peer.connection.state == "connected"


@pytest.mark.parametrize("whose", ["sender", "receiver"])
async def test_rtcp(whose: str, fuzz: Callable[[str, str], Fuzzer]) -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        peer = sender if whose == "sender" else receiver
        corpus = await record(clip, sender, "_handle_rtcp_data") + await record(clip, receiver, "_handle_rtcp_data")
        dtls = dtls_of(peer)
        dtls.feedback = Budget(1e12, 1e12)  # else few of them would be looked at
        (source,) = sender.connection.senders
        about = source._ssrc.to_bytes(4, "big")

        async def feed(data: bytes) -> None:
            if len(data) >= 12 and data[-1] % 8:  # feedback is mostly about what is sent
                data = data[:8] + about + data[12:]
            await dtls._handle_rtcp_data(data)

        await fuzz(f"RTCP into a {whose}", "rtcp").run(corpus, feed, settle=0.001)
        assert peer.connection.state == "connected"
