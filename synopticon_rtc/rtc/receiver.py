"""Receiving RTP: from packets to the frames of a :class:`~synopticon_rtc.rtc.track.VideoTrack`."""

import logging
from collections.abc import Callable, Sequence
from typing import cast

from aiortc import RTCRtpReceiver
from aiortc.codecs import is_rtx
from aiortc.rate import RemoteBitrateEstimator
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    RtpPacket,
    pack_remb_fci,
    unwrap_rtx,
)

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.rtc import seams
from synopticon_rtc.rtc.assembly import EncodedVideoFrame, FrameBuffer, Outcome, Piece, depayload
from synopticon_rtc.rtc.bitstream import MAX_SIZE, TooLargeError, bitstream
from synopticon_rtc.rtc.capture_time import CaptureTimes
from synopticon_rtc.rtc.decoder import Decoder
from synopticon_rtc.rtc.ice import IceConnection
from synopticon_rtc.rtc.losses import Losses
from synopticon_rtc.rtc.reporting_receiver import SILENCE, ReportingReceiver
from synopticon_rtc.rtc.stream import CLOCK_RATE, Codec
from synopticon_rtc.rtc.track import VideoTrack

logger = logging.getLogger(__name__)

KEYFRAME_REQUEST_INTERVAL = 0.3
"""Seconds from one request for a keyframe to the next, at the least; 1.5 round trips where that is more."""
GAP_LIMIT = (0.25, 0.6)
"""Seconds that a missing packet may hold frames back before a keyframe is asked for: 5 round trips, within these."""
GIVE_UP = 2.0
"""Seconds after which a missing packet is given up: a keyframe has been asked for, and has not come as a whole."""
TOO_LARGE_REQUEST_INTERVAL = 5.0
"""Seconds between requests for a keyframe while pictures are too large: one of another size begins with one anyway."""
TIMER_GRAIN = 0.005
"""Seconds between two looks at what is missing, at the least: there may be thousands of packets."""
UNKNOWN_RTT = 0.1
BITRATE_WINDOW = 1000
"""Milliseconds over which the incoming bit rate is measured: aiortc walks through those of a silence one by one."""
MOST_NACKED = 256
"""Packets asked for in one message, which is then no longer than 1,036 bytes."""
BACKWARD, FORWARD = CLOCK_RATE, 10 * CLOCK_RATE
"""How far timestamps may go back, as they do with frames that refer to later ones, and how far ahead, in a stream that
takes the place of another, without counting as started anew."""

Sink = VideoTrack | Callable[[EncodedVideoFrame], object]


