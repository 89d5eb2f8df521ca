"""The sending end of one video track to one peer."""

import contextlib
import logging
import math
import struct
from collections.abc import Callable

from aiortc import RTCRtpSender
from aiortc.rtcrtpparameters import RTCRtpSendParameters
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    unpack_remb_fci,
)

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.rtc.backlog import Backlog
from synopticon_rtc.rtc.budget import Budget
from synopticon_rtc.rtc.ice import IceConnection
from synopticon_rtc.rtc.outlet import Outlet
from synopticon_rtc.rtc.pacer import BURST
from synopticon_rtc.rtc.rate import RateControl
from synopticon_rtc.rtc.repair import Repair
from synopticon_rtc.rtc.reporting_sender import ReportingSender
from synopticon_rtc.rtc.stream import CLOCK_RATE, Codec, EncodedFrame, VideoStream, ntp_time
from synopticon_rtc.rtc.switch import Switch
from synopticon_rtc.rtc.watchdog import Watchdog
from synopticon_rtc.rtc.writer import PacketWriter
from synopticon_rtc.tracing import Keyframe, Note, ignore

logger = logging.getLogger(__name__)

KEYFRAMES_AT_ONCE = 2
KEYFRAME_INTERVAL = 2.0
"""Seconds from one keyframe that a peer may cause to the next, after the first ones, where others watch the stream."""
PACE = 1.5
"""How much faster than its link is thought to bear a peer is sent what waits: a keyframe, and what came after it."""


