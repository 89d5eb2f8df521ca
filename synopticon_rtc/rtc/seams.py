"""Where this package reaches behind aiortc's public interface.

``IceConnection``, ``SortingProtocol``, ``Transport``, ``Association``, ``FanoutSender``, ``AudioSender``,
``VideoReceiver``, ``AudioReceiver``, what the last four derive from, and ``ExtensionsMap`` override methods of aioice's
and aiortc's classes; every private name of an object that is not their own is reached through a function here, and
nowhere else. ``tests/rtc/test_seams.py`` fails when a release of aiortc or aioice changes any of it.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pylibsrtp
from aioice import Candidate, Connection
from aiortc import (
    RTCCertificate,
    RTCConfiguration,
    RTCDataChannel,
    RTCDtlsTransport,
    RTCIceTransport,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCRtpTransceiver,
)
from aiortc.rtcdtlstransport import SRTPProtectionProfile, State
from aiortc.rtcrtpparameters import RTCRtpParameters, RTCRtpReceiveParameters, RTCRtpSendParameters
from OpenSSL import SSL
from pylibsrtp import Session
from pylibsrtp._binding import ffi, lib

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.rtc import capture_time

# ruff: noqa: SLF001 - reaching behind is what this module is for

logger = logging.getLogger(__name__)

ESTABLISH_TIMEOUT = 30.0
"""Seconds in which ICE and DTLS have to be through: a peer that passes checks and then says nothing goes."""


CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:"
    b"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305"
)
"""aiortc's, and those for peers whose certificate is an RSA one, as GStreamer's; ours stays an ECDSA one."""
ROOM = 1500
"""Bytes of a DTLS record that carries an SCTP packet, at most."""
_FATAL = 2
"""The level of an alert that ends a handshake (RFC 5246 section 7.2)."""


class Certificate(RTCCertificate):
    """aiortc's certificate, which also makes the OpenSSL context of its connection: one that tells of alerts."""

    alert: str = ""
    """What ended the DTLS handshake, in words."""

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        context = super()._create_ssl_context(srtp_profiles)
        context.set_cipher_list(CIPHERS)
        context.set_info_callback(self._note)
        return context

    def _note(self, _: SSL.Connection, where: int, value: int) -> None:
        level, number = divmod(value, 256)
        if level != _FATAL or where not in {SSL.SSL_CB_READ_ALERT, SSL.SSL_CB_WRITE_ALERT}:
            return
        try:
            name = ssl.AlertDescription(number).name.removeprefix("ALERT_DESCRIPTION_").replace("_", " ").lower()
        except ValueError:
            name = "of an unknown kind"
        who = "the peer refused our" if where == SSL.SSL_CB_READ_ALERT else "we refused the peer's"
        self.alert = f"{who} DTLS handshake: {name} (alert {number})"


