"""A sound as its sender sees it: one source, encoded once, and who hears it."""

import asyncio
import contextlib
import functools
from collections.abc import Callable
from typing import cast

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.errors import SourceError
from synopticon_rtc.media import AnySound, Codec, OpusEncoder, Sound, as_sound, blocks_of
from synopticon_rtc.peers.control import Report
from synopticon_rtc.peers.published import Kind
from synopticon_rtc.peers.tap import Tap, Tapped
from synopticon_rtc.rtc import AudioSender, AudioStream, EncodedSound, PeerConnection, Sender
from synopticon_rtc.rtc.audio_stream import AudioPacket
from synopticon_rtc.rtc.capture_time import NTP_EPOCH
from synopticon_rtc.sending.feed import Feed
from synopticon_rtc.sending.sent import Sent
from synopticon_rtc.sending.stats import BroadcasterStats
from synopticon_rtc.sending.watcher import Watcher


class SentSound(Sent):
    """Sends a sound to those who hear it: what is the same wherever it comes from.

    Args:
        hint: What it sounds like: ``microphone``, or what else its source says of itself.
        stream: What packs it, and sends it to all who hear it.
    """

    kind: Kind = "audio"

    def __init__(self, hint: str, stream: AudioStream) -> None:
        super().__init__(hint, None)
        self._stream = stream
        self._newest: tuple[int, float] | None = None  # RTP timestamp and time of capture of what was sent last

    # Who hears it

    def add(
        self,
        connection: PeerConnection,
        *,
        video: bool,  # noqa: ARG002 - sound is no matter of it
        sender: Sender | None = None,
        codec: Codec | None = None,  # noqa: ARG002 - as above
    ) -> Watcher:
        """Send it to one more peer; to be called before the connection is described."""
        watcher = Watcher(connection, sender or connection.add_audio(self._stream), inherited=sender is not None)
        self.watchers.append(watcher)
        return watcher

    def agree(self, watcher: Watcher) -> None:
        """Send a peer what it has agreed to take."""
        watcher.settle()
        if watcher.inherited and isinstance(watcher.sender, AudioSender):
            watcher.inherited = False
            watcher.sender.switch(self._stream)

    def request_keyframe(self) -> None:
        """Do nothing: each packet stands alone."""

    def tap(self, tapped: Tapped, tap: Tap) -> Callable[[], None]:
        """Tell somebody of each packet, until what is returned is called."""
        listener = _Tapping(lambda packet: tap.sound(tapped, packet))
        self._stream.add(listener)
        return functools.partial(self._stream.remove, listener)

    # Figures

    def snapshot(self) -> None:
        """Return nothing: there is no picture of a sound."""

    def stats(self) -> BroadcasterStats:
        """Return totals since the start, of blocks in the place of frames."""
        return self._totals

    def report(self, watcher: Watcher, name: str | None = None) -> Report | None:  # noqa: ARG002 - the same for all
        """Say when what was sent last was captured, None before the first."""
        return Report(self._newest[0], self._newest[1] * 1000, stream=name) if self._newest else None


class SoundStream(SentSound):
    """Sends one source of sound to those who hear it. It ends when its source does.

    Args:
        source: Where blocks come from.
        bitrate: Of Opus, bit/s; None for what suits speech.
        faults: What counts errors that nobody foresaw.

    Raises:
        SourceError: The source is none.
        ValueError: Opus has no such bit rate.
    """

    def __init__(self, source: AnySound, bitrate: int | None = None, faults: Faults | None = None) -> None:
        self._source = as_sound(source)
        super().__init__(getattr(self._source, "hint", "microphone"), AudioStream(faults=faults))
        self._encoder = OpusEncoder(bitrate=bitrate)
        self._feed: Feed[Sound] = Feed()
        self._begun: float | None = None
        self._started = asyncio.Event()

    # Its life

    async def start(self, on_end: Callable[[BaseException | None], None]) -> None:
        """Start capturing; returns when the first sound is there. It can be done only once.

        Args:
            on_end: Called once, when the sound ends, with the error that was the reason, or None.

        Raises:
            SourceError: The source gives no sound.
        """
        self._on_end = on_end
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._life.end)
            self._life.run(stack, self._play(), SourceError("the source of sound was cancelled from within"))
            await self._started.wait()
            if self._life.over:
                await self._life.wait()
            self._exit = stack.pop_all()

    async def replace(self, source: object) -> None:
        """Go on with another source, once it has given sound; receivers stay.

        Raises:
            SourceError: The source is none, or gives no sound; then that before it goes on.
        """
        await self._feed.replace(blocks_of(as_sound(cast("AnySound", source))))
        self.replaced += 1

    async def _play(self) -> None:
        await self._feed.run(blocks_of(self._source), self._take)
        if not self._started.is_set():
            raise SourceError("the source ended before its first sound")

    def _end(self, error: BaseException | None) -> None:
        self._started.set()
        super()._end(error)

    # Sound

    def _take(self, block: Sound) -> None:
        self._begun = self._begun or block.captured
        self._totals.frames += 1
        self._totals.seconds = block.captured - self._begun
        self._started.set()
        if self.muted or not self._stream.viewers:
            return
        self._encoder.expect(self._stream.losses)
        packet = self._encoder.encode(block)
        if packet is not None:
            timestamp = self._stream.send(packet.data, packet.ticks, packet.captured, packet.level)
            self._newest = timestamp, packet.captured
            self._totals.encoded += 1
            self._totals.bytes += len(packet.data)

    @property
    def bitrate(self) -> int:
        """Of Opus, bit/s; 0 where it is what suits the channels."""
        return self._encoder.bitrate or 0

    @bitrate.setter
    def bitrate(self, bitrate: int) -> None:
        self._encoder.set_bitrate(bitrate)


class _Tapping:
    """Hands on each packet in the place of a peer that loses none."""

    loss = None

    def __init__(self, take: Callable[[EncodedSound], None]) -> None:
        self._take = take

    def send_packet(self, packet: AudioPacket) -> None:
        """Hand it on."""
        self._take(EncodedSound(packet.payloads[0], packet.timestamp, packet.captured / 2**32 - NTP_EPOCH))