class FanoutSender(ReportingSender):
    """Sends one peer its packets of a :class:`VideoStream`.

    A packet is encrypted and handed to the socket in the call that brings its frame, or in the next turns of the
    stream's pacer where that is many. What the socket does not take is not queued: the peer goes on at the next
    keyframe. A peer that is sent none of its frames for a second, whatever the reason, begins anew at the next
    keyframe, and the log says so.

    Attributes:
        note: Takes what is decided about the peer, for a trace.
        rate: What the peer's link is thought to bear.
        wanted: What the peer asks for at most, in bit/s; infinite where it takes all.
        bitrate_limit: What the peer estimates that it can receive, in bit/s (REMB).
        smaller: What sends smaller layers of the same video on the same media section, the largest of them first.
        fixed: Whether it sends its stream whatever the link bears.
        beside: Gives the NAL units that go with the frame of an RTP timestamp, where the video is in H.264.
    """

    @classmethod
    def adopt(
        cls,
        sender: RTCRtpSender,
        ice: IceConnection,
        select: Callable[[Codec], VideoStream],
        note: Note = ignore,
        faults: Faults | None = None,
    ) -> "FanoutSender":
        """Turn a sender that has not started into one that sends a shared stream.

        Args:
            sender: aiortc's sender; a peer connection makes it itself and takes no other.
            ice: The connection that carries the peer.
            select: Gives the stream for the codec that was negotiated, ``"vp8"`` or ``"h264"``.
            note: Told of what is decided about the peer.
            faults: What counts errors that nobody foresaw.
        """
        sender.__class__ = cls
        assert isinstance(sender, cls)  # noqa: S101 - tells the type checkers
        sender._set_up(ice, select, note, faults)  # noqa: SLF001 - takes the place of a constructor
        return sender

    def _set_up(
        self,
        ice: IceConnection,
        select: Callable[[Codec], VideoStream],
        note: Note = ignore,
        faults: Faults | None = None,
    ) -> None:
        self._select: Callable[[Codec], VideoStream] | None = select  # None where there is nothing to send
        self._codec: Codec = "vp8"  # as negotiated, once it has started
        self.note = note
        self.rate = RateControl(note)
        self.wanted = math.inf
        self.bitrate_limit: int | None = None
        self.smaller: list[FanoutSender] = []
        self.fixed = False
        self.beside: Callable[[int], list[bytes]] | None = None
        self._prepare(Outlet(ice, self.rate.rerouted), CLOCK_RATE, faults)
        self._writer = PacketWriter(self._outlet, self._ssrc, self._rtx_ssrc)
        self._repair = Repair(self._writer, self.rate)
        self._backlog = Backlog()
        self._switch = Switch(self, self._backlog, self._queue)
        self._has_turn = False  # whether the pacer knows of what waits
        self._pause_until = 0.0  # seconds, for a link that bears no more
        self._keyframes = Budget(1 / KEYFRAME_INTERVAL, KEYFRAMES_AT_ONCE)
        self._watchdog = Watchdog()  # over what is sent of the frames that come
        self._supply = Watchdog()  # over frames that come while the source has some
        self._told = False  # that the peer gets nothing, since it got something

    @property
    def stream(self) -> VideoStream | None:
        """The stream that the peer is sent; None before it is connected, and in the end."""
        return self._switch.stream

    @property
    def next_stream(self) -> VideoStream | None:
        """The stream that the peer is being moved to, else the one that it is sent."""
        return self._switch.next_stream

    @property
    def codec(self) -> Codec:
        """The codec that was negotiated, once it was."""
        return self._codec

    @property
    def latest(self) -> EncodedFrame | None:
        """The frame that was sent last, perhaps not all of it yet."""
        latest = self._reports.latest
        return latest if isinstance(latest, EncodedFrame) else None

    @property
    def bearable(self) -> float:
        """What the peer can be sent, bit/s: what its link bears, unless it wants less."""
        return min(self.rate.estimate, self.wanted)

    @property
    def packets(self) -> int:
        """Packets that were sent, those that were sent again not counted."""
        return self._writer.packets

    @property
    def frames(self) -> int:
        """Frames that were sent."""
        return self._reports.frames

    @property
    def dropped(self) -> int:
        """Frames that were not sent, because the peer waited for a keyframe."""
        return self._backlog.dropped

    @property
    def retransmits(self) -> int:
        """Packets that the peer missed, and was sent again."""
        return self._repair.retransmits

    # Overrides of what aiortc calls

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        """Start; aiortc calls this once the peer is connected, and gives the peer up where it fails."""
        if self._reporting is not None or not parameters.codecs:
            return
        self._outlet.begin(self.transport)
        self._writer.begin(parameters)
        self._codec = "h264" if parameters.codecs[0].name == "H264" else "vp8"
        self._begin(parameters)
        if self._select is not None:
            stream = self._switch.stream = self._select(self._codec)
            stream.add(self)
        for sender in self.smaller:
            sender.setTransport(self.transport)
            await sender.send(parameters)

    async def stop(self) -> None:
        """Stop, and say goodbye to the peer, of all layers."""
        await super().stop()
        self._switch.close()
        for sender in self.smaller:
            await sender.stop()

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        now = clock.monotonic()
        match packet:
            case RtcpRrPacket() | RtcpSrPacket():
                if (heard := self._reports.read(packet, ntp_time(), self.packets)) is not None:
                    self.rate.reported(now, heard.loss, heard.rtt)
            case RtcpRtpfbPacket(fmt=fmt) if fmt == RTCP_RTPFB_NACK:
                self._repair.repair(now, packet.lost)
            case RtcpPsfbPacket(fmt=fmt) if fmt in {RTCP_PSFB_PLI, RTCP_PSFB_FIR}:
                self._backlog.wants_keyframe = True
                self._ask_for_keyframe("the peer asks for it")
            case RtcpPsfbPacket(fmt=fmt) if fmt == RTCP_PSFB_APP:
                with contextlib.suppress(ValueError, struct.error):
                    bitrate, ssrcs = unpack_remb_fci(packet.fci)
                    if self._ssrc in ssrcs:
                        self.bitrate_limit = bitrate
                        self.rate.limited(now, bitrate)

    # Streams

    def switch(self, stream: VideoStream) -> None:
        """Move to another stream of the same codec and source, at its next keyframe."""
        self._switch.move(stream)

    def leave(self) -> None:
        """Send nothing more, until :meth:`begin`; the media section stays."""
        self._select = None
        self.wanted = math.inf
        self._leave()
        self._reports.forget()
        for sender in self.smaller:
            sender.leave()

    def begin(self, select: Callable[[Codec], VideoStream]) -> None:
        """Send another source's stream, from its last keyframe on, where that of the former one was left.

        Args:
            select: Gives the stream for the codec that was negotiated.
        """
        self._select = select
        if self._reporting is None:
            return  # it begins once the peer is connected
        self._leave()
        self._reports.forget()
        self._backlog.drop()
        self._backlog.newest = None
        self._has_turn = False
        stream = self._switch.stream = select(self._codec)
        stream.add(self)

    def watch(self, now: float) -> None:
        """Note that the source has frames, now and then: where the stream brings none for a second, something is wrong.

        Args:
            now: The time, s, of :func:`.clock.monotonic`.
        """
        if self.stream is None or not self._supply.due(now):
            return
        is_viewer = self.stream.has(self)
        reason = "none is encoded" if is_viewer else "its stream does not know it"
        self._warn("a peer gets no frames, though the source has some: %s", reason)
        if not is_viewer:
            self._begin_anew()
            self.stream.add_at_keyframe(self)

    def _leave(self) -> None:
        self._backlog.clear()
        self._switch.leave()

    # Frames

    def send_frame(self, frame: EncodedFrame, now: float) -> None:
        """Send one frame, unless the peer still waits for a keyframe.

        Args:
            frame: What all peers are sent.
            now: The time, s, of :func:`.clock.monotonic`.
        """
        self._supply.delivered()
        try:
            if self._watchdog.due(now) and now > self._pause_until:
                self._warn("a peer was not sent its last %d frames: %s", self._watchdog.missed, self._condition())
                self._begin_anew()
            if self.beside is not None and self._codec == "h264" and (units := self.beside(frame.timestamp)):
                frame = frame.after(units)
            self._switch.take(frame)
        except Exception:  # noqa: BLE001 - it is noted
            self._faults.note("a frame is not sent to a peer")
            self._drop()  # what follows builds on this one

    def _begin_anew(self) -> None:
        """Let go of all that the peer may be waiting for but the next keyframe: it was sent none of its frames."""
        self._drop()
        self._switch.abandon()
        self._backlog.newest = None
        self._has_turn = False
        self._ask_for_keyframe("the peer was sent nothing")

    def _drop(self) -> None:
        """Send nothing until the next keyframe."""
        self._switch.drop()
        self._backlog.drop()

    def _warn(self, message: str, *arguments: object) -> None:
        """Say that the peer gets nothing, once until it gets something."""
        if not self._told:
            self._told = True
            self._faults.warn(logger, message, *arguments)

    def _condition(self) -> str:
        """Say for the log what the peer waits for."""
        if self._outlet.is_full:
            return "its socket takes no more"
        if self._backlog.needs_keyframe:
            return "no keyframe came that could be sent"
        if self._switch.is_moving:
            return f"it is being moved to another stream, {len(self._switch.held)} held"
        turn = "which does not come" if self._has_turn else "without one"
        return f"{len(self._backlog.frames)} wait for their turn, {turn}"

    def _queue(self, frame: EncodedFrame) -> None:
        backlog, stream = self._backlog, self._switch.stream
        if backlog.is_full():
            self._drop()
        waits = backlog.put(frame)
        if backlog.wants_keyframe and not frame.keyframe and not backlog.is_past(frame):
            self._ask_for_keyframe("a frame was not sent, or the peer had asked too often")
        if waits and not self._has_turn and stream is not None:
            self._has_turn = True
            stream.pacer.add(self._take_turn)

    def _ask_for_keyframe(self, reason: str) -> None:
        """Ask for a keyframe, as often as the other peers of the stream can bear."""
        stream = self.stream
        if stream is None or (self._backlog.needs_keyframe and self._outlet.is_full):
            return
        if self._keyframes.take(clock.monotonic()) or stream.viewers == 1:
            self._backlog.wants_keyframe = False
            self.note(Keyframe(reason=reason))
            stream.request_keyframe()

    # Turns

    def _take_turn(self, now: float) -> bool:
        """Send one burst; tell whether there is more."""
        try:
            self._send_bursts(now)
        except Exception:  # noqa: BLE001 - it is noted
            self._faults.note("a frame is not sent to a peer")
            self._drop()
        self._has_turn = bool(self._backlog.frames)
        return self._has_turn

    def _send_bursts(self, now: float) -> None:
        if now < self._pause_until:
            return
        stream, backlog = self._switch.stream, self._backlog
        left = stream.turn if stream is not None else BURST
        fresh = backlog.is_fresh()
        while backlog.frames and left > 0:
            frame, position = backlog.frames[0], backlog.position
            burst = frame.bursts[position]
            left -= len(burst)
            if stream is None or not self._send_burst(stream, frame, position, frame.ntp_time if fresh else ntp_time()):
                self._drop()
                return
            self._watchdog.delivered()
            if backlog.advance():
                self._note_sent(now, frame)
            if self.rate.estimate < math.inf:
                self._pause_until = now + sum(map(len, burst)) * 8 / (PACE * self.rate.estimate)
                return

    def _send_burst(self, stream: VideoStream, frame: EncodedFrame, position: int, ntp_time: int) -> bool:
        if not self._outlet.open():
            return False
        if position == 0:
            self._repair.history.add(self._writer.next_number, frame)
            self._reports.latest = frame
        if self._writer.write(frame, position, ntp_time, stream.sealer):
            return True
        self._repair.history.drop_newest()  # what of it is missing is not worth being asked for
        return False

    def _note_sent(self, now: float, frame: EncodedFrame) -> None:
        self._told = False
        self._reports.frames += 1
        self._reports.octets += frame.octets
        self.rate.sent(now, frame.octets)
        self._repair.pad(now)
        if not self._reports.told:
            self._faults.call(self._send_report)
