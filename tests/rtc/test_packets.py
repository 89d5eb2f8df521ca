"""Frames cut into payloads, and no datagram of a call larger than what every network passes."""

from typing import Any

import pytest
from aiortc.codecs.h264 import h264_depayload
from aiortc.codecs.vpx import vp8_depayload
from hypothesis import given
from hypothesis import strategies as st
from rtc_helpers import Clip, Peer, is_rtp, join

from synopticon_rtc.rtc.packets import LARGEST_DATAGRAM, LARGEST_PAYLOAD, cut_h264, cut_vp8
from synopticon_rtc.rtc.sorting import HostProtocol
from synopticon_rtc.rtc.stream import Codec

SIZES = st.integers(1, 40) | st.integers(LARGEST_PAYLOAD - 4, LARGEST_PAYLOAD + 4) | st.integers(1, 20_000)


@given(SIZES, st.integers(0, 2**15 - 1))
def test_a_vp8_frame_is_put_together_again(size: int, picture_id: int) -> None:
    frame = (b"vp8" * size)[:size]
    payloads = cut_vp8(frame, picture_id)
    assert b"".join(map(vp8_depayload, payloads)) == frame
    assert [payload[0] & 0x10 for payload in payloads] == [0x10] + [0] * (len(payloads) - 1)
    assert {payload[2:4] for payload in payloads} == {(0x8000 | picture_id).to_bytes(2, "big")}
    assert max(map(len, payloads)) <= LARGEST_PAYLOAD


@given(st.lists(st.tuples(SIZES, st.sampled_from([b"\x67", b"\x68", b"\x65", b"\x41"])), max_size=12), st.booleans())
def test_the_units_of_an_h264_frame_are_put_together_again(
    units: list[tuple[int, bytes]],
    long: bool,  # noqa: FBT001 - hypothesis gives it
) -> None:
    start = b"\0\0\0\1" if long else b"\0\0\1"
    whole = b"".join(start + kind + b"u" * size for size, kind in units)
    payloads = cut_h264(whole)
    assert b"".join(map(h264_depayload, payloads)).replace(b"\0\0\0\1", start) == whole
    assert all(len(payload) <= LARGEST_PAYLOAD for payload in payloads)


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_no_datagram_of_a_call_is_larger_than_every_network_passes(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = Clip(codec)
    sizes: dict[bool, list[int]] = {True: [], False: []}
    sort = HostProtocol.sort

    def noted(protocol: HostProtocol, data: bytes, addr: tuple[Any, ...]) -> None:
        sizes[is_rtp(data)].append(len(data))
        sort(protocol, data, addr)

    monkeypatch.setattr(HostProtocol, "sort", noted)
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda _: clip.stream, [codec])
        channel = sender.connection.add_channel("messages")
        await join(sender, receiver)  # with checks and a DTLS handshake
        await receiver.until(lambda: receiver.channels)
        messages: list[bytes | str] = []
        receiver.channels[0].on_message = messages.append
        await sender.until(lambda: channel.send(b"m" * 20_000))
        await receiver.until(lambda: messages)
        await sender.until(lambda: clip.stream.viewers)
        await clip.play(5)
        await receiver.until(lambda: receiver.frames)
    assert 1000 < max(sizes[True]) <= LARGEST_DATAGRAM
    assert 1000 < max(sizes[False]) <= 1280 - 48  # aiortc makes SCTP packets for the least MTU of IPv6
