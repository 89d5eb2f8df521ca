"""What this package relies on behind the public interfaces of aiortc and aioice.

A failure here means that a release changed something that `synopticon_rtc/rtc/` overrides, copies or calls by a private
name: read the change, adapt, and put the new digest here.
"""

import asyncio
import functools
import hashlib
import inspect
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiortc
import pylibsrtp
import pytest
from aioice import Candidate, ice, mdns, stun, turn
from aiortc import (
    rtcdtlstransport,
    rtcicetransport,
    rtcpeerconnection,
    rtcrtpreceiver,
    rtcrtpsender,
    rtcsctptransport,
    rtp,
)
from aiortc.rate import RateCounter, RemoteBitrateEstimator
from aiortc.rtp import RtpPacket
from OpenSSL import SSL

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.rtc import seams
from synopticon_rtc.rtc.association import WINDOW
from synopticon_rtc.rtc.network import LocalNetwork
from synopticon_rtc.rtc.receiver import BITRATE_WINDOW
from synopticon_rtc.rtc.sorting import LARGEST_DATAGRAM

DIGESTS: dict[Callable[..., Any], str] = {
    ice.Connection.add_remote_candidate: "d3a0826c92fa",
    ice.Connection._add_remote_candidate: "829722cc3b13",
    ice.Connection._check_list_maybe_complete: "b190e289adad",
    ice.Connection._check_list_maybe_fail: "47cca0213103",
    ice.Connection._pair_remote_candidate: "bf264fc1c676",
    ice.Connection.check_complete: "52f939709eab",
    ice.Connection.check_incoming: "cb3e32bd47e5",
    ice.Connection.check_start: "7de056d252f4",
    ice.Connection.check_start_task: "eb605c47cf89",
    ice.Connection.close: "25dcfac536f5",
    ice.Connection.connect: "da51be461901",
    ice.Connection.gather_candidates: "d33db28d4d1e",
    ice.Connection.query_consent: "fe49173a650a",
    ice.Connection.recvfrom: "676acc01e4a9",
    ice.Connection.request_received: "dcdc9a3862c1",
    ice.Connection.sort_check_list: "b3e36a4e1981",
    ice.Connection.switch_role: "b791e5e2cbae",
    ice.StunProtocol.datagram_received: "ff4c8b910d45",
    ice.StunProtocol.request: "97991c38f65e",
    ice.get_or_create_mdns_protocol: "513c6f26d11c",
    ice.relayed_candidate: "271e25be8724",
    ice.server_reflexive_candidate: "76dd55584717",
    mdns.MDnsProtocol.datagram_received: "8d986a01fafa",
    stun.parse_message: "3a0a63ed663f",
    turn.TurnClientMixin.datagram_received: "2359a3a99377",
    turn.TurnStreamMixin.data_received: "d18cdbd5886d",
    turn.TurnClientMixin.delete: "8ec62766df8e",
    turn.TurnTransport._close: "238c18999aaf",
    turn.TurnTransport._connect: "a00dbdb6ca88",
    turn.TurnTransport.close: "7bd0b4c16bc0",
    turn.create_turn_endpoint: "c84ad1cc7c54",
    rtcicetransport.RTCIceGatherer.gather: "147d15cd640f",
    rtcicetransport.RTCIceTransport.__init__: "b11403aba1c3",
    rtcicetransport.RTCIceTransport._monitor: "f74bb1193339",
    rtcicetransport.RTCIceTransport.start: "54279d028c0e",
    rtcicetransport.RTCIceTransport.stop: "21ec0a44c16c",
    rtcdtlstransport.RTCCertificate._create_ssl_context: "aac625bdc264",
    rtcdtlstransport.RTCDtlsTransport._handle_rtcp_data: "5469e786d77b",
    rtcdtlstransport.RTCDtlsTransport._handle_rtp_data: "5def9061cc3d",
    rtcdtlstransport.RTCDtlsTransport._recv_next: "998076720c05",
    rtcdtlstransport.RtpRouter.route_rtcp: "199bd7e279f1",
    rtcdtlstransport.RtpRouter.route_rtp: "e4bcc08d1814",
    rtcdtlstransport.RTCDtlsTransport._register_rtp_receiver: "d35a385b0afb",
    rtcdtlstransport.RTCDtlsTransport._register_rtp_sender: "3a963aff6f98",
    rtcdtlstransport.RTCDtlsTransport._send_rtp: "763b02bceb0b",
    rtcdtlstransport.RTCDtlsTransport._setup_srtp: "75cc6ec308f1",
    rtcdtlstransport.RTCDtlsTransport._validate_peer_identity: "42d1615c4f9f",
    rtcdtlstransport.RTCDtlsTransport.start: "3b3522667fe0",
    rtcpeerconnection.RTCPeerConnection.close: "7e2df1bb95eb",
    rtcpeerconnection.RTCPeerConnection._RTCPeerConnection__connect: "9199a73a7cde",  # type: ignore[attr-defined]
    rtcpeerconnection.RTCPeerConnection._RTCPeerConnection__localRtp: "d6a10a3f40c4",  # type: ignore[attr-defined]
    rtcpeerconnection.RTCPeerConnection._RTCPeerConnection__remoteRtp: "1dc79068e0ca",  # type: ignore[attr-defined]
    rtcrtpreceiver.RTCRtpReceiver._handle_disconnect: "8dfa058c843f",
    rtcrtpreceiver.RTCRtpReceiver._handle_rtcp_packet: "ec9f46214c34",
    rtcrtpreceiver.RTCRtpReceiver._handle_rtp_packet: "4e54983d021a",
    rtcrtpreceiver.RTCRtpReceiver._run_rtcp: "0f57daa32186",
    rtcrtpreceiver.RTCRtpReceiver.receive: "d6d8d8d7a0bf",
    rtcrtpreceiver.RTCRtpReceiver.stop: "63734b6894ce",
    rtcrtpsender.RTCRtpSender._handle_rtcp_packet: "a4ee4c7355f8",
    rtcrtpsender.RTCRtpSender._retransmit: "ae0b2491944b",
    rtcrtpsender.RTCRtpSender._run_rtcp: "51e0a924eac4",
    rtcrtpsender.RTCRtpSender._run_rtp: "ff597a1d554c",
    rtcrtpsender.RTCRtpSender.send: "3969482b77a2",
    rtcrtpsender.RTCRtpSender.stop: "38c1e92baf8e",
    rtp.HeaderExtensionsMap.configure: "e7bc27f7de53",
    rtp.HeaderExtensionsMap.get: "7abeb1022f1d",
    rtcsctptransport.InboundStream: "b63993b481ec",
    rtcsctptransport.RTCSctpTransport._data_channel_close: "b732f8ec9f85",
    rtcsctptransport.RTCSctpTransport._data_channel_closed: "446986034595",
    rtcsctptransport.RTCSctpTransport._data_channel_flush: "d5f055f33db1",
    rtcsctptransport.RTCSctpTransport._data_channel_receive: "3df88b4b9c66",
    rtcsctptransport.RTCSctpTransport._data_channel_send: "bff23b8d60ec",
    rtcsctptransport.RTCSctpTransport._get_inbound_stream: "7bb5d6a0225a",
    rtcsctptransport.RTCSctpTransport._handle_data: "8661b724e207",
    rtcsctptransport.RTCSctpTransport._mark_received: "2ac68b6a3934",
    rtcsctptransport.RTCSctpTransport._receive: "802b1265df7b",
    rtcsctptransport.RTCSctpTransport._receive_chunk: "830bae988365",
    rtcsctptransport.RTCSctpTransport._receive_data_chunk: "790c2bb8cd0f",
    rtcsctptransport.RTCSctpTransport._receive_forward_tsn_chunk: "a7b72a09e9c4",
    rtcsctptransport.RTCSctpTransport._receive_sack_chunk: "4b35ccf1372c",
    rtcsctptransport.RTCSctpTransport._send: "f0f8aff63a9a",
    rtcsctptransport.RTCSctpTransport._send_chunk: "eb2f909e3c2f",
    rtcsctptransport.RTCSctpTransport._send_sack: "ac92513522fa",
    rtcsctptransport.RTCSctpTransport._set_state: "72015aed4aa4",
    rtcsctptransport.RTCSctpTransport._transmit: "aa8941d5f8f0",
    rtcsctptransport.RTCSctpTransport._update_rto: "a1e7afb18886",
    rtcsctptransport.RTCSctpTransport._flight_size_decrease: "16a9a53b25b9",
    rtcsctptransport.RTCSctpTransport._maybe_abandon: "879fcf244b3d",
    rtcsctptransport.RTCSctpTransport._t3_cancel: "0e0e3e38da29",
    rtcsctptransport.RTCSctpTransport._t3_expired: "0e759bf4b1b2",
    rtcsctptransport.RTCSctpTransport._t3_restart: "abf85ae57b8f",
    rtcsctptransport.RTCSctpTransport._t3_start: "fa045ec7c5ff",
    rtcsctptransport.RTCSctpTransport._update_advanced_peer_ack_point: "b10416e34e18",
    rtcsctptransport.DataChunk: "c5408cf1d59a",
    rtcsctptransport.serialize_packet: "5731d3849142",
    rtcdtlstransport.RTCDtlsTransport._send_data: "ee6cd411dd7f",
    rtcdtlstransport.RTCDtlsTransport._write_ssl: "6573c0237063",
    rtcsctptransport.RTCSctpTransport.stop: "0be1a2711d5d",
    rtcsctptransport.decode_params: "2ee53946e23f",
    rtcsctptransport.parse_packet: "b88a5f1d01e1",
}


