"""A frame has the same fingerprint where it is cut into packets, and where it has been put together again."""

import pytest
from rtc_helpers import Clip, Peer, join
from turned import turned

from synopticon_rtc.rtc import EncodedVideoFrame
from synopticon_rtc.rtc.fingerprint import fingerprint, fingerprint_of
from synopticon_rtc.rtc.stream import Codec, EncodedFrame


class Watching:
    """Keeps the frames of a stream as a sender has them."""

    def __init__(self) -> None:
        self.frames: dict[int, EncodedFrame] = {}

    def send_frame(self, frame: EncodedFrame, now: float) -> None:  # noqa: ARG002 - as it is called
        self.frames[frame.timestamp] = frame


@pytest.mark.parametrize("codec", ["vp8", "h264"])
@turned
async def test_both_ends_find_the_same_and_each_frame_has_its_own(codec: Codec) -> None:
    clip, watching, came = Clip(codec), Watching(), list[EncodedVideoFrame]()
    async with Peer() as sender, Peer(on_encoded=came.append) as receiver:
        sender.connection.add_video(lambda _: clip.stream, [codec])
        await join(sender, receiver)
        clip.stream.add(watching)
        await clip.play(20)
        await receiver.until(lambda: len(came) >= 20)
    found = {frame.rtp_timestamp: fingerprint(frame.data) for frame in came}
    assert found == {
        timestamp: fingerprint_of(watching.frames[timestamp], codec)
        for timestamp in found
        if timestamp in watching.frames
    }
    assert len(set(found.values())) == len(found)


def test_what_receivers_put_before_units_does_not_count() -> None:
    unit = bytes(range(1, 40))
    assert fingerprint(b"\0\0\0\1" + unit) == fingerprint(b"\x65\0\0\1" + unit) == fingerprint(unit)
