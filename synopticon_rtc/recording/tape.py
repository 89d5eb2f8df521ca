"""Puts the pieces of streams into files: each frame with its own faces, everything at the time of its capture."""

import datetime as dt
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from synopticon_rtc.basics.text import NAME, visible
from synopticon_rtc.errors import RecordingError
from synopticon_rtc.events import RecordingEvent
from synopticon_rtc.faces.wire import FacesMessage, encode
from synopticon_rtc.peers.tap import Origin, Tapped
from synopticon_rtc.recording.writer import Taken, Track, Writer
from synopticon_rtc.rtc import Codec, EncodedSound, EncodedVideoFrame
from synopticon_rtc.rtc.bitstream import picture_size

FORMAT = "synopticon-recording/1"
"""What the tag FORMAT of each file says."""
BEGIN_WITHIN = 0.9
"""Seconds that the first file waits for streams that are published, and for the time of their capture."""
FACES_WITHIN = 1.0
"""Seconds that faces may come after their frame, before it counts as not looked at."""
OVERTAKEN = 0.25
"""The same, once those of later frames have come: detectors look at one frame after another."""
LEFT_WITHIN = 5.0
"""Seconds within which a video goes over to the next file at a keyframe; after them it does without the rest."""
BELIEVED = 60.0
"""Seconds that a time of capture may differ from what our clock says, within one session of a broadcaster."""
LATEST = 2.0**32
"""Seconds since the epoch, of a time of capture that can be one."""
SHORTEST = 1.0
"""Seconds of a file before another one begins for a stream that has come: one could come again and again."""
NEW_CLOCK = 1.0
"""Seconds by which the times of capture leap against our clock where the broadcaster has another clock."""
KEYFRAMES = 10.0
"""Seconds from one keyframe of a camera to the next at the most, so that one can seek; a screen changes at times."""
WISH_EVERY = 1.0
"""Seconds between two wishes for keyframes."""
EARLY = 64
"""Faces that wait for their frames, in each video."""

Naming = Callable[[Origin, dt.datetime], Path]
"""Gives the path of a file: by where its streams come from, and when it begins (UTC, by our clock)."""


class _Place(NamedTuple):
    """Where a stream is in a file, and in which codec.

    Attributes:
        track: The number of its track.
        codec: Of a video.
    """

    track: int
    codec: Codec | None


@dataclass(slots=True, eq=False)
class _Segment:
    """One file.

    Attributes:
        writer: What writes it.
        begun: The time of capture at which it begins, s.
        began: When it was begun, by our clock, s.
        session: Of the broadcaster.
        places: Where each stream is among its tracks.
    """

    writer: Writer
    begun: float
    began: float
    session: str
    places: "dict[_Line, _Place]"


@dataclass(slots=True, eq=False)
class _Frame:
    """A frame in a file, whose faces are yet to be written.

    Attributes:
        segment: Where it was written.
        time: At which it stands there, ms.
        timestamp: Its RTP timestamp.
        captured: When it was captured, s.
        came: When it came, by our clock, s.
        message: Its faces, once they are there.
    """

    segment: _Segment
    time: int
    timestamp: int
    captured: float
    came: float
    message: bytes | None = None