def digest(code: Callable[..., Any]) -> str:
    return hashlib.sha256(inspect.getsource(code).encode()).hexdigest()[:12]


@pytest.mark.parametrize("code", DIGESTS, ids=lambda code: code.__qualname__)
def test_what_is_overridden_or_copied_is_as_it_was(code: Callable[..., Any]) -> None:
    assert digest(code) == DIGESTS[code]


@pytest.fixture
async def connection() -> AsyncIterator[aiortc.RTCPeerConnection]:
    connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    connection.addTransceiver("video")
    yield connection
    await connection.close()


async def test_private_attributes_are_there(connection: aiortc.RTCPeerConnection) -> None:
    (transceiver,) = connection.getTransceivers()
    dtls = transceiver.receiver.transport
    transport = dtls.transport
    assert transport._connection is transport.iceGatherer._connection is seams.ice_connection(transport)
    assert transport._recv == transport._connection.recv
    assert transport._send == transport._connection.send
    assert dtls._tx_srtp is None
    assert dtls._task is None
    assert seams.transport_id(dtls)
    assert isinstance(seams.sender_ssrc(transceiver.sender), int)
    assert isinstance(transceiver.sender._rtx_ssrc, int)
    assert seams.sender_sources(transceiver.sender) == (transceiver.sender._ssrc, transceiver.sender._rtx_ssrc)
    assert transceiver.receiver._enabled is True
    hidden = "_RTCRtpReceiver__remote_bitrate_estimator"
    assert isinstance(getattr(transceiver.receiver, hidden), RemoteBitrateEstimator)
    seams.unburden(transceiver.receiver)
    assert getattr(transceiver.receiver, hidden) is None


