"""What reaches a peer's sockets from anybody: with an address alone, with its offer, or with a connection to it."""

import asyncio
import inspect
import logging
import re
from struct import pack
from typing import Any

import dns.message
import dns.name
import pylibsrtp
import pytest
from aioice import stun
from aioice.ice import CandidatePair
from aiortc.rtcdtlstransport import RTCDtlsTransport, RtpRouter
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import HeaderExtensionsMap, RtcpPacket, RtpPacket
from rtc_attacks import address_of, attacked, check, flood, sctp_of, seeded, still_talk, stranger
from rtc_helpers import Clip, Peer, describe, watching
from rtc_network import coturn
from waiting import turns

from synopticon_rtc.rtc import ice, network, seams, servers, sorting, transport
from synopticon_rtc.rtc.ice import IceConnection


def ice_of(peer: Peer) -> IceConnection:
    connection = peer.connection._ice
    assert connection is not None
    return connection


CUT_SHORT = pack("!HHI12sHH", 1, 6, stun.COOKIE, bytes(12), 0x24, 4) + b"\0\1"
"""A STUN request whose PRIORITY has two bytes of four."""
WHOLE = pack("!HHI12sHHI", 0x11, 8, stun.COOKIE, bytes(12), 0x24, 4, 0)
SERVER = ("192.0.2.1", 3478)


async def waiting_peer(peer: Peer) -> str:
    """Have a peer answer an offer, and wait for somebody who never comes."""
    async with Peer() as offering:
        offering.connection.add_channel("faces")
        return await peer.connection.answer(without_candidates(await offering.connection.offer()))


def without_candidates(sdp: str) -> str:
    return re.sub(r"a=(candidate:.*|end-of-candidates)\r\n", "", sdp)


def datagrams() -> list[bytes]:
    """Nothing, every first byte, alone and with more behind it, and every protocol cut short or bent."""
    request = bytes(check_of_nobody())
    rng = seeded(7)
    bent = [bytes(byte ^ (rng.random() < 0.05) * rng.randrange(256) for byte in request) for _ in range(500)]
    cut = [request[:length] for length in range(len(request))]
    records = [
        bytes([kind]) + b"\xfe\xfd" + bytes(8) + pack("!H", length) + bytes(9)
        for kind in range(20, 64)
        for length in (0, 9, 99)
    ]
    one = [bytes([first]) for first in range(256)]
    more = [bytes([first]) + rng.randbytes(40) for first in range(256)]
    return [b"", CUT_SHORT, *one, *more, *bent, *cut, *records]


def check_of_nobody() -> stun.Message:
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes.update({"USERNAME": "a:b", "PRIORITY": 1, "ICE-CONTROLLED": 1, "USE-CANDIDATE": None})
    message.add_message_integrity(b"nobody's")
    return message


async def test_a_stranger_who_knows_the_address_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    async with attacked() as (attacker, victim):
        for peer in victim, attacker.peer:
            host, port = address_of(peer)
            async with stranger(host) as out:
                await flood(out, datagrams() * 4, (host, port))
                with pytest.raises(BlockingIOError):  # nothing was answered
                    out.recvfrom(1)
        await still_talk(attacker, victim)
        assert len(ice_of(victim)._remote_candidates) < 20
    assert not unhandled
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


async def test_somebody_who_writes_the_peers_address_cannot_end_the_connection() -> None:
    async with attacked() as (attacker, victim):
        pair = ice_of(victim).selected_pair
        assert pair is not None
        for datagram in datagrams():
            pair.protocol.datagram_received(datagram, pair.remote_addr)
        await still_talk(attacker, victim)


@pytest.mark.parametrize("first", [b"\x80\x60", b"\x80\xc8", b"\x17\xfe\xfd", b"\x00\x01"])
async def test_datagrams_of_any_length_from_the_peers_address_change_nothing(first: bytes) -> None:
    async with attacked() as (attacker, victim):
        pair = ice_of(victim).selected_pair
        assert pair is not None
        for length in (*range(20), 1199, 1499, 1500, 1501, 2000, 9000, 65_507):
            pair.protocol.datagram_received((first + bytes(length))[:length], pair.remote_addr)
            await turns()
        await still_talk(attacker, victim)


