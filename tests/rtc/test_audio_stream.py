from dataclasses import dataclass, field

import pytest

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.rtc.audio_stream import PACKET_TICKS, AudioPacket, AudioStream
from synopticon_rtc.rtc.capture_time import NTP_EPOCH
from synopticon_rtc.rtc.stream import ntp_time


@dataclass
class Listener:
    loss: float | None = None
    packets: list[AudioPacket] = field(default_factory=list)

    def send_packet(self, packet: AudioPacket) -> None:
        self.packets.append(packet)


class Broken(Listener):
    def send_packet(self, packet: AudioPacket) -> None:  # noqa: ARG002 - as it is called
        raise ZeroDivisionError


def test_all_are_sent_the_same_packet() -> None:
    stream, one, two = AudioStream(7), Listener(), Listener()
    stream.add(one)
    stream.add(two)
    assert stream.send(b"sound", -312, 1000.5) == 7 - 312 + 2**32
    assert one.packets[0] is two.packets[0]
    (packet,) = one.packets
    captured, sent = (2001 + 2 * NTP_EPOCH) << 31, packet.sent
    assert packet == AudioPacket([b"sound"], 7 - 312 + 2**32, begins=True, captured=captured, stamped=True, sent=sent)
    assert ntp_time() - sent < 2**32


def test_timestamps_go_on_through_silence_and_after_it_sound_begins_anew() -> None:
    stream, listener = AudioStream(2**32 - 1000), Listener()
    stream.add(listener)
    ticks = [0, 1, 2, 5, 6]
    for number in ticks:
        stream.send(b"", number * PACKET_TICKS, number / 50)
    assert [packet.timestamp for packet in listener.packets] == [(2**32 - 1000 + t * 960) % 2**32 for t in ticks]
    assert [packet.begins for packet in listener.packets] == [True, False, False, True, False]


def test_a_packet_tells_when_it_was_captured_now_and_then_and_where_its_timestamp_would_mislead() -> None:
    stream, listener = AudioStream(), Listener()
    stream.add(listener)
    for number in range(60):
        stream.send(b"", number * PACKET_TICKS, number / 50 + (0.0005 if number < 40 else 0.002) * (number > 30))
    stamped = [number for number, packet in enumerate(listener.packets) if packet.stamped]
    assert stamped == [0, 25, 40]


def test_a_peer_that_cannot_be_sent_to_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults()
    stream, listener = AudioStream(faults=faults), Listener()
    stream.add(Broken())
    stream.add(listener)
    stream.send(b"", 0, 0.0)
    assert len(listener.packets) == faults.count == 1
    assert "ZeroDivisionError" in caplog.text


def test_who_listens_is_told_and_what_they_lose() -> None:
    counts: list[int] = []
    stream, one, two = AudioStream(on_viewers=counts.append), Listener(0.25), Listener()
    stream.add(one)
    stream.add(two)
    assert stream.has(one)
    assert stream.losses == [0.25]
    stream.remove(one)
    stream.remove(one)
    assert not stream.has(one)
    assert stream.losses == []
    assert counts == [1, 2, 1]
    assert stream.viewers == 1