async def test_a_source_is_forgotten_by_router_and_libsrtp(connection: aiortc.RTCPeerConnection) -> None:
    (transceiver,) = connection.getTransceivers()
    receiver, transport = transceiver.receiver, transceiver.receiver.transport
    policy = pylibsrtp.Policy(key=bytes(30), ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND)
    session = transport._rx_srtp = pylibsrtp.Session(policy)
    sending = pylibsrtp.Session(pylibsrtp.Policy(key=bytes(30), ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND))
    packet = sending.protect(RtpPacket(payload_type=96, ssrc=7, payload=b"x").serialize())
    transport._rtp_router.ssrc_table[7] = receiver
    session.unprotect(packet)
    with pytest.raises(pylibsrtp.Error):  # a copy
        session.unprotect(packet)
    seams.forget_source(transport, receiver, 7)
    seams.forget_source(transport, receiver, 7)
    assert 7 not in transport._rtp_router.ssrc_table
    session.unprotect(packet)  # of a source that is not known


def test_aiortc_still_keeps_every_source_that_it_met() -> None:
    """Once it bounds them, ``forget_source`` need not take them from its table."""
    router = rtcdtlstransport.RtpRouter()
    receiver: Any = object()
    router.register_receiver(receiver, ssrcs=[], payload_types=[96])
    for ssrc in range(1000):
        router.route_rtp(RtpPacket(payload_type=96, ssrc=ssrc))
    assert len(router.ssrc_table) == 1000