def test_pylibsrtp_has_room_for_so_much() -> None:
    """When this fails, `LARGEST_RTP` is another."""
    session = pylibsrtp.Session(pylibsrtp.Policy(key=bytes(30), ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND))
    with pytest.raises(pylibsrtp.Error):
        session.unprotect(b"\x80" + bytes(sorting.LARGEST_RTP - 1))
    with pytest.raises(ValueError, match="too long"):
        session.unprotect(b"\x80" + bytes(sorting.LARGEST_RTP))


async def test_what_comes_while_nobody_reads_is_bounded() -> None:
    async with Peer() as victim, Peer() as offering:
        offering.connection.add_channel("faces")
        await victim.connection.answer(await offering.connection.offer())  # which the peer never sees
        connection = ice_of(victim)
        (protocol, *_) = connection._protocols
        protocol.datagram_received(bytes(check(victim, offering)), ("192.0.2.1", 9))
        for size in (1, 100, 60_000):
            for _ in range(3000):
                protocol.datagram_received(b"\x80" + bytes(size), ("192.0.2.1", 9))
        assert 0 < connection._queue.qsize() <= ice.MAX_WAITING
        assert connection._waiting <= ice.MAX_WAITING_BYTES
        queue = connection._queue
    assert queue.qsize() <= 1  # the end alone


async def test_what_is_read_makes_room() -> None:
    async with attacked() as (attacker, victim):
        for _ in range(30):
            assert attacker.channel.send(bytes(60_000))
            await attacker.peer.until(lambda: attacker.channel._channel.bufferedAmount < 10_000)
        await still_talk(attacker, victim)
        assert ice_of(victim)._waiting == 0


async def test_what_is_not_from_where_the_peer_has_proven_itself_is_not_read() -> None:
    async with attacked() as (_, victim):
        connection = ice_of(victim)
        before = connection._queue.qsize()
        connection._protocols[0].datagram_received(b"\x80" + bytes(40), ("192.0.2.1", 9))
        assert connection._queue.qsize() == before


def test_aiortc_looks_at_the_first_byte_of_nothing() -> None:
    """When this fails, aiortc has mended it: look at `sorting` again."""
    code = inspect.getsource(RTCDtlsTransport._recv_next)
    assert "first_byte = data[0]" in code
    assert "if not data" not in code


def test_aioice_lets_errors_out_where_an_attribute_is_cut_short() -> None:
    """When this fails, aioice has mended it: `struct.error` need not be caught any more."""
    with pytest.raises(Exception, match="unpack requires"):
        stun.parse_message(CUT_SHORT)
    assert sorting.read_stun(CUT_SHORT) is None


def test_datagrams_of_several_records_with_data_are_dropped() -> None:
    def record(kind: int, length: int = 5) -> bytes:
        return bytes([kind]) + b"\xfe\xfd" + bytes(8) + pack("!H", length) + bytes(length)

    assert sorting.is_flight(record(22) + record(20) + record(22))
    assert sorting.is_flight(record(23))
    assert not sorting.is_flight(record(23) + record(23))
    assert not sorting.is_flight(record(23, 16_000))
    assert not sorting.is_flight(record(22) + b"\x16")
    assert not sorting.is_flight(record(22)[:-1])


# Checks


async def test_a_check_without_the_password_is_not_answered_and_one_with_it_is() -> None:
    async with attacked() as (attacker, victim):
        host, port = address_of(victim)
        async with stranger(host) as out:
            unsigned = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
            unprioritised = check(victim, attacker.peer)
            del unprioritised.attributes["PRIORITY"]
            unprioritised.add_message_integrity(ice_of(victim).local_password.encode())
            await flood(out, [bytes(unsigned), bytes(check_of_nobody()), bytes(unprioritised)], (host, port))
            with pytest.raises(BlockingIOError):
                out.recvfrom(1)
            await flood(out, [bytes(check(victim, attacker.peer))], (host, port))
            assert stun.parse_message(out.recv(1500)).message_class in {stun.Class.RESPONSE, stun.Class.ERROR}
        await still_talk(attacker, victim)


