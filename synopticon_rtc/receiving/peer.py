"""What a receiver knows of its broadcaster."""

import asyncio
import functools
from dataclasses import dataclass, field

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.faces.wire import PROTOCOL as FACES
from synopticon_rtc.files.hub import FileLink
from synopticon_rtc.peers.control import Control, Report
from synopticon_rtc.peers.messages import Messages
from synopticon_rtc.peers.published import NewOffer, Published
from synopticon_rtc.receiving.behind import Behind
from synopticon_rtc.receiving.lips import Lips
from synopticon_rtc.receiving.sound import SoundStream
from synopticon_rtc.receiving.stream import Stream
from synopticon_rtc.rtc import AudioTrack, Channel, EncodedSound, EncodedVideoFrame, PeerConnection, VideoTrack
from synopticon_rtc.rtc.budget import Budget

CHANGES = 5, 30
"""How often a broadcaster may change what it publishes: a second, and at once."""

FACES_OF = "faces:"
"""What the label of a channel begins with that is for the faces of the stream that it names."""

PUBLISHER = "whoever publishes"
"""What finds the faces in a video, as far as it is told."""


@dataclass(slots=True, eq=False)
class Peer:
    """The other end of a receiver's connection.

    Attributes:
        link: By which the handshake knows it.
        session: Its signaling session.
        connection: What all comes over that it sends.
        faults: What counts errors that nobody foresaw.
        takes_faces: Whether it takes faces that are found in what it sends.
        first: The stream that its first offer carries.
        lips: What keeps the first stream and the sound in step.
        streams: What it sends, by name; the first one too, once its name is known.
        sections: What comes on each media section now.
        listed: Whether it has told what it publishes.
        behind: What comes beside the media where an engine carries them; else None.
        is_whole: Whether all that it ever sends comes with the first offer, and it tells of no streams.
        control: Our side of the control channel; None before it is there, and where the broadcaster is a page.
        messages: What the application and it say to each other, None where it takes no messages.
        relays: Who passes on what it sends, from the first one to it.
        files: What goes to it and comes from it, None where it takes no files.
        number: That of its newest offer that came over the control channel.
        news: What it published last, until that was taken note of.
        offer: Its newest offer over the control channel, until it was answered.
        changes: How often it changes what it publishes.
        playing: The tasks that take decoded frames and sound, one a media section.
    """

    link: int
    session: str
    connection: PeerConnection
    faults: Faults
    takes_faces: bool
    first: Stream = field(init=False)
    lips: Lips = field(default_factory=Lips)
    streams: dict[str, Stream | SoundStream] = field(default_factory=dict)
    sections: dict[str, Stream | SoundStream] = field(default_factory=dict)
    listed: bool = False
    behind: Behind | None = None
    is_whole: bool = False
    control: Control | None = None
    messages: Messages | None = None
    relays: tuple[str, ...] = ()
    files: FileLink | None = None
    number: int = 0
    news: list[Published] | None = None
    offer: NewOffer | None = None
    changes: Budget = field(default_factory=lambda: Budget(*CHANGES))
    playing: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def too_large(self) -> int:
        """Frames that were left out as they are larger than is received."""
        return self.connection.stats().frames_too_large

    @property
    def offset(self) -> float | None:
        """Its clock minus ours, seconds, None while it is not known."""
        return None if self.control is None else self.control.offset

    @property
    def error(self) -> float | None:
        """By how much :attr:`offset` is wrong at most, seconds, None while it is not known."""
        return None if self.control is None else self.control.error

    def play(self, track: VideoTrack) -> asyncio.Task[None]:
        """Take the decoded frames of a track, until the connection is closed."""
        task = asyncio.create_task(self._watch(track), name="video")
        self.playing.add(task)
        task.add_done_callback(self.playing.discard)
        return task

    def listen(self, track: AudioTrack) -> asyncio.Task[None]:
        """Take the sound of a track, until the connection is closed."""
        task = asyncio.create_task(self._hear(track), name="sound")
        self.playing.add(task)
        task.add_done_callback(self.playing.discard)
        return task

    def adopt(self, channel: Channel) -> None:
        """Take a channel of its, for messages, files or faces."""
        if any(kind is not None and kind.adopt(channel) for kind in (self.messages, self.files)):
            return
        if channel.protocol == FACES and channel.label.startswith(FACES_OF):
            channel.on_message = functools.partial(self._take_faces, channel.label.removeprefix(FACES_OF))
        else:  # pages call it what they like, and have others: what comes on it tells whether it is for faces
            if channel.protocol == FACES:
                self.first.expect_faces()
            channel.on_message = self.first.message

    def reported(self, report: Report) -> None:
        """Take what it reports of its part in the delay of a video."""
        stream = self.first if report.stream is None else self.streams.get(report.stream)
        if isinstance(stream, Stream):
            stream.reported(report)

    def came(self, mid: str, frame: EncodedVideoFrame) -> None:
        """Take note of a frame as it came, to be decoded or not."""
        if self.behind is not None:
            self.behind.frame(mid, frame)
        if isinstance(stream := self.at(mid), Stream):
            stream.came(frame)

    def sounded(self, mid: str, packet: EncodedSound) -> None:
        """Take note of a packet of sound as it came."""
        if isinstance(stream := self.at(mid), SoundStream):
            stream.tapped(packet)

    def encoded(self, mid: str, frame: EncodedVideoFrame) -> None:
        """Take a frame that is not to be decoded."""
        if isinstance(stream := self.at(mid), Stream):
            stream.encoded(frame)

    def at(self, mid: str) -> Stream | SoundStream | None:
        """Return what comes on a media section: the first stream, as long as nobody has told what it is."""
        return self.sections.get(mid) if self.listed else self.first

    def close(self) -> None:
        """Give out what waits, and take nothing more."""
        for stream in {self.first, *self.streams.values()}:
            stream.close()
        for task in self.playing:
            task.cancel()
        if self.control is not None:
            self.control.close()
        if self.messages is not None:
            self.messages.close()
        if self.files is not None:
            self.files.close()

    def all_there_is(self) -> list[Published]:
        """Say what it sends that cannot: a video, perhaps with faces where it has channels for them, and a sound."""
        faces = self.connection.offered_channels
        video = [
            Published("camera", "video", "camera", mid, faces=faces, detector=PUBLISHER if faces else "")
            for mid in self.connection.received[:1]
        ]
        return video + [Published("microphone", "audio", "microphone", mid) for mid in self.connection.heard[:1]]

    def section(self, stream: Stream | SoundStream | None) -> str | None:
        """Return the media section that a stream comes on, None while nobody has told."""
        return next((mid for mid, other in self.sections.items() if other is stream), None)

    def _take_faces(self, name: str, data: str | bytes) -> None:
        if isinstance(stream := self.streams.get(name), Stream):
            stream.message(data)

    async def _watch(self, track: VideoTrack) -> None:
        async for received in track:
            if isinstance(stream := self.at(track.mid), Stream):
                self.faults.call(stream.decoded, received)

    async def _hear(self, track: AudioTrack) -> None:
        async for received in track:
            if isinstance(stream := self.sections.get(track.mid), SoundStream):
                self.faults.call(stream.decoded, received)
