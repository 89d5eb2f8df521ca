"""The RTP packets of one peer."""

from collections.abc import Sequence

import pytest
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpSendParameters
from aiortc.rtp import RtpPacket
from frames import encoded

from synopticon_rtc.rtc.sealer import Sealer
from synopticon_rtc.rtc.writer import PacketWriter

VP8 = RTCRtpCodecParameters(mimeType="video/VP8", clockRate=90_000, payloadType=97)
RTX = RTCRtpCodecParameters(mimeType="video/rtx", clockRate=90_000, payloadType=98, parameters={"apt": 97})


class Outlet:
    """Keeps what would be sent, before it is encrypted."""

    def __init__(self) -> None:
        self.takes = True
        self.packets: list[RtpPacket] = []

    def send_burst(self, sealer: Sealer, payloads: Sequence[bytes], word: int, tail: bytes, *, marked: bool) -> bool:  # noqa: ARG002 - as it is called
        for index, payload in enumerate(payloads):
            marker = 0x800000 if marked and index == len(payloads) - 1 else 0
            first = word & 0xFFFF0000 | marker | (word + index) & 0xFFFF
            self.send_packet(first.to_bytes(4, "big") + tail + payload)
        return self.takes

    def send_packet(self, data: bytes) -> bool:
        self.packets.append(RtpPacket.parse(data))
        return self.takes


def writer(*codecs: RTCRtpCodecParameters) -> tuple[PacketWriter, Outlet]:
    outlet = Outlet()
    made = PacketWriter(outlet, 1234, 5678)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - all it uses
    made.begin(RTCRtpSendParameters(codecs=list(codecs)))
    return made, outlet


def test_numbers_count_up_wrap_around_and_the_last_packet_of_a_frame_is_marked() -> None:
    made, outlet = writer(VP8)
    made.next_number = 65_534
    frame = encoded(3, bursts=2, packets=2)
    assert made.write(frame, 0, 0, Sealer())
    assert made.write(frame, 1, 0, Sealer())
    assert [packet.sequence_number for packet in outlet.packets] == [65_534, 65_535, 0, 1]
    assert [packet.marker for packet in outlet.packets] == [0, 0, 0, 1]
    assert [packet.payload for packet in outlet.packets] == frame.payloads
    assert {(packet.ssrc, packet.timestamp, packet.payload_type) for packet in outlet.packets} == {
        (1234, frame.timestamp, 97)
    }
    assert made.packets == 4


def test_numbers_of_what_was_not_taken_are_used_up() -> None:
    made, outlet = writer(VP8)
    outlet.takes, before = False, made.next_number
    assert not made.write(encoded(3, packets=2), 0, 0, Sealer())
    assert made.next_number == before + 2
    assert made.packets == 0


def test_what_is_sent_again_goes_on_its_own_stream_with_the_number_that_it_had() -> None:
    made, outlet = writer(VP8, RTX)
    assert made.has_rtx
    frame = encoded(3, packets=3)
    assert made.write_again(frame, 1, 0xABCD) == len(frame.payloads[1]) + 2
    made.write_again(frame, 2, 0xABCE)
    one, two = outlet.packets
    assert (one.ssrc, one.payload_type, one.marker, two.marker) == (5678, 98, 0, 1)
    assert (one.sequence_number + 1) & 0xFFFF == two.sequence_number
    assert one.payload == b"\xab\xcd" + frame.payloads[1]


def test_without_such_a_stream_it_is_the_same_packet_once_more() -> None:
    made, outlet = writer(VP8)
    assert not made.has_rtx
    frame = encoded(3, packets=2)
    made.write_again(frame, 1, 77)
    (packet,) = outlet.packets
    assert (packet.ssrc, packet.payload_type, packet.sequence_number, packet.marker) == (1234, 97, 77, 1)
    assert packet.payload == frame.payloads[1]


@pytest.mark.parametrize("codecs", [(VP8,), (VP8, RTX)])
def test_what_could_not_be_sent_again_counts_nothing(codecs: tuple[RTCRtpCodecParameters, ...]) -> None:
    made, outlet = writer(*codecs)
    outlet.takes = False
    assert made.write_again(encoded(3), 0, 77) == 0
