import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from aiortc.codecs.base import Decoder
from aiortc.codecs.h264 import H264Decoder, H264Encoder, h264_depayload
from aiortc.codecs.vpx import Vp8Decoder, Vp8Encoder, vp8_depayload
from aiortc.jitterbuffer import JitterFrame
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from waiting import turns, until

from synopticon_rtc.errors import SourceError
from synopticon_rtc.media import Codec, Converter, Picture, Portrait, SharedEncoder, TestPattern
from synopticon_rtc.media.codecs import opened

TIME_BASE = Fraction(1, 90_000)
both = pytest.mark.parametrize("codec", ["vp8", "h264"])


def timed(frame: av.VideoFrame, number: int) -> av.VideoFrame:
    frame.pts, frame.time_base = number * 3000, TIME_BASE
    return frame


def pattern(count: int, size: tuple[int, int] = (320, 180), start: int = 0) -> list[av.VideoFrame]:
    card = TestPattern(size)
    return [timed(card.draw(number), number) for number in range(start, start + count)]


def start_codes(data: bytes) -> list[int]:
    """The types of the NAL units of an Annex B stream."""
    return [part[0] & 0x1F for part in data.split(b"\0\0\1")[1:]]


class Bench:
    """Encodes frames one after the other and keeps what came out."""

    def __init__(self, codec: Codec, **options: Any) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.encoder = SharedEncoder(codec, on_packet=self.queue.put_nowait, **options)

    async def encode(self, frames: Iterable[av.VideoFrame]) -> list[Any]:
        packets = []
        for frame in frames:
            self.encoder.encode(frame)
            async with asyncio.timeout(10):
                packets.append(await self.queue.get())
        return packets


@asynccontextmanager
async def bench(codec: Codec, **options: Any) -> AsyncIterator[Bench]:
    under_test = Bench(codec, **options)
    async with under_test.encoder:
        yield under_test


def decode(codec: Codec, packets: Iterable[Any]) -> list[av.VideoFrame]:
    """Send packets through aiortc's packetiser, depacketiser and decoder."""
    decoder: Decoder = Vp8Decoder() if codec == "vp8" else H264Decoder()
    packetiser = Vp8Encoder() if codec == "vp8" else H264Encoder()
    depayload = vp8_depayload if codec == "vp8" else h264_depayload
    frames = []
    for packet in packets:
        payloads, timestamp = packetiser.pack(packet)
        frames += decoder.decode(JitterFrame(b"".join(map(depayload, payloads)), timestamp))
    return [frame for frame in frames if isinstance(frame, av.VideoFrame)]


@both
async def test_each_frame_becomes_one_packet_that_aiortc_decodes(codec: Codec) -> None:
    async with bench(codec) as under_test:
        packets = await under_test.encode(pattern(12))
        decoded = decode(codec, packets)
    assert [packet.pts for packet in packets] == [number * 3000 for number in range(12)]
    assert {packet.time_base for packet in packets} == {TIME_BASE}
    assert [packet.is_keyframe for packet in packets] == [True] + [False] * 11
    luma = [frame.to_ndarray()[:180, :320] for frame in decoded]
    assert [TestPattern.read_number(image) for image in luma] == list(range(12))
    assert [frame.pts for frame in decoded] == [number * 3000 for number in range(12)]


@both
async def test_statistics_tell_what_was_done(codec: Codec) -> None:
    async with bench(codec) as under_test:
        await under_test.encode(pattern(5))
        encoder = under_test.encoder
        assert (encoder.frames, encoder.dropped, encoder.keyframes) == (5, 0, 1)
        assert 0 < encoder.encode_ms < 1000


async def test_packets_arrive_on_the_event_loop() -> None:
    threads = []
    arrived = asyncio.Event()

    def on_packet(_: object) -> None:
        threads.append(threading.get_ident())
        arrived.set()

    async with SharedEncoder("vp8", on_packet=on_packet) as encoder:
        encoder.encode(pattern(1)[0])
        await asyncio.wait_for(arrived.wait(), 10)
    assert threads == [threading.get_ident()]


async def test_the_newest_frame_wins() -> None:
    async with bench("vp8") as under_test:
        for frame in pattern(5):
            under_test.encoder.encode(frame)
        packet = await asyncio.wait_for(under_test.queue.get(), 10)
        assert packet.pts == 4 * 3000
        assert (under_test.encoder.frames, under_test.encoder.dropped) == (1, 4)


