"""Whatever a sender and the way from it do, what a receiver gives out can be decoded, and goes on."""

import random

import aiortc
import pytest
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtp import AnyRtcpPacket, RtpPacket
from hypothesis import given, settings
from hypothesis import strategies as st
from rtc_helpers import lonely_ice

from synopticon_rtc.rtc import EncodedVideoFrame
from synopticon_rtc.rtc.receiver import VideoReceiver
from synopticon_rtc.rtc.reception import MOST_STREAMS
from synopticon_rtc.rtc.stream import CLOCK_RATE

VP8 = RTCRtpCodecParameters(mimeType="video/VP8", clockRate=CLOCK_RATE, payloadType=96)


class Alone(VideoReceiver):
    """A receiver whose requests go nowhere."""

    def _send(self, packet: AnyRtcpPacket) -> None:
        assert len(bytes(packet)) < 1200


class Film:
    """Frames that are known again, sent from one source after the other."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.sent: dict[bytes, int] = {}
        """The number of each frame."""
        self.change()

    def change(self) -> None:
        """Go on as another source."""
        self.ssrc = self.chance.randrange(1, 2**32)
        self.sequence_number = self.chance.randrange(2**16)
        self.timestamp = self.chance.randrange(2**32)

    def frame(self, size: int, *, keyframe: bool) -> list[RtpPacket]:
        """Return the packets of the next frame."""
        number = len(self.sent)
        parts = [number.to_bytes(4, "big") + at.to_bytes(2, "big") for at in range(size)]
        parts[0] = (b"\x00" if keyframe else b"\x01") + parts[0]
        self.sent[b"".join(parts)] = number
        self.timestamp += 3000
        packets = []
        for at, part in enumerate(parts):
            packets.append(
                RtpPacket(
                    payload_type=96,
                    marker=int(at == size - 1),
                    sequence_number=self.sequence_number & 0xFFFF,
                    timestamp=self.timestamp & 0xFFFFFFFF,
                    ssrc=self.ssrc,
                    payload=(b"\x00" if at else b"\x10") + part,
                )
            )
            self.sequence_number += 1
        return packets


class Viewer:
    """Checks that each frame is whole, new, and has all that it builds on before it."""

    def __init__(self, film: Film) -> None:
        self.film = film
        self.last = -1

    def __call__(self, frame: EncodedVideoFrame) -> None:
        number = self.film.sent[frame.data]
        assert number > self.last
        assert frame.keyframe == (frame.data[0] == 0)
        assert frame.keyframe or number == self.last + 1
        self.last = number


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0, 0.02, 0.1, 0.5]), st.integers(1, 30))
@pytest.mark.long
async def test_what_comes_out_can_be_decoded_and_goes_on_after_a_keyframe(
    seed: int, loss: float, distance: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    film = Film(chance)
    viewer = Viewer(film)
    connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    receiver = connection.addTransceiver("video").receiver
    ice = lonely_ice()
    video = Alone.adopt(receiver, ice, 1, viewer)
    assert isinstance(video, Alone)
    await video.receive(RTCRtpReceiveParameters(codecs=[VP8]))
    late: list[RtpPacket] = []
    for _ in range(chance.randrange(1, MOST_STREAMS)):
        packets = [
            packet
            for _ in range(chance.randrange(1, 30))
            for packet in film.frame(chance.choice([1, 2, 3, 10, 600]), keyframe=chance.random() < 0.15)
        ]
        packets = [packet for packet in packets if chance.random() >= loss] or packets
        packets += chance.sample(packets, len(packets) // 20) + late
        order = sorted(range(len(packets)), key=lambda at: at + chance.randrange(distance))
        for at in order:
            await video._handle_rtp_packet(packets[at], 0)
        for frame in (film.frame(3, keyframe=True), film.frame(2, keyframe=False), film.frame(1, keyframe=False)):
            for packet in frame:
                await video._handle_rtp_packet(packet, 0)
        assert viewer.last == len(film.sent) - 1
        if chance.random() < 0.5:
            film.change()
            late = packets[-10:]
        else:
            late = []
    await video.stop()
    await connection.close()
