"""Receiving RTP: from packets to the frames of a :class:`~synopticon_rtc.rtc.track.VideoTrack`."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import cast

from aiortc import RTCRtpReceiver
from aiortc.codecs import is_rtx
from aiortc.rate import RemoteBitrateEstimator
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtcrtpreceiver import StreamStatistics
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    RtpPacket,
    pack_remb_fci,
    unwrap_rtx,
)

from synopticon_rtc.rtc import seams
from synopticon_rtc.rtc.assembly import EncodedVideoFrame, FrameBuffer, Piece, depayload
from synopticon_rtc.rtc.callback import call
from synopticon_rtc.rtc.decoder import Decoder
from synopticon_rtc.rtc.ice import IceConnection
from synopticon_rtc.rtc.losses import Losses
from synopticon_rtc.rtc.stream import Codec
from synopticon_rtc.rtc.track import VideoTrack

logger = logging.getLogger(__name__)

REPORT_INTERVAL = 1.0
KEYFRAME_REQUEST_INTERVAL = 0.3
"""Seconds from one request for a keyframe to the next, at the least; 1.5 round trips where that is more."""
GAP_LIMIT = (0.25, 0.6)
"""Seconds that a missing packet may hold frames back before a keyframe is asked for: 5 round trips, within these."""
UNKNOWN_RTT = 0.1


class VideoReceiver(RTCRtpReceiver):
    """Receives one video track.

    It takes the place of aiortc's receiver, which holds every frame back until the next one begins, renumbers the
    timestamps, and queues without bounds.
    """

    @classmethod
    def adopt(
        cls,
        receiver: RTCRtpReceiver,
        ice: IceConnection,
        ssrc: int,
        sink: VideoTrack | Callable[[EncodedVideoFrame], object],
    ) -> "VideoReceiver":
        """Turn a receiver that has not started into one that feeds a track.

        Args:
            receiver: aiortc's receiver; a peer connection makes it itself and takes no other.
            ice: The connection that carries the peer.
            ssrc: Who we are in our reports.
            sink: A track, which the decoded frames go to, or a function, which is called with each
                :class:`EncodedVideoFrame`; then none is decoded.
        """
        receiver.__class__ = cls
        assert isinstance(receiver, cls)  # noqa: S101 - tells the type checkers
        receiver._set_up(ice, ssrc, sink)  # noqa: SLF001 - takes the place of a constructor
        return receiver

    def _set_up(self, ice: IceConnection, ssrc: int, sink: VideoTrack | Callable[[EncodedVideoFrame], object]) -> None:
        self._ice = ice
        self._sink = sink
        self.packets = 0
        self.octets = 0
        self.nacks = 0
        """Packets asked for again."""
        self.keyframe_requests = 0
        self.decode_errors = 0
        self._own_ssrc = ssrc
        self._media_ssrc = 0
        self._known_codecs: dict[int, RTCRtpCodecParameters] = {}
        self._repaired_ssrc: dict[int, int] = {}
        self._streams: dict[int, StreamStatistics] = {}
        self._last_reports: dict[int, tuple[int, float]] = {}
        self._bitrate = RemoteBitrateEstimator()
        self._losses = Losses()
        self._buffer = FrameBuffer()
        self._decoder: Decoder | None = None
        self._keyframe_needed = True
        self._keyframe_requested = 0.0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        self._reports: asyncio.Task[None] | None = None

    # Overrides of what aiortc calls

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Start; aiortc calls this once the peer is connected."""
        if self._reports is not None:
            return
        self._known_codecs = {codec.payloadType: codec for codec in parameters.codecs if codec.payloadType is not None}
        self._repaired_ssrc = {coding.rtx.ssrc: coding.ssrc for coding in parameters.encodings if coding.rtx}
        self._media_ssrc = parameters.encodings[0].ssrc if parameters.encodings else 0
        if isinstance(self._sink, VideoTrack):
            self._decoder = Decoder(on_frame=self._sink.put, on_error=self._on_decode_error)
        seams.register_receiver(self.transport, self, parameters)
        self._keyframe_requested = self._loop.time()  # by joining
        self._mend()
        self._reports = asyncio.create_task(self._send_reports())

    async def stop(self) -> None:
        """Stop, and end the track."""
        self._handle_disconnect()
        if self._reports is not None:
            seams.unregister_receiver(self.transport, self)
            self._reports.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reports
        if self._decoder is not None:
            await self._decoder.wait_stopped()

    def _handle_disconnect(self) -> None:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._decoder is not None:
            self._decoder.stop()
        if isinstance(self._sink, VideoTrack):
            self._sink.end()

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        match packet:
            case RtcpSrPacket():
                middle = packet.sender_info.ntp_timestamp >> 16 & 0xFFFFFFFF
                self._last_reports[packet.ssrc] = (middle, time.monotonic())
            case RtcpByePacket():
                self._handle_disconnect()

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        codec = self._known_codecs.get(packet.payload_type)
        if codec is None or not self._enabled:
            return
        self._count(packet, codec, arrival_time_ms)
        if is_rtx(codec):
            original = self._known_codecs.get(int(codec.parameters.get("apt") or -1))
            ssrc = self._repaired_ssrc.get(packet.ssrc)
            if original is None or original.payloadType is None or ssrc is None or len(packet.payload) < 2:  # noqa: PLR2004
                return
            packet, codec = unwrap_rtx(packet, original.payloadType, ssrc), original
        self._media_ssrc = packet.ssrc
        name = cast("Codec", codec.name.lower())  # the only ones that are negotiated
        try:
            piece = depayload(
                name, packet.sequence_number, packet.timestamp, marker=bool(packet.marker), payload=packet.payload
            )
        except (ValueError, IndexError) as error:
            logger.debug("a packet is dropped: %s", error)
            return
        frames, lost = self._buffer.add(piece)
        self._keyframe_needed = self._keyframe_needed or lost
        for pieces in frames:
            self._take(name, pieces)
        if self._keyframe_needed or self._buffer.incomplete or self._timer is not None:
            self._mend()

    # Frames

    def _take(self, codec: Codec, pieces: list[Piece]) -> None:
        keyframe = any(piece.keyframe for piece in pieces)
        if self._keyframe_needed and not keyframe:
            return
        data = b"".join([piece.data for piece in pieces])
        frame = EncodedVideoFrame(codec, data, pieces[0].timestamp, keyframe, time.monotonic())
        self._keyframe_needed = False
        if not isinstance(self._sink, VideoTrack):
            call(self._sink, frame)
        elif self._decoder is not None and not self._decoder.put(frame):
            self._need_keyframe()

    def _on_decode_error(self) -> None:
        self.decode_errors += 1
        self._need_keyframe()

    def _need_keyframe(self) -> None:
        """Drop frames up to the next keyframe, and ask for it."""
        self._keyframe_needed = True
        self._mend()

    # Feedback

    def _mend(self) -> None:
        """Ask for what is missing, and for a keyframe where that takes too long; again and again, until all is well."""
        if self._ended:
            return
        now, rtt = self._loop.time(), self._ice.rtt or UNKNOWN_RTT
        lost = self._losses.update(self._buffer.missing, now, rtt)
        if lost:
            self._send_nack(lost)
        due = min(self._losses.next_due(), self._keyframe_due(now, rtt))
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if due == float("inf") else self._loop.call_at(due, self._mend)

    def _keyframe_due(self, now: float, rtt: float) -> float:
        """Ask for a keyframe if it is time to, and return when it will be."""
        begun = self._buffer.keyframe
        if self._keyframe_needed and begun is None:
            due = now
        else:  # what came before a keyframe that has begun will not be needed
            shortest, longest = GAP_LIMIT
            due = self._losses.since(begun or 0) + min(max(shortest, 5 * rtt), longest)
        interval = max(KEYFRAME_REQUEST_INTERVAL, 1.5 * rtt)
        due = max(due, self._keyframe_requested + interval)
        if now < due:
            return due
        self._send_keyframe_request(now)
        return now + interval

    def request_keyframe(self) -> None:
        """Ask for a keyframe, unless that was done just now."""
        now = self._loop.time()
        if self._reports is not None and now >= self._keyframe_requested + KEYFRAME_REQUEST_INTERVAL:
            self._send_keyframe_request(now)

    def _send_keyframe_request(self, now: float) -> None:
        """Say that the picture is lost (RFC 4585 section 6.3.1)."""
        self.keyframe_requests += 1
        self._keyframe_requested = now
        self._send(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=self._own_ssrc, media_ssrc=self._media_ssrc))

    def _send_nack(self, lost: list[int]) -> None:
        """Ask for packets (RFC 4585 section 6.2.1)."""
        self.nacks += len(lost)
        nack = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=self._own_ssrc, media_ssrc=self._media_ssrc)
        nack.lost = sorted(number & 0xFFFF for number in lost)
        self._send(nack)

    def _count(self, packet: RtpPacket, codec: RTCRtpCodecParameters, arrival_time_ms: int) -> None:
        self.packets += 1
        self.octets += len(packet.payload)
        if packet.ssrc not in self._streams:
            self._streams[packet.ssrc] = StreamStatistics(codec.clockRate)
        self._streams[packet.ssrc].add(packet)
        if packet.extensions.abs_send_time is None:
            return
        estimate = self._bitrate.add(
            abs_send_time=packet.extensions.abs_send_time,
            arrival_time_ms=arrival_time_ms,
            payload_size=len(packet.payload) + packet.padding_size,
            ssrc=packet.ssrc,
        )
        if estimate is not None:
            fci = pack_remb_fci(*estimate)
            self._send(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=self._own_ssrc, media_ssrc=0, fci=fci))

    async def _send_reports(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            if self._streams:
                self._send(RtcpRrPacket(ssrc=self._own_ssrc, reports=[self._report(ssrc) for ssrc in self._streams]))

    def _report(self, ssrc: int) -> RtcpReceiverInfo:
        stream = self._streams[ssrc]
        last, at = self._last_reports.get(ssrc, (0, 0.0))
        return RtcpReceiverInfo(
            ssrc=ssrc,
            fraction_lost=stream.fraction_lost,
            packets_lost=stream.packets_lost,
            highest_sequence=stream.cycles + (stream.max_seq or 0) & 0xFFFFFFFF,
            jitter=min(stream.jitter, 0xFFFFFFFF),
            lsr=last,
            dlsr=min(int((time.monotonic() - at) * 65536), 0xFFFFFFFF) if last else 0,
        )

    def _send(self, packet: AnyRtcpPacket) -> None:
        self._ice.send_now(seams.outgoing_srtp(self.transport).protect_rtcp(bytes(packet)))
