"""The sending end of one video track to one peer."""

import asyncio
import contextlib
import logging
import math
import struct
import time
from collections import deque
from collections.abc import Callable

import pylibsrtp
from aiortc import RTCRtpSender, RTCStatsReport, clock
from aiortc.codecs import is_rtx
from aiortc.rtcrtpparameters import RTCRtpSendParameters
from aiortc.rtcrtpsender import random_sequence_number
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    HeaderExtensions,
    HeaderExtensionsMap,
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
    unpack_remb_fci,
)
from aiortc.stats import RTCOutboundRtpStreamStats, RTCRemoteInboundRtpStreamStats

from synopticon_rtc.rtc import seams
from synopticon_rtc.rtc.bursts import BurstSocket
from synopticon_rtc.rtc.ice import DatagramTransport, IceConnection
from synopticon_rtc.rtc.pacer import BURST
from synopticon_rtc.rtc.rate import RateControl
from synopticon_rtc.rtc.stream import CLOCK_RATE, Codec, EncodedFrame, VideoStream, ntp_time

logger = logging.getLogger(__name__)

HISTORY_FRAMES = 128
"""Frames that can be sent again: four seconds of video, far beyond what a receiver waits for."""
REPORT_INTERVAL = 1.0
BACKLOG_FRAMES = 64
"""Frames that may wait for their turn: the cached pictures that a joining peer is sent, and then some."""
HELD_FRAMES = 4
"""Frames by which the encoder of one stream may be later than that of another between which a peer is moved."""
KEYFRAMES_AT_ONCE = 2
KEYFRAME_INTERVAL = 2.0
"""Seconds from one keyframe that a peer may cause to the next, after the first ones, where others watch the stream."""
PACE = 1.5
"""How much faster than its link is thought to bear a peer is sent what waits: a keyframe, and what came after it."""
EXTENDED = 0x90
"""The first octet of an RTP header: version 2, with an extension (RFC 3550 section 5.1)."""
PLAIN = 0x80

_header = struct.Struct("!BBHII").pack
_tail = struct.Struct("!II").pack


