"""A stream as an application that receives it holds it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import av

from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.peers.control import Report
from synopticon_rtc.peers.published import Kind, Published
from synopticon_rtc.receiving.latency import Latency
from synopticon_rtc.receiving.stats import ReceiverStats


class ReceivedStream:
    """A stream that a :class:`~synopticon_rtc.Receiver` knows of: ``receiver.streams[name]``.

    Args:
        video: Whether its frames are received, else its faces alone.

    Attributes:
        name: By which its broadcaster calls it.
        kind: ``video`` or ``audio``.
        hint: What it shows: ``camera``, ``screen``, or what else its broadcaster says.
        muted: Whether its broadcaster sends nothing of it for now.
        session: The signaling session of its broadcaster.
        replaced: How often its broadcaster has given it another source.
        found_by: Gives what looks for its faces at this end, in words for people; nothing where nobody does.
        totals: What came of it since the start, over all connections.
    """

    def __init__(self, *, video: bool = True) -> None:
        self.name = ""
        self.kind: Kind = "video"
        self.hint = ""
        self.found_by: Callable[[], str] = str
        self.muted = False
        self.session = ""
        self.replaced = 0
        self.totals = ReceiverStats()
        self._theirs: str | None = None  # what looks for its faces at the other end, None where nobody does
        self._latency = Latency(video=video)  # of the connection that gave the newest moment
        self._newest: av.VideoFrame | None = None
        self._bitrate = 0

    @property
    def detector(self) -> str:
        """What looks for its faces, in the words of its broadcaster, or here; empty where nobody does."""
        return self.found_by() if self._theirs is None else self._theirs

    @property
    def stats(self) -> ReceiverStats:
        """Totals since the start, over all connections."""
        return dataclasses.replace(self.totals, delay=self._latency.delay, delays=self._latency.delays)

    @property
    def bitrate(self) -> int:
        """Of a video in full size, bit/s, as its broadcaster says; 0 where that does not."""
        return self._bitrate

    @property
    def report(self) -> Report | None:
        """What its broadcaster reported last of its part in the delay; None where it did not."""
        return self._latency.report

    def snapshot(self) -> av.VideoFrame | None:
        """Return the newest frame that was given out; None where there is none, and where frames are not decoded."""
        return self._newest

    def describe(self, published: Published, session: str) -> None:
        """Take what the broadcaster of this session tells of it."""
        self.name, self.kind, self.hint = (
            published.name,
            "audio" if published.kind == "audio" else "video",
            published.hint,
        )
        self.muted, self.replaced, self.session = published.muted, published.replaced, session
        self._theirs = published.detector if published.faces else None
        self._bitrate = published.bitrate

    def end(self) -> None:
        """It is published no more."""
        self._newest = None

    def given(self, moment: Moment[Any], latency: Latency) -> None:
        """Take note of a moment that is given out, by a connection with this latency."""
        self._latency = latency
        if isinstance(moment.frame, av.VideoFrame):
            self._newest = moment.frame
