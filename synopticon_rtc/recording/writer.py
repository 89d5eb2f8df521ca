"""One file of a recording: a Matroska or WebM file that is written as its packets come, and can be read up to there."""

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from synopticon_rtc.basics.version import __version__
from synopticon_rtc.errors import RecordingError
from synopticon_rtc.peers.published import Kind
from synopticon_rtc.recording.matroska import ATTACHMENTS, TAG, TAGS, TRACK, TRACKS, MatroskaFile, date, element
from synopticon_rtc.rtc import Codec, EncodedVideoFrame
from synopticon_rtc.rtc.bitstream import picture_size
from synopticon_rtc.rtc.nal import PPS, SPS, START_CODE
from synopticon_rtc.rtc.opus_packet import channels

FACES = "faces/1"
"""What the title of a track of faces begins with; the name of its video follows."""
BASIS = Path(__file__).parents[1] / "web" / "basis.js"
"""The linear model of faces, without which nobody can read the format: it is in each file."""
TOGETHER = 500
"""Milliseconds of frames whose faces are one packet, which makes the file smaller."""
SOUND_INDEXED = 1000
"""Milliseconds from one packet of sound that players are to find to the next, where there is no video."""
FORMATS = {".mkv": "matroska", ".webm": "webm"}
_MOST_TRACKS = 126  # whose numbers are one octet in each block
_HIGH = {100, 110, 122, 144}  # profiles of H.264 whose head says more


class Taken(RecordingError):
    """There is such a file already."""


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
        track: It.
        number: Its number in the file; that of its faces is the next one.
        time: Of the first frame whose faces wait to be written, ms.
        since: When they had to wait first, s; None where that is not known yet.
        waiting: What was found in that frame and those after it, a line each.
    """

    track: Track
    number: int
    time: int = 0
    since: float | None = None
    waiting: list[bytes] = field(default_factory=list)


class Writer:
    """Writes one file. Its methods block, and belong into a thread.

    Args:
        path: Of the file, which must not be there yet; its ending tells the format.
        tracks: What will be in it, one at least.
        tags: What else is to be known of it, by name.
        began: When it begins, seconds since the epoch.

    Attributes:
        path: Of the file.
        octets: That were given to it.

    Raises:
        RecordingError: There is such a file, or it cannot be written, or cannot hold a codec.
    """

    def __init__(self, path: Path, tracks: Sequence[Track], tags: Mapping[str, str], began: float) -> None:
        self.path = path
        self.octets = 0
        self._tracks: list[_Written] = []
        kind = file_format(path)
        if kind == "webm" and any(track.codec == "h264" for track in tracks):
            raise RecordingError(f"{path} cannot hold H.264, which comes: take a name that ends in .mkv")
        number = 1
        entries: list[bytes] = []
        told = [_tag(None, {name: value for name, value in tags.items() if name != "TITLE"})]
        for track in tracks:
            self._tracks.append(_Written(track, number))
            is_first = track.kind not in {earlier.kind for earlier in tracks[: len(self._tracks) - 1]}
            entries.append(_entry(number, track, is_first=is_first))
            told.append(_tag(number, {"HINT": track.hint}))
            if track.kind == "video":
                number += 1
                entries.append(_faces_entry(number, track))
                told.append(_tag(number, {"DETECTOR": track.detector}))
            number += 1
        if number > _MOST_TRACKS:
            raise RecordingError(f"{path} cannot hold {len(tracks)} streams")
        program = f"synopticon-rtc {__version__}"
        info = (
            element(0x2AD7B1, 1_000_000),  # times are in milliseconds
            element(0x7BA9, tags.get("TITLE", "")),
            element(0x4D80, program),
            element(0x5741, program),
            element(0x4461, date(began)),
        )
        head = [(TRACKS, b"".join(entries))]
        if kind != "webm":
            attached = element(0x466E, BASIS.name), element(0x4660, "text/plain"), element(0x465C, BASIS.read_bytes())
            head.append((ATTACHMENTS, element(0x61A7, *attached, element(0x46AE, 1))))
        head.append((TAGS, b"".join(told)))
        self._has_video = any(track.kind == "video" for track in tracks)
        try:
            self._file = MatroskaFile(path, kind, b"".join(info), head)
        except FileExistsError:
            raise _there(path) from None
        except (OSError, ValueError) as error:
            raise _cannot_write(path, error) from error

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
        if not data:
            return
        written = self._tracks[track]
        if written.track.codec == "h264":
            data = b"".join(len(unit).to_bytes(4) + unit for unit in units(data))
        is_video = written.track.kind == "video"
        indexed = keyframe if is_video else not self._has_video and time - written.time >= SOUND_INDEXED
        if indexed and not is_video:
            written.time = time
        try:
            self._file.block(written.number, time, data, keyframe=keyframe, indexed=indexed)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        self.octets += len(data)

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

    def tick(self, now: float) -> None:
        """Time has passed: what waits for more of its kind waits no longer. ``now`` is in seconds, of any clock.

        Raises:
            RecordingError: It cannot be written, or was removed meanwhile, which Linux lets one write to.
        """
        if not self.path.exists():
            raise RecordingError(f"the recording {self.path} was removed, and nothing more is written to it")
        for written in self._tracks:
            if written.waiting and written.since is None:
                written.since = now
            elif written.since is not None and now - written.since >= TOGETHER / 1000:
                self._write_waiting(written)
        try:
            self._file.tick(now)
        except OSError as error:
            raise _cannot_write(self.path, error) from error

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
            except OSError as error:
                raise _cannot_write(self.path, error) from error

    def _write_waiting(self, written: _Written) -> None:
        lines, written.waiting, written.since = written.waiting, [], None
        if lines:
            data = b"\n".join(lines)
            try:
                self._file.text(written.number + 1, written.time, data)
            except OSError as error:
                raise _cannot_write(self.path, error) from error
            self.octets += len(data)


def check_free(path: Path) -> None:
    """Find out whether there is a file of that name.

    Raises:
        RecordingError: There is one, or there can be none.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from error
    raise _there(path)


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