def test_aiortc_still_walks_through_every_millisecond_of_a_silence() -> None:
    """Once it does not, ``VideoReceiver`` need not reset its counter."""
    counter = RateCounter(BITRATE_WINDOW)
    counter.add(1000, 0)
    began = time.thread_time()
    assert counter.rate(2_000_000) is None
    assert time.thread_time() - began > 0.01


def test_aiortc_measures_the_rate_over_that_window() -> None:
    assert RemoteBitrateEstimator().incoming_bitrate._window_size == BITRATE_WINDOW


def test_aiortc_still_estimates_for_every_source_that_it_met() -> None:
    """Once it bounds them, ``VideoReceiver`` need not take them from there."""
    estimator = RemoteBitrateEstimator()
    for ssrc in range(300):
        estimator.add(arrival_time_ms=ssrc, abs_send_time=ssrc * 262, payload_size=1000, ssrc=ssrc)
    assert len(estimator.ssrcs) == 300


async def test_private_attributes_of_ice_are_there() -> None:
    connection = ice.Connection(ice_controlling=True)
    assert connection._check_list == []
    assert connection._check_list_done is False
    assert connection._check_list_state.empty()
    assert connection._closing is False
    assert not connection._early_checks
    assert connection._early_checks_done is False
    assert connection._local_candidates == []
    assert connection._local_candidates_end is False
    assert connection._local_candidates_start is False
    assert connection._nominated == {}
    assert connection._protocols == []
    assert connection._query_consent_task is None
    assert connection._queue.empty()
    assert connection._remote_candidates == []
    assert seams.network_address(Candidate("1", 1, "udp", 1, "192.0.2.1", 9, "host")) == ("192.0.2.1", 9)
    assert ice.CandidatePair.State.FROZEN
    assert ice.CandidatePair.State.WAITING
    assert ice.ICE_COMPLETED


