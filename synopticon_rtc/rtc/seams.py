"""Where this package reaches behind aiortc's public interface.

``IceConnection``, ``SortingProtocol``, ``Transport``, ``Association``, ``FanoutSender`` and ``VideoReceiver`` override
methods of the aioice and aiortc classes they derive from; every private name of an object that is not their own is
reached through a function here, and nowhere else. ``tests/rtc/test_seams.py`` fails when a release of aiortc or aioice
changes any of it.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pylibsrtp
from aioice import Candidate, Connection
from aiortc import (
    RTCConfiguration,
    RTCDtlsTransport,
    RTCIceTransport,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCRtpTransceiver,
)
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters, RTCRtpSendParameters
from pylibsrtp import Session
from pylibsrtp._binding import ffi, lib

# ruff: noqa: SLF001 - reaching behind is what this module is for

logger = logging.getLogger(__name__)

ESTABLISH_TIMEOUT = 30.0
"""Seconds in which ICE and DTLS have to be through: a peer that passes checks and then says nothing goes."""


class OwnedPeerConnection(RTCPeerConnection):
    """aiortc's peer connection, whose task that connects is kept: aiortc starts it and forgets it.

    Args:
        configuration: aiortc's.
        on_broken: Called when connecting ended in an error that aiortc does not expect.
    """

    def __init__(self, configuration: RTCConfiguration, *, on_broken: Callable[[], None]) -> None:
        super().__init__(configuration)
        self.connecting: set[asyncio.Task[None]] = set()
        self._on_broken = on_broken

    async def _RTCPeerConnection__connect(self) -> None:  # noqa: N802 - the name that aiortc calls
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - aiortc starts this in a task of its own
        self.connecting.add(task)
        task.add_done_callback(self.connecting.discard)
        connect: Awaitable[None] = super()._RTCPeerConnection__connect()  # type: ignore[misc]
        try:
            async with asyncio.timeout(ESTABLISH_TIMEOUT):
                await connect
        except TimeoutError:
            logger.info("a peer did not finish connecting within %g s", ESTABLISH_TIMEOUT)
            self._on_broken()
        except ConnectionError:
            logger.debug("closed while connecting")
        except Exception:
            logger.exception("connecting to a peer broke")
            self._on_broken()
        transports = {transceiver.receiver.transport for transceiver in self.getTransceivers()}
        if self.sctp is not None:
            transports.add(self.sctp.transport)
        for transport in transports:
            if transport._task is not None:
                transport._task.add_done_callback(_take_error)


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


def is_offered(transceiver: RTCRtpTransceiver) -> bool:
    """Whether the peer whose offer was taken wants to send."""
    return transceiver._offerDirection in {"recvonly", "sendrecv"}


def register_sender(transport: RTCDtlsTransport, sender: RTCRtpSender, parameters: RTCRtpSendParameters) -> None:
    """Have RTCP packets about a sender passed to it."""
    transport._register_rtp_sender(sender, parameters)


def unregister_sender(transport: RTCDtlsTransport, sender: RTCRtpSender) -> None:
    """Undo :func:`register_sender`."""
    transport._unregister_rtp_sender(sender)


def limit_rtcp(transport: RTCDtlsTransport, allow: Callable[[int], bool]) -> None:
    """Have RTCP packets that come ignored before anybody looks at them, unless they are allowed by their length."""

    async def limited(data: bytes) -> None:
        if allow(len(data)):
            await type(transport)._handle_rtcp_data(transport, data)

    transport._handle_rtcp_data = limited  # type: ignore[method-assign]


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


def unburden(receiver: RTCRtpReceiver) -> None:
    """Free what a receiver holds to estimate a bit rate, 100 KB, where it receives nothing or somebody else does it."""
    receiver._RTCRtpReceiver__remote_bitrate_estimator = None  # type: ignore[attr-defined]


def sender_ssrc(sender: RTCRtpSender) -> int:
    """Return the synchronisation source of a sender."""
    return sender._ssrc
