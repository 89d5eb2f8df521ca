"""What a stream keeps for peers that join, and the clock that it is sent by."""

import av
import pytest
from rtc_helpers import Clip
from waiting import turns

from synopticon_rtc.basics import clock as clock_module
from synopticon_rtc.rtc.backlog import BACKLOG_FRAMES
from synopticon_rtc.rtc.stream import (
    CLOCK_RATE,
    GROUP_AGE,
    GROUP_FRAMES,
    GROUP_OCTETS,
    EncodedFrame,
    VideoStream,
    ntp_time,
)


class Joining:
    """A peer that notes what it is sent."""

    def __init__(self) -> None:
        self.frames: list[EncodedFrame] = []

    def send_frame(self, frame: EncodedFrame, now: float) -> None:  # noqa: ARG002 - as viewers are called
        self.frames.append(frame)


class Clock:
    """The two clocks of a system, turned by hand."""

    def __init__(self) -> None:
        self.wall = 1.7e9
        self.even = 1000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.even

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.even += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(clock_module, "monotonic", clock.monotonic)
    return clock


def frame(number: int, *, keyframe: bool = False, octets: int = 100) -> EncodedFrame:
    payloads = [bytes(octets)]
    return EncodedFrame(payloads, [payloads], octets, number * 3000, keyframe, ntp_time(), ntp_time(), keyframe)


def joined(clip: VideoStream) -> int:
    """Have a peer join, and return how many frames it is sent at once."""
    peer = Joining()
    clip.add(peer)
    clip.remove(peer)
    return len(peer.frames)


@pytest.fixture
async def asked() -> list[int]:
    return []


@pytest.fixture
async def clip(asked: list[int]) -> VideoStream:
    return VideoStream("vp8", on_keyframe_request=lambda: asked.append(1))


async def test_a_joining_peer_is_sent_the_last_keyframe_and_all_since(clip: VideoStream, asked: list[int]) -> None:
    for number in range(10):
        clip._publish(frame(number, keyframe=number in (0, 4)))
    assert joined(clip) == 6
    assert not asked


async def test_a_keyframe_that_is_old_is_not_sent_but_another_asked_for(
    clip: VideoStream, asked: list[int], clock: Clock
) -> None:
    clip._publish(frame(0, keyframe=True))
    clock.pass_(GROUP_AGE + 0.01)
    clip._publish(frame(1))
    assert joined(clip) == 0
    assert len(asked) == 1


@pytest.mark.parametrize("step", [-3600.0, -1.0, 3600.0])
async def test_a_clock_that_is_set_neither_ages_nor_keeps_a_group(clip: VideoStream, clock: Clock, step: float) -> None:
    clip._publish(frame(0, keyframe=True))
    clock.wall += step
    clip._publish(frame(1))
    assert joined(clip) == 2
    for number in range(2, 1500):
        clock.pass_(1 / 30)
        clip._publish(frame(number))
    assert joined(clip) == 0
    assert not clip._group


async def test_time_goes_on_evenly_though_the_clock_is_set(clock: Clock) -> None:
    before = ntp_time()
    clock.pass_(0.25)
    clock.wall -= 0.24
    assert (ntp_time() - before) / 2**32 == pytest.approx(0.25, abs=1e-5)


async def test_a_frame_knows_when_it_was_captured_and_else_when_it_was_sent(clock: Clock) -> None:
    began = clock_module.now()
    clock.pass_(2.5)
    packet = av.Packet(b"frame")
    packet.pts = 2 * CLOCK_RATE
    for known, captured in ((began, ntp_time() - 2**31), (None, ntp_time())):
        peer, stream = Joining(), VideoStream("vp8", on_keyframe_request=lambda: None, began=known)
        stream.add(peer)
        stream.send(packet)
        (sent,) = peer.frames
        assert sent.ntp_time == ntp_time()
        assert sent.captured == pytest.approx(captured, abs=2**32 / 1e5)


async def test_a_group_is_bounded_in_frames_and_octets(clip: VideoStream, asked: list[int]) -> None:
    clip._publish(frame(0, keyframe=True))
    for number in range(1, GROUP_FRAMES):
        clip._publish(frame(number))
    assert joined(clip) == GROUP_FRAMES < BACKLOG_FRAMES
    clip._publish(frame(GROUP_FRAMES))
    assert joined(clip) == 0
    assert len(asked) == 1
    clip._publish(frame(100, keyframe=True, octets=GROUP_OCTETS // 2))
    clip._publish(frame(101, octets=GROUP_OCTETS // 2))
    assert joined(clip) == 2
    clip._publish(frame(102, octets=1))
    assert joined(clip) == 0
    clip._publish(frame(103))  # without what was before it
    assert joined(clip) == 0


async def test_a_peer_that_joins_at_a_high_frame_rate_is_not_sent_more_than_may_wait() -> None:
    clip = Clip()
    for _ in range(BACKLOG_FRAMES * 2):
        clip.send()
    asked = clip.requests
    assert joined(clip.stream) == 0
    assert clip.requests == asked + 1
    await turns()


async def test_keyframes_tell_when_they_were_captured_and_others_now_and_then() -> None:
    peer, clip = Joining(), Clip()
    clip.stream._began = 0
    clip.stream.add(peer)
    for number in range(60):
        clip._keyframe = number in {0, 20}
        clip.send()
    assert [number for number, sent in enumerate(peer.frames) if sent.stamped] == [0, 15, 20, 35, 50]