def test_libsrtp_is_reached_as_pylibsrtp_reaches_it() -> None:
    policy = pylibsrtp.Policy(key=bytes(30), ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
    ffi, protect = seams.srtp_functions()
    packet = b"\x80\x60" + bytes(10) + b"payload"
    room, length = ffi.new("char[]", 100), ffi.new("int *", len(packet))
    ffi.memmove(room, packet, len(packet))
    session = pylibsrtp.Session(policy)
    assert protect(seams.srtp_context(session), room, length) == 0
    assert bytes(ffi.buffer(room, length[0])) == pylibsrtp.Session(policy).protect(packet)


async def test_the_socket_of_a_transport_is_there() -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    sock = seams.socket_of(transport)
    assert isinstance(sock, socket.socket)
    assert sock.getsockname() == transport.get_extra_info("sockname")
    with pytest.raises(BlockingIOError):
        sock.recvfrom(1)
    transport.close()


async def test_asyncio_still_reads_datagrams_into_more_memory_than_they_need() -> None:
    """Once it does not, ``read_at_most`` can go."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    assert transport.max_size > LARGEST_DATAGRAM  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue] - not documented
    transport.close()


async def test_the_sockets_of_connections_read_into_as_much_memory_as_a_datagram_needs() -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    class Protocol(asyncio.DatagramProtocol):
        transport: asyncio.DatagramTransport

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue] - it is one

        def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - as it is called
            got.set_result(data)

    protocol = await LocalNetwork()._listen("127.0.0.1", Protocol)
    assert protocol.transport.max_size == LARGEST_DATAGRAM  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue] - as above
    largest = bytes(65_507)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(largest, protocol.transport.get_extra_info("sockname"))
    assert await got == largest
    protocol.transport.close()


async def test_private_attributes_of_an_association_are_there() -> None:
    connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    connection.createDataChannel("faces")
    association = connection.sctp
    assert association is not None
    assert association.state == "new"
    assert association._advertised_rwnd == WINDOW
    assert association._data_channels == {}
    assert association._inbound_streams == {}
    assert association._last_received_tsn is None
    assert association._sack_duplicates == []
    assert association._sack_misordered == set()
    assert association._sack_needed is False
    assert association._local_tsn == (association._last_sacked_tsn + 1) % 2**32
    assert association._cwnd > association._flight_size == 0
    assert association._forward_tsn_chunk is None
    assert association._forward_tsn_streams == {}
    assert association._fast_recovery_exit is None
    assert association._reconfig_queue == []
    assert association._advanced_peer_ack_tsn == association._last_sacked_tsn
    assert association._t3_handle is None
    assert association._remote_port is None
    assert association._loop is asyncio.get_running_loop()
    assert len(association._data_channel_queue) == 1
    assert not association._outbound_queue
    assert not association._sent_queue
    assert association._remote_max_message_size > 0
    assert association._rto > 0
    assert association.transport._ssl is None
    assert seams.sealed_data(association.transport, b"data") == b""
    assert association.transport._rtp_router.ssrc_table == {}
    assert association.transport._rtp_header_extensions_map is not None
    await connection.close()


async def test_aiortc_still_closes_no_channel_that_never_opened() -> None:
    """Once it does, ``close_channel`` is of no use any more."""
    connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    channel = connection.createDataChannel("faces")
    told: list[bool] = []
    channel.on("close", lambda: told.append(True))
    await connection.close()
    assert channel.readyState == "connecting"
    seams.close_channel(channel)
    assert channel.readyState == "closed"
    assert told == [True]
    assert channel.listeners("close") == []


def test_openssl_speaks_no_dtls_1_3() -> None:
    """When this fails, the header of its records is another: see `is_flight` in `sorting`."""
    assert not hasattr(SSL, "DTLS1_3_VERSION")
    assert "DTLS1_3" not in " ".join(dir(SSL))


async def test_aiortc_goes_on_connecting_while_it_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this fails, aiortc has mended it: `OwnedPeerConnection.close` can go."""
    going_on = asyncio.Event()

    async def connect(_: aiortc.RTCPeerConnection) -> None:
        going_on.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(aiortc.RTCPeerConnection, "_RTCPeerConnection__connect", connect)
    ours = functools.partial(seams.OwnedPeerConnection, on_broken=pytest.fail, faults=Faults())
    for kind, alone in ((aiortc.RTCPeerConnection, False), (ours, True)):
        going_on.clear()
        before = asyncio.all_tasks()
        connection = kind(aiortc.RTCConfiguration(iceServers=[]))
        connection.createDataChannel("any")
        await connection.setLocalDescription(await connection.createOffer())
        await going_on.wait()
        await connection.close()
        left = asyncio.all_tasks() - before
        assert bool(left) is not alone
        for task in left:
            task.cancel()
