"""The sending end of one video track to one peer."""

import asyncio
import contextlib
import logging
import math
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence

import pylibsrtp
from aiortc import RTCRtpSender, RTCStatsReport, clock
from aiortc.rtcrtpparameters import RTCRtpSendParameters
from aiortc.rtcrtpsender import random_sequence_number
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
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
from synopticon_rtc.rtc.arrival import LONGEST_HOLD, Arrival
from synopticon_rtc.rtc.budget import Budget
from synopticon_rtc.rtc.bursts import BurstSocket
from synopticon_rtc.rtc.header import Header
from synopticon_rtc.rtc.history import History
from synopticon_rtc.rtc.ice import DatagramTransport, IceConnection
from synopticon_rtc.rtc.pacer import BURST
from synopticon_rtc.rtc.rate import RateControl
from synopticon_rtc.rtc.stream import CLOCK_RATE, Codec, EncodedFrame, VideoStream, ntp_time
from synopticon_rtc.rtc.watchdog import Watchdog

logger = logging.getLogger(__name__)

REPORT_INTERVAL = 1.0
BACKLOG_FRAMES = 64
"""Frames that may wait for their turn: the cached pictures that a joining peer is sent, and then some."""
KEYFRAMES_AT_ONCE = 2
KEYFRAME_INTERVAL = 2.0
"""Seconds from one keyframe that a peer may cause to the next, after the first ones, where others watch the stream."""
PACE = 1.5
"""How much faster than its link is thought to bear a peer is sent what waits: a keyframe, and what came after it."""
PADDED_AT_ONCE = 64
"""Packets that are sent again at once to try a link, a millisecond's work."""
REPAIRS = 3000.0, 64
"""Packets that a peer may have sent again in a second, and at once, whatever its link bears: a millisecond's work."""
LOOKUPS = 10_000.0, 2000
"""Lost packets that a peer may name in a second, and at once, to be looked for; again a millisecond's work."""

_header = struct.Struct("!BBHII").pack
_tail = struct.Struct("!II").pack