def units(data: bytes) -> list[bytes]:
    """Take H.264 in Annex B form apart into NAL units."""
    return [unit for piece in data.split(START_CODE[1:]) if (unit := piece.rstrip(b"\0"))]


def _there(path: Path) -> Taken:
    return Taken(f"{path} is there already: move it away, or take another name")


def _cannot_write(path: Path, error: Exception) -> RecordingError:
    return RecordingError(f"the recording {path} cannot be written: {getattr(error, 'strerror', None) or error}")


def _entry(number: int, track: Track, *, is_first: bool) -> bytes:
    """Describe a track of video or sound, with what a decoder needs to know."""
    about = _named(number, track.name, "und"), element(0x88, int(is_first))
    if track.kind == "audio":
        count = channels(track.first) if track.first else 2
        head = struct.pack("<8sBBHIhB", b"OpusHead", 1, count, 0, 48_000, 0, 0)  # RFC 7845 section 5.1
        sound = element(0xE1, element(0x9F, count), element(0xB5, 48_000.0))
        roll = element(0x56BB, 80_000_000)  # ns, as section 4.6 has it
        return element(TRACK, *about, element(0x83, 2), element(0x86, "A_OPUS"), sound, element(0x63A2, head), roll)
    assert track.codec is not None  # noqa: S101 - as videos have
    size = picture_size(EncodedVideoFrame(track.codec, track.first, 0, True, 0.0))
    assert size is not None  # noqa: S101 - else it is no keyframe to begin with
    picture = element(0x83, 1), element(0xE0, element(0xB0, size[0]), element(0xBA, size[1]))
    if track.codec == "vp8":
        return element(TRACK, *about, *picture, element(0x86, "V_VP8"))
    codec = element(0x86, "V_MPEG4/ISO/AVC"), element(0x63A2, _avc_head(track.first))
    return element(TRACK, *about, *picture, *codec)


def _avc_head(keyframe: bytes) -> bytes:
    """Return the head of H.264 outside of its stream (ISO/IEC 14496-15 section 5.3.3.1), of 8 bits and 4:2:0."""
    sets = {kind: [unit for unit in units(keyframe) if unit[0] & 0x1F == kind][:1] for kind in (SPS, PPS)}
    written = {kind: b"".join(len(unit).to_bytes(2) + unit for unit in found) for kind, found in sets.items()}
    profile = sets[SPS][0][1:4]
    more = b"\xfd\xf8\xf8\0" if profile[0] in _HIGH else b""
    counts = {kind: len(found) for kind, found in sets.items()}
    return b"\1%b\xff%c%b%c%b%b" % (profile, 0xE0 | counts[SPS], written[SPS], counts[PPS], written[PPS], more)


def _faces_entry(number: int, track: Track) -> bytes:
    """Describe a track of faces: text in no language, which no player shows by itself."""
    about = _named(number, f"{FACES} {track.name}", "zxx"), element(0x88, 0)
    return element(TRACK, *about, element(0x83, 0x11), element(0x86, "D_WEBVTT/SUBTITLES"))


def _named(number: int, name: str, language: str) -> bytes:
    unlaced = element(0x9C, 0)
    return (
        element(0xD7, number) + element(0x73C5, number) + unlaced + element(0x536E, name) + element(0x22B59C, language)
    )


def _tag(track: int | None, told: Mapping[str, str]) -> bytes:
    """Say something of the file, or of a track."""
    about = element(0x63C0, *([] if track is None else [element(0x63C5, track)]))
    simple = [element(0x67C8, element(0x45A3, name), element(0x4487, value)) for name, value in told.items() if value]
    return element(TAG, about, *simple) if simple else b""
