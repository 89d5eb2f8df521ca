"""One file of a recording: a Matroska or WebM file that is written as its packets come, and can be read up to there."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Disposition, Stream

from synopticon_rtc.errors import RecordingError
from synopticon_rtc.peers.published import Kind
from synopticon_rtc.rtc import Codec
from synopticon_rtc.rtc.opus_packet import channels

MILLISECONDS = Fraction(1, 1000)
"""What Matroska counts in."""
FACES = "faces/1"
"""What the title of a track of faces begins with; the name of its video follows."""
BASIS = Path(__file__).parents[1] / "web" / "basis.js"
"""The linear model of faces, without which nobody can read the format: it is in each file."""
TOGETHER = 500
"""Milliseconds of frames whose faces are one packet: FFmpeg's index holds each such packet until a file is complete."""
FORMATS = {".mkv": "matroska", ".webm": "webm"}
OPTIONS = {
    "cluster_time_limit": "200",  # ms, after which what came is written
    "max_interleave_delta": "100000",  # us for which packets of one track wait for those of another
    "flush_packets": "1",
    "default_mode": "infer_no_subs",  # players show no track of faces by themselves
}
_VP8_SIZE = slice(6, 10)


@dataclass(frozen=True, slots=True)
class Track:
    """A track, as the head of a file has it.

    Attributes:
        name: Of its stream.
        kind: ``video``, which brings a track for its faces with it, or ``audio``.
        hint: What it shows.
        codec: Of a video.
        detector: What looks for its faces, in words; empty where nobody does.
        first: Of a video, a keyframe of it; of sound a packet, empty where none has come yet.
    """

    name: str
    kind: Kind
    hint: str
    codec: Codec | None
    detector: str
    first: bytes


@dataclass(slots=True, eq=False)
class _Written:
    """A track in the file.

    Attributes:
        stream: It.
        faces: The track of its faces; None for sound.
        time: Of the first frame whose faces wait to be written, ms.
        waiting: What was found in that frame and those after it, a line each.
    """

    stream: Stream
    faces: Stream | None = None
    time: int = 0
    waiting: list[bytes] = field(default_factory=list)


class Writer:
    """Writes one file. Its methods block, and belong into a thread.

    Args:
        path: Of the file, which must not be there yet; its ending tells the format.
        tracks: What will be in it.
        tags: What else is to be known of it, by name.

    Attributes:
        path: Of the file.
        octets: That were given to it.

    Raises:
        RecordingError: There is such a file, or it cannot be written, or cannot hold a codec.
    """

    def __init__(self, path: Path, tracks: Sequence[Track], tags: Mapping[str, str]) -> None:
        self.path = path
        self.octets = 0
        self._tracks: list[_Written] = []
        check_free(path)
        container = file_format(path)
        if container == "webm" and any(track.codec == "h264" for track in tracks):
            raise RecordingError(f"{path} cannot hold H.264, which comes: take a name that ends in .mkv")
        try:
            self._file: OutputContainer = av.open(f"file:{path}", "w", format=container, options=OPTIONS)
        except (FFmpegError, OSError) as error:
            raise _cannot_write(path, error) from error
        self._file.metadata.update(tags)
        for track in tracks:
            try:
                stream = _add(self._file, track)
            except (FFmpegError, OSError, IndexError) as error:
                raise RecordingError(f"stream {track.name} cannot be recorded: its video is broken") from error
            stream.metadata.update({"title": track.name, "HINT": track.hint})
            self._tracks.append(_Written(stream))
            if track.kind == "video":
                self._tracks[-1].faces = faces = self._file.add_mux_stream("webvtt")
                faces.time_base = MILLISECONDS
                faces.disposition = Disposition.metadata
                faces.metadata.update({"title": f"{FACES} {track.name}", "language": "zxx"})  # no language at all
                if track.detector:
                    faces.metadata["DETECTOR"] = track.detector
        self._file.add_attachment(BASIS.name, "text/plain", BASIS.read_bytes())

    def write(self, track: int, data: bytes, time: int, *, keyframe: bool = True) -> None:
        """Write a packet.

        Args:
            track: Its place among the tracks.
            data: It.
            time: When it is to be seen or heard, ms from the beginning of the file, more than that before it.
            keyframe: Whether it can be decoded without those before it.

        Raises:
            RecordingError: It cannot be written.
        """
        self._mux(self._tracks[track].stream, data, time, keyframe=keyframe)

    def write_faces(self, track: int, message: bytes, time: int) -> None:
        """Write what was found in a frame, or that it was not looked at, together with that of the frames around it.

        Args:
            track: The place of its video among the tracks.
            message: In ``faces/1``.
            time: That of the frame, ms.

        Raises:
            RecordingError: It cannot be written.
        """
        written = self._tracks[track]
        if written.waiting and time - written.time >= TOGETHER:
            self._write_waiting(written)
        if not written.waiting:
            written.time = time
        written.waiting.append(b"%d %b" % (time - written.time, base64.b64encode(message)))

    def close(self) -> None:
        """Write the faces that wait, and the index, by which players find their way.

        Raises:
            RecordingError: It cannot be written; what came before can be read all the same.
        """
        try:
            for written in self._tracks:
                self._write_waiting(written)
        finally:
            try:
                self._file.close()
            except (FFmpegError, OSError) as error:
                raise _cannot_write(self.path, error) from error

    def _write_waiting(self, written: _Written) -> None:
        if written.faces is not None and written.waiting:
            lines, written.waiting = written.waiting, []
            self._mux(written.faces, b"\n".join(lines), written.time, keyframe=True)

    def _mux(self, stream: Stream, data: bytes, time: int, *, keyframe: bool) -> None:
        packet: av.Packet[Stream] = av.Packet(data)
        packet.stream = stream
        packet.pts = packet.dts = time
        packet.time_base = MILLISECONDS
        packet.duration = int(stream.type == "subtitle")
        packet.is_keyframe = keyframe
        try:
            self._file.mux(packet)
        except (FFmpegError, OSError) as error:
            raise _cannot_write(self.path, error) from error
        self.octets += len(data)


def check_free(path: Path) -> None:
    """Find out whether there is a file of that name.

    Raises:
        RecordingError: There is one.
    """
    if path.exists():
        raise RecordingError(f"{path} is there already: move it away, or take another name")


def file_format(path: Path) -> str:
    """Return the format of a file by its ending.

    Raises:
        RecordingError: It is another one.
    """
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        endings = " or ".join(FORMATS)
        raise RecordingError(f"a recording is a {endings} file, and {path} is none: name it so") from None


def _cannot_write(path: Path, error: Exception) -> RecordingError:
    return RecordingError(f"the recording {path} cannot be written: {getattr(error, 'strerror', None) or error}")


def _add(file: OutputContainer, track: Track) -> Stream:
    """Add a track of video or sound, with what its head needs to know of the codec."""
    if track.kind == "audio":
        sound = file.add_stream("libopus", rate=48_000)  # it encodes nothing, but knows the head
        sound.codec_context.layout = "mono" if track.first and channels(track.first) == 1 else "stereo"
        return sound
    if track.codec == "h264":
        with av.open(io.BytesIO(track.first), format="h264") as head:
            return file.add_stream_from_template(head.streams.video[0])
    width, height = (int.from_bytes(track.first[_VP8_SIZE][at : at + 2], "little") & 0x3FFF for at in (0, 2))
    video = file.add_mux_stream("vp8", width=width, height=height)
    video.time_base = MILLISECONDS
    return video