async def test_checks_from_everywhere_are_bounded() -> None:
    async with attacked() as (attacker, victim):
        connection = ice_of(victim)
        for port in range(1000, 4000):
            connection._protocols[0].datagram_received(bytes(check(victim, attacker.peer)), ("192.0.2.1", port))
        assert len(connection._proven) <= ice.MAX_PROVEN
        assert len(connection._remote_candidates) <= ice.MAX_REMOTE_CANDIDATES + ice.MAX_PROVEN
        await still_talk(attacker, victim)


async def test_roles_change_only_so_often() -> None:
    async with attacked() as (_, victim):
        assert sum(ice_of(victim).may_switch_role() for _ in range(100)) == ice.MAX_SWITCHES


# Candidates


async def tell(victim: Peer, candidates: list[str]) -> IceConnection:
    await waiting_peer(victim)
    for candidate in candidates:
        await victim.connection.add_candidate(candidate, None, 0)
    await turns(20)
    return ice_of(victim)


def told(host: str, port: int = 9, kind: str = "host") -> str:
    return f"candidate:1 1 udp 1 {host} {port} typ {kind}"


async def test_loopback_candidates_open_one_socket() -> None:
    async with Peer() as victim:
        connection = await tell(victim, [told("127.0.0.1", port) for port in range(1000, 1064)])
        assert len(connection._protocols) <= len(network.host_addresses()) + 1
        assert len(connection._check_list) <= ice.MAX_PAIRS


@pytest.mark.parametrize("last", [True, False], ids=["told last", "told first"])
async def test_loopback_candidates_of_a_peer_on_another_machine_are_none(last: bool) -> None:  # noqa: FBT001 - a parameter
    here = [told("127.0.0.1", port) for port in (1000, 1001)] + [told("::1"), told("127.1.2.3")]
    elsewhere = [told("192.0.2.1"), told("192.0.2.1", kind="srflx")]
    async with Peer() as victim:
        connection = await tell(victim, here + elsewhere if last else elsewhere + here)
        assert {candidate.host for candidate in connection.remote_candidates} == {"192.0.2.1"}
        assert {pair.remote_candidate.host for pair in connection._check_list} <= {"192.0.2.1"}


async def test_loopback_candidates_of_a_peer_on_this_machine_are_taken() -> None:
    async with Peer() as victim:
        mine = network.host_addresses()[0]
        connection = await tell(victim, [told(mine), told("203.0.113.7", kind="srflx"), told("127.0.0.1")])
        assert [candidate.host for candidate in connection.remote_candidates] == [mine, "203.0.113.7", "127.0.0.1"]


async def test_candidates_told_again_and_again_are_one() -> None:
    async with Peer() as victim:
        connection = await tell(victim, [told("192.0.2.1")] * 100)
        assert len(connection.remote_candidates) == 1


@pytest.mark.parametrize(
    "host",
    [
        *("0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.2.3", "255.255.255.255", "240.0.0.1"),  # noqa: S104 - refused
        *("::", "ff02::1", "::ffff:127.0.0.1", "::ffff:192.0.2.1", "fe80::1%eth0", "fe80::1%evil.example"),
        *("localhost", "evil.example", "127.1", "0x7f000001", "2130706433", "a.b.local"),
    ],
)
async def test_addresses_that_no_peer_has_are_refused(host: str) -> None:
    async with Peer() as victim:
        connection = await tell(victim, [told(host), told(host, kind="srflx"), told(host, kind="relay")])
        assert not connection.remote_candidates


async def test_names_that_are_looked_up_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def resolve(_: IceConnection, candidate: Any) -> None:
        asked.append(candidate.host)

    monkeypatch.setattr(IceConnection, "_look_up", resolve)
    async with Peer() as victim:
        await tell(victim, [told(f"n{number // 2}.local") for number in range(100)])
    assert asked == [f"n{number}.local" for number in range(ice.MAX_NAMES)]