class OwnedPeerConnection(RTCPeerConnection):
    """aiortc's peer connection, whose task that connects is kept, and ends with it: aiortc starts it and forgets it.

    Args:
        configuration: aiortc's.
        on_broken: Called when connecting ended in an error that aiortc does not expect.
        faults: What counts that error.
    """

    def __init__(self, configuration: RTCConfiguration, *, on_broken: Callable[[], None], faults: Faults) -> None:
        super().__init__(configuration)
        self._certificate = Certificate.generateCertificate()
        self._RTCPeerConnection__certificates = [self._certificate]  # in place of aiortc's
        self.connecting: set[asyncio.Task[None]] = set()
        self._on_broken = on_broken
        self._faults = faults

    @property
    def failure(self) -> str:
        """What ended the DTLS handshake, in words; empty where it did not fail."""
        failed = [transport for transport in self._RTCPeerConnection__dtlsTransports if transport.state == "failed"]  # type: ignore[attr-defined]
        if not failed:
            return ""
        if not failed[0].encrypted:
            return self._certificate.alert or "the DTLS handshake broke off"
        if failed[0]._ssl.get_selected_srtp_profile():
            return "the peer's certificate is not the one that its session description names"
        return "the peer and we have no SRTP protection profile in common"

    def leave_channels(self) -> None:
        """Start no data channels, as the peer does not take them."""
        self._RTCPeerConnection__remoteIce.pop(self.sctp, None)  # type: ignore[attr-defined]

    def _RTCPeerConnection__localRtp(self, transceiver: RTCRtpTransceiver) -> RTCRtpSendParameters:  # noqa: N802 - aiortc's
        parameters: RTCRtpSendParameters = super()._RTCPeerConnection__localRtp(transceiver)  # type: ignore[misc]
        self._add_capture_time(parameters, transceiver)
        return parameters

    def _RTCPeerConnection__remoteRtp(self, transceiver: RTCRtpTransceiver) -> RTCRtpReceiveParameters:  # noqa: N802 - aiortc's
        parameters: RTCRtpReceiveParameters = super()._RTCPeerConnection__remoteRtp(transceiver)  # type: ignore[misc]
        self._add_capture_time(parameters, transceiver)
        return parameters

    def _add_capture_time(self, parameters: RTCRtpParameters, transceiver: RTCRtpTransceiver) -> None:
        """Add the header extension that aiortc does not know to those that were agreed upon, if the peer wrote it."""
        media = self._RTCPeerConnection__remoteDescription().media[transceiver._get_mline_index()]  # type: ignore[attr-defined]
        named = [known for known in media.rtp.headerExtensions if known.uri == capture_time.URI]
        parameters.headerExtensions = parameters.headerExtensions + named

    async def _RTCPeerConnection__connect(self) -> None:  # noqa: N802 - the name that aiortc calls
        self._keep(asyncio.current_task())
        connect: Awaitable[None] = super()._RTCPeerConnection__connect()  # type: ignore[misc]
        try:
            async with asyncio.timeout(ESTABLISH_TIMEOUT):
                await connect
        except TimeoutError:
            logger.info("a peer did not finish connecting within %g s", ESTABLISH_TIMEOUT)
            self._on_broken()
        except ConnectionError:
            logger.debug("closed while connecting")
        except Exception:  # noqa: BLE001 - it is noted, and the peer is given up
            self._faults.note("connecting to a peer broke")
            self._on_broken()
        finally:
            transports = {transceiver.receiver.transport for transceiver in self.getTransceivers()}
            if self.sctp is not None:
                transports.add(self.sctp.transport)
            for transport in transports:
                if transport._task is not None:
                    transport._task.add_done_callback(_take_error)

    def _keep(self, task: asyncio.Task[None] | None) -> None:
        """Keep the task that connects until it is done: not in a variable of its own, or its error would hold it."""
        assert task is not None  # noqa: S101 - aiortc starts it
        self.connecting.add(task)
        task.add_done_callback(self.connecting.discard)

    async def close(self) -> None:
        """Stop connecting, and close: aiortc would go on with it beside, and start what it has just stopped."""
        while others := self.connecting - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.wait(others)
        await super().close()
        self._on_broken = lambda: None  # what it was holds this, as do the listeners
        for transport in self._RTCPeerConnection__dtlsTransports:  # type: ignore[attr-defined]
            transport.remove_all_listeners()


def _take_error(task: asyncio.Future[None]) -> None:
    """Take the error of the task that receives: aiortc logs it and leaves it to asyncio, which logs it again."""
    if not task.cancelled():
        task.exception()


def ice_connection(transport: RTCIceTransport) -> Connection:
    """Return the aioice connection under a transport."""
    return transport._connection


def put_ice_connection(transport: RTCIceTransport, connection: Connection) -> None:
    """Replace the aioice connection under a transport, before it gathers."""
    transport.iceGatherer._connection = connection
    transport._connection = connection
    transport._recv = connection.recv
    transport._send = connection.send


def network_address(candidate: Candidate) -> tuple[str, int]:
    """Return the address and port at which a remote candidate is reached, where its host may be a name."""
    return candidate._network_host, candidate.port


def socket_of(transport: asyncio.BaseTransport) -> socket.socket | None:
    """Return the socket under one of asyncio's own transports; None under that of another event loop."""
    return getattr(transport, "_sock", None)


