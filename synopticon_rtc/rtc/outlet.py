"""The way out to one peer."""

import logging
from collections.abc import Callable, Sequence

import pylibsrtp
from aiortc import RTCDtlsTransport
from aiortc.rtp import RtcpRrPacket

from synopticon_rtc.rtc import seams
from synopticon_rtc.rtc.bursts import BurstSocket, runs
from synopticon_rtc.rtc.ice import DatagramTransport, IceConnection
from synopticon_rtc.rtc.sealer import Sealer

logger = logging.getLogger(__name__)


class Outlet:
    """Encrypts what one peer is sent, and hands it to the socket of the pair of candidates that ICE has selected.

    What the system does not take at once is not sent.

    Args:
        ice: The connection that carries the peer.
        on_rerouted: Called when another pair has taken the place of one.
    """

    def __init__(self, ice: IceConnection, on_rerouted: Callable[[], None]) -> None:
        self._ice = ice
        self._on_rerouted = on_rerouted
        self._transport: RTCDtlsTransport
        self._socket: BurstSocket | None = None
        self._route: tuple[DatagramTransport, tuple[str, int]] | None = None  # that of the socket
        self._srtp: tuple[object, int] | None = None  # of the session: its context, and how much longer packets get

    def begin(self, transport: RTCDtlsTransport) -> None:
        """Encrypt by a transport that is connected."""
        self._transport = transport

    def open(self) -> bool:
        """Find the way by the selected pair, which may be another than last time; False while there is none."""
        route = self._ice.route
        if route is not self._route:
            if self._socket is not None:
                self._socket.close()
                self._on_rerouted()
            self._route = route
            self._socket = None if route is None else BurstSocket(*route)
        return self._socket is not None

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()

    @property
    def is_full(self) -> bool:
        """Whether the system would take nothing now."""
        return self._socket is not None and not self._socket.is_ready()

    def send_burst(self, sealer: Sealer, payloads: Sequence[bytes], word: int, tail: bytes, *, marked: bool) -> bool:
        """Send packets of one frame by the way that is open; False if the system did not take all.

        The arguments are those of :meth:`Sealer.seal`.
        """
        if self._socket is None:
            return False
        if self._srtp is None:
            self._srtp = _context_and_tag(seams.outgoing_srtp(self._transport))
        return self._socket.send(*sealer.seal(*self._srtp, payloads, word, tail, marked=marked))

    def send_packet(self, data: bytes) -> bool:
        """Send one RTP packet; False where there is no way, or it is too old to be encrypted once more."""
        if not self.open() or self._socket is None:
            return False
        try:
            sealed = seams.outgoing_srtp(self._transport).protect(data)
        except pylibsrtp.Error:
            return False
        self._socket.send(memoryview(sealed), runs([len(sealed)]))
        return True

    def send_report(self, data: bytes) -> None:
        """Send RTCP."""
        try:
            sealed = seams.outgoing_srtp(self._transport).protect_rtcp(data)
        except pylibsrtp.Error as error:
            logger.debug("a report is not sent: %s", error)
        else:
            self._ice.send_now(sealed)


def _context_and_tag(session: pylibsrtp.Session) -> tuple[object, int]:
    """Return what libsrtp knows a session by, and how many bytes its tags have: those of RTCP have 4 more of an index.

    An index is used up that is not sent, as RFC 3711 section 3.2.1 allows.
    """
    report = bytes(RtcpRrPacket(ssrc=0, reports=[]))
    return seams.srtp_context(session), len(session.protect_rtcp(report)) - len(report) - 4
