"""From a sender to a receiver's buffer, over a network that loses and reorders, while the peer is moved about."""

import asyncio
import random
from typing import Any

import pytest
from aiortc.rtp import RTCP_PSFB_PLI, RTCP_RTPFB_NACK, RtcpPsfbPacket, RtcpRtpfbPacket
from hypothesis import given, settings
from hypothesis import strategies as st
from turned import elapse, run
from walking import FPS, Show, Wire

from synopticon_rtc.rtc.assembly import FrameBuffer, Piece
from synopticon_rtc.rtc.stream import EncodedFrame, VideoStream

CALM = 4.0
"""Seconds after the last loss by which every frame arrives again."""
ASK = 0.04
"""Seconds between two requests for what is missing."""
PATIENCE = 0.3
"""Seconds without a frame after which a keyframe is asked for."""


class Passage(Wire):
    """A sender, the way to its peer, and the buffer there."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.lost = 0.0
        self.came: list[tuple[VideoStream, EncodedFrame]] = []
        self._chance = chance
        self._buffer = FrameBuffer()
        self._whole: dict[int, tuple[VideoStream, EncodedFrame]] = {}  # by the timestamp
        self._shown: tuple[VideoStream, int] | None = None
        self._last = 0.0

    def write(self, frame: EncodedFrame, position: int, first: int) -> bool:
        if not super().write(frame, position, first):
            return False
        assert self.stream is not None
        self._whole[frame.timestamp] = self.stream, frame
        before = sum(len(burst) for burst in frame.bursts[:position])
        for index in range(len(frame.bursts[position])):
            self._carry(frame, before + index, first + index)
        return True

    def write_again(self, frame: EncodedFrame, index: int, number: int) -> int:
        self._carry(frame, index, number)
        return super().write_again(frame, index, number)

    def _carry(self, frame: EncodedFrame, index: int, sequence_number: int) -> None:
        if self._chance.random() >= self.lost:
            piece = Piece(
                sequence_number=sequence_number & 0xFFFF,
                timestamp=frame.timestamp,
                marker=index == len(frame.payloads) - 1,
                data=frame.payloads[index],
                keyframe=frame.keyframe and index == 0,
                start=frame.keyframe and index == 0,
            )
            asyncio.get_running_loop().call_later(self._chance.uniform(0.01, 0.03), self._arrived, piece)

    def _arrived(self, piece: Piece) -> None:
        """Take a packet, and what can be decoded now."""
        for pieces in self._buffer.add(piece)[0]:
            stream, frame = self._whole[pieces[0].timestamp]
            number = int.from_bytes(frame.payloads[0], "big")
            whole = len(pieces) == len(frame.payloads)
            if whole and (frame.keyframe or self._shown == (stream, number - 1)):
                self._shown = stream, number
                self.came.append((stream, frame))
                self._last = asyncio.get_running_loop().time()

    async def ask(self) -> None:
        """Ask for what is missing, and for a keyframe where that does not help."""
        loop = asyncio.get_running_loop()
        while True:
            await elapse(ASK)
            if missing := [number & 0xFFFF for number in self._buffer.missing]:
                await self._handle_rtcp_packet(RtcpRtpfbPacket(RTCP_RTPFB_NACK, 0, 1, missing))
            if loop.time() - self._last > PATIENCE:
                self._last = loop.time()
                await self._handle_rtcp_packet(RtcpPsfbPacket(RTCP_PSFB_PLI, 0, 1))

    def check(self) -> None:
        super().check()
        sent, self.sent = self.sent, self.came
        super().check()  # what came is in order, complete, and once
        self.sent = sent


@pytest.mark.parametrize("layers", [2, 3])
@settings(deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(1, 25),  # frames to play
            st.sampled_from([0.0, 0.02, 0.1, 0.4]),  # share of packets lost
            st.one_of(st.none(), st.integers(0, 2)),  # where the peer is moved
            st.sampled_from([False] * 5 + [True]),  # whether the socket takes nothing
        ),
        max_size=15,
    ),
    late=st.lists(st.integers(0, 8), min_size=3, max_size=3),
    seed=st.integers(0, 2**16),
)
def test_what_a_sender_sends_comes_out_at_the_other_end(
    layers: int, steps: list[tuple[int, float, Any, bool]], late: list[int], seed: int
) -> None:
    async def walk() -> None:
        show = Show(late[:layers], begin=100)
        peer = show.join(Passage(random.Random(seed)))  # noqa: S311 - a walk that can be repeated
        asking = asyncio.create_task(peer.ask())
        for frames, loss, where, refuses in steps:
            peer.lost, peer.refuses = loss, refuses
            if where is not None:
                peer.switch(show.layers[where % layers].stream)
            await show.play(frames / FPS)
        peer.lost, peer.refuses = 0.0, False
        await show.play(CALM)
        before = len(peer.came)
        await show.play(1.0)
        assert len(peer.came) - before >= FPS // 2
        peer.check()
        asking.cancel()
        await asyncio.wait([asking])

    run(walk())