def read_at_most(transport: asyncio.BaseTransport, octets: int) -> None:
    """Have one of asyncio's own transports read datagrams into so much memory.

    Its 256 KiB are so much that the system maps and unmaps them for each, which takes ten times as long as to read it.
    """
    if hasattr(transport, "max_size"):
        transport.max_size = octets  # pyright: ignore[reportAttributeAccessIssue] - asyncio does not tell of it


def sealed_data(transport: RTCDtlsTransport, data: bytes) -> bytes:
    """Encrypt data of a data channel for the peer, in one DTLS record; nothing where DTLS is not connected any more."""
    if transport._state is not State.CONNECTED or transport._ssl is None:
        return b""
    try:
        transport._ssl.send(data)
        return transport._ssl.bio_read(ROOM)
    except SSL.Error:  # it is being shut down
        return b""


def outgoing_srtp(transport: RTCDtlsTransport) -> Session:
    """Return the SRTP session that encrypts; there is one once DTLS is connected."""
    return transport._tx_srtp


def srtp_functions() -> tuple[Any, Callable[[object, object, object], int]]:
    """Return cffi's interface to libsrtp, and the function that encrypts an RTP packet where it lies."""
    return ffi, lib.srtp_protect


def srtp_context(session: Session) -> object:
    """Return what libsrtp knows a session by; it holds as long as the session."""
    return session._srtp[0]


def transport_id(transport: RTCDtlsTransport) -> str:
    """Return the id of a transport in statistics."""
    return transport._stats_id


def register_sender(transport: RTCDtlsTransport, sender: RTCRtpSender, parameters: RTCRtpSendParameters) -> None:
    """Have RTCP packets about a sender passed to it."""
    transport._register_rtp_sender(sender, parameters)


def unregister_sender(transport: RTCDtlsTransport, sender: RTCRtpSender) -> None:
    """Undo :func:`register_sender`."""
    transport._unregister_rtp_sender(sender)


def register_receiver(
    transport: RTCDtlsTransport, receiver: RTCRtpReceiver, parameters: RTCRtpReceiveParameters
) -> None:
    """Have RTP and RTCP packets passed to a receiver."""
    transport._register_rtp_receiver(receiver, parameters)


def unregister_receiver(transport: RTCDtlsTransport, receiver: RTCRtpReceiver) -> None:
    """Undo :func:`register_receiver`."""
    transport._unregister_rtp_receiver(receiver)


def forget_source(transport: RTCDtlsTransport, receiver: RTCRtpReceiver, ssrc: int) -> None:
    """Let go of what is kept of a source of a peer's: aiortc and libsrtp keep all that they have ever met."""
    sources = transport._rtp_router.ssrc_table
    if sources.get(ssrc) is receiver:
        del sources[ssrc]
    with contextlib.suppress(pylibsrtp.Error):  # it never had any
        transport._rx_srtp.remove_stream(ssrc)


def close_channel(channel: RTCDataChannel) -> None:
    """Have a channel tell that it is closed which never opened: with a connection, aiortc closes open ones alone."""
    channel._setReadyState("closed")


def unburden(receiver: RTCRtpReceiver) -> None:
    """Free what a receiver holds to estimate a bit rate, 100 KB, where it receives nothing or somebody else does it."""
    receiver._RTCRtpReceiver__remote_bitrate_estimator = None  # type: ignore[attr-defined]


def sender_ssrc(sender: RTCRtpSender) -> int:
    """Return the synchronisation source of a sender."""
    return sender._ssrc


def sender_sources(sender: RTCRtpSender) -> tuple[int, int]:
    """Return the synchronisation sources of a sender: that of the video, and that of what is sent again."""
    return sender._ssrc, sender._rtx_ssrc


def bundle(connection: RTCPeerConnection) -> None:
    """Have aiortc know that all of a connection shares one transport.

    Of what was added first it does not, and stops the transport of all where the group of the peer begins with another.
    """
    for transceiver in connection.getTransceivers():
        transceiver._bundled = True
    if connection.sctp is not None:
        connection.sctp._bundled = True


def leave_out(transceiver: RTCRtpTransceiver) -> None:
    """Agree to nothing on a transceiver for which the peer's offer has no section: aiortc fails at such a one."""
    transceiver._offerDirection = "inactive"