class VideoReceiver(ReportingReceiver):
    """Receives one video track.

    That of aiortc holds every frame back until the next one begins, renumbers the timestamps, and queues without
    bounds.
    """

    @classmethod
    def adopt(
        cls,
        receiver: RTCRtpReceiver,
        ice: IceConnection,
        ssrc: int,
        sink: Sink,
        max_size: tuple[int, int] = MAX_SIZE,
        faults: Faults | None = None,
        tap: Callable[[EncodedVideoFrame], object] | None = None,
    ) -> "VideoReceiver":
        """Turn a receiver that has not started into one that feeds a track.

        Args:
            receiver: aiortc's receiver; a peer connection makes it itself and takes no other.
            ice: The connection that carries the peer.
            ssrc: Who we are in our reports.
            sink: A track, which the decoded frames go to, or a function, which is called with each
                :class:`EncodedVideoFrame`; then none is decoded.
            max_size: Width and height of the largest frames that are taken, in pixels.
            faults: What counts errors that nobody foresaw.
            tap: Called with each frame, too.
        """
        receiver.__class__ = cls
        assert isinstance(receiver, cls)  # noqa: S101 - tells the type checkers
        receiver._set_up(ice, ssrc, sink, max_size, faults or Faults(), tap)  # noqa: SLF001 - takes the place of a constructor
        return receiver

    def _set_up(
        self,
        ice: IceConnection,
        ssrc: int,
        sink: Sink,
        max_size: tuple[int, int],
        faults: Faults,
        tap: Callable[[EncodedVideoFrame], object] | None,
    ) -> None:
        self._prepare(ice, ssrc, faults)
        seams.unburden(self)
        self._sink = sink
        self._tap = tap
        self._max_size = max_size
        self.nacks = 0
        """Packets asked for again."""
        self.keyframe_requests = 0
        self.decode_errors = 0
        """Frames that could not be decoded, or were not worth trying."""
        self.too_large = 0
        """Frames left out because they were larger than allowed."""
        self._own_ssrc = ssrc
        self._known_codecs: dict[int, RTCRtpCodecParameters] = {}
        self._repaired_codecs: dict[int, RTCRtpCodecParameters] = {}
        self._repaired_ssrcs: dict[int, int] = {}
        self._captures = CaptureTimes(CLOCK_RATE)
        self._bitrate = RemoteBitrateEstimator()
        self._estimated = 0  # by what came until then, ms
        self._losses = Losses()
        self._buffer = FrameBuffer()
        self._codec: Codec = "vp8"
        self._bitstream = bitstream(self._codec, max_size)
        self._decoder: Decoder | None = None
        self._keyframe_needed = True  # for what comes to be of use
        self._keyframe_wanted = False  # by somebody
        self._keyframe_requested = 0.0
        self._is_too_large = False
        self._heard = 0.0  # when the last packet of the media came
        self._switched = 0.0
        self._anew = True  # whether timestamps may start anew with the next frame
        self._shown = 0  # the presentation time of the last frame
        self._shown_timestamp = 0
        self._shown_at = 0.0
        self._parted: float | None = None  # when the source said goodbye

    # Overrides of what aiortc calls

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Start; aiortc calls this once the peer is connected."""
        if self._reports is not None or self._ended:
            return
        self._known_codecs = {codec.payloadType: codec for codec in parameters.codecs if codec.payloadType is not None}
        for payload_type, codec in self._known_codecs.items():
            apt = codec.parameters.get("apt")
            repaired = self._known_codecs.get(apt) if isinstance(apt, int) else None
            if is_rtx(codec) and repaired is not None:
                self._repaired_codecs[payload_type] = repaired
        self._repaired_ssrcs = {coding.rtx.ssrc: coding.ssrc for coding in parameters.encodings if coding.rtx}
        if isinstance(self._sink, VideoTrack):
            self._decoder = Decoder(
                max_size=self._max_size,
                on_frame=self._sink.put,
                on_error=self._on_decode_error,
                on_silent=self.request_keyframe,
                faults=self._faults,
            )
        self._begin(parameters)
        self._keyframe_requested = self._loop.time()  # by joining
        self._mend()

    async def stop(self) -> None:
        """Stop, and end the track."""
        await super().stop()
        if self._decoder is not None:
            await self._decoder.wait_stopped()
            self._decoder = None  # its callbacks hold this

    def _handle_disconnect(self) -> None:
        super()._handle_disconnect()
        if self._decoder is not None:
            self._decoder.stop()
        if isinstance(self._sink, VideoTrack):
            self._sink.end()

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        match packet:
            case RtcpSrPacket():
                self._reception.take_report(packet)
                if packet.ssrc == self._media_ssrc:
                    self._captures.tell(packet.sender_info)
            case RtcpByePacket():
                # It may come back, with this SSRC or another: browsers say goodbye when a track is taken away, too.
                if self._media_ssrc in packet.sources:
                    self._parted = self._loop.time()

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        codec = self._known_codecs.get(packet.payload_type)
        mid = packet.extensions.mid
        if codec is None or not self._enabled or (mid is not None and mid != self._mid):
            return
        now = self._loop.time()
        repair = is_rtx(codec)
        if not repair and packet.ssrc != self._media_ssrc and not self._switch(packet.ssrc, now):
            return
        self._count(packet, codec, arrival_time_ms)
        if repair:
            original = self._repaired_codecs.get(packet.payload_type)
            if original is None or original.payloadType is None or not self._is_repair(packet, now):
                return
            packet, codec = unwrap_rtx(packet, original.payloadType, self._media_ssrc), original
        else:
            self._captures.read(packet)
            self._heard = now
            if self._parted is not None and now > self._parted + SILENCE:
                self._parted = None
                self._mend()
        name = cast("Codec", codec.name.lower())  # the only ones that are negotiated
        if name != self._codec:
            if repair:
                return
            self._start_anew(name)
        needed = self._keyframe_needed
        piece = depayload(
            name, packet.sequence_number, packet.timestamp, marker=bool(packet.marker), payload=packet.payload
        )
        outcome = self._buffer.add(piece, repair=repair)
        self._take(outcome)
        if outcome.gap:
            rtt = self._ice.rtt or UNKNOWN_RTT
            self._send_nack(outcome.gap)
            self._wake(self._losses.add(outcome.gap, now, rtt))
        if self._keyframe_needed and (not needed or self._timer is None):
            self._mend()

    # Sources

    def _switch(self, ssrc: int, now: float) -> bool:
        """Go over to another source, unless what comes from it was under way when it was left."""
        if ssrc in self._left_ssrcs and now < self._heard + SILENCE:
            return False
        if self._heard:
            if ssrc in self._left_ssrcs:
                self._left_ssrcs.remove(ssrc)
            self._left_ssrcs.append(self._media_ssrc)
            self._captures = CaptureTimes(CLOCK_RATE)
            self._start_anew(self._codec)
        self._media_ssrc = ssrc
        self._switched = now
        self._parted = None
        return True

    def _start_anew(self, codec: Codec) -> None:
        """Make ready for the first packet of a stream."""
        self._codec = codec
        self._buffer = FrameBuffer()
        self._losses = Losses()
        self._bitstream = bitstream(codec, self._max_size)
        self._keyframe_needed = self._anew = True

    def _is_repair(self, packet: RtpPacket, now: float) -> bool:
        """Whether what was sent again is of the stream that is received.

        Who repairs whom is told in the description (RFC 5576), and may be known no more once SSRCs have changed. What
        comes then is taken to repair what is received (RFC 4588 section 5.3), unless it may be late.
        """
        if len(packet.payload) < 2:  # noqa: PLR2004 - the sequence number
            return False
        repaired = self._repaired_ssrcs.get(packet.ssrc)
        if repaired != self._media_ssrc:
            if repaired is not None and now < self._switched + SILENCE:
                return False
            self._repaired_ssrcs[packet.ssrc] = self._media_ssrc
        return True

    # Frames

    def _take(self, outcome: Outcome) -> None:
        if outcome.lost:
            self._keyframe_needed = self._anew = True
        for pieces in outcome.frames:
            self._take_frame(pieces)

    def _take_frame(self, pieces: list[Piece]) -> None:
        try:
            picture = self._bitstream.read(pieces)
        except TooLargeError as error:
            self._refuse(error)
            return
        except ValueError as error:
            if not self._keyframe_needed:
                self.decode_errors += 1
                self._keyframe_needed = True
            logger.debug("a frame is dropped: %s", error)
            return
        if picture is None:
            return
        data, keyframe = picture
        if keyframe:
            self._keyframe_needed = self._keyframe_wanted = self._is_too_large = False
        elif self._keyframe_needed:
            return
        timestamp, arrived = pieces[0].timestamp, clock.monotonic()
        epoch, captured = self._epoch(timestamp, arrived), self._captures.of(timestamp)
        frame = EncodedVideoFrame(self._codec, data, timestamp, keyframe, arrived, epoch, captured)
        self._faults.call(self._tap, frame)
        if not isinstance(self._sink, VideoTrack):
            self._faults.call(self._sink, frame)
        elif self._decoder is not None and not self._decoder.put(frame):
            self._need_keyframe()

    def _epoch(self, timestamp: int, arrived: float) -> int:
        """Return what makes a timestamp the presentation time: where they start anew, that goes on as time does."""
        step = ((timestamp - self._shown_timestamp + 0x80000000) & 0xFFFFFFFF) - 0x80000000
        elapsed = round((arrived - self._shown_at) * CLOCK_RATE)
        if not self._shown_at:
            self._shown = timestamp
        elif step < -BACKWARD or (self._anew and not 0 < step < elapsed + FORWARD):
            self._shown += max(1, elapsed)
        else:
            self._shown += step
        self._anew, self._shown_at, self._shown_timestamp = False, arrived, timestamp
        return self._shown - timestamp

    def _refuse(self, error: TooLargeError) -> None:
        if not self.too_large:
            logger.warning(
                "the peer sends video of %dx%d, which is left out: max_size allows %dx%d",
                *(error.width, error.height, *self._max_size),
            )
        self.too_large += 1
        self._keyframe_needed = self._is_too_large = True

    def _on_decode_error(self, lasting: bool) -> None:  # noqa: FBT001 - a callback
        self.decode_errors += 1
        if lasting:
            self._need_keyframe()

    def _need_keyframe(self) -> None:
        """Drop frames up to the next keyframe, and ask for it."""
        self._keyframe_needed = True
        self._mend()

    # Feedback

    def _mend(self) -> None:
        """Ask for what is missing, and for a keyframe where that takes too long; again and again, until all is well."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ended or self._parted is not None:
            return
        now, rtt = self._loop.time(), self._ice.rtt or UNKNOWN_RTT
        lost = self._losses.update(self._buffer.is_missing, now)
        if now >= self._losses.since(0) + GIVE_UP:
            self._take(self._buffer.give_up())
            lost = self._losses.update(self._buffer.is_missing, now)
        self._send_nack(lost)
        self._wake(min(self._losses.next_due(), self._losses.since(0) + GIVE_UP, self._keyframe_due(now, rtt)))

    def _wake(self, due: float) -> None:
        """Have ``_mend`` called at a time, if not before."""
        if due == float("inf") or self._ended:
            return
        due = max(due, self._loop.time() + TIMER_GRAIN)
        if self._timer is None or due < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(due, self._mend)

    def _keyframe_due(self, now: float, rtt: float) -> float:
        """Ask for a keyframe if it is time to, and return when it will be."""
        needed = self._keyframe_needed or self._keyframe_wanted
        begun = self._buffer.keyframe
        shortest, longest = GAP_LIMIT
        if needed and begun is None:
            due = now
        else:  # what came before a keyframe that has begun will not be needed
            due = self._losses.since(begun or 0) + min(max(shortest, 5 * rtt), longest)
            if needed:  # nor will one that goes on no further
                due = min(due, self._heard + longest)
        interval = max(KEYFRAME_REQUEST_INTERVAL, 1.5 * rtt)
        if self._is_too_large:
            interval = TOO_LARGE_REQUEST_INTERVAL
        due = max(due, self._keyframe_requested + interval)
        if now < due:
            return due
        self._send_keyframe_request(now)
        return now + interval

    def request_keyframe(self) -> None:
        """Ask for a keyframe, until one comes."""
        self._keyframe_wanted = True
        if self._reports is not None:
            self._mend()

    def _send_keyframe_request(self, now: float) -> None:
        """Say that the picture is lost (RFC 4585 section 6.3.1)."""
        self.keyframe_requests += 1
        self._keyframe_requested = now
        self._send(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=self._own_ssrc, media_ssrc=self._media_ssrc))

    def _send_nack(self, lost: Sequence[int]) -> None:
        """Ask for packets (RFC 4585 section 6.2.1)."""
        self.nacks += len(lost)
        for at in range(0, len(lost), MOST_NACKED):
            nack = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=self._own_ssrc, media_ssrc=self._media_ssrc)
            nack.lost = sorted(number & 0xFFFF for number in lost[at : at + MOST_NACKED])
            self._send(nack)

    def _count(self, packet: RtpPacket, codec: RTCRtpCodecParameters, arrival_time_ms: int) -> None:
        given_up = self._reception.count(packet, codec.clockRate, self._media_ssrc)
        if given_up is not None:
            self._forget(given_up)
        if packet.extensions.abs_send_time is None:
            return
        if arrival_time_ms - self._estimated > BITRATE_WINDOW:
            self._bitrate.incoming_bitrate.reset()
        self._estimated = arrival_time_ms
        estimate = self._bitrate.add(
            abs_send_time=packet.extensions.abs_send_time,
            arrival_time_ms=arrival_time_ms,
            payload_size=len(packet.payload) + packet.padding_size,
            ssrc=packet.ssrc,
        )
        if estimate is not None:
            fci = pack_remb_fci(*estimate)
            self._send(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=self._own_ssrc, media_ssrc=0, fci=fci))

    def _forget(self, ssrc: int) -> None:
        """Let go of all that is kept of a source: a peer may send from as many as it likes."""
        for kept in self._repaired_ssrcs, self._bitrate.ssrcs:
            kept.pop(ssrc, None)
        seams.forget_source(self.transport, self, ssrc)
