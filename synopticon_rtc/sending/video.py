"""A video as those who watch it see it: its layers, its faces, and who they are."""

import asyncio
import contextlib
import functools
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.media import Codec
from synopticon_rtc.media.codecs import check_codec
from synopticon_rtc.media.encoder import check_range
from synopticon_rtc.peers.faces_channel import WrittenFaces
from synopticon_rtc.peers.published import Kind
from synopticon_rtc.peers.tap import Tap, Tapped
from synopticon_rtc.rtc import EncodedVideoFrame, FanoutSender, PeerConnection, Sender, VideoStream
from synopticon_rtc.rtc.budget import Budget
from synopticon_rtc.rtc.level import level_for
from synopticon_rtc.sending.ladder import BITRATES, RUNGS, Ladder, Layer
from synopticon_rtc.sending.sent import Sent
from synopticon_rtc.sending.stats import PeerStats
from synopticon_rtc.sending.watcher import Watcher

ADAPT_INTERVAL = 0.25  # seconds
PREPARED = 1 / 2, 2  # keyframes made for who has but asked for an offer, a second and at once, while others watch


class SentVideo(Sent):
    """Sends a video, and the faces in it, to those who watch: what is the same wherever both come from.

    Args:
        hint: What it shows: ``camera``, ``screen``, or what else its source says of itself.
        codecs: The codecs to offer, the preferred one first.
        bitrate: Of the video in full size, bit/s.
        fps: The frame rate for which that is planned.
        faults: What counts errors that nobody foresaw.

    Raises:
        ValueError: There is no codec, or an unknown one, or the bit rate is out of range.
    """

    kind: Kind = "video"
    exactly = False
    """Whether there is no other codec than those that are named: else all peers are offered VP8."""

    def __init__(self, hint: str, *, codecs: Sequence[Codec], bitrate: int, fps: float, faults: Faults | None) -> None:
        if isinstance(codecs, str) or not codecs:
            raise ValueError(f"codecs must name at least one, like ('vp8', 'h264'), not {codecs!r}")
        for codec in codecs:
            check_codec(codec)
        check_range("bitrate", bitrate, *BITRATES, "bit/s")
        super().__init__(hint, faults)
        self._codecs: Sequence[Codec] = tuple(codecs)
        self._bitrate = int(bitrate)
        self._fps = fps
        self._ladders: dict[Codec, Ladder] = {}
        self._taps: list[Callable[[WrittenFaces], None]] = []
        self._prepared = Budget(*PREPARED)
        self._now: Callable[[], float] = clock.monotonic  # the loop's clock, from the start on

    # Its life

    async def _adapt(self) -> None:
        """Give every watcher what its link bears."""
        while True:
            await asyncio.sleep(ADAPT_INTERVAL)
            self._adapt_at(self._now())

    def _adapt_at(self, now: float) -> None:
        videos = [watcher.sender for watcher in self.watchers if isinstance(watcher.sender, FanoutSender)]
        senders = [layer for sender in videos for layer in (sender, *sender.smaller)]
        for ladder in self._ladders.values():
            self._faults.call(ladder.adapt, senders, now)

    async def _close_ladders(self) -> None:
        for ladder in self._ladders.values():
            await ladder.aclose()

    # Who watches

    def add(
        self, connection: PeerConnection, *, video: bool, sender: Sender | None = None, codec: Codec | None = None
    ) -> Watcher:
        """Send the stream to one more peer; to be called before the connection is described."""
        watcher = Watcher(connection, sender, inherited=sender is not None)
        codecs = sorted(self._codecs, key=lambda one: one != codec)
        if video:
            if sender is None:
                totals = self._totals
                level = level_for(totals.width, totals.height, self._fps, self._bitrate)
                watcher.sender = connection.add_video(self._top, codecs, level=level, exactly=self.exactly)
            watcher.joining = codecs[0]
            self.prepare(watcher.joining)
        self.watchers.append(watcher)
        return watcher

    def add_layers(self, watcher: Watcher) -> None:
        """Send an engine the smaller layers as well, from which it gives each of its receivers one."""
        if isinstance(watcher.sender, FanoutSender):
            for index in range(1, self._count_layers()):
                select = functools.partial(self._layer_at, index)
                watcher.connection.add_layer(watcher.sender, select)

    def _count_layers(self) -> int:
        """Return how many layers there are that an engine can choose from."""
        return 1

    def _layer_at(self, index: int, codec: Codec) -> VideoStream:
        return self.ladder(codec).stream(index)

    def layers(self, watcher: Watcher | None) -> tuple[int, ...]:
        """Tell what each layer takes that a peer is sent, bit/s, the smallest first; empty where it is sent one."""
        if watcher is None or not isinstance(watcher.sender, FanoutSender) or not watcher.sender.smaller:
            return ()
        rungs = RUNGS[: 1 + len(watcher.sender.smaller)]
        return tuple(round(self._bitrate * rung.share) for rung in reversed(rungs))

    def agree(self, watcher: Watcher) -> None:
        """Send a peer what it has agreed to take."""
        watcher.settle()
        if watcher.inherited and isinstance(watcher.sender, FanoutSender):
            watcher.inherited = False
            watcher.sender.begin(self._top)

    def request_keyframe(self) -> None:
        """Have a keyframe come soon, in each codec that is watched."""
        for ladder in self._ladders.values():
            ladder.top.request_keyframe()

    def tap(self, tapped: Tapped, tap: Tap) -> Callable[[], None]:
        """Tell somebody of each frame in full size, and of its faces, until what is returned is called."""
        watched = (ladder for ladder in self._ladders.values() if ladder.top.viewers)
        ladder = next(watched, None) or self.ladder(self._codecs[0])

        def encoded(frame: EncodedVideoFrame) -> None:
            tap.video(tapped, frame, self._captured(frame))

        def found(written: WrittenFaces) -> None:
            tap.faces(tapped, written.message, written.binary)

        with contextlib.ExitStack() as stack:
            stack.callback(ladder.tap(encoded))
            self._taps.append(found)
            stack.callback(self._taps.remove, found)
            return stack.pop_all().close

    @abstractmethod
    def ladder(self, codec: Codec) -> Ladder:
        """Give the layers of a codec."""

    @abstractmethod
    def _captured(self, frame: EncodedVideoFrame) -> float | None:
        """Return when a frame was captured, seconds since the epoch; None where nobody knows."""

    def _top(self, codec: Codec) -> VideoStream:
        return self.ladder(codec).top

    def prepare(self, codec: Codec) -> None:
        """Have a keyframe ready when a peer is: its handshake takes as long as the encoding.

        While others watch, who pay for it, those who ask again and again get theirs once they are connected.
        """
        ladder = self.ladder(codec)
        if not ladder.top.viewers or self._prepared.take(self._now()):
            ladder.top.request_keyframe()

    # Faces

    def _send_faces(self, written: WrittenFaces) -> None:
        """Tell everybody what was found in a frame, or that it was not looked at."""
        now = self._now()
        for tap in self._taps.copy():
            self._faults.call(tap, written)
        for watcher in self.watchers:
            if watcher.faces is not None:
                watcher.faces.send(written, now)

    def _count_faces(self, faces: int) -> None:
        """Count a frame in which faces were looked for."""
        totals = self._totals
        totals.detected += 1
        totals.faces = faces
        totals.frames_with_faces += bool(faces)
        totals.faces_messages += self._faces_are_sent

    @property
    def _faces_are_sent(self) -> bool:
        return bool(self._taps) or any(watcher.faces is not None for watcher in self.watchers)

    # What it is for now

    @property
    def bitrate(self) -> int:
        """Of the video in full size, bit/s; what a link bears less of is sent smaller."""
        return self._bitrate

    @bitrate.setter
    def bitrate(self, bitrate: int) -> None:
        check_range("bitrate", bitrate, *BITRATES, "bit/s")
        self._bitrate = int(bitrate)
        for ladder in self._ladders.values():
            ladder.set_bitrate(self._bitrate)

    # Figures

    def _layer_of(self, watcher: Watcher) -> Layer | None:
        """Return what a peer is sent, None while that is nothing."""
        sender = watcher.sender
        layers = (ladder.layer_of(sender) for ladder in self._ladders.values() if isinstance(sender, FanoutSender))
        return next((layer for layer in layers if layer is not None), None)

    def _count_bytes(self, size: int) -> None:
        self._totals.bytes += size

    def peer_stats(self, connection: PeerConnection, watcher: Watcher | None) -> PeerStats:
        """Return what was sent to a peer over its connection, and in what size and codec this stream, if it is."""
        layer = self._layer_of(watcher) if watcher is not None else None
        return PeerStats(
            **asdict(connection.stats()),
            codec=layer.encoder.codec if layer else None,
            scale=layer.scale if layer else None,
            encode_ms=layer.encoder.encode_ms if layer else 0.0,
        )
