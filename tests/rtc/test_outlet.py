"""The way out to one peer: what leaves it is held against what the other end decrypts."""

import struct

import pytest
from aiortc import RTCDtlsTransport
from pylibsrtp import Policy, Session

from synopticon_rtc.rtc.bursts import WRITE_BUFFER_LIMIT
from synopticon_rtc.rtc.ice import DatagramTransport
from synopticon_rtc.rtc.outlet import Outlet
from synopticon_rtc.rtc.sealer import Sealer

ADDRESS = ("192.0.2.1", 5004)
SSRC = 1234
PAYLOADS = [b"one", b"two", b"three"]


def session(ssrc_type: int) -> Session:
    policy = Policy(key=bytes(30), ssrc_type=ssrc_type, srtp_profile=Policy.SRTP_PROFILE_AES128_CM_SHA1_80)
    policy.allow_repeat_tx = True  # as aiortc's are
    return Session(policy)


def packet(number: int, payload: bytes = b"payload") -> bytes:
    return struct.pack("!BBHII", 0x80, 97, number, 3000, SSRC) + payload


class Datagrams:
    """Takes datagrams, as asyncio's transport does."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.waiting = 0

    def sendto(self, data: bytes, addr: tuple[str, int]) -> None:
        assert addr == ADDRESS
        self.sent.append(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting


class Peer:
    """An outlet, and the other end of it."""

    def __init__(self) -> None:
        self.reports: list[bytes] = []
        self.rerouted = 0
        self.datagrams = Datagrams()
        self.route: tuple[DatagramTransport, tuple[str, int]] | None = (self.datagrams, ADDRESS)
        self.outlet = Outlet(self, self._count)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - all it uses
        transport = RTCDtlsTransport.__new__(RTCDtlsTransport)
        transport._tx_srtp = session(Policy.SSRC_ANY_OUTBOUND)
        self.outlet.begin(transport)
        self._inbound = session(Policy.SSRC_ANY_INBOUND)

    def _count(self) -> None:
        self.rerouted += 1

    def send_now(self, data: bytes) -> None:
        self.reports.append(data)

    def send_burst(self, number: int) -> bool:
        tail = struct.pack("!II", 3000, SSRC)
        word = 0x80610000 | number
        return self.outlet.send_burst(Sealer(), PAYLOADS, word, tail, marked=True)

    def received(self) -> list[bytes]:
        return [self._inbound.unprotect(data) for data in self.datagrams.sent]


def test_a_burst_arrives_packet_by_packet_and_marked_at_the_end() -> None:
    peer = Peer()
    assert peer.outlet.open()
    assert peer.send_burst(70)
    received = peer.received()
    assert [data[12:] for data in received] == PAYLOADS
    assert [int.from_bytes(data[2:4], "big") for data in received] == [70, 71, 72]
    assert [data[1] >> 7 for data in received] == [0, 0, 1]


def test_a_packet_arrives_as_it_was_given() -> None:
    peer = Peer()
    assert peer.outlet.send_packet(packet(70))
    assert peer.received() == [packet(70)]


def test_a_packet_may_be_sent_once_more_but_not_when_it_is_too_old_to_be_encrypted() -> None:
    peer = Peer()
    for number in 70, 70, 2000:
        assert peer.outlet.send_packet(packet(number))
    assert not peer.outlet.send_packet(packet(70))
    assert len(peer.datagrams.sent) == 3


def test_while_there_is_no_way_nothing_is_sent() -> None:
    peer = Peer()
    peer.route = None
    assert not peer.outlet.open()
    assert not peer.send_burst(70)
    assert not peer.outlet.send_packet(packet(70))
    assert not peer.outlet.is_full
    peer.outlet.close()
    assert not peer.datagrams.sent


def test_it_follows_the_selected_pair_and_says_so() -> None:
    peer = Peer()
    assert peer.outlet.open()
    assert peer.outlet.open()
    assert peer.rerouted == 0  # the first way is in nobody's place
    other = Datagrams()
    peer.route = (other, ADDRESS)
    assert peer.outlet.send_packet(packet(70))
    assert peer.rerouted == 1
    assert len(other.sent) == 1
    assert not peer.datagrams.sent
    peer.route = None
    assert not peer.outlet.open()
    assert peer.rerouted == 2


def test_what_the_system_does_not_take_is_told_and_does_not_wait() -> None:
    peer = Peer()
    peer.outlet.open()
    peer.datagrams.waiting = WRITE_BUFFER_LIMIT + 1
    assert peer.outlet.is_full
    assert not peer.send_burst(70)
    peer.datagrams.waiting = 0
    assert not peer.outlet.is_full
    assert not peer.datagrams.sent
    assert peer.send_burst(73)


def test_reports_are_encrypted_and_go_by_ice() -> None:
    peer = Peer()
    report = struct.pack("!BBHIIIIII", 0x80, 200, 6, SSRC, 0, 0, 0, 0, 0)
    peer.outlet.send_report(report)
    (sealed,) = peer.reports
    assert sealed != report
    assert session(Policy.SSRC_ANY_INBOUND).unprotect_rtcp(sealed) == report


@pytest.mark.parametrize("data", [b"", b"abc"])
def test_a_report_that_cannot_be_encrypted_is_left_out(data: bytes) -> None:
    peer = Peer()
    peer.outlet.send_report(data)
    assert not peer.reports