async def test_pairs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "get_host_addresses", lambda **_: [f"127.0.0.{n}" for n in range(1, 5)])
    async with Peer() as victim:
        connection = await tell(victim, [told(f"127.0.{n}.1") for n in range(60)])
        assert len(connection._protocols) == 4
        connection.sort_check_list()
        assert len(connection._check_list) <= ice.MAX_PAIRS
        assert all(isinstance(pair, CandidatePair) for pair in connection._check_list)


async def test_the_end_of_candidates_is_told_with_relays_alone(tmp_path: Any) -> None:
    async with coturn(tmp_path) as turn, Peer(ice_servers=(turn.turn("udp"),), relay_only=True) as peer:
        peer.connection.add_channel("faces")
        await peer.connection.offer()
        await peer.until(lambda: peer.candidates == [None])


# Half-open


async def test_a_peer_that_passes_checks_and_then_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seams, "ESTABLISH_TIMEOUT", 0.5)
    async with Peer() as silent, Peer() as victim:
        silent.connection.add_channel("faces")
        await describe(silent, victim)
        dtls = sctp_of(silent).transport
        dtls._write_ssl = nothing  # type: ignore[method-assign]
        await victim.until_state("failed")


async def nothing() -> None:
    """Send nothing."""


# RTP and RTCP


BAD_RTP = {
    "nothing behind the header": b"",
    "send time of another length": b"\xbe\xde\x00\x01\x10\x00\x00\x00",
    "extension beyond the packet": b"\xbe\xde\xff\xff",
    "extension cut short": b"\xbe\xde\x00\x01\x2f\x00\x00\x00",
    "two-byte extension cut short": b"\x10\x00\x00\x01\x01\xff\x00\x00",
}
BAD_RTCP = {
    "nothing": b"",
    "remb that names more than it has": pack("!BBHLL4sBBH", 0x8F, 206, 4, 1, 0, b"REMB", 99, 0, 1),
    "padding longer than the packet": b"\xa1\xc9\x00\x01\x00\x00\x00\xff",
    "longer than it is": b"\x81\xc9\xff\xff" + bytes(4),
    "reports missing": b"\x9f\xc9\x00\x01" + bytes(4),
    "description cut short": b"\x81\xca\x00\x02\x00\x00\x00\x01\x01\xff\x00\x00",
    "bye of nobody": b"\x9f\xcb\x00\x00",
    "version 0": b"\x01\xc9\x00\x01" + bytes(4),
}


@pytest.mark.parametrize("extension", BAD_RTP.values(), ids=BAD_RTP)
async def test_malformed_rtp_is_lost_and_nothing_else(extension: bytes, caplog: pytest.LogCaptureFixture) -> None:
    clip = Clip()
    async with watching(clip) as (_, receiver):
        header = pack("!BBHLL", 0x90, 96, 1, 1, 1234) + extension
        for number in range(1, 15):  # whichever number the send time has
            numbered = bytearray(header)
            if len(header) > 16:
                numbered[16] = number << 4 | header[16] & 15
            await dtls_of_video(receiver)._handle_rtp_data(bytes(numbered), arrival_time_ms=0)
        sent = await clip.play(3)
        await receiver.until(lambda: {frame.rtp_timestamp for frame in receiver.frames} >= {sent[-1]})
        assert receiver.connection.state == "connected"
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


@pytest.mark.parametrize("packet", BAD_RTCP.values(), ids=BAD_RTCP)
async def test_malformed_rtcp_is_lost_and_nothing_else(packet: bytes, caplog: pytest.LogCaptureFixture) -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        for peer in sender, receiver:
            dtls = dtls_of_video(peer)
            await dtls._handle_rtcp_data(packet)
        async with asyncio.timeout(20):
            while len(receiver.frames) < 3:  # a busy machine may leave some out
                await clip.play(1)
        assert sender.connection.state == receiver.connection.state == "connected"
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


def dtls_of_video(peer: Peer) -> Any:
    (transceiver,) = peer.connection._connection.getTransceivers()
    return transceiver.receiver.transport


async def dtls_send(peer: Peer, packet: bytes) -> None:
    """Send RTP, sealed as it should be."""
    dtls = dtls_of_video(peer)
    await dtls.transport._send(dtls._tx_srtp.protect(packet))


