"""Receiving sound: from RTP packets to the samples of an :class:`~synopticon_rtc.rtc.audio_track.AudioTrack`."""

import logging
from collections.abc import Callable

from aiortc import RTCRtpReceiver
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters
from aiortc.rtp import AnyRtcpPacket, RtcpSrPacket, RtpPacket

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.rtc import seams
from synopticon_rtc.rtc.audio_track import AudioTrack, EncodedSound, ReceivedSound
from synopticon_rtc.rtc.capture_time import CaptureTimes
from synopticon_rtc.rtc.ice import IceConnection
from synopticon_rtc.rtc.jitter import JitterBuffer, Piece
from synopticon_rtc.rtc.opus_decoder import OpusDecoder, Samples, open_decoder
from synopticon_rtc.rtc.opus_packet import RATE, channels
from synopticon_rtc.rtc.reporting_receiver import SILENCE, ReportingReceiver

logger = logging.getLogger(__name__)

HELD_UP = 0.005
"""Seconds by which the event loop is late when packets may have come meanwhile, which are read first."""
GRAIN = 0.001
"""Seconds from one look at what is due to the next, at the least."""
MOST_LOST = 256
"""Packets in a row that may be lost: what is further away has begun anew."""
INAUDIBLE = 1e-3
"""The loudest sample of what is silence, -60 dB of full scale: what is made up after it is nothing that was lost."""


