"""Layers of one source, and who is sent which."""

import asyncio
import contextlib
import itertools
import math
from collections.abc import AsyncIterator
from fractions import Fraction

import av
import numpy as np
import pytest
from rtc_helpers import Peer, join
from turned import elapse, turned

from synopticon_rtc.media import Codec, Converter, Hint, Picture
from synopticon_rtc.rtc.pacer import BURST, INTERVAL, PACKET
from synopticon_rtc.rtc.rate import HOLD
from synopticon_rtc.sending.ladder import CHANGE_INTERVAL, FLOOR, RUNGS, SPEED, Ladder

WIDTH, HEIGHT = 640, 480
BITRATE = 1_000_000


class Show:
    """A ladder that is fed, with the peers that watch it, and a clock of its own for the links."""

    def __init__(self, codec: Codec = "vp8", height: int = HEIGHT, hint: Hint = "camera") -> None:
        self.height = height
        self.still = False
        self.sizes: list[int] = []
        self.ladder = Ladder(codec, bitrate=BITRATE, fps=30, origin=1000, hint=hint, on_packet=self.sizes.append)
        self.senders: list[Peer] = []
        self.now = 1000.0
        self._codec: Codec = codec
        self._noise = np.random.default_rng(1).integers(0, 255, (HEIGHT * 3 // 2, WIDTH), np.uint8)
        self._converter = Converter()
        self._count = 0

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[tuple[Peer, Peer]]:
        async with Peer() as sender, Peer() as receiver:
            sender.connection.add_video(lambda _: self.ladder.top, [self._codec])
            await join(sender, receiver)
            await sender.until(lambda: sender.connection.senders[0].stream)
            self.senders.append(sender)
            yield sender, receiver
            self.senders.remove(sender)

    def adapt(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.ladder.adapt([s for peer in self.senders for s in peer.connection.senders], self.now)

    async def play(self, frames: int) -> None:
        for _ in range(frames):
            planes = np.roll(self._noise[: self.height * 3 // 2], 0 if self.still else 4 * self._count, axis=1)
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = self._count * 3000, Fraction(1, 90_000)
            self._count += 1
            self.ladder.encode(Picture(frame, self._converter))
            await elapse(0.03)

    async def play_until(self, peer: Peer, scale: int) -> None:
        """Go on until a peer is sent a layer: on a busy machine that takes more than one keyframe."""
        async with asyncio.timeout(20):
            while self.scale(peer) != scale:
                await self.play(1)

    def congest(self, peer: Peer, bitrate: float) -> None:
        """Have it reported that a link bears no more than this."""
        (sender,) = peer.connection.senders
        sender.rate.estimate = bitrate
        sender.rate._stepped = sender.rate._reported = self.now

    def scale(self, peer: Peer) -> int:
        layer = self.ladder.layer_of(peer.connection.senders[0])
        assert layer is not None
        return layer.scale


@contextlib.asynccontextmanager
async def show(codec: Codec = "vp8", height: int = HEIGHT, hint: Hint = "camera") -> AsyncIterator[Show]:
    it = Show(codec, height, hint)
    try:
        yield it
    finally:
        await it.ladder.aclose()


@pytest.mark.parametrize("codec", ["vp8", "h264"])
@turned
async def test_a_slow_receiver_is_moved_down_and_lowers_no_other(codec: Codec) -> None:
    async with show(codec) as it, it.watched() as (slow, slow_end), it.watched() as (_, fast_end):
        await it.play(5)
        it.congest(slow, BITRATE * RUNGS[1].share)
        it.adapt()
        await it.play_until(slow, 2)
        await it.play(3)
        await slow_end.until(lambda: slow_end.frames and slow_end.frames[-1].frame.width == WIDTH // 2)
        await fast_end.until(lambda: fast_end.frames)
        assert {received.frame.width for received in fast_end.frames} == {WIDTH}
        for end in slow_end, fast_end:
            times = [received.rtp_timestamp for received in end.frames]
            assert all(later > earlier for earlier, later in itertools.pairwise(times))
        top = it.ladder._layers[0]
        assert top.encoder.bitrate == BITRATE
        assert top.encoder.keyframes <= 2  # nobody's move cost one in the others' layer


@turned
async def test_a_layer_that_an_engine_is_sent_stays_that_layer() -> None:
    async with show() as it, it.watched() as (engine, _):
        (sender,) = engine.connection.senders
        sender.fixed = True
        await it.play(5)
        it.congest(engine, BITRATE * RUNGS[1].share)
        it.adapt()
        await it.play(5)
        assert it.scale(engine) == 1
        assert it.ladder._layers[0].encoder.bitrate < BITRATE


@turned
async def test_whoever_gets_no_frames_is_noticed_unless_the_source_has_none(caplog: pytest.LogCaptureFixture) -> None:
    async with show() as it, it.watched() as (sender, end), it.watched():
        await it.play(3)
        for _ in range(20):
            it.adapt(0.25)  # the source pauses
        assert not caplog.records
        stream = it.ladder.top
        stream.remove(sender.connection.senders[0])  # as if by a fault of ours
        for _ in range(8):
            await it.play(1)
            it.adapt(0.25)
        assert "its stream does not know it" in caplog.text
        shown = len(end.frames)
        async with asyncio.timeout(20):
            while len(end.frames) == shown:
                await it.play(1)


@turned
async def test_a_link_that_bears_everything_again_is_moved_up() -> None:
    async with show() as it, it.watched() as (slow, end), it.watched():
        await it.play(3)
        it.congest(slow, BITRATE * 0.05)
        it.adapt()
        await it.play_until(slow, 4)
        sender = slow.connection.senders[0]
        for _ in range(60):
            sender.rate.reported(it.now, 0.0, 0.01)
            it.adapt(0.25)
        assert math.isinf(sender.rate.estimate)
        assert it.now - 1000 > HOLD
        await it.play_until(slow, 1)
        await it.play(3)
        await end.until(lambda: end.frames and end.frames[-1].frame.width == WIDTH)


@turned
async def test_a_receiver_alone_on_a_layer_is_sent_what_its_link_bears() -> None:
    async with show() as it, it.watched() as (slow, _):
        await it.play(3)
        it.now += CHANGE_INTERVAL
        it.congest(slow, BITRATE * 0.6)
        it.adapt()
        assert it.scale(slow) == 1
        assert it.ladder._layers[0].encoder.bitrate == BITRATE * 0.6
        it.now += CHANGE_INTERVAL
        it.congest(slow, BITRATE * 0.58)
        it.adapt()
        assert it.ladder._layers[0].encoder.bitrate == BITRATE * 0.6  # not worth a keyframe
        async with it.watched():
            it.adapt(CHANGE_INTERVAL)
            await it.play_until(slow, 2)  # another bears all of the top layer
            assert it.ladder._layers[0].encoder.bitrate == BITRATE
            assert it.ladder._layers[1].encoder.bitrate == BITRATE * RUNGS[1].share
        it.adapt(CHANGE_INTERVAL)
        await it.play_until(slow, 1)
        it.adapt()
        assert it.ladder._layers[0].encoder.bitrate == BITRATE * 0.58


@turned
async def test_links_at_the_edge_of_a_layer_do_not_swing() -> None:
    async with show() as it, it.watched() as (slow, _), it.watched():
        await it.play(3)
        edge = BITRATE * RUNGS[1].share * FLOOR
        it.congest(slow, edge * 0.9)
        it.adapt()
        await it.play_until(slow, 2)
        keyframes = it.ladder._layers[0].encoder.keyframes + it.ladder._layers[1].encoder.keyframes
        for step in range(12):
            it.congest(slow, edge * (0.97 if step % 2 else 1.03))
            it.adapt(0.25)
            await it.play(1)
        assert it.ladder._layers[0].encoder.keyframes + it.ladder._layers[1].encoder.keyframes == keyframes


@turned
async def test_what_nobody_watches_is_not_encoded() -> None:
    async with show() as it:
        await it.play(3)
        assert it.ladder.frames == 0
        async with it.watched() as (peer, _):
            await it.play(3)
            it.congest(peer, BITRATE * 0.05)
            it.adapt()
            await it.play_until(peer, 4)
            top = it.ladder._layers[0].encoder.frames
            await it.play(5)
            assert it.ladder._layers[0].encoder.frames == top
            assert 1 not in it.ladder._layers
        frames = it.ladder.frames
        await it.play(3)
        assert it.ladder.frames == frames


@pytest.mark.parametrize(("height", "index"), [(480, 2), (360, 1), (200, 0)])
@turned
async def test_the_smallest_layer_that_there_is_halves_its_frame_rate_when_it_must(height: int, index: int) -> None:
    async with show(height=height) as it, it.watched() as (slow, _):
        await it.play(3)
        it.congest(slow, BITRATE * 0.05)
        it.adapt(CHANGE_INTERVAL)
        await it.play_until(slow, RUNGS[index].scale)
        it.congest(slow, BITRATE * 0.06)
        it.adapt(CHANGE_INTERVAL)
        smallest = it.ladder._layers[index]
        assert it.ladder.layer_of(slow.connection.senders[0]) is smallest
        assert smallest.halved
        taken: list[Picture] = []
        smallest.encoder.encode = taken.append  # type: ignore[assignment]
        await it.play(10)
        assert len(taken) == 5
        it.congest(slow, BITRATE * RUNGS[index].share)
        it.adapt(CHANGE_INTERVAL)
        assert not smallest.halved


@turned
async def test_a_layer_that_is_the_smallest_no_longer_has_its_frame_rate_back() -> None:
    async with show(height=200) as it, it.watched() as (slow, _):
        await it.play(3)
        it.congest(slow, BITRATE * 0.06)
        it.adapt(CHANGE_INTERVAL)
        assert it.ladder._layers[0].halved
        it.height = 480
        await it.play(1)
        it.adapt(0.25)
        assert not it.ladder._layers[0].halved


@pytest.mark.parametrize("bitrate", [BITRATE, 20_000_000, 50_000_000])
@turned
async def test_all_layers_share_the_turns_to_send_and_are_sent_faster_than_they_are_encoded(bitrate: int) -> None:
    ladder = Ladder("vp8", bitrate=bitrate, fps=30, origin=0, on_packet=lambda _: None)
    try:
        streams = [ladder._layer(index).stream for index in range(len(RUNGS))]
        assert len({stream.pacer for stream in streams}) == 1
        for stream, rung in zip(streams, RUNGS, strict=True):
            assert stream.turn * PACKET * 8 / INTERVAL >= SPEED * bitrate * rung.share
            assert stream._burst <= BURST <= stream.turn
    finally:
        await ladder.aclose()


@turned
async def test_a_screen_keeps_its_size_on_a_slow_link_and_lowers_no_other() -> None:
    async with show(hint="screen") as it, it.watched() as (slow, slow_end):
        await it.play(5)
        it.congest(slow, BITRATE * 0.1)
        it.adapt()
        assert it.ladder.layer_of(slow.connection.senders[0]) is it.ladder._layers[0]  # alone it needs no other
        assert it.ladder._layers[0].encoder.bitrate == BITRATE * 0.1
        async with it.watched() as (_, fast_end):
            it.adapt(CHANGE_INTERVAL)
            await it.play(20)
            assert it.ladder.layer_of(slow.connection.senders[0]) is it.ladder._layers[1]
            assert it.ladder._layers[0].encoder.bitrate == BITRATE
            it.congest(slow, BITRATE * 0.1)
            it.adapt(CHANGE_INTERVAL)
            counts = len(slow_end.frames), len(fast_end.frames)
            await it.play(60)
            assert len(slow_end.frames) - counts[0] < (len(fast_end.frames) - counts[1]) / 3
        assert {received.frame.width for received in slow_end.frames} == {WIDTH}
        assert not any(layer.halved for layer in it.ladder._layers.values())


@turned
async def test_a_screen_that_stays_is_no_fault_and_tells_nothing_of_a_link(caplog: pytest.LogCaptureFixture) -> None:
    async with show(hint="screen") as it, it.watched() as (slow, _):
        it.still = True
        await it.play(60)
        it.congest(slow, BITRATE * 0.2)
        (sender,) = slow.connection.senders
        for _ in range(80):
            sender.rate.reported(it.now, 0.0, 0.01)
            it.adapt(0.25)
            await it.play(8)
        assert not caplog.records
        assert sender.rate.estimate < BITRATE * 0.4
        assert it.ladder.frames < 20
        it.still = False
        for _ in range(80):
            sender.rate.reported(it.now, 0.0, 0.01)
            it.adapt(0.25)
            await it.play(1)
        assert math.isinf(sender.rate.estimate)


@turned
async def test_who_joins_a_screen_need_not_wait_for_a_slow_link_of_another() -> None:
    async with show(hint="screen") as it, it.watched() as (slow, _):
        await it.play(5)
        it.congest(slow, 50_000)
        it.adapt()
        await it.play(30)
        await elapse(2)
        await it.play(2)  # which are seconds of work for that link
        async with it.watched() as (_, end):
            it.adapt(0.25)
            await elapse(0.1)
            assert end.frames


@turned
async def test_who_joins_a_screen_that_stays_has_it_at_once() -> None:
    async with show(hint="screen") as it, it.watched() as (_, end):
        await it.play(1)  # and never again
        await elapse(60)
        async with it.watched() as (_, late):
            await elapse(0.1)
            assert late.frames
            await elapse(60)
        keyframes = it.ladder._layers[0].encoder.keyframes
        async with it.watched() as (_, later):
            await elapse(0.1)
            assert later.frames
        assert it.ladder._layers[0].encoder.keyframes == keyframes + 1
        assert {(each.frame.width, each.frame.height) for each in end.frames} == {(WIDTH, HEIGHT)}
