"""RTP and RTCP, after decryption, into a sender and a receiver that are up."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiortc.clock import current_ms
from fuzzing import Fuzzer, recorded
from rtc_helpers import Clip, Peer, watching

from synopticon_rtc.rtc.budget import Budget

pytestmark = pytest.mark.fuzz


def dtls_of(peer: Peer) -> Any:
    (transceiver,) = peer.connection._connection.getTransceivers()
    return transceiver.receiver.transport


async def record(clip: Clip, peer: Peer, name: str) -> list[bytes]:
    async with recorded(dtls_of(peer), name) as got:
        playing = asyncio.create_task(clip.play(10_000))
        await asyncio.sleep(1.5)
        playing.cancel()
    return got


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_rtp_into_a_receiver(codec: Any, fuzz: Callable[[str], Fuzzer]) -> None:
    clip = Clip(codec)
    async with watching(clip) as (_, receiver):
        corpus = await record(clip, receiver, "_handle_rtp_data")
        receiver.frames.clear()
        dtls = dtls_of(receiver)
        number = 0

        async def feed(data: bytes) -> None:
            nonlocal number
            number += 1
            if len(data) > 4 and data[-1] % 4:  # else with whichever number
                data = data[:2] + (number % 2**16).to_bytes(2, "big") + data[4:]
            await dtls._handle_rtp_data(data, arrival_time_ms=current_ms())
            receiver.frames.clear()
            if number % 64 == 0:
                await asyncio.sleep(0)

        await fuzz(f"RTP, {codec}").run(corpus, feed)
        assert receiver.connection.state == "connected"


@pytest.mark.parametrize("whose", ["sender", "receiver"])
async def test_rtcp(whose: str, fuzz: Callable[[str], Fuzzer]) -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        peer = sender if whose == "sender" else receiver
        corpus = await record(clip, sender, "_handle_rtcp_data") + await record(clip, receiver, "_handle_rtcp_data")
        dtls = dtls_of(peer)
        dtls.feedback = Budget(1e12, 1e12)  # else few of them would be looked at

        async def feed(data: bytes) -> None:
            await dtls._handle_rtcp_data(data)

        await fuzz(f"RTCP into a {whose}").run(corpus, feed, settle=0.001)
        assert peer.connection.state == "connected"