@both
async def test_a_requested_keyframe_is_the_next_frame(codec: Codec) -> None:
    async with bench(codec) as under_test:
        packets = await under_test.encode(pattern(12))
        under_test.encoder.request_keyframe()
        packets += await under_test.encode(pattern(2, start=12))
    assert [packet.pts // 3000 for packet in packets if packet.is_keyframe] == [0, 12]
    assert len(decode(codec, packets[12:])) == 2  # one can begin there


@both
async def test_keyframes_are_300_ms_apart_however_often_they_are_asked_for(codec: Codec) -> None:
    keyframes = []
    async with bench(codec) as under_test:
        for frame in pattern(30):
            under_test.encoder.request_keyframe()
            keyframes += [packet.pts // 3000 for packet in await under_test.encode([frame]) if packet.is_keyframe]
    assert keyframes == [0, 9, 18, 27]


@both
async def test_a_request_inside_the_window_is_honoured_when_it_ends(codec: Codec) -> None:
    async with bench(codec) as under_test:
        packets = await under_test.encode(pattern(3))
        under_test.encoder.request_keyframe()
        packets += await under_test.encode(pattern(25, start=3))
    assert [packet.pts // 3000 for packet in packets if packet.is_keyframe] == [0, 9]


@both
async def test_a_cut_costs_no_keyframe(codec: Codec) -> None:
    portrait = Portrait((320, 180))
    frames = pattern(15) + [timed(portrait.draw(number), number) for number in range(15, 30)]
    async with bench(codec) as under_test:
        packets = await under_test.encode(frames)
    assert [packet.pts // 3000 for packet in packets if packet.is_keyframe] == [0]


@both
async def test_a_shared_frame_stays_as_it_was(codec: Codec) -> None:
    frames = pattern(12)
    before = [(frame.to_ndarray().copy(), frame.pict_type, frame.pts, frame.time_base) for frame in frames]
    async with bench(codec) as under_test:
        for frame in frames:
            under_test.encoder.request_keyframe()
            await under_test.encode([frame])
        assert under_test.encoder.keyframes == 2
    for frame, (pixels, *rest) in zip(frames, before, strict=True):
        assert np.array_equal(frame.to_ndarray(), pixels)
        assert [frame.pict_type, frame.pts, frame.time_base] == rest
        assert frame.pict_type == PictureType.NONE


@both
async def test_the_marks_of_a_decoder_are_no_orders(codec: Codec) -> None:
    frames = pattern(12)
    for frame in frames:
        frame.pict_type = PictureType.I
    async with bench(codec) as under_test:
        packets = await under_test.encode(frames)
    assert [packet.is_keyframe for packet in packets] == [True] + [False] * 11
    assert {frame.pict_type for frame in frames} == {PictureType.I}


@both
async def test_a_new_size_begins_with_a_keyframe(codec: Codec) -> None:
    async with bench(codec) as under_test:
        packets = await under_test.encode(pattern(3) + pattern(3, (640, 360), start=3))
    assert [packet.is_keyframe for packet in packets] == [True, False, False] * 2
    assert [(frame.width, frame.height) for frame in decode(codec, packets)] == [(320, 180)] * 3 + [(640, 360)] * 3


@both
@pytest.mark.parametrize("size", [(321, 181), (320, 181), (321, 180)])
async def test_an_odd_side_loses_one_pixel(codec: Codec, size: tuple[int, int]) -> None:
    frames = [timed(frame.reformat(*size, format="rgb24"), number) for number, frame in enumerate(pattern(3))]
    async with bench(codec) as under_test:
        decoded = decode(codec, await under_test.encode(frames))
    assert [(frame.width, frame.height) for frame in decoded] == [(320, 180)] * 3
    assert [TestPattern.read_number(frame.to_ndarray()[:180, :320]) for frame in decoded] == [0, 1, 2]


@pytest.mark.parametrize("layout", ["bgr24", "rgba", "yuv422p", "yuvj420p", "nv12", "gray", "yuv420p10le"])
async def test_any_pixel_format_is_taken(layout: str) -> None:
    plain = pattern(2)
    frames = [timed(frame.reformat(format=layout), number) for number, frame in enumerate(plain)]
    async with bench("vp8") as under_test:
        decoded = decode("vp8", await under_test.encode([plain[0], timed(frames[1], 1)]))
        assert under_test.encoder.keyframes == 1
    luma = decoded[1].to_ndarray()[:180].astype(float)
    assert np.abs(luma - plain[1].to_ndarray()[:180]).mean() < 5  # in the limited range, too


@both
async def test_what_is_bt709_becomes_bt601(codec: Codec) -> None:
    red = np.full((180, 320, 3), (200, 30, 30), np.uint8)
    frame = av.VideoFrame.from_ndarray(red, format="rgb24").reformat(format="yuv420p", dst_colorspace=1)
    assert frame.colorspace == 1
    async with bench(codec) as under_test:
        (decoded,) = decode(codec, await under_test.encode([timed(frame, 0)]))
    assert np.abs(decoded.to_ndarray(format="rgb24").astype(int) - red).max() < 8


async def test_h264_is_constrained_baseline_with_parameter_sets_at_each_keyframe() -> None:
    async with bench("h264") as under_test:
        packets = await under_test.encode(pattern(12, (1280, 720)))
        under_test.encoder.request_keyframe()
        packets += await under_test.encode(pattern(1, (1280, 720), start=12))
    for packet in (packets[0], packets[12]):
        kinds = start_codes(bytes(packet))
        assert kinds[:2] == [7, 8]
        assert kinds[-1] == 5
    parameters = bytes(packets[0]).split(b"\0\0\1")[1]
    assert parameters[1] == 0x42  # baseline
    assert parameters[2] & 0xC0 == 0xC0  # constrained
    assert parameters[3] == 31  # level 3.1
    assert start_codes(bytes(packets[1])) == [1]


@both
async def test_the_bitrate_is_kept(codec: Codec) -> None:
    portrait = Portrait((640, 360))
    async with bench(codec, bitrate=600_000) as under_test:
        packets = await under_test.encode(timed(portrait.draw(number), number) for number in range(90))
    rate = sum(packet.size for packet in packets[30:]) * 8 / 2
    assert 400_000 < rate < 720_000


async def rates(codec: Codec, before: int, after: int) -> tuple[float, float, list[int]]:
    """The bits per second before and after a change at frame 60, and the keyframes."""
    portrait = Portrait((640, 360))
    frames = [timed(portrait.draw(number), number) for number in range(150)]
    async with bench(codec, bitrate=before) as under_test:
        packets = await under_test.encode(frames[:60])
        under_test.encoder.set_bitrate(after)
        assert under_test.encoder.bitrate == after
        packets += await under_test.encode(frames[60:])
    keyframes = [packet.pts // 3000 for packet in packets if packet.is_keyframe]
    return sum(p.size for p in packets[30:60]) * 8.0, sum(p.size for p in packets[120:]) * 8.0, keyframes


async def test_h264_lowers_the_bitrate_without_a_keyframe() -> None:
    before, after, keyframes = await rates("h264", 900_000, 250_000)
    assert after < 350_000 < before
    assert keyframes == [0]


async def test_h264_raises_the_bitrate_beyond_its_ceiling_with_a_keyframe() -> None:
    before, after, keyframes = await rates("h264", 200_000, 700_000)
    assert before < 300_000
    assert after > 500_000
    assert keyframes == [0, 60]


async def test_vp8_changes_the_bitrate_with_a_keyframe() -> None:
    before, after, keyframes = await rates("vp8", 900_000, 250_000)
    assert after < 350_000 < before
    assert keyframes == [0, 60]


async def test_a_changed_bitrate_waits_for_the_keyframe_window() -> None:
    async with bench("vp8", bitrate=900_000) as under_test:
        packets = await under_test.encode(pattern(3))
        under_test.encoder.set_bitrate(300_000)
        packets += await under_test.encode(pattern(15, start=3))
    assert [packet.pts // 3000 for packet in packets if packet.is_keyframe] == [0, 9]


async def test_the_memory_of_an_encoder_is_free_before_it_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def contexts() -> set[int]:
        return {id(one) for one in gc.get_objects() if issubclass(type(one), VideoCodecContext)}  # some are dead

    def counted(*arguments: Any, **options: Any) -> VideoCodecContext:
        there.append(len(contexts() - before))
        return opened(*arguments, **options)

    there: list[int] = []
    before = contexts()
    monkeypatch.setattr("synopticon_rtc.media.encoder.opened", counted)
    async with bench("vp8", bitrate=900_000) as under_test:
        await under_test.encode(pattern(1))
        under_test.encoder.set_bitrate(300_000)
        await under_test.encode(pattern(1, start=10))
        await under_test.encode(pattern(1, size=(160, 90), start=20))
    assert there == [0, 0, 0]


async def test_a_frame_that_cannot_be_encoded_is_told_at_the_next() -> None:
    async with bench("vp8") as under_test:
        under_test.encoder.encode(timed(av.VideoFrame(16_400, 16, "yuv420p"), 0))
        await until(under_test.encoder._task.done)
        with pytest.raises(SourceError, match=r"^the vp8 encoder cannot encode a 16400x16 yuv420p frame: .*size$"):
            under_test.encoder.encode(pattern(1)[0])


async def test_closing_ends_the_thread_and_the_packets() -> None:
    packets: list[Any] = []
    encoder = SharedEncoder("vp8", on_packet=packets.append)
    encoder.encode(pattern(1)[0])
    await turns()  # it is in the encoder's hands
    await encoder.aclose()
    await encoder.aclose()
    assert packets == []
    with pytest.raises(RuntimeError, match="closed"):
        encoder.encode(pattern(1)[0])
    for thread in threading.enumerate():
        if thread.name.startswith("vp8-encoder"):
            thread.join(5)
            assert not thread.is_alive()


@pytest.mark.parametrize("options", [{"codec": "av2"}, {"bitrate": 0}, {"fps": -1}])
async def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"codec": "vp8", "on_packet": print} | options
    with pytest.raises(ValueError, match=r"no such codec|must be positive"):
        SharedEncoder(**arguments)


async def test_a_bitrate_of_nothing_is_refused() -> None:
    async with bench("vp8") as under_test:
        with pytest.raises(ValueError, match="must be positive"):
            under_test.encoder.set_bitrate(0)


async def test_vp8_is_of_the_profile_that_all_hardware_decodes() -> None:
    async with bench("vp8") as under_test:
        packets = await under_test.encode(pattern(5))
    # The version of the bitstream: three bits of the frame tag (RFC 6386 section 9.1).
    assert {bytes(packet)[0] >> 1 & 7 for packet in packets} == {0}


@both
@pytest.mark.parametrize("kind", ["fits", "odd lines", "keyframe"])
async def test_a_frame_that_is_encoded_is_left_as_it_was(codec: Codec, kind: str) -> None:
    size = (322, 182) if kind == "odd lines" else (320, 180)
    frame = pattern(1, size)[0]
    frame.pict_type = PictureType.P
    picture = Picture(frame, Converter(), 9000)
    before = (frame.pts, frame.time_base, frame.pict_type, frame.to_ndarray().tobytes())
    async with bench(codec) as under_test:
        if kind == "keyframe":
            under_test.encoder.request_keyframe()
        under_test.encoder.encode(picture)
        packet = await asyncio.wait_for(under_test.queue.get(), 10)
        under_test.encoder.encode(Picture(frame, Converter(), 12_000))  # the same again, later
        later = await asyncio.wait_for(under_test.queue.get(), 10)
    assert (packet.pts, later.pts) == (9000, 12_000)
    assert (frame.pts, frame.time_base, frame.pict_type, frame.to_ndarray().tobytes()) == before
    assert picture.planar() is not frame


async def test_an_encoder_whose_task_was_cancelled_says_so() -> None:
    async with bench("vp8") as under_test:
        under_test.encoder._task.cancel()
        await asyncio.wait([under_test.encoder._task])
        with pytest.raises(SourceError, match="vp8 encoder was cancelled"):
            under_test.encoder.encode(pattern(1)[0])


async def test_an_encoder_of_others_choice_is_used() -> None:
    async with bench("vp8", encoder="vp8", bitrate=500_000) as under_test:  # libvpx, without the options of ours
        packets = await under_test.encode(pattern(12))
        under_test.encoder.request_keyframe()
        under_test.encoder.set_bitrate(300_000)
        packets += await under_test.encode(pattern(2, start=12))
    assert [packet.pts // 3000 for packet in packets if packet.is_keyframe] == [0, 12]
    assert len(decode("vp8", packets)) == 14


async def test_where_an_encoder_of_others_choice_fails_our_own_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async with bench("h264", encoder="libx264rgb") as under_test:
        packets = await under_test.encode(pattern(3))
    assert len(decode("h264", packets)) == 3
    assert caplog.messages == ["libx264 encodes from now on: libx264rgb failed (Invalid argument)"]