async def test_sources_without_end_are_bounded() -> None:
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        payload_type = next(iter(dtls_of_video(receiver)._rtp_router.payload_type_table))
        for ssrc in range(1, 500):
            await dtls_send(sender, pack("!BBHLL", 0x80, payload_type, 1, 1, ssrc) + b"\x10")
        sent = await clip.play(3)
        await receiver.until(lambda: {frame.rtp_timestamp for frame in receiver.frames} >= {sent[-1]})
        dtls = dtls_of_video(receiver)
        assert len(dtls._rtp_router.ssrc_table) <= transport.MAX_SSRCS
        assert len(dtls.sources) <= transport.MAX_SSRCS
        with pytest.raises(pylibsrtp.Error):  # libsrtp has forgotten it as well
            dtls._rx_srtp.remove_stream(1)


def test_aiortc_lets_errors_out_of_malformed_rtp_and_rtcp() -> None:
    """When this fails, aiortc has mended it: `struct.error` need not be caught any more in `transport`."""
    extensions = HeaderExtensionsMap()
    uri = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
    extensions.configure(RTCRtpParameters(headerExtensions=[RTCRtpHeaderExtensionParameters(id=3, uri=uri)]))
    with pytest.raises(Exception, match="unpack requires"):
        RtpPacket.parse(pack("!BBHLL", 0x90, 96, 1, 1, 1) + b"\xbe\xde\x00\x01\x30\x00\x00\x00", extensions)
    (remb,) = RtcpPacket.parse(BAD_RTCP["remb that names more than it has"])
    with pytest.raises(Exception, match="unpack_from requires"):
        RtpRouter().route_rtcp(remb)


# mDNS


async def test_whatever_comes_by_mdns_is_survived() -> None:
    resolver = ice.MdnsResolver()
    rng = seeded(5)
    query = dns.message.make_query("a.local", "A").to_wire()
    asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    resolver.queries[dns.name.from_text("a.local")] = {asked}
    answer = query[:2] + b"\x84\0\0\0\0\1\0\0\0\0" + b"\1a\5local\0\0\1\x80\1\0\0\0\1\0\4\xc0\0\2\1"
    for _ in range(2000):
        data = bytearray(rng.choice([query, answer]))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if b"a\5local" not in data:
            resolver.datagram_received(bytes(data[: rng.randrange(len(data) + 1)]), ("192.0.2.1", 5353))
    resolver.datagram_received(answer, ("192.0.2.1", 5353))
    assert await asked == "192.0.2.1"


# TURN


class Written:
    """Stands for a transport."""

    def get_extra_info(self, _: str) -> tuple[str, int]:
        return "192.0.2.1", 3478


def turn_client() -> tuple[servers.TcpClient, list[bytes]]:
    client = servers.TcpClient(SERVER, username=None, password=None, lifetime=600, channel_refresh_time=500)
    client.transport = Written()  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue]
    got: list[bytes] = []
    client.channel_to_peer[0x4000] = ("192.0.2.9", 9)

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            assert addr
            got.append(data)

    client.receiver = Receiver()
    return client, got


def test_what_a_turn_server_sends_is_cut_into_the_same_messages_however_it_comes() -> None:
    rng = seeded(3)
    payloads = [rng.randbytes(rng.randrange(20)) for _ in range(300)]
    stream = b"".join(pack("!HH", 0x4000, len(p)) + p + bytes(-len(p) % 4) for p in payloads)
    stream += (
        bytes(check_of_nobody())[:2] + pack("!H", 8) + bytes(check_of_nobody())[4:20] + pack("!HHHH", 0x24, 4, 0, 0)
    )
    for size in (1, 7, 1000, len(stream)):
        client, got = turn_client()
        for at in range(0, len(stream), size):
            client.data_received(stream[at : at + size])
        assert got == payloads
        assert client._rest == b""


async def test_a_stun_attribute_cut_short_by_a_turn_server_is_dropped() -> None:
    client = servers.UdpClient(SERVER, username=None, password=None, lifetime=600, channel_refresh_time=500)
    client.datagram_received(CUT_SHORT, ("192.0.2.1", 3478))
    client.datagram_received(b"", ("192.0.2.1", 3478))
