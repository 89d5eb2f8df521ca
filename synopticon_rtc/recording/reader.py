"""Reads one file of a recording, from its beginning or from any time on: each frame with its own faces."""

import base64
import contextlib
import errno
import os
from collections import deque
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.error import EOFError as EndOfFileError
from av.error import FFmpegError
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from synopticon_rtc.errors import InvalidFaces, RecordingError
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.faces.wire import FacesMessage, decode
from synopticon_rtc.peers.published import Kind
from synopticon_rtc.receiving.sound import AudioMoment
from synopticon_rtc.recording.damage import Damage, damaged_head
from synopticon_rtc.recording.tape import FORMAT
from synopticon_rtc.recording.writer import FACES
from synopticon_rtc.rtc import Codec, EncodedVideoFrame
from synopticon_rtc.rtc.opus_decoder import OpusDecoder, open_decoder
from synopticon_rtc.rtc.opus_packet import RATE, channels

TICKS = 90
"""Of RTP video in a millisecond."""
FACES_WITHIN = 3000
"""Milliseconds of the file within which the faces of a frame stand behind it."""
RTP_TIME_BASE = Fraction(1, 90_000)
CODECS: dict[str, Codec] = {"vp8": "vp8", "h264": "h264"}
PLAYED = {*CODECS, "opus"}
"""Codecs of the tracks that are read; a file that somebody else has added to may have more of them."""
LATEST = 2.0**36
"""Seconds since the epoch, about 4000 years after it: what can be a time."""
_EBML = b"\x1a\x45\xdf\xa3"


@dataclass(frozen=True, slots=True)
class RecordedStream:
    """A stream in a recording.

    Attributes:
        name: As its broadcaster called it.
        kind: ``video`` or ``audio``.
        hint: What it shows: ``camera``, ``screen``, ``microphone``, or what else its broadcaster said.
        codec: ``vp8``, ``h264`` or ``opus``.
        width: Of a video at its beginning, pixels; it may change.
        height: As ``width``.
        detector: What looked for its faces, in words for people; empty where nobody did or nobody told.
    """

    name: str
    kind: Kind
    hint: str
    codec: str
    width: int = 0
    height: int = 0
    detector: str = ""


@dataclass(frozen=True, slots=True)
class Played:
    """What comes next in a file.

    Attributes:
        stream: The name of its stream.
        time: When it is to be seen or heard, seconds from the beginning of the file.
        moment: It.
    """

    stream: str
    time: float
    moment: Moment[Any] | AudioMoment


@dataclass(slots=True, eq=False)
class _Video:
    """A video that is read.

    Attributes:
        name: Of its stream.
        codec: Its codec.
        decoder: What decodes it, None where it is not to be decoded.
        annex_b: What makes H.264 of the file what its encoder made; None for VP8.
        frames: Those whose faces are yet to be read: their time, ms, and what they are.
        faces: Those whose frames are yet to be read, by time, ms.
    """

    name: str
    codec: Codec
    decoder: VideoCodecContext | None
    annex_b: BitStreamFilterContext | None
    frames: deque[tuple[int, av.VideoFrame | EncodedVideoFrame]] = field(default_factory=deque)
    faces: dict[int, FacesMessage] = field(default_factory=dict)