class FanoutSender(RTCRtpSender):
    """Sends one peer its packets of a :class:`VideoStream`.

    It takes the place of aiortc's sender, which runs a task a peer and packetises again for each. A packet is encrypted
    and handed to the socket in the call that brings its frame, or in the next turns of the stream's pacer where that is
    many. What the socket does not take is not queued: the peer goes on at the next keyframe. A peer that is sent none
    of its frames for a second, whatever the reason, begins anew at the next keyframe, and the log says so.
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
        self._keyframes = Budget(1 / KEYFRAME_INTERVAL, KEYFRAMES_AT_ONCE)
        self._repairs = Budget(*REPAIRS)
        self._lookups = Budget(*LOOKUPS)
        self._watchdog = Watchdog()
        self._told = False  # that the peer gets nothing, since it got something
        self._supply = Watchdog()
        self._arrival: Arrival | None = None
        self._held: deque[EncodedFrame] = deque()
        self._hold_ends: asyncio.TimerHandle | None = None
        self._newest: int | None = None  # the timestamp of the last frame that was sent, or waits
        self._padded = 0.0
        self._padding_due = 0.0
        self._header: Header
        self._sequence_number = random_sequence_number()  # counted on beyond 16 bits
        self._rtx_sequence_number = random_sequence_number()
        self._history = History()
        self._latest: EncodedFrame | None = None
        self._reports: asyncio.Task[None] | None = None
        self._report_stats = RTCStatsReport()
        self._cname = ""

    # Overrides of what aiortc calls

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        """Start; aiortc calls this once the peer is connected, and gives the peer up where it fails."""
        if self._reports is not None or not parameters.codecs:
            return
        self._header = Header(parameters)
        self._cname = parameters.rtcp.cname or ""
        self.stream = self._select("h264" if parameters.codecs[0].name == "H264" else "vp8")
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
        if self._outlet is not None:
            self._outlet.close()
        self._send_report(bytes(RtcpByePacket([self._ssrc])))

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
                self._repair(packet.lost)
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
            self._arrival = Arrival(stream, self._arrive)
            stream.add_at_keyframe(self._arrival)

    @property
    def next_stream(self) -> VideoStream | None:
        """The stream that the peer is being moved to, else the one that it is sent."""
        return self.stream if self._arrival is None else self._arrival.stream

    def _arrive(self, arrival: Arrival, frame: EncodedFrame) -> None:
        """Take a frame of the stream that the peer is being moved to, ahead of that of the stream it is sent.

        The frames of both have the same timestamps. Those of the old stream are held until that of the new one is
        there, so that no picture is sent twice.
        """
        if arrival is not self._arrival or self.stream is None:
            return  # it was abandoned in this very moment
        if frame.keyframe and (self._newest is None or _after(frame.timestamp, self._newest)):
            self._forget_what_waits()
            self.stream.remove(self)
            arrival.stream.replace(arrival, self)
            self.stream, self._arrival = arrival.stream, None
            self._queue(frame)
            return
        if frame.keyframe:
            self._hold_no_longer()  # it took longer than pictures are held
        else:
            self._release(until=frame.timestamp)
        newest = frame.timestamp if self._newest is None else self._newest
        late = (newest - frame.timestamp & 0xFFFFFFFF) / CLOCK_RATE if _after(newest, frame.timestamp) else 0.0
        arrival.try_again(time.monotonic(), late)

    def _hold(self, frame: EncodedFrame, seconds: float) -> None:
        """Hold a picture until its like of the other stream is there, or for some time."""
        self._held.append(frame)
        ticks = frame.timestamp - self._held[0].timestamp & 0xFFFFFFFF
        if ticks >= seconds * CLOCK_RATE or len(self._held) >= BACKLOG_FRAMES:
            self._hold_no_longer()
        elif self._hold_ends is None:  # where no other frame comes to end it
            self._hold_ends = asyncio.get_running_loop().call_later(LONGEST_HOLD, self._end_hold)

    def _end_hold(self) -> None:
        """Hold no picture for ever, and look again later for those that are newer."""
        self._hold_ends = None
        if self._held:
            left = LONGEST_HOLD - (ntp_time() - self._held[0].ntp_time) / 2**32
            if left > 0:
                self._hold_ends = asyncio.get_running_loop().call_later(left, self._end_hold)
            else:
                self._hold_no_longer()

    def _hold_no_longer(self) -> None:
        if self._arrival is not None:
            self._arrival.give_up()
        self._release()

    def _release(self, until: int | None = None) -> None:
        """Send the pictures that are held, up to a timestamp."""
        while self._held and (until is None or not _after(self._held[0].timestamp, until)):
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
        if self._hold_ends is not None:
            self._hold_ends.cancel()
            self._hold_ends = None
        if self.stream is not None:
            self.stream.remove(self)
            self.stream = None

    # Sending

    def send_frame(self, frame: EncodedFrame) -> None:
        """Send one frame, unless the peer still waits for a keyframe."""
        self._supply.delivered()
        try:
            self._take(frame)
        except Exception:
            self._drop()  # what follows builds on this one
            raise

    def _take(self, frame: EncodedFrame) -> None:
        now = time.monotonic()
        if self._watchdog.due(now) and now > self._pause_until:
            self._warn("a peer was not sent its last %d frames: %s", self._watchdog.missed, self._condition())
            self._begin_anew()
        if self._arrival is not None and self._arrival.hopes and not self._waiting:
            self._hold(frame, self._arrival.hold)
        else:
            self._queue(frame)

    def watch(self, now: float) -> None:
        """Note that the source has frames, now and then: where the stream brings none for a second, something is wrong.

        Args:
            now: The time, s, of :func:`time.monotonic`.
        """
        if self.stream is None or not self._supply.due(now):
            return
        is_viewer = self.stream.has(self)
        reason = "none is encoded" if is_viewer else "its stream does not know it"
        self._warn("a peer gets no frames, though the source has some: %s", reason)
        if not is_viewer:
            self._begin_anew()
            self.stream.add_at_keyframe(self)

    def _begin_anew(self) -> None:
        """Let go of all that the peer may be waiting for but the next keyframe: it was sent none of its frames."""
        self._drop()
        self._abandon_switch()
        self._newest = None
        self._has_turn = False
        self._ask_for_keyframe()

    def _warn(self, message: str, *arguments: object) -> None:
        """Say that the peer gets nothing, once until it gets something."""
        if not self._told:
            self._told = True
            logger.warning(message, *arguments)

    def _condition(self) -> str:
        """Say for the log what the peer waits for."""
        if self._outlet is not None and not self._outlet.is_ready():
            return "its socket takes no more"
        if self._waiting:
            return "no keyframe came that could be sent"
        if self._arrival is not None:
            return f"it is being moved to another stream, {len(self._held)} held"
        return f"{len(self._backlog)} wait for their turn, {'which does not come' if self._has_turn else 'without one'}"

    def _queue(self, frame: EncodedFrame) -> None:
        if len(self._backlog) >= BACKLOG_FRAMES:
            self._drop()
        if self._newest is not None and _after(self._newest, frame.timestamp):
            self._waiting = self._keyframe_wanted = True  # what came before it went without it
            self.dropped += 1
            return
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

    def _forget_what_waits(self) -> None:
        """Finish what was begun, and send nothing else of what waits: a keyframe comes."""
        self.dropped += len(self._held)
        self._held.clear()
        while len(self._backlog) > bool(self._position):
            self._backlog.pop()
            self.dropped += 1

    def _drop(self) -> None:
        """Send nothing until the next keyframe."""
        self.dropped += len(self._backlog) + len(self._held)
        self._backlog.clear()
        self._held.clear()
        self._position = 0
        self._waiting = self._keyframe_wanted = True

    def _ask_for_keyframe(self) -> None:
        """Ask for a keyframe, as often as the other peers of the stream can bear."""
        if self.stream is None or (self._waiting and self._outlet is not None and not self._outlet.is_ready()):
            return
        if self._keyframes.take(time.monotonic()) or self.stream.viewers == 1:
            self._keyframe_wanted = False
            self.stream.request_keyframe()

    def _take_turn(self) -> bool:
        """Send one burst; tell whether there is more."""
        try:
            self._send_burst()
        except Exception:
            if not self._told:
                self._told = True
                logger.exception("a frame is not sent to a peer")
            self._drop()
        self._has_turn = bool(self._backlog)
        return self._has_turn

    def _send_burst(self) -> None:
        if self._pause_until and time.monotonic() < self._pause_until:
            return
        left = self.stream.turn if self.stream is not None else BURST
        fresh = len(self._backlog) == 1 and not self._position
        while self._backlog and left > 0:
            frame, position = self._backlog[0], self._position
            burst = frame.bursts[position]
            left -= len(burst)
            if not self._send_packets(frame, position, frame.ntp_time if fresh else ntp_time()):
                self._drop()
                return
            self._position = position + 1
            self._watchdog.delivered()
            if self._position == len(frame.bursts):
                self._backlog.popleft()
                self._position = 0
                self._sent(frame)
            if self.rate.estimate < math.inf:
                self._pause_until = time.monotonic() + sum(map(len, burst)) * 8 / (PACE * self.rate.estimate)
                return

    def _send_packets(self, frame: EncodedFrame, position: int, ntp_time: int) -> bool:
        """Send one burst of a frame; False if the system did not take all."""
        outlet, stream, header = self._way_out(), self.stream, self._header
        if outlet is None or stream is None:
            return False
        if self._srtp is None:
            self._srtp = _context_and_tag(seams.outgoing_srtp(self.transport))
        payloads = frame.bursts[position]
        first = self._sequence_number
        self._sequence_number = first + len(payloads)
        if position == 0:
            self._history.add(first, frame)
            self._latest = frame
        word = header.first_octet << 24 | header.payload_type << 16 | first & 0xFFFF
        tail = _tail(frame.timestamp, self._ssrc) + header.extension(ntp_time)
        marked = position == len(frame.bursts) - 1
        data, sizes = stream.sealer.seal(*self._srtp, payloads, word, tail, marked=marked)
        if not outlet.send(data, sizes):
            self._history.drop_newest()  # what of it is missing is not worth being asked for
            return False
        self.packets += len(payloads)
        return True

    def _sent(self, frame: EncodedFrame) -> None:
        self.frames += 1
        self.octets += frame.octets
        self._told = False
        if frame.keyframe:
            self._keyframe_wanted = False
        now = time.monotonic()
        self.rate.sent(now, frame.octets)
        if self.rate.padding:
            self._pad(now)
        self._padded = now

    def _pad(self, now: float) -> None:
        """Send packets once more, to learn whether the link bears that much."""
        if self._header.rtx_payload_type is None:
            return
        self._padding_due += self.rate.padding / 8 * min(now - self._padded, 0.1)
        left = PADDED_AT_ONCE
        for first, frame in reversed(self._history):
            for index in range(len(frame.payloads)):
                if self._padding_due <= 0 or not left:
                    return
                octets = self._resend(frame, index, first + index & 0xFFFF)
                self._padding_due -= octets
                self.rate.padded(now, octets)
                left -= 1
        self._padding_due = 0.0  # there is no more to send again

    def _way_out(self) -> BurstSocket | None:
        """Return what sends to the peer, by the pair of candidates that ICE has selected; None while there is none."""
        route, outlet = self._ice.route, self._outlet
        if route is not self._route:
            if outlet is not None:
                outlet.close()
                self.rate.rerouted()
            self._route = route
            outlet = self._outlet = None if route is None else BurstSocket(*route)
        return outlet

    def _repair(self, lost: Sequence[int]) -> None:
        """Send packets again that the peer misses, as long as it is not repairs that congest the link."""
        now = time.monotonic()
        for number in dict.fromkeys(lost):
            if not self.rate.may_repeat(now) or not self._lookups.take(now):
                return
            found = self._history.find(number, self._sequence_number)
            if found is None:
                continue
            if not self._repairs.take(now):
                return
            if octets := self._resend(*found, number & 0xFFFF):
                self.retransmits += 1
                self.rate.repeated(now, octets)

    def _resend(self, frame: EncodedFrame, index: int, sequence_number: int) -> int:
        """Send a packet again, on its own RTP stream where that was negotiated (RFC 4588); return its octets."""
        outlet, header = self._way_out(), self._header
        if outlet is None:
            return 0
        payload = frame.payloads[index]
        marker = 0x80 if index == len(frame.payloads) - 1 else 0
        if header.rtx_payload_type is None:
            head = _header(
                header.first_octet, marker | header.payload_type, sequence_number, frame.timestamp, self._ssrc
            )
        else:
            head = _header(
                header.first_octet,
                marker | header.rtx_payload_type,
                self._rtx_sequence_number,
                frame.timestamp,
                self._rtx_ssrc,
            )
            payload = sequence_number.to_bytes(2, "big") + payload
            self._rtx_sequence_number = (self._rtx_sequence_number + 1) & 0xFFFF
        data = head + header.extension(ntp_time()) + payload
        try:
            sealed = seams.outgoing_srtp(self.transport).protect(data)
        except pylibsrtp.Error:  # too old to be encrypted once more
            return 0
        outlet.send(memoryview(sealed), [len(sealed)])
        return len(payload)

    # Reports

    async def _send_reports(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            if self._latest is not None:
                self._send_report()

    def _send_report(self, more: bytes = b"") -> None:
        """Say how much was sent, and which RTP timestamp it is now (RFC 3550 section 6.4.1)."""
        now = ntp_time()
        timestamp = 0
        if (frame := self._latest) is not None:
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
        try:
            data = seams.outgoing_srtp(self.transport).protect_rtcp(bytes(report) + bytes(source) + more)
        except pylibsrtp.Error as error:
            logger.debug("a report is not sent: %s", error)
        else:
            self._ice.send_now(data)

    def _note_reports(self, packet: RtcpRrPacket | RtcpSrPacket) -> None:
        report = next((report for report in packet.reports if report.ssrc == self._ssrc), None)
        if report is None:
            return
        self.loss = report.fraction_lost / 256
        rtt = None  # where the peer has had no report of ours
        if report.lsr:
            # Round-trip time from the middle 32 bits of NTP times, in 1/65536 s (RFC 3550 section 6.4.1).
            elapsed = ((ntp_time() >> 16) - report.lsr - report.dlsr) & 0xFFFFFFFF
            if elapsed < 0x80000000:  # noqa: PLR2004 - else negative: the peer errs by a little
                rtt = self.rtt = elapsed / 65536
        self.rate.reported(time.monotonic(), self.loss, rtt)
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


def _after(timestamp: int, other: int) -> bool:
    return 0 < (timestamp - other) & 0xFFFFFFFF < 2**31  # timestamps wrap around