class AudioReceiver(ReportingReceiver):
    """Receives one sound, in Opus.

    That of aiortc holds everything back for 80 ms, stops at each packet that is lost, and then stays behind by 280 ms
    for good.
    """

    @classmethod
    def adopt(
        cls,
        receiver: RTCRtpReceiver,
        ice: IceConnection,
        ssrc: int,
        sink: AudioTrack,
        faults: Faults | None = None,
        tap: Callable[[EncodedSound], object] | None = None,
    ) -> "AudioReceiver":
        """Turn a receiver that has not started into one that feeds a track.

        Args:
            receiver: aiortc's receiver; a peer connection makes it itself and takes no other.
            ice: The connection that carries the peer.
            ssrc: Who we are in our reports.
            sink: Where the sound goes to.
            faults: What counts errors that nobody foresaw.
            tap: Called with each packet that is due and came in time.
        """
        receiver.__class__ = cls
        assert isinstance(receiver, cls)  # noqa: S101 - tells the type checkers
        receiver._set_up(ice, ssrc, sink, faults or Faults(), tap)  # noqa: SLF001 - takes the place of a constructor
        return receiver

    def _set_up(
        self,
        ice: IceConnection,
        ssrc: int,
        sink: AudioTrack,
        faults: Faults,
        tap: Callable[[EncodedSound], object] | None,
    ) -> None:
        self.decode_errors = 0
        """Packets that could not be decoded."""
        self.concealed = 0
        """Samples that were made up."""
        self.recovered = 0
        """Samples of packets that were lost, but of which the next one told."""
        self._prepare(ice, ssrc, faults)
        self._sink = sink
        self._tap = tap
        self._heard: float | None = None  # when the last packet came
        self._payload_types: set[int] = set()
        self._buffer = JitterBuffer()
        self._late = 0  # of the sources before
        self._decoder: OpusDecoder | None = None
        self._silent = True  # what was heard last
        self._number: int | None = None  # of the packet that was given out last
        self._captures = CaptureTimes(RATE)

    @property
    def late(self) -> int:
        """Packets that came after their time."""
        return self._late + self._buffer.late

    @property
    def delay(self) -> float:
        """Seconds for which the fastest packets are held back, as others take longer."""
        return self._buffer.delay

    # Overrides of what aiortc calls

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Start; aiortc calls this once the peer is connected."""
        if self._reports is not None or self._ended:
            return
        self._payload_types = {
            codec.payloadType
            for codec in parameters.codecs
            if codec.payloadType is not None and codec.mimeType.lower() == "audio/opus"
        }
        self._begin(parameters)

    def _handle_disconnect(self) -> None:
        super()._handle_disconnect()
        self._sink.end()

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpSrPacket):
            self._reception.take_report(packet)
            if packet.ssrc == self._media_ssrc:
                self._captures.tell(packet.sender_info)

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:  # noqa: ARG002 - aiortc's
        mid = packet.extensions.mid
        if packet.payload_type not in self._payload_types or not self._enabled or mid not in (None, self._mid):
            return
        now = self._loop.time()
        if packet.ssrc != self._media_ssrc and not self._switch(packet.ssrc, now):
            return
        self._heard = now
        given_up = self._reception.count(packet, RATE, self._media_ssrc)
        if given_up is not None:
            seams.forget_source(self.transport, self, given_up)
        self._captures.read(packet)
        if packet.payload:  # else it keeps a NAT open, or tries how much the link bears
            self._buffer.put(packet.sequence_number, packet.timestamp, packet.payload, now)
            self._wake()

    def _switch(self, ssrc: int, now: float) -> bool:
        """Go over to another source, unless what comes from it was under way when it was left."""
        if self._heard is not None:
            if ssrc in self._left_ssrcs:
                if now < self._heard + SILENCE:
                    return False
                self._left_ssrcs.remove(ssrc)
            self._left_ssrcs.append(self._media_ssrc)
        self._media_ssrc = ssrc
        self._late += self._buffer.late
        self._buffer = JitterBuffer()
        self._decoder, self._captures = None, CaptureTimes(RATE)
        self._silent, self._number = True, None
        return True

    # What is due

    def _wake(self) -> None:
        """Have what is due next played when it is."""
        due = max(self._buffer.next_due(), self._loop.time() + GRAIN)
        if self._ended or due == float("inf") or (self._timer is not None and self._timer.when() <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._tick, due)

    def _tick(self, due: float) -> None:
        if self._loop.time() > due + HELD_UP:
            self._timer = self._loop.call_later(GRAIN, self._play)
        else:
            self._play()

    def _play(self) -> None:
        self._timer = None
        now = self._loop.time()
        for piece in self._buffer.take(now):
            self._faults.call(self._give_out, piece)
        self._wake()

    def _give_out(self, piece: Piece) -> None:
        timestamp = piece.timestamp & 0xFFFFFFFF
        captured = self._captures.of(timestamp)
        if self._tap is not None and piece.payload is not None and piece.kind == "packet":
            lost = 0 if self._number is None else (piece.number - self._number - 1) & 0xFFFF
            self._number = piece.number
            packet = EncodedSound(piece.payload, timestamp, captured, lost if lost < MOST_LOST else 0)
            self._faults.call(self._tap, packet)
        if not self._sink.wanted():
            self._decoder, self._silent = None, True  # what is heard next does not follow what was heard last
            return
        samples, concealed = self._sound(piece)
        self._sink.put(ReceivedSound(samples, timestamp, concealed, captured))

    def _sound(self, piece: Piece) -> tuple[Samples, bool]:
        """Return the samples of a piece, and whether they are made up."""
        payload = piece.payload
        if self._decoder is None or (payload is not None and channels(payload) > self._decoder.channels):
            self._decoder = open_decoder(channels(payload) if payload is not None else 1)
        try:
            if payload is not None and piece.kind == "packet":
                samples = self._decoder.decode(payload)
                self._silent = bool(abs(samples).max() < INAUDIBLE)
                return samples, False
            if payload is not None:
                samples = self._decoder.recover(payload, piece.count)
                self.recovered += piece.count
                return samples, False
        except ValueError as error:
            self.decode_errors += 1
            logger.debug("%s", error)
        concealed = piece.kind != "quiet" and not self._silent
        self.concealed += piece.count if concealed else 0
        return self._decoder.conceal(piece.count), concealed