@dataclass(slots=True, eq=False)
class _Line:
    """A stream on its way to the files.

    Attributes:
        stream: It.
        codec: Of a video.
        first: The newest keyframe of a video, or a packet of sound: what the head of a file is made from.
        broken: Whether a video goes on with a keyframe only.
        keyed: When the newest keyframe came, by our clock, s.
        missed: When a frame came last that could not be written for want of a keyframe, by our clock, s.
        segment: The file that it goes to, None for none yet.
        last: The time at which its newest packet stands there, ms.
        faces: Messages whose frames are yet to come, by RTP timestamp.
        frames: Those whose faces are yet to be written, in order.
        size: Of the frames that faces were found in, pixels.
    """

    stream: Tapped
    codec: Codec | None = None
    first: bytes = b""
    broken: bool = True
    keyed: float = 0.0
    missed: float = 0.0
    segment: _Segment | None = None
    last: int = -1
    faces: dict[int, bytes] = field(default_factory=dict)
    frames: deque[_Frame] = field(default_factory=deque)
    size: tuple[int, int] = (0, 0)

    @property
    def name(self) -> str:
        """Of its stream; a page gives none."""
        return visible(self.stream.name, NAME) or self.stream.kind

    @property
    def track(self) -> Track:
        """As the head of a file has it."""
        stream = self.stream
        hint, detector = visible(stream.hint, NAME), visible(stream.detector, 2 * NAME)
        return Track(self.name, stream.kind, hint, self.codec, detector, self.first)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What came of a stream.

    Attributes:
        data: It.
        timestamp: Its RTP timestamp.
        keyframe: Whether it can be decoded without those before it.
        captured: When it was captured, by the broadcaster's clock, s; None where that is not known.
        came: When it came, by our clock, s.
    """

    data: bytes
    timestamp: int
    keyframe: bool
    captured: float | None
    came: float


class Tape:
    """Writes streams to one file, or to several, one after another.

    The first file begins when each stream that is published has begun, or after a second. A stream that comes later
    needs another file, as its head names all streams, and so do another codec and another clock; another size does
    not. Each video goes over to the next file at a keyframe, so that nothing is lost.

    Time is our clock's in seconds since the epoch, as :func:`.clock.now` has it, and passed in. Methods block.

    Args:
        naming: Gives the path of each file.
        published: Tells what is published.
        origin: Tells where it comes from.
        wish: Called when a keyframe of each video is wished for.
        tell: Told of each file.
        segment: Seconds after which another file begins, None for never.
        most: Octets after which another file begins, None for never.
        tags: What else is to be known, by name.
    """

    def __init__(
        self,
        naming: Naming,
        *,
        published: Callable[[], Iterable[Tapped]],
        origin: Callable[[], Origin],
        wish: Callable[[], None],
        tell: Callable[[RecordingEvent], None],
        segment: float | None = None,
        most: int | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        self.frames = 0
        """Frames written."""
        self.files = 0
        """Files begun."""
        self.octets = 0
        """Octets written to files that are complete."""
        self.path: Path | None = None
        """That of the newest file."""
        self._naming = naming
        self._published = published
        self._origin = origin
        self._wish = wish
        self._tell = tell
        self._segment_seconds = segment
        self._most = most
        self._tags = tags or {}
        self._lines: dict[Tapped, _Line] = {}
        self._waiting: list[tuple[_Line, _Piece]] = []  # until the first file begins
        self._segment: _Segment | None = None  # the newest
        self._left: list[_Segment] = []  # those that some stream may still go to
        self._wanted = False  # whether a keyframe is, to go over to another file
        self._skew = 0.0  # the broadcaster's clock minus ours, and the way
        self._wished = 0.0

    # What comes

    def video(self, stream: Tapped, frame: EncodedVideoFrame, captured: float | None, now: float) -> None:
        """Take a frame. Raises :class:`RecordingError` if nothing can be written."""
        line = self._line(stream)
        if frame.keyframe and all(picture_size(frame) or [0]):  # else no decoder could begin with it
            line.codec, line.first, line.broken, line.keyed = frame.codec, frame.data, False, now
        elif line.broken or frame.keyframe:
            line.broken = True
            line.missed = now
            return
        self._put(line, _Piece(frame.data, frame.rtp_timestamp, frame.keyframe, captured, now), now)

    def sound(self, stream: Tapped, packet: EncodedSound, now: float) -> None:
        """Take a packet of sound. Raises :class:`RecordingError` if nothing can be written."""
        line = self._line(stream)
        line.first = line.first or packet.data
        self._put(line, _Piece(packet.data, packet.rtp_timestamp, True, packet.captured, now), now)

    def faces(self, stream: Tapped, message: FacesMessage, written: bytes | None, now: float) -> None:
        """Take a faces message. Raises :class:`RecordingError` if nothing can be written."""
        if message.rtp_timestamp is None:
            return  # nobody knows of which frame it is
        line = self._line(stream)
        line.size = message.width, message.height
        timestamp, data = message.rtp_timestamp, written or encode(message)
        for place, frame in enumerate(line.frames):
            if frame.timestamp == timestamp:
                if frame.message is None or message.detected:
                    frame.message = data
                if message.detected:
                    for earlier in list(line.frames)[:place]:
                        earlier.came = min(earlier.came, now - FACES_WITHIN + OVERTAKEN)
                break
        else:
            line.faces[timestamp] = data
            if len(line.faces) > EARLY:
                del line.faces[next(iter(line.faces))]
        self._write_faces(line, now)

    def skip(self) -> None:
        """Take note that something was left out: videos go on with keyframes."""
        for line in self._lines.values():
            line.broken = line.stream.kind == "video"
        self._wish()

    def tick(self, now: float) -> None:
        """Time has passed. Raises :class:`RecordingError` if nothing can be written."""
        if self._segment is None and self._waiting and now - self._waiting[0][1].came >= BEGIN_WITHIN:
            self._begin(now)
        for line in self._lines.values():
            self._write_faces(line, now)
        for segment in (*self._left, *([self._segment] if self._segment else [])):
            segment.writer.tick(now)
        self._close_left(now)
        old = any(line.keyed <= now - KEYFRAMES for line in self._videos() if line.stream.hint != "screen")
        stuck = any(line.broken and line.missed > now - WISH_EVERY for line in self._lines.values())
        if (self._wanted or self._left or old or stuck) and now - self._wished >= WISH_EVERY:
            self._wished = now
            self._wish()

    def close(self, reason: str = "the recording is ended") -> None:
        """Complete all files. Raises :class:`RecordingError` for the first that cannot be."""
        if self._segment is None and self._waiting:
            self._begin(self._waiting[-1][1].came)
        for line in self._lines.values():
            self._write_faces(line, float("inf"))
        segments = [*self._left, *([self._segment] if self._segment else [])]
        self._left, self._segment = [], None
        errors = [error for segment in segments if (error := self._complete(segment, reason)) is not None]
        if errors:
            raise errors[0]

    # Files

    def _put(self, line: _Line, piece: _Piece, now: float) -> None:
        if (segment := self._segment) is None:
            self._waiting.append((line, piece))
            if self._is_ready(now):
                self._begin(now)
            return
        reason = self._reason(segment, line, piece, now)
        if reason:
            self._wanted = True
            if piece.keyframe:
                self._turn(self._time(piece), now, reason)
        self._write(line, piece, self._time(piece), now)

    def _reason(self, segment: _Segment, line: _Line, piece: _Piece, now: float) -> str:
        """Say why another file is to begin with this piece, or with the next keyframe; nothing where none is."""
        if (session := self._origin().session) != segment.session:
            skew = _skew(piece, self._skew)
            if abs(skew - self._skew) > NEW_CLOCK:
                for other in self._lines.values():
                    other.segment = None  # whatever comes next has times of the other clock
                self._skew = skew if piece.keyframe else self._skew
                return "the broadcaster has another clock"
            segment.session = session
        if line not in segment.places:
            has_come = self._is_published(line) and now - segment.began >= SHORTEST
            return f"stream {line.name} has come" if has_come else ""
        if line.codec != segment.places[line].codec:
            return f"stream {line.name} comes in another codec, {line.codec}"
        is_due = self._is_due(segment, now) and (line.stream.kind == "video" or not self._videos())
        return "the one before is long enough" if is_due else ""

    def _write(self, line: _Line, piece: _Piece, at: float, now: float) -> None:
        newest = self._segment
        assert newest is not None  # noqa: S101 - it has begun
        if line.segment is not newest and piece.keyframe and line in newest.places and at >= newest.begun:
            line.segment, line.last = newest, -1
        if (segment := line.segment) is None:
            return
        place = segment.places[line].track
        line.last = max(round((at - segment.begun) * 1000), line.last + 1)
        segment.writer.write(place, piece.data, line.last, keyframe=piece.keyframe)
        if line.stream.kind == "video":
            self.frames += 1
            frame = _Frame(segment, line.last, piece.timestamp, at, now, line.faces.pop(piece.timestamp, None))
            line.frames.append(frame)
            self._write_faces(line, now)

    def _write_faces(self, line: _Line, now: float) -> None:
        """Write the faces of the oldest frames, up to the first that may yet get its own."""
        frames = line.frames
        while frames and (frames[0].message or now - frames[0].came >= FACES_WITHIN):
            frame = frames.popleft()
            message = frame.message or encode(
                FacesMessage((), *line.size, frame.timestamp, frame.captured, detected=False)
            )
            frame.segment.writer.write_faces(frame.segment.places[line].track, message, frame.time)

    def _time(self, piece: _Piece) -> float:
        """Return when a piece was captured, by the broadcaster's clock as far as that is known."""
        expected = piece.came + self._skew
        if piece.captured is None or abs(piece.captured - expected) > BELIEVED:
            return expected
        return piece.captured

    def _is_ready(self, now: float) -> bool:
        """Whether the first file can begin."""
        if now - self._waiting[0][1].came >= BEGIN_WITHIN:
            return True
        published = [stream for stream in self._published() if not stream.muted]
        begun = {line.stream for line, piece in self._waiting if piece.captured is not None}
        return bool(published) and all(stream in begun for stream in published)

    def _begin(self, now: float) -> None:
        recorded = set(self._to_be_recorded())
        waiting, self._waiting = [(line, piece) for line, piece in self._waiting if line in recorded], []
        if not waiting:  # all that came is over
            return
        self._skew = next((_skew(piece, 0.0) for _, piece in waiting if piece.captured is not None), 0.0)
        times = [self._time(piece) for _, piece in waiting]
        self._open(min(times), now, "")
        for (line, piece), at in zip(waiting, times, strict=True):
            self._write(line, piece, at, now)

    def _turn(self, at: float, now: float, reason: str) -> None:
        """Go over to another file, each video at its next keyframe."""
        left = self._segment
        self._open(at, now, reason)
        if left is not None:
            self._left.append(left)
        self._wanted = False
        self._wish()

    def _open(self, begun: float, now: float, reason: str) -> None:
        origin = self._origin()
        lines = list(self._to_be_recorded())
        tracks = [line.track for line in lines]
        began = dt.datetime.fromtimestamp(now, dt.UTC)
        tags = {
            **self._tags,
            "FORMAT": FORMAT,
            "TITLE": visible(origin.name, NAME),
            "SESSION": visible(origin.session, NAME),
            "BEGUN": f"{begun:.6f}",
            "CLOCK_OFFSET": "" if origin.offset is None else f"{origin.offset:.6f}",
        }
        if self._segment is not None:
            tags |= {"FOLLOWS": self._segment.writer.path.name, "REASON": reason}
        told = {name: value for name, value in tags.items() if value}
        writer = self._writer(lambda path: Writer(path, tracks, told, now), origin, began)
        places = {line: _Place(track, line.codec) for track, line in enumerate(lines)}
        self._segment = _Segment(writer, begun, now, origin.session, places)
        self.files += 1
        self._tell(RecordingEvent("begun", str(writer.path), reason or "the recording begins"))

    def _writer(self, make: Callable[[Path], Writer], origin: Origin, began: dt.datetime) -> Writer:
        """Make what writes the next file, under another name where somebody else has taken the first meanwhile."""
        taken: Path | None = None
        while True:
            self.path = self._naming(origin, began)
            try:
                return make(self.path)
            except Taken:
                if self.path == taken:
                    raise
                taken = self.path

    def _to_be_recorded(self) -> Iterator[_Line]:
        """All that has come and is not over, and sound that is silent so far, in the order in which it is published."""
        published = list(self._published())
        lines = [self._line(stream) for stream in published] or list(self._lines.values())
        self._lines = {stream: line for stream, line in self._lines.items() if line in lines or line.frames}
        return (line for line in lines if line.first or line.stream.kind == "audio")

    def _is_published(self, line: _Line) -> bool:
        published = list(self._published())
        return line.stream in published or not published

    def _is_due(self, segment: _Segment, now: float) -> bool:
        return (self._segment_seconds is not None and now - segment.began >= self._segment_seconds) or (
            self._most is not None and segment.writer.octets >= self._most
        )

    def _videos(self) -> list[_Line]:
        return [line for line in self._lines.values() if line.stream.kind == "video" and line.segment is not None]

    def _close_left(self, now: float) -> None:
        """Complete the files that no stream goes to any more."""
        for segment in self._left.copy():
            used = [line for line in self._lines.values() if line.segment is segment]
            if used and self._segment is not None and now - self._segment.began < LEFT_WITHIN:
                continue
            for line in used:
                line.segment = None
            if any(frame.segment is segment for line in self._lines.values() for frame in line.frames):
                continue
            self._left.remove(segment)
            if error := self._complete(segment, "the next file has begun"):
                raise error

    def _complete(self, segment: _Segment, reason: str) -> RecordingError | None:
        try:
            segment.writer.close()
        except RecordingError as error:
            return error
        self.octets += segment.writer.octets
        self._tell(RecordingEvent("complete", str(segment.writer.path), reason))
        return None

    def _line(self, stream: Tapped) -> _Line:
        """Return the line of a stream, which goes on where one of its name is published again."""
        if stream not in self._lines:
            same = [line for line in self._lines.values() if line.stream.name == stream.name != ""]
            line = same[0] if same else _Line(stream)
            self._lines.pop(line.stream, None)
            self._lines[stream] = line
            line.stream = stream
        return self._lines[stream]


def _skew(piece: _Piece, unknown: float) -> float:
    """Return the broadcaster's clock minus ours, and the way, as a piece tells it."""
    captured = piece.captured
    return captured - piece.came if captured is not None and abs(captured) < LATEST else unknown
