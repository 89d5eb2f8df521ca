"""What browsers really sent us, played again: every frame comes out, whatever is lost and overtaken on the way.

`tests/conformance/capture.py` makes the captures.
"""

import asyncio
import random
from pathlib import Path

import aiortc
import av
import pytest
from aiortc.rtcrtpparameters import RTCRtpDecodingParameters, RTCRtpReceiveParameters, RTCRtpRtxParameters
from aiortc.rtp import AnyRtcpPacket, HeaderExtensionsMap, RtcpPacket, RtcpRtpfbPacket, RtpPacket, wrap_rtx
from aiortc.sdp import SessionDescription
from rtc_helpers import lonely_ice
from rtpdump import read, write
from turned import elapse, run

from synopticon_rtc.rtc import EncodedVideoFrame
from synopticon_rtc.rtc.receiver import VideoReceiver

CAPTURES = Path(__file__).parent / "captures"
FRAMES = {"chromium-h264": 53, "chromium-vp8": 66, "firefox-vp8": 91}
"""How many frames each holds."""
SIZE = (640, 480)
ROUND_TRIP = 0.05  # seconds


class Listener(VideoReceiver):
    """A receiver whose requests reach the link, and no network."""

    link: "Link"

    def _send(self, packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpRtpfbPacket):
            self.link.send_again(packet.lost)


class Link:
    """Brings a capture to a receiver, and again what that asks for.

    Args:
        name: Of the capture.
        loss: The chance of a packet to get lost, each time that it is sent; the first and the last do not, since
            nobody misses what is before or behind all others.
        jitter: Seconds by which a packet may be late.
    """

    def __init__(self, name: str, *, loss: float = 0.0, jitter: float = 0.0) -> None:
        self.frames: list[EncodedVideoFrame] = []
        self.lost = self.late = 0
        self._loss = loss
        self._jitter = jitter
        self._chance = random.Random(name)  # noqa: S311 - no secret
        (self._media,) = SessionDescription.parse((CAPTURES / f"{name}.sdp").read_text()).media
        self._extensions = HeaderExtensionsMap()
        self._extensions.configure(self._media.rtp)
        self._records = read(CAPTURES / f"{name}.rtpdump")
        self._sent: dict[int, RtpPacket] = {}
        self._newest = 0
        self._repairs = 40_000  # the sequence number of the next that is sent again

    @property
    def ssrc(self) -> int:
        return self._media.ssrc[0].ssrc

    def frames_on_the_wire(self) -> list[int]:
        """The timestamp of each frame: one packet of it has the marker."""
        packets = [RtpPacket.parse(record.data) for record in self._records if not record.rtcp]
        return [packet.timestamp for packet in packets if packet.ssrc == self.ssrc and packet.marker]

    async def play(self) -> None:
        """Play all of it to a receiver."""
        connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        self._receiver = await self._listen(connection.addTransceiver("video").receiver)
        async with asyncio.TaskGroup() as self._under_way:
            media = [record for record in self._records if not record.rtcp and self.ssrc == ssrc_of(record.data)]
            for record in self._records:
                await elapse(max(0.0, record.at / 1000 - self._passed()))
                if record.rtcp:
                    for report in RtcpPacket.parse(record.data):
                        await self._receiver._handle_rtcp_packet(report)
                else:
                    self._send(record.data, certain=record in (media[0], media[-1]))
            await elapse(1)
        await self._receiver.stop()
        await connection.close()

    async def _listen(self, receiver: aiortc.RTCRtpReceiver) -> VideoReceiver:
        ice = lonely_ice()
        listener = Listener.adopt(receiver, ice, 1, self.frames.append)
        assert isinstance(listener, Listener)
        listener.link = self
        codecs, (media, repair) = self._media.rtp.codecs, self._media.ssrc
        encoding = RTCRtpDecodingParameters(
            ssrc=media.ssrc, payloadType=codecs[0].payloadType or 0, rtx=RTCRtpRtxParameters(ssrc=repair.ssrc)
        )
        await listener.receive(
            RTCRtpReceiveParameters(codecs=codecs, encodings=[encoding], muxId=self._media.rtp.muxId)
        )
        self._begun = asyncio.get_running_loop().time()
        return listener

    def _passed(self) -> float:
        return asyncio.get_running_loop().time() - self._begun

    def send_again(self, numbers: list[int]) -> None:
        """Send again what is asked for, as the browser does (RFC 4588)."""
        codec = self._media.rtp.codecs[1]
        assert codec.payloadType is not None
        for number in numbers:
            again = wrap_rtx(self._sent[number], codec.payloadType, self._repairs & 0xFFFF, self._media.ssrc[1].ssrc)
            self._repairs += 1
            self._send(again.serialize(self._extensions), delay=ROUND_TRIP)

    def _send(self, data: bytes, *, certain: bool = False, delay: float = 0.0) -> None:
        packet = RtpPacket.parse(data, self._extensions)
        if packet.ssrc == self.ssrc:
            self._sent[packet.sequence_number] = packet
        if not certain and self._chance.random() < self._loss:
            self.lost += 1
            return
        if not certain:
            delay += self._chance.random() * self._jitter
        self._under_way.create_task(self._deliver(packet, delay))

    async def _deliver(self, packet: RtpPacket, delay: float) -> None:
        if delay:
            await elapse(delay)
        if packet.ssrc == self.ssrc:
            self.late += packet.sequence_number < self._newest
            self._newest = packet.sequence_number
        await self._receiver._handle_rtp_packet(packet, round(self._passed() * 1000))


def ssrc_of(data: bytes) -> int:
    return int.from_bytes(data[8:12], "big")


def pictures(frames: list[EncodedVideoFrame]) -> list[av.VideoFrame]:
    """Decode them, which fails where one is broken."""
    decoder = av.VideoCodecContext.create(frames[0].codec, "r")
    return [picture for frame in frames for picture in decoder.decode(frame.packet())] + decoder.decode(None)


@pytest.mark.parametrize(
    ("loss", "jitter"),
    [(0.0, 0.0), (0.05, 0.0), (0.0, 0.04), (0.05, 0.04)],
    ids=["as it came", "lossy", "reordered", "lossy and reordered"],
)
@pytest.mark.parametrize("name", FRAMES)
def test_every_frame_that_a_browser_sent_comes_out(name: str, loss: float, jitter: float) -> None:
    link = Link(name, loss=loss, jitter=jitter)
    run(link.play())
    assert [frame.rtp_timestamp for frame in link.frames] == link.frames_on_the_wire()
    shown = pictures(link.frames)
    assert len(shown) == FRAMES[name]
    assert {(picture.width, picture.height) for picture in shown} == {SIZE}
    assert (link.lost > 0, link.late > 0) == (loss > 0, jitter > 0)


def test_a_capture_that_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    records = read(CAPTURES / "firefox-vp8.rtpdump")
    write(tmp_path / "copy.rtpdump", records)
    assert read(tmp_path / "copy.rtpdump") == records
    assert (tmp_path / "copy.rtpdump").read_bytes() == (CAPTURES / "firefox-vp8.rtpdump").read_bytes()