class FanoutSender(RTCRtpSender):
    """Sends one peer its packets of a :class:`VideoStream`.

    It takes the place of aiortc's sender, which runs a task a peer and packetises again for each. A packet is encrypted
    and handed to the socket in the call that brings its frame, or in the next turns of the stream's pacer where that is
    many. What the socket does not take is not queued: the peer goes on at the next keyframe.
    """

    @classmethod
    def adopt(cls, sender: RTCRtpSender, ice: IceConnection, select: Callable[[Codec], VideoStream]) -> "FanoutSender":
        """Turn a sender that has not started into one that sends a shared stream.

        Args:
            sender: aiortc's sender; a peer connection makes it itself and takes no other.
            ice: The connection that carries the peer.
            select: Gives the stream for the codec that was negotiated, ``"vp8"`` or ``"h264"``.
        """
        sender.__class__ = cls
        assert isinstance(sender, cls)  # noqa: S101 - tells the type checkers
        sender._set_up(ice, select)  # noqa: SLF001 - takes the place of a constructor
        return sender

    def _set_up(self, ice: IceConnection, select: Callable[[Codec], VideoStream]) -> None:
        self._ice = ice
        self._select = select
        self.stream: VideoStream | None = None
        self.rate = RateControl()
        self.packets = 0
        self.octets = 0
        self.frames = 0
        self.dropped = 0
        """Frames not sent, because the peer waited for a keyframe."""
        self.retransmits = 0
        self.rtt: float | None = None
        """Round-trip time in seconds."""
        self.loss: float | None = None
        """Share of packets lost on the way, 0 to 1, as last reported."""
        self.bitrate_limit: int | None = None
        """What the peer estimates that it can receive, in bit/s (REMB)."""
        self._outlet: BurstSocket | None = None
        self._route: tuple[DatagramTransport, tuple[str, int]] | None = None  # that of the outlet
        self._backlog: deque[EncodedFrame] = deque()
        self._position = 0  # bursts of the first of them that were sent
        self._pause_until = 0.0
        self._srtp: tuple[object, int] | None = None  # of the session: its context, and how much longer packets get
        self._has_turn = False
        self._waiting = True  # for a keyframe
        self._keyframe_wanted = False
        self._keyframe_credit: float = KEYFRAMES_AT_ONCE
        self._credited = 0.0
        self._arrival: _Arrival | None = None
        self._held: deque[EncodedFrame] = deque()
        self._newest: int | None = None  # the timestamp of the last frame that was sent, or waits
        self._padded = 0.0
        self._padding_due = 0.0
        self._first_octet = PLAIN
        self._payload_type = 0
        self._extensions = (b"", b"")
        self._timed = False
        self._rtx_payload_type: int | None = None
        self._sequence_number = random_sequence_number()
        self._rtx_sequence_number = random_sequence_number()
        self._history: deque[tuple[int, EncodedFrame]] = deque(maxlen=HISTORY_FRAMES)
        self._reports: asyncio.Task[None] | None = None
        self._report_stats = RTCStatsReport()
        self._cname = ""

    # Overrides of what aiortc calls

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        """Start; aiortc calls this once the peer is connected."""
        if self._reports is not None or not parameters.codecs:
            return
        try:
            self._configure(parameters)
            self.stream = self._select("h264" if parameters.codecs[0].name == "H264" else "vp8")
        except Exception:
            logger.exception("a peer is sent no video")
            return
        seams.register_sender(self.transport, self, parameters)
        self._reports = asyncio.create_task(self._send_reports())
        self.stream.add(self)

    async def stop(self) -> None:
        """Stop, and say goodbye to the peer."""
        self._leave()
        if self._reports is None:
            return
        seams.unregister_sender(self.transport, self)
        self._reports.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reports
        self._send_report(bytes(RtcpByePacket([self._ssrc])))
        if self._outlet is not None:
            self._outlet.close()

    async def getStats(self) -> RTCStatsReport:  # noqa: N802 - the name that aiortc calls
        """Return statistics as aiortc does."""
        self._report_stats.add(
            RTCOutboundRtpStreamStats(
                timestamp=clock.current_datetime(),
                type="outbound-rtp",
                id=f"outbound-rtp_{id(self)}",
                ssrc=self._ssrc,
                kind=self.kind,
                transportId=seams.transport_id(self.transport),
                packetsSent=self.packets,
                bytesSent=self.octets,
                trackId=str(id(self.track)),
            )
        )
        return self._report_stats

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        match packet:
            case RtcpRrPacket() | RtcpSrPacket():
                self._note_reports(packet)
            case RtcpRtpfbPacket(fmt=fmt) if fmt == RTCP_RTPFB_NACK:
                for sequence_number in packet.lost:
                    self._repair(sequence_number)
            case RtcpPsfbPacket(fmt=fmt) if fmt in {RTCP_PSFB_PLI, RTCP_PSFB_FIR}:
                self._keyframe_wanted = True
                self._ask_for_keyframe()
            case RtcpPsfbPacket(fmt=fmt) if fmt == RTCP_PSFB_APP:
                with contextlib.suppress(ValueError, struct.error):
                    bitrate, ssrcs = unpack_remb_fci(packet.fci)
                    if self._ssrc in ssrcs:
                        self.bitrate_limit = bitrate
                        self.rate.limited(time.monotonic(), bitrate)

    # From stream to stream

    def switch(self, stream: VideoStream) -> None:
        """Move to another stream of the same codec and source, at its next keyframe."""
        if stream is self.next_stream:
            return
        self._abandon_switch()
        if stream is not self.stream:
            self._arrival = _Arrival(self, stream)
            stream.add_at_keyframe(self._arrival)

    @property
    def next_stream(self) -> VideoStream | None:
        """The stream that the peer is being moved to, else the one that it is sent."""
        return self.stream if self._arrival is None else self._arrival.stream

    def arrive(self, stream: VideoStream, frame: EncodedFrame) -> None:
        """Take a frame of the stream that the peer is being moved to, ahead of that of the stream it is sent.

        The frames of both have the same timestamps. Those of the old stream are held until that of the new one is
        there, so that no picture is sent twice.
        """
        if not frame.keyframe or self._arrival is None or self.stream is None:
            self._release(until=frame.timestamp)
        elif self._newest is not None and not _after(frame, self._newest):
            stream.request_keyframe()  # it took longer than pictures are held
        else:
            self._release(until=frame.timestamp - 1)
            self._held.clear()
            self._forget_backlog()
            self.stream.remove(self)
            stream.replace(self._arrival, self)
            self.stream, self._arrival = stream, None
            self._queue(frame)

    def _release(self, until: int | None = None) -> None:
        """Send the pictures that are held, up to a timestamp."""
        while self._held and (until is None or not _after(self._held[0], until)):
            self._queue(self._held.popleft())

    def _abandon_switch(self) -> None:
        if self._arrival is not None:
            self._arrival.stream.remove(self._arrival)
            self._arrival = None
            self._release()

    def _leave(self) -> None:
        self._held.clear()
        self._backlog.clear()
        self._abandon_switch()
        if self.stream is not None:
            self.stream.remove(self)

    # Sending

    def send_frame(self, frame: EncodedFrame) -> None:
        """Send one frame, unless the peer still waits for a keyframe."""
        if self._arrival is not None and not self._waiting:
            self._held.append(frame)
            if len(self._held) > HELD_FRAMES:
                self._queue(self._held.popleft())
        else:
            self._queue(frame)

    def _queue(self, frame: EncodedFrame) -> None:
        if len(self._backlog) >= BACKLOG_FRAMES:
            self._drop()
        if self._keyframe_wanted and not frame.keyframe:
            self._ask_for_keyframe()
        if self._waiting and not frame.keyframe:
            self.dropped += 1
            return
        self._waiting = False
        self._newest = frame.timestamp
        self._backlog.append(frame)
        if not self._has_turn and self.stream is not None:
            self._has_turn = True
            self.stream.pacer.add(self._take_turn)

    def _forget_backlog(self) -> None:
        """Finish what was begun, and send nothing else of what waits: a keyframe comes."""
        while len(self._backlog) > bool(self._position):
            self._backlog.pop()
            self.dropped += 1

    def _drop(self) -> None:
        """Send nothing until the next keyframe."""
        self.dropped += len(self._backlog)
        self._backlog.clear()
        self._position = 0
        self._waiting = self._keyframe_wanted = True

    def _ask_for_keyframe(self) -> None:
        """Ask for a keyframe, as often as the other peers of the stream can bear."""
        if self.stream is None or (self._waiting and self._outlet is not None and not self._outlet.is_ready()):
            return
        now = time.monotonic()
        earned = (now - self._credited) / KEYFRAME_INTERVAL
        self._keyframe_credit = min(KEYFRAMES_AT_ONCE, self._keyframe_credit + earned)
        self._credited = now
        if self._keyframe_credit >= 1 or self.stream.viewers == 1:
            self._keyframe_credit = max(0, self._keyframe_credit - 1)
            self._keyframe_wanted = False
            self.stream.request_keyframe()

    def _take_turn(self) -> bool:
        """Send one burst; tell whether there is more."""
        try:
            self._send_burst()
        except Exception:
            logger.exception("a peer is sent no more video")
            self._leave()
        self._has_turn = bool(self._backlog)
        return self._has_turn

    def _send_burst(self) -> None:
        if self._pause_until and time.monotonic() < self._pause_until:
            return
        left = BURST
        fresh = len(self._backlog) == 1 and not self._position
        while self._backlog and left > 0:
            frame, position = self._backlog[0], self._position
            burst = frame.bursts[position]
            left -= len(burst)
            if not self._send_packets(frame, position, frame.ntp_time if fresh else ntp_time()):
                self._drop()
                return
            self._position = position + 1
            if self._position == len(frame.bursts):
                self._backlog.popleft()
                self._position = 0
                self._sent(frame)
            if self.rate.estimate < math.inf:
                self._pause_until = time.monotonic() + sum(map(len, burst)) * 8 / (PACE * self.rate.estimate)
                return

    def _send_packets(self, frame: EncodedFrame, position: int, ntp_time: int) -> bool:
        """Send one burst of a frame; False if the system did not take all."""
        outlet, stream = self._way_out(), self.stream
        if outlet is None or stream is None:
            return False
        if self._srtp is None:
            self._srtp = _context_and_tag(seams.outgoing_srtp(self.transport))
        payloads = frame.bursts[position]
        first = self._sequence_number
        self._sequence_number = first + len(payloads) & 0xFFFF
        if position == 0:
            self._history.append((first, frame))
        word = self._first_octet << 24 | self._payload_type << 16 | first
        tail = _tail(frame.timestamp, self._ssrc) + self._extension(ntp_time)
        marked = position == len(frame.bursts) - 1
        data, sizes = stream.sealer.seal(*self._srtp, payloads, word, tail, marked=marked)
        if not outlet.send(data, sizes):
            self._history.pop()  # what of it is missing is not worth being asked for
            return False
        self.packets += len(payloads)
        return True

    def _sent(self, frame: EncodedFrame) -> None:
        self.frames += 1
        self.octets += frame.octets
        if frame.keyframe:
            self._keyframe_wanted = False
        now = time.monotonic()
        self.rate.sent(now, frame.octets)
        if self.rate.padding:
            self._pad(now)
        self._padded = now

    def _pad(self, now: float) -> None:
        """Send packets once more, to learn whether the link bears that much."""
        if self._rtx_payload_type is None:
            return
        self._padding_due += self.rate.padding / 8 * min(now - self._padded, 0.1)
        for first, frame in reversed(self._history):
            for index in range(len(frame.payloads)):
                if self._padding_due <= 0:
                    return
                octets = self._resend(first + index & 0xFFFF)
                self._padding_due -= octets
                self.rate.padded(now, octets)

    def _way_out(self) -> BurstSocket | None:
        """Return what sends to the peer, by the pair of candidates that ICE has selected; None while there is none."""
        route, outlet = self._ice.route, self._outlet
        if route is not self._route:
            if outlet is not None:
                outlet.close()
            self._route = route
            outlet = self._outlet = None if route is None else BurstSocket(*route)
        return outlet

    def _repair(self, sequence_number: int) -> None:
        """Send a packet again that the peer misses, as long as it is not repairs that congest the link."""
        now = time.monotonic()
        if self.rate.may_repeat(now) and (octets := self._resend(sequence_number)):
            self.retransmits += 1
            self.rate.repeated(now, octets)

    def _resend(self, sequence_number: int) -> int:
        """Send a packet again, on its own RTP stream where that was negotiated (RFC 4588); return its octets."""
        found, outlet = self._find(sequence_number), self._way_out()
        if found is None or outlet is None:
            return 0
        frame, index = found
        payload = frame.payloads[index]
        marker = 0x80 if index == len(frame.payloads) - 1 else 0
        if self._rtx_payload_type is None:
            header = _header(
                self._first_octet, marker | self._payload_type, sequence_number, frame.timestamp, self._ssrc
            )
        else:
            header = _header(
                self._first_octet,
                marker | self._rtx_payload_type,
                self._rtx_sequence_number,
                frame.timestamp,
                self._rtx_ssrc,
            )
            payload = sequence_number.to_bytes(2, "big") + payload
            self._rtx_sequence_number = (self._rtx_sequence_number + 1) & 0xFFFF
        data = header + self._extension(ntp_time()) + payload
        try:
            sealed = seams.outgoing_srtp(self.transport).protect(data)
        except pylibsrtp.Error:  # too old to be encrypted once more
            return 0
        outlet.send(memoryview(sealed), [len(sealed)])
        return len(payload)

    def _find(self, sequence_number: int) -> tuple[EncodedFrame, int] | None:
        for first, frame in reversed(self._history):
            index = (sequence_number - first) & 0xFFFF
            if index < len(frame.payloads):
                return frame, index
        return None

    def _configure(self, parameters: RTCRtpSendParameters) -> None:
        codec = parameters.codecs[0]
        self._cname = parameters.rtcp.cname or ""
        self._payload_type = codec.payloadType or 0
        for other in parameters.codecs:
            if is_rtx(other) and other.parameters.get("apt") == codec.payloadType:
                self._rtx_payload_type = other.payloadType
                break

        # The header extension is the same in every packet but for the 24 bits of the time.
        known = HeaderExtensionsMap()
        known.configure(parameters)
        mid = parameters.muxId or None
        profile, zeros = known.set(HeaderExtensions(mid=mid, abs_send_time=0))
        _, ones = known.set(HeaderExtensions(mid=mid, abs_send_time=0xFFFFFF))
        if not zeros:
            return
        self._first_octet = EXTENDED
        head = struct.pack("!HH", profile, len(zeros) // 4)
        at = next((at for at, (zero, one) in enumerate(zip(zeros, ones, strict=True)) if zero != one), None)
        self._extensions = (head + zeros, b"") if at is None else (head + zeros[:at], zeros[at + 3 :])
        self._timed = at is not None

    def _extension(self, ntp_time: int) -> bytes:
        before, after = self._extensions
        if not self._timed:
            return before
        return before + (ntp_time >> 14 & 0xFFFFFF).to_bytes(3, "big") + after

    # Reports

    async def _send_reports(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            if self._history:
                self._send_report()

    def _send_report(self, more: bytes = b"") -> None:
        """Say how much was sent, and which RTP timestamp it is now (RFC 3550 section 6.4.1)."""
        now = ntp_time()
        timestamp = 0
        if self._history:
            frame = self._history[-1][1]
            timestamp = (frame.timestamp + ((now - frame.ntp_time) * CLOCK_RATE >> 32)) & 0xFFFFFFFF
        report = RtcpSrPacket(
            ssrc=self._ssrc,
            sender_info=RtcpSenderInfo(
                ntp_timestamp=now,
                rtp_timestamp=timestamp,
                packet_count=self.packets & 0xFFFFFFFF,
                octet_count=self.octets & 0xFFFFFFFF,
            ),
        )
        source = RtcpSdesPacket([RtcpSourceInfo(ssrc=self._ssrc, items=[(1, self._cname.encode())])])
        self._ice.send_now(seams.outgoing_srtp(self.transport).protect_rtcp(bytes(report) + bytes(source) + more))

    def _note_reports(self, packet: RtcpRrPacket | RtcpSrPacket) -> None:
        for report in packet.reports:
            if report.ssrc != self._ssrc:
                continue
            self.loss = report.fraction_lost / 256
            if report.lsr:
                # Round-trip time from the middle 32 bits of NTP times, in 1/65536 s (RFC 3550 section 6.4.1).
                elapsed = ((ntp_time() >> 16) - report.lsr - report.dlsr) & 0xFFFFFFFF
                if elapsed < 0x80000000:  # noqa: PLR2004 - else negative: the clock was set back
                    self.rtt = elapsed / 65536
            self.rate.reported(time.monotonic(), self.loss, self.rtt)
            self._report_stats.add(
                RTCRemoteInboundRtpStreamStats(
                    timestamp=clock.current_datetime(),
                    type="remote-inbound-rtp",
                    id=f"remote-inbound-rtp_{id(self)}",
                    ssrc=packet.ssrc,
                    kind=self.kind,
                    transportId=seams.transport_id(self.transport),
                    packetsReceived=self.packets - report.packets_lost,
                    packetsLost=report.packets_lost,
                    jitter=report.jitter,
                    roundTripTime=self.rtt or 0.0,
                    fractionLost=report.fraction_lost,
                )
            )


def _context_and_tag(session: pylibsrtp.Session) -> tuple[object, int]:
    """Return what libsrtp knows a session by, and how many bytes its tags have: those of RTCP have 4 more of an index.

    An index is used up that is not sent, as RFC 3711 section 3.2.1 allows.
    """
    report = bytes(RtcpRrPacket(ssrc=0, reports=[]))
    return seams.srtp_context(session), len(session.protect_rtcp(report)) - len(report) - 4


def _after(frame: EncodedFrame, timestamp: int) -> bool:
    return 0 < (frame.timestamp - timestamp) & 0xFFFFFFFF < 2**31  # timestamps wrap around


class _Arrival:
    """Watches a stream for the keyframe at which a peer can be moved to it."""

    def __init__(self, sender: FanoutSender, stream: VideoStream) -> None:
        self.stream = stream
        self._sender = sender

    def send_frame(self, frame: EncodedFrame) -> None:
        self._sender.arrive(self.stream, frame)
