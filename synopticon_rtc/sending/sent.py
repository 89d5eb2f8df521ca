"""What is sent to those who take it, be it a video or a sound: its life, its events, and what it is for now."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable

import av

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.life import Life
from synopticon_rtc.events import DetectorEvent, Events, SourceEvent
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.media import Codec
from synopticon_rtc.peers.control import Report
from synopticon_rtc.peers.published import Kind
from synopticon_rtc.peers.tap import Tap, Tapped
from synopticon_rtc.rtc import PeerConnection, Sender
from synopticon_rtc.sending.stats import BroadcasterStats
from synopticon_rtc.sending.watcher import Watcher


class Sent(ABC):
    """Sends a stream to those who take it: what is the same of video and of sound.

    Args:
        hint: What it is: ``camera``, ``screen``, ``microphone``, or what else its source says of itself.
        faults: What counts errors that nobody foresaw.

    Attributes:
        source_events: When the source falls silent, and when it is heard again; of a sound none are told, as of the
            next two.
        detector_events: What happens to the detector.
        faces: The moments in which faces were looked for.
        watchers: Those who are sent it, connected or about to be.
        hint: As it was given.
        muted: Whether nothing is sent of it for now; its source goes on.
        replaced: How often its source was replaced by another.
    """

    kind: Kind

    def __init__(self, hint: str, faults: Faults | None) -> None:
        self._faults = faults or Faults()
        self.hint = hint
        self.source_events: Events[SourceEvent] = Events(faults=self._faults)
        self.detector_events: Events[DetectorEvent] = Events(faults=self._faults)
        self.faces: Events[Moment] = Events(kept=1, faults=self._faults)
        self.watchers: list[Watcher] = []
        self.muted = False
        self.replaced = 0
        self._totals = BroadcasterStats()
        self._life = Life(self._end)
        self._on_end: Callable[[BaseException | None], None] = lambda _: None
        self._exit = contextlib.AsyncExitStack()

    # Its life

    @abstractmethod
    async def start(self, on_end: Callable[[BaseException | None], None]) -> None:
        """Start sending; returns when there is something to send. It can be done only once.

        Args:
            on_end: Called once, when the stream ends, with the error that was the reason, or None.
        """

    @abstractmethod
    async def replace(self, source: object) -> None:
        """Go on with another source, once it has given something; times and receivers stay."""

    def end(self) -> None:
        """End iterations over its events and faces; what runs is stopped by :meth:`aclose`."""
        self._life.end()

    async def aclose(self) -> None:
        """Stop all that runs; a second call does nothing."""
        await self._exit.aclose()

    def _end(self, error: BaseException | None) -> None:
        for events in (self.source_events, self.detector_events, self.faces):
            events.close()
        self._on_end(error)

    # Who takes it

    @property
    def has_faces(self) -> bool:
        """Whether faces are sent with it."""
        return False

    @property
    def detector_name(self) -> str:
        """What looks for faces, in words for people; empty where nobody does."""
        return ""

    @abstractmethod
    def add(
        self, connection: PeerConnection, *, video: bool, sender: Sender | None = None, codec: Codec | None = None
    ) -> Watcher:
        """Send the stream to one more peer; to be called before the connection is described.

        Its faces are sent once the watcher is given a way for them.

        Args:
            connection: Over which it goes.
            video: Whether the peer takes video.
            sender: One of the connection that sent another stream, and is to send this one once the peer has agreed;
                None for a media section of its own.
            codec: The codec that is preferred for this peer, where it is one of those that are offered.
        """

    def layers(self, watcher: Watcher | None) -> tuple[int, ...]:  # noqa: ARG002 - a video may have several
        """Tell what each layer takes that a peer is sent, bit/s, the smallest first; empty where it is sent one."""
        return ()

    def suits(self, sender: Sender) -> bool:  # noqa: ARG002 - what encodes suits any
        """Whether it can be sent on a media section that is free."""
        return True

    @abstractmethod
    def agree(self, watcher: Watcher) -> None:
        """Send a peer what it has agreed to take."""

    def remove(self, watcher: Watcher) -> None:
        """Look after a peer no more."""
        self.watchers.remove(watcher)

    @abstractmethod
    def request_keyframe(self) -> None:
        """Have a keyframe come soon, in each codec that is watched."""

    @abstractmethod
    def tap(self, tapped: Tapped, tap: Tap) -> Callable[[], None]:
        """Tell somebody of all that is encoded, in full size, and of faces, until what is returned is called.

        Args:
            tapped: What the stream is called meanwhile.
            tap: Who is told.
        """

    # What it is for now

    def mute(self) -> None:
        """Send nothing, until :meth:`unmute`."""
        self.muted = True

    def unmute(self) -> None:
        """Send again."""
        self.muted = False

    @property
    @abstractmethod
    def bitrate(self) -> int:
        """Bit/s, of a video in full size; 0 where it is not ours to say."""

    @bitrate.setter
    @abstractmethod
    def bitrate(self, bitrate: int) -> None: ...

    @abstractmethod
    def snapshot(self) -> av.VideoFrame | None:
        """Return the newest frame of the source, which is only to be read; None where there is none."""

    # Figures

    @abstractmethod
    def stats(self) -> BroadcasterStats:
        """Return totals since the start; of a sound, blocks count in the place of frames."""

    @abstractmethod
    def report(self, watcher: Watcher, name: str | None = None) -> Report | None:
        """Say what part we have in the delay of what a peer is sent, None before the first.

        Args:
            watcher: The peer.
            name: What the peer is told this stream by; None for that of the first offer.
        """