class Reader:
    """Reads one file. Its methods block, and belong into a thread.

    Args:
        path: Of the file.
        decode: Whether to decode the video.

    Attributes:
        tags: What the file says of itself, by name.
        streams: What is in it, by name.
        begun: When it begins, seconds since the epoch on the broadcaster's clock.
        clock_offset: That clock minus the recorder's at that time, seconds; None where it was not known.
        duration: Seconds; None where the file was never completed.

    Raises:
        RecordingError: There is no such file, or it is no recording.
    """

    def __init__(self, path: str | os.PathLike[str], *, decode: bool = True) -> None:
        self._path = Path(path)
        self._decode = decode
        self._file = _open(self._path)
        self._damage = Damage(self._path)
        self._head = damaged_head(self._path)
        self.tags = tags_of(self._file)
        tracks = [stream for stream in self._file.streams if isinstance(stream, VideoStream | AudioStream)]
        tracks = [track for track in tracks if _codec(track) in PLAYED]
        tags = {stream.index: tags_of(stream) for stream in self._file.streams}
        detectors = {each.get("title"): each.get("DETECTOR", "") for each in tags.values()}
        described = {track.index: _describe(track, detectors) for track in tracks}
        self.streams = {stream.name: stream for stream in described.values()}
        self.duration = None if self._file.duration is None else self._file.duration / av.time_base
        self._from = 0.0  # what is before that is not given out
        self._names = {index: stream.name for index, stream in described.items()}
        self._faces_of = {
            stream.index: tags[stream.index]["title"].removeprefix(f"{FACES} ")
            for stream in self._file.streams
            if stream.type == "subtitle" and tags[stream.index].get("title", "").startswith(f"{FACES} ")
        }
        self._opened = [*tracks, *(stream for stream in self._file.streams if stream.index in self._faces_of)]
        try:
            self.begun = _seconds(self.tags.get("BEGUN", "0"))
            self.clock_offset = _seconds(offset) if (offset := self.tags.get("CLOCK_OFFSET")) is not None else None
            self._begin()
        except (FFmpegError, ValueError) as error:
            self.close()
            raise RecordingError(
                f"{self._path} is damaged in its head, behind byte {self._head or 4}: {error}"
            ) from error

    def check_head(self) -> None:
        """Check what says which streams there are: one of them may be missing, or have another name.

        Raises:
            RecordingError: It is damaged.
        """
        if self._head is not None:
            raise RecordingError(
                f"{self._path} is damaged in its head, behind byte {self._head}: a stream may be missing"
            )

    def _begin(self) -> None:
        videos = [stream for stream in self._opened if isinstance(stream, VideoStream)]
        self._videos = {
            self._names[stream.index]: _video(self._names[stream.index], stream, decode=self._decode)
            for stream in videos
        }
        self._sounds: dict[int, OpusDecoder] = {}

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._damage.close()

    def seek(self, time: float, names: Container[str]) -> None:
        """Go on from a time, in seconds from the beginning of the file, with all of some streams from there on."""
        self._begin()
        self._damage.seek()
        self._from = time
        try:
            at = round(time * 1000)
            wanted = [stream for stream in self._opened if self._name(stream) in names and stream.type != "subtitle"]
            self._file.seek(at, stream=min(wanted, key=lambda stream: self._keyframe(stream, at), default=None))
        except (FFmpegError, OverflowError):  # beyond the end, or a file that was cut off and has no index
            self._rewind()

    def _keyframe(self, stream: Stream, at: int) -> int:
        """Return when the last keyframe of a video is up to a time, ms: frames after that build on it."""
        if not isinstance(stream, VideoStream):
            return at
        self._file.seek(at, stream=stream)  # which reads what is in the index of no file that was cut off
        place = stream.index_entries.search_timestamp(at)
        return at if place < 0 else stream.index_entries[place].timestamp

    def _rewind(self) -> None:
        opened = {stream.index for stream in self._opened}  # once the file is closed, no stream knows it any more
        self._file.close()
        self._file = _open(self._path)
        self._opened = [stream for stream in self._file.streams if stream.index in opened]

    def read(self, names: Container[str]) -> Iterator[Played]:
        """Give out all of some streams from here on, as it stands in the file: that of each stream in order.

        What is damaged is left out. Pictures that build on it are decoded as well as it goes, until the next keyframe.

        Args:
            names: Of the streams.

        Raises:
            RecordingError: The file is damaged; this is told when all the rest was given out.
        """
        wanted = [stream for stream in self._opened if self._name(stream) in names]
        position = 0
        failed: FFmpegError | None = None
        try:
            for packet in self._file.demux(wanted) if wanted else ():  # of none, it would be all
                if packet.pts is None or not packet.size:
                    continue
                position = packet.pos or position
                if self._damage.intact(position):
                    yield from self._take(packet, packet.pts)
        except EndOfFileError:
            pass  # it was cut off here
        except FFmpegError as error:
            failed = error
        for video in self._videos.values():
            yield from self._paired(video, None)
        if wanted:
            self._damage.rest()
        self._tell(position, failed)

    def _tell(self, position: int, failed: FFmpegError | None) -> None:
        """Raise an error where something was damaged, or could not be read behind a position."""
        places = self._damage.places
        if places:
            others = f", and in {len(places) - 1} places after it" if places[1:] else ""
            raise RecordingError(f"{self._path} is damaged behind byte {places[0]}{others}: that was left out")
        if failed is not None:
            raise RecordingError(f"{self._path} is damaged behind byte {position}: {failed.strerror}") from failed
        self.check_head()

    def _name(self, stream: Stream) -> str:
        return self._faces_of.get(stream.index) or self._names[stream.index]

    def _take(self, packet: "av.Packet[Stream]", time: int) -> Iterator[Played]:
        index = packet.stream.index
        if index in self._faces_of:
            video = self._videos.get(self._faces_of[index])
            if video is not None:
                video.faces |= _messages(bytes(packet), time)
                yield from self._paired(video, time)
        elif packet.stream.type == "audio":
            yield from self._heard(packet, time)
        else:
            video = self._videos[self._names[index]]
            yield from self._seen(video, packet, time)

    def _seen(self, video: _Video, packet: "av.Packet[Stream]", time: int) -> Iterator[Played]:
        keyframe = packet.is_keyframe
        try:
            for piece in [packet] if video.annex_b is None else video.annex_b.filter(packet):
                if video.decoder is None:
                    encoded = EncodedVideoFrame(video.codec, bytes(piece), 0, keyframe, time / 1000)
                    video.frames.append((time, encoded))
                    continue
                piece.pts = piece.dts = time
                video.frames.extend((frame.pts or 0, frame) for frame in video.decoder.decode(piece))
        except FFmpegError:
            return  # it builds on a frame that is not there
        yield from self._paired(video, time)

    def _paired(self, video: _Video, until: int | None) -> Iterator[Played]:
        """Give out the frames whose faces are there or will not come; all, if nothing more is read."""
        frames = video.frames
        while frames:
            time, frame = frames[0]
            if time not in video.faces and until is not None and until - time < FACES_WITHIN:
                return
            frames.popleft()
            message = video.faces.pop(time, None)
            if time >= self._from * 1000:
                yield Played(video.name, time / 1000, self._moment(frame, message, time))
        if until is not None and len(video.faces) > FACES_WITHIN:
            video.faces.clear()  # of frames that could not be decoded

    def _moment(self, frame: av.VideoFrame | EncodedVideoFrame, message: FacesMessage | None, time: int) -> Moment[Any]:
        if message is None:
            message = FacesMessage((), 0, 0, (time * TICKS) % 2**32, None, detected=False)
        timestamp = message.rtp_timestamp or 0
        captured = self.begun + time / 1000 if message.capture_time is None else message.capture_time
        if isinstance(frame, EncodedVideoFrame):
            frame = EncodedVideoFrame(frame.codec, frame.data, timestamp, frame.keyframe, frame.arrived)
        else:
            frame.pts, frame.time_base = timestamp, RTP_TIME_BASE
        return Moment(frame, message.faces, message.detected, captured, timestamp, 0.0 if message.detected else None)

    def _heard(self, packet: "av.Packet[Stream]", time: int) -> Iterator[Played]:
        index, data = packet.stream.index, bytes(packet)
        decoder = self._sounds.get(index)
        if decoder is None or channels(data) > decoder.channels:
            decoder = self._sounds[index] = open_decoder(channels(data))
        try:
            samples = decoder.decode(data)
        except ValueError:
            return
        if time >= self._from * 1000:
            moment = AudioMoment(samples, RATE, self.begun + time / 1000, False, (time * RATE // 1000) % 2**32)
            yield Played(self._names[index], time / 1000, moment)


def _open(path: Path) -> InputContainer:
    try:
        with path.open("rb") as plain:
            head = plain.read(4)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}") from error
    if head != _EBML:
        raise RecordingError(f"{path} is no recording: it is no Matroska file, by its first bytes (byte 0)")
    try:
        file = open_matroska(path)
    except (FFmpegError, OSError) as error:
        if isinstance(error, EndOfFileError) or error.errno == errno.EIO:  # within an element, or between two
            where = path.stat().st_size
            raise RecordingError(f"{path} was cut off before anything was recorded, at byte {where}") from error
        raise RecordingError(f"{path} is damaged in its head, behind byte 4: {error.strerror}") from error
    if not is_recording(file):
        file.close()
        raise RecordingError(f"{path} is no recording of synopticon-rtc, but another Matroska file")
    return file


def open_matroska(path: Path | str) -> InputContainer:
    """Open a file for :func:`tags_of`: its tags may be no text."""
    # PyAV does so without being told from release 19 on, and knows no such option any more.
    told = int(av.__version__.partition(".")[0]) < 19  # noqa: PLR2004 - that release
    options: dict[str, Any] = {"metadata_errors": "surrogateescape"} if told else {}
    return cast("InputContainer", av.open(f"file:{path}", format="matroska", **options))


def tags_of(what: InputContainer | Stream) -> dict[str, str]:
    """Return the tags of a file or a track; what is no text in them is replaced."""
    return {
        key: value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for key, value in what.metadata.items()
    }


def is_recording(file: InputContainer) -> bool:
    """Whether a file that is open was made by a recorder."""
    return file.metadata.get("FORMAT") == FORMAT


def _describe(track: Stream, detectors: dict[str | None, str]) -> RecordedStream:
    tags = tags_of(track)
    name, hint = tags.get("title", track.type), tags.get("HINT", "")
    codec = _codec(track)
    if isinstance(track, VideoStream):
        detector = detectors.get(f"{FACES} {name}", "")
        return RecordedStream(name, "video", hint, codec, track.width, track.height, detector)
    return RecordedStream(name, "audio", hint, codec)


def _codec(track: Stream) -> str:
    """Return the codec of a track; nothing where FFmpeg knows none."""
    return getattr(track.codec_context, "name", "")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not abs(seconds) < LATEST:
        raise ValueError(f"{text} is no time in seconds")
    return seconds


def _video(name: str, stream: VideoStream, *, decode: bool) -> _Video:
    codec = CODECS[_codec(stream)]
    annex_b = BitStreamFilterContext("h264_mp4toannexb", stream) if codec == "h264" else None
    decoder = VideoCodecContext.create(codec, "r") if decode else None
    assert decoder is None or isinstance(decoder, VideoCodecContext)  # noqa: S101 - tells the type checkers
    return _Video(name, codec, decoder, annex_b)


def _messages(data: bytes, time: int) -> dict[int, FacesMessage]:
    """Read the faces of the frames from a time on, ms; what is none is left out."""
    found = {}
    for line in data.split(b"\n"):
        after, _, text = line.partition(b" ")
        with contextlib.suppress(ValueError, InvalidFaces):  # binascii's error is a ValueError
            found[time + int(after)] = decode(base64.b64decode(text, validate=True))
    return found
