"""A sound as its receiver sees it."""

import numpy as np
import pytest
from turned import elapse, turned

from synopticon_rtc.basics import clock
from synopticon_rtc.receiving.lips import Lips
from synopticon_rtc.receiving.sound import AudioMoment, SoundStream
from synopticon_rtc.rtc import ReceivedSound

COUNT = 960
AHEAD = 500.0
"""Seconds by which the broadcaster's clock is ahead of ours."""


def received(number: int, captured: float | None, *, concealed: bool = False) -> ReceivedSound:
    return ReceivedSound(np.full((COUNT, 1), number, np.float32), number * COUNT, concealed, captured)


@turned
async def test_moments_tell_when_they_were_captured_and_what_was_made_up() -> None:
    out: list[AudioMoment] = []
    stream = SoundStream(give=out.append)
    stream.decoded(received(1, None))
    assert stream.age(out[0]) is None
    stream.decoded(received(2, clock.now() + AHEAD - 0.05, concealed=True))
    assert stream.age(out[1]) is None
    assert stream.delay is None
    stream.offset = lambda: AHEAD
    stream.decoded(received(3, clock.now() + AHEAD - 0.05))
    assert stream.age(out[2]) == stream.delay == pytest.approx(0.05)
    assert [(moment.rtp_timestamp, moment.concealed, moment.rate) for moment in out] == [
        (960, False, 48_000),
        (1920, True, 48_000),
        (2880, False, 48_000),
    ]
    assert (stream.samples, stream.concealed) == (3 * COUNT, COUNT)


@turned
async def test_it_waits_for_the_picture_and_is_given_out_at_the_end() -> None:
    out: list[AudioMoment] = []
    lips = Lips()
    stream = SoundStream(give=out.append, lips=lips)
    begun = clock.now()
    for number in range(100):
        lips.video(clock.now() - 0.13, clock.monotonic())
        stream.decoded(received(number, clock.now() - 0.05))
        await elapse(0.02)
    stream.offset = lambda: 0.0
    assert len(out) == pytest.approx(100 - 0.08 / 0.02, abs=1)
    assert stream.age(out[-1]) == pytest.approx(0.13, abs=0.021)
    stream.close()
    stream.decoded(received(100, begun))
    assert len(out) == 100
