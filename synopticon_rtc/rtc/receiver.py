"""Receiving RTP: from packets to the frames of a :class:`~synopticon_rtc.rtc.track.VideoTrack`."""

import asyncio
import contextlib
import logging
import time

from aiortc import RTCRtpReceiver
from aiortc.codecs import is_rtx
from aiortc.rate import RemoteBitrateEstimator
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtcrtpreceiver import NackGenerator, StreamStatistics
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
from synopticon_rtc.rtc.assembly import AssembledFrame, FrameBuffer, Piece, depayload
from synopticon_rtc.rtc.decoder import Decoder
from synopticon_rtc.rtc.ice import IceConnection
from synopticon_rtc.rtc.track import VideoTrack

logger = logging.getLogger(__name__)

REPORT_INTERVAL = 1.0
KEYFRAME_REQUEST_INTERVAL = 0.3
GAP_LIMIT = 0.3
"""Seconds that a missing packet may hold frames back."""


class VideoReceiver(RTCRtpReceiver):
    """Receives one video track.

    It takes the place of aiortc's receiver, which holds every frame back until the next one begins, renumbers the
    timestamps, and queues without bounds.
    """

    @classmethod
    def adopt(cls, receiver: RTCRtpReceiver, ice: IceConnection, ssrc: int, track: VideoTrack) -> "VideoReceiver":
        """Turn a receiver that has not started into one that feeds a track.

        Args:
            receiver: aiortc's receiver; a peer connection makes it itself and takes no other.
            ice: The connection that carries the peer.
            ssrc: Who we are in our reports.
            track: What the frames go to.
        """
        receiver.__class__ = cls
        assert isinstance(receiver, cls)  # noqa: S101 - tells the type checkers
        receiver._set_up(ice, ssrc, track)  # noqa: SLF001 - takes the place of a constructor
        return receiver

    def _set_up(self, ice: IceConnection, ssrc: int, track: VideoTrack) -> None:
        self._ice = ice
        self._video = track
        self.packets = 0
        self.octets = 0
        self.decode_errors = 0
        self._own_ssrc = ssrc
        self._media_ssrc = 0
        self._known_codecs: dict[int, RTCRtpCodecParameters] = {}
        self._repaired_ssrc: dict[int, int] = {}
        self._streams: dict[int, StreamStatistics] = {}
        self._last_reports: dict[int, tuple[int, float]] = {}
        self._bitrate = RemoteBitrateEstimator()
        self._losses = NackGenerator()
        self._buffer = FrameBuffer()
        self._decoder: Decoder | None = None
        self._keyframe_needed = True
        self._keyframe_requested = -KEYFRAME_REQUEST_INTERVAL
        self._gap_since = 0.0
        self._reports: asyncio.Task[None] | None = None

    # Overrides of what aiortc calls

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Start; aiortc calls this once the peer is connected."""
        if self._reports is not None:
            return
        self._known_codecs = {codec.payloadType: codec for codec in parameters.codecs if codec.payloadType is not None}
        self._repaired_ssrc = {coding.rtx.ssrc: coding.ssrc for coding in parameters.encodings if coding.rtx}
        self._decoder = Decoder(on_frame=self._video.put, on_error=self._on_decode_error)
        seams.register_receiver(self.transport, self, parameters)
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
        if self._decoder is not None:
            self._decoder.stop()
        self._video.end()

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
        self._note_losses(packet)
        name = codec.name.lower()
        try:
            piece = depayload(
                name, packet.sequence_number, packet.timestamp, marker=bool(packet.marker), payload=packet.payload
            )
        except (ValueError, IndexError) as error:
            logger.debug("a packet is dropped: %s", error)
            return
        frames, lost = self._buffer.add(piece)
        if lost:
            self._need_keyframe()
        for pieces in frames:
            self._decode(name, pieces)
        self._watch_gap(progress=bool(frames))

    # Frames

    def _decode(self, codec: str, pieces: list[Piece]) -> None:
        keyframe = any(piece.keyframe for piece in pieces)
        if self._keyframe_needed and not keyframe:
            self._need_keyframe()
            return
        data = b"".join([piece.data for piece in pieces])
        frame = AssembledFrame(codec, data, pieces[0].timestamp, keyframe, time.monotonic())
        self._keyframe_needed = False
        if self._decoder is not None and not self._decoder.put(frame):
            self._need_keyframe()

    def _on_decode_error(self) -> None:
        self.decode_errors += 1
        self._need_keyframe()

    def _need_keyframe(self) -> None:
        """Drop frames up to the next keyframe, and ask for it."""
        self._keyframe_needed = True
        self._request_keyframe()

    def _watch_gap(self, *, progress: bool) -> None:
        """Ask for a keyframe where a missing packet holds frames back for long: one goes ahead of the gap."""
        now = time.monotonic()
        if progress or not self._buffer.incomplete:
            self._gap_since = now
        elif now - self._gap_since > GAP_LIMIT:
            self._request_keyframe()

    def _request_keyframe(self) -> None:
        """Say that the picture is lost (RFC 4585 section 6.3.1)."""
        now = time.monotonic()
        if now - self._keyframe_requested >= KEYFRAME_REQUEST_INTERVAL:
            self._keyframe_requested = now
            self._send(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=self._own_ssrc, media_ssrc=self._media_ssrc))

    # Feedback

    def _note_losses(self, packet: RtpPacket) -> None:
        """Ask for packets that were passed by (RFC 4585 section 6.2.1)."""
        if self._losses.add(packet):
            nack = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=self._own_ssrc, media_ssrc=packet.ssrc)
            nack.lost = sorted(self._losses.missing)
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
