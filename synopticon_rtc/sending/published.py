"""A stream as an application that broadcasts it holds it."""

from collections.abc import Awaitable, Callable

import av

from synopticon_rtc.events import DetectorEvent, Events, SourceEvent, StreamState
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.media import AnySound, Source
from synopticon_rtc.peers.published import Kind
from synopticon_rtc.peers.tap import Tap
from synopticon_rtc.sending.encoded import EncodedSoundStream, EncodedStream
from synopticon_rtc.sending.sent import Sent
from synopticon_rtc.sending.stats import BroadcasterStats


class PublishedStream:
    """A stream that a :class:`~synopticon_rtc.Broadcaster` publishes: ``broadcaster.streams[name]``.

    Attributes:
        name: By which receivers know it.
        kind: ``video`` or ``audio``.
        hint: What it is: ``camera``, ``screen``, ``microphone``.
        source_events: When the source falls silent, and when it is heard again.
        detector_events: What happens to its detector.
        faces: The moments in which faces were looked for, for this application, as :attr:`Broadcaster.faces` has them.
    """

    def __init__(
        self,
        name: str,
        stream: Sent,
        *,
        changed: Callable[["PublishedStream", StreamState], None],
        retell: Callable[[], None],
        unpublish: Callable[["PublishedStream"], Awaitable[None]],
    ) -> None:
        self.name = name
        self.kind: Kind = stream.kind
        self.hint = stream.hint
        self.source_events: Events[SourceEvent] = stream.source_events
        self.detector_events: Events[DetectorEvent] = stream.detector_events
        self.faces: Events[Moment] = stream.faces
        self._stream = stream
        self._changed = changed
        self._retell = retell
        self._unpublish = unpublish

    @property
    def detector(self) -> str:
        """What looks for its faces, in words for people; empty where nobody does."""
        return self._stream.detector_name

    @property
    def muted(self) -> bool:
        """Whether nothing is sent of it for now."""
        return self._stream.muted

    def mute(self) -> None:
        """Send nothing more of it, nor look for faces, and tell receivers so. Its source goes on, and is kept open."""
        if not self._stream.muted:
            self._stream.mute()
            self._changed(self, "muted")

    def unmute(self) -> None:
        """Send it again."""
        if self._stream.muted:
            self._stream.unmute()
            self._changed(self, "unmuted")

    async def replace(self, source: Source | AnySound | EncodedStream | EncodedSoundStream) -> None:
        """Go on with another source of the same kind, once it has given something; receivers, names and times stay.

        A stream that comes encoded is given itself, once what comes of it is of another source.

        Raises:
            SourceError: The source is none, or gives nothing; that before it goes on.
        """
        await self._stream.replace(source)
        self._changed(self, "replaced")

    async def unpublish(self) -> None:
        """End it for all receivers, and close its source; a second call does nothing."""
        await self._unpublish(self)

    def request_keyframe(self) -> None:
        """Have a keyframe of a video come with the next frame, for all who watch it."""
        self._stream.request_keyframe()

    def tap(self, tap: Tap) -> Callable[[], None]:
        """Tell somebody of all that is encoded of it, in full size, until what is returned is called."""
        return self._stream.tap(self, tap)

    @property
    def bitrate(self) -> int:
        """Bit/s, of a video in full size; it can be set at any time, from 10,000 on, for sound from 6,000 on.

        It is 0 for a sound that has as much as suits its channels.
        """
        return self._stream.bitrate

    @bitrate.setter
    def bitrate(self, bitrate: int) -> None:
        self._stream.bitrate = bitrate
        self._retell()

    @property
    def stats(self) -> BroadcasterStats:
        """Totals since it was published."""
        return self._stream.stats()

    def snapshot(self) -> av.VideoFrame | None:
        """Return the newest frame of the source, as it gave it and only to be read; None before the first."""
        return self._stream.snapshot()
