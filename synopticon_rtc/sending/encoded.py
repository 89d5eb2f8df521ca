"""Streams that come encoded, and are sent on as they came: nothing of them is decoded here.

Whoever has frames, faces and sound from elsewhere makes one of these for each stream, gives it to
:meth:`.Broadcaster.publish`, and then whatever comes. RTP timestamps stay what they were, so faces find their frames.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace

import msgspec

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.recent import Recent
from synopticon_rtc.errors import SourceError, SynopticonError
from synopticon_rtc.faces.wire import FacesMessage
from synopticon_rtc.media import Codec
from synopticon_rtc.peers.control import Report
from synopticon_rtc.peers.faces_channel import WrittenFaces
from synopticon_rtc.rtc import AudioStream, EncodedSound, EncodedVideoFrame, FanoutSender, Sender, sei
from synopticon_rtc.rtc.bitstream import picture_size
from synopticon_rtc.rtc.stream import CLOCK_RATE
from synopticon_rtc.sending.encoded_ladder import EncodedLadder, VideoOrigin
from synopticon_rtc.sending.ladder import RUNGS
from synopticon_rtc.sending.sent import Sent
from synopticon_rtc.sending.sound import SentSound
from synopticon_rtc.sending.stats import BroadcasterStats
from synopticon_rtc.sending.video import SentVideo
from synopticon_rtc.sending.watcher import Watcher

LAYERS = len(RUNGS)
"""The most layers of one video."""
BACKWARD = CLOCK_RATE
"""Ticks by which timestamps may go back, as they do with frames that refer to later ones."""
LEAP = 10.0
"""Seconds beyond those that have passed by which timestamps may go on and still be those of the same source."""


class _Encoded(Sent):
    """What comes encoded: it says itself when that is of another source."""

    async def replace(self, source: object) -> None:
        """Say that what comes from now on is of another source: ``source`` is this stream itself.

        Raises:
            SourceError: It is anything else.
        """
        if source is not self:
            raise SourceError("a stream that comes encoded takes no source: publish another stream")
        self.replaced += 1


class EncodedStream(_Encoded, SentVideo):
    """Sends a video that comes encoded, and the faces in it, to those who watch, until it is published no more.

    Args:
        codec: What it is encoded with: those who do not take that are not sent it.
        origin: Where it comes from.
        hint: What it shows.
        detector: What looks for its faces, in words for people; None where no faces come with it.
        bitrate: Of the video in full size, bit/s.
        fps: The frame rate for which that is planned.
        layers: The most that there may be: links that bear less are sent a smaller one.
        ahead: Gives what the clock that it is captured by is ahead of ours, s.
        reported: Gives what part those before us have in its delay, None where nobody knows.
        faults: What counts errors that nobody foresaw.

    Raises:
        ValueError: The codec is unknown, or a figure is out of range.
    """

    exactly = True

    def __init__(
        self,
        codec: Codec,
        origin: VideoOrigin,
        *,
        hint: str = "camera",
        detector: str | None = None,
        bitrate: int = 1_500_000,
        fps: float = 30.0,
        layers: int = 1,
        ahead: Callable[[], float] = float,
        reported: Callable[[], Report | None] = lambda: None,
        faults: Faults | None = None,
    ) -> None:
        super().__init__(hint, codecs=[codec], bitrate=bitrate, fps=fps, faults=faults)
        self.codec: Codec = codec
        self._origin = origin
        self._detector = detector
        self._layers = layers
        self._ahead = ahead
        self._reported = reported
        self._newest: tuple[int, float] | None = None  # RTP timestamp and time of capture of what came last
        self._begun = self._heard = 0.0
        self._recent = Recent()
        self._ladder: EncodedLadder | None = None

    async def start(self, on_end: Callable[[BaseException | None], None]) -> None:
        """Look after those who watch, from now on. It can be done only once."""
        self._on_end = on_end
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._life.end)
            stack.push_async_callback(self._close_ladders)
            self._life.run(stack, self._adapt(), SynopticonError("the layers are adapted no more"))
            self._exit = stack.pop_all()

    # What comes

    def put(self, frame: EncodedVideoFrame, captured: float | None = None, layer: int = 0) -> None:
        """Send a frame; each that there is, in order. Faces in it are those of :meth:`put_faces`, if any come.

        Args:
            frame: It. Those of all layers of one picture have the same RTP timestamp.
            captured: When it was captured, seconds since the epoch, by the clock of who captured it; None for what the
                frame says, or for now.
            layer: Of which it is, 0 for full size.
        """
        if self.muted:
            return
        if frame.codec == "h264" and self.has_faces:  # which go to each peer in the way that it takes them
            frame = replace(frame, data=sei.without(frame.data))
        ahead = self._ahead()
        captured = frame.captured if captured is None else captured
        if layer == 0:
            if self._starts_anew(frame.rtp_timestamp):
                self._start_anew()
            self._count(frame, clock.now() + ahead if captured is None else captured)
        self.ladder(self.codec).put(frame, captured, layer, ahead)

    def put_faces(self, message: FacesMessage, written: bytes | None = None) -> None:
        """Send what was found in a frame, or that it was not looked at.

        Args:
            message: It, with the RTP timestamp of the frame.
            written: The same in ``faces/1``, where it came so: then it goes on byte for byte.
        """
        if self.muted:
            return
        if message.detected:
            self._count_faces(len(message.faces))
        self._send_faces(WrittenFaces(message, written))

    def _starts_anew(self, timestamp: int) -> bool:
        """Whether the RTP timestamps have nothing to do with those before, as those of another source."""
        if self._newest is None:
            return False
        step = (timestamp - self._newest[0] + 2**31) % 2**32 - 2**31
        return not -BACKWARD <= step < (self._now() - self._heard + LEAP) * CLOCK_RATE

    def _start_anew(self) -> None:
        """Have peers begin with the next keyframe, whatever its timestamp."""
        self.ladder(self.codec).top.forget()
        for watcher in self.watchers:
            if isinstance(watcher.sender, FanoutSender) and not watcher.inherited:
                watcher.sender.begin(self._top)

    def _count(self, frame: EncodedVideoFrame, captured: float) -> None:
        now, totals = self._now(), self._totals
        self._heard = now
        self._begun = self._begun or now
        self._newest = frame.rtp_timestamp, captured
        self._recent.add(now)
        totals.frames += 1
        totals.seconds = now - self._begun
        if (size := picture_size(frame)) is not None:
            totals.width, totals.height = size

    # Who watches

    @property
    def has_faces(self) -> bool:
        """Whether faces come with it."""
        return self._detector is not None

    @property
    def detector_name(self) -> str:
        """What looks for its faces, in words for people; empty where nobody does."""
        return self._detector or ""

    def wanted(self, layer: int) -> int:
        """Return the bit rate at which a layer is asked for, bit/s; 0 where nobody is sent it, nor about to be."""
        return self.ladder(self.codec).bitrate_of(layer)

    def ladder(self, codec: Codec) -> EncodedLadder:
        """Give the layers: there is one codec alone."""
        if codec != self.codec:
            raise SynopticonError(f"the video comes in {self.codec}, and is not encoded again in {codec}")
        if self._ladder is None:
            self._ladder = EncodedLadder(
                codec,
                bitrate=self._bitrate,
                fps=self._fps,
                hint=self.hint,
                layers=self._layers,
                origin=self._origin,
                on_packet=self._count_bytes,
                faults=self._faults,
            )
            self._ladders[codec] = self._ladder
        return self._ladder

    def suits(self, sender: Sender) -> bool:
        """Whether a media section that is free has the codec."""
        return isinstance(sender, FanoutSender) and sender.codec == self.codec

    def _captured(self, frame: EncodedVideoFrame) -> float | None:
        if self._newest is None:
            return frame.captured
        timestamp, captured = self._newest
        return captured + ((frame.rtp_timestamp - timestamp + 2**31) % 2**32 - 2**31) / CLOCK_RATE

    def snapshot(self) -> None:
        """Return nothing: no picture is decoded here."""

    # Figures

    def stats(self) -> BroadcasterStats:
        """Return totals since the start; none is encoded here."""
        return replace(self._totals, fps=self._recent.rate(self._now()))

    def report(self, watcher: Watcher, name: str | None = None) -> Report | None:  # noqa: ARG002 - the same for all
        """Say what part those before us have in the delay, None before the first frame."""
        report = self._reported()
        if report is None and self._newest is not None:
            report = Report(self._newest[0], self._newest[1] * 1000)
        return None if report is None else msgspec.structs.replace(report, stream=name)


class EncodedSoundStream(_Encoded, SentSound):
    """Sends a sound that comes in Opus to those who hear it, until it is published no more.

    Args:
        hint: What it sounds like.
        ahead: Gives what the clock that it is captured by is ahead of ours, s.
        faults: What counts errors that nobody foresaw.
    """

    def __init__(
        self, *, hint: str = "microphone", ahead: Callable[[], float] = float, faults: Faults | None = None
    ) -> None:
        super().__init__(hint, AudioStream(0, faults=faults))
        self._ahead = ahead

    async def start(self, on_end: Callable[[BaseException | None], None]) -> None:
        """Send what comes from now on. It can be done only once."""
        self._on_end = on_end
        self._exit.callback(self._life.end)

    def put(self, packet: EncodedSound) -> None:
        """Send a packet; each that there is, in order."""
        if self.muted:
            return
        ahead = self._ahead()
        captured = clock.now() + ahead if packet.captured is None else packet.captured
        self._stream.ahead = int(ahead * 2**32)
        self._stream.send(packet.data, packet.rtp_timestamp, captured, lost=packet.lost)
        self._newest = packet.rtp_timestamp, captured
        self._totals.frames += 1
        self._totals.bytes += len(packet.data)

    @property
    def bitrate(self) -> int:
        """0: it has that of whoever encodes it."""
        return 0

    @bitrate.setter
    def bitrate(self, bitrate: int) -> None:  # noqa: ARG002 - none can be had
        raise ValueError("a sound that comes encoded has the bit rate that it comes with")
