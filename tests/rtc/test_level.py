"""Levels of H.264: those that are offered are those that x264 writes, and a peer that takes less is sent none of it."""

from fractions import Fraction

import av
import numpy as np
import pytest
from rtc_helpers import Clip, Peer, join

from synopticon_rtc.errors import NoCommonCodec
from synopticon_rtc.media.codecs import opened
from synopticon_rtc.rtc.level import level_for


@pytest.mark.parametrize(
    ("size", "fps", "bitrate", "level"),
    [
        ((640, 480), 30, 1_500_000, 31),
        ((1280, 720), 30, 1_500_000, 31),
        ((1280, 720), 60, 1_500_000, 32),
        ((1280, 720), 30, 15_000_000, 32),
        ((1920, 1080), 30, 1_500_000, 40),
        ((1920, 1080), 60, 1_500_000, 42),
        ((3840, 2160), 30, 1_500_000, 51),
        ((4096, 256), 30, 1_500_000, 40),
    ],
)
def test_the_level_is_that_which_x264_writes(size: tuple[int, int], fps: int, bitrate: int, level: int) -> None:
    encoder = opened("h264", *size, bitrate=bitrate, fps=Fraction(fps), threads=1)
    frame = av.VideoFrame.from_ndarray(np.zeros((size[1] * 3 // 2, size[0]), np.uint8), format="yuv420p")
    frame.pts, frame.time_base = 0, Fraction(1, 90_000)
    (packet,) = encoder.encode(frame)
    sps = bytes(packet).split(b"\0\0\1\x67")[1]
    assert level_for(*size, fps, bitrate) == level
    assert sps[2] <= level
    assert level == 31 or sps[2] == level


async def test_video_is_offered_and_answered_at_its_level() -> None:
    clip, texts = Clip("h264"), []

    def kept(text: str) -> str:
        texts.append(text)
        return text

    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda _: clip.stream, ["h264"], level=40)
        await join(sender, receiver, offer=kept, answer=kept)
        await sender.until(lambda: clip.stream.viewers)
        await clip.play(5)
        await receiver.until(lambda: receiver.frames)
    for text in texts:
        assert "profile-level-id=42e028" in text
        assert "profile-level-id=42e01f" not in text


def limited(answer: str) -> str:
    return answer.replace("42e028", "42e01f").replace("420028", "42001f").replace("level-asymmetry-allowed=1;", "")


async def test_a_peer_that_takes_a_lower_level_alone_is_sent_vp8() -> None:
    clip = Clip("vp8")
    chosen: list[str] = []

    def select(codec: str) -> object:
        chosen.append(codec)
        return clip.stream

    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(select, ["h264"], level=40)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        await join(sender, receiver, answer=limited)
        await sender.until(lambda: chosen)
    assert chosen == ["vp8"]


async def test_a_peer_that_takes_neither_the_level_nor_vp8_is_told_why() -> None:
    clip = Clip("h264")
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda _: clip.stream, ["h264"], level=40)
        with pytest.raises(
            NoCommonCodec, match=r"up to level 3\.1, and the video is of level 4: send a smaller picture"
        ):
            await join(sender, receiver, answer=lambda text: limited(text).replace("VP8", "VP9"))


async def test_a_browser_that_names_the_least_level_and_allows_another_is_sent_what_there_is() -> None:
    clip = Clip("h264")
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda _: clip.stream, ["h264"], level=40)
        await join(sender, receiver, answer=lambda text: text.replace("42e028", "42e01f"))
        await sender.until(lambda: clip.stream.viewers)
        await clip.play(5)
        await receiver.until(lambda: receiver.frames)
