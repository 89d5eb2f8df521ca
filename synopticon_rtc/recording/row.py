"""What a row of a table of faces says: one face in one frame."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from synopticon_rtc.faces.face import Face
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.faces.openness import openness
from synopticon_rtc.faces.wire import BLENDSHAPES
from synopticon_rtc.rtc import EncodedVideoFrame
from synopticon_rtc.rtc.bitstream import picture_size

POINTS = 478
"""Landmarks of a row; those of the irises, the last ten, are not numbers where a mesh has none."""

_LONGEST = 60 * 90_000  # ticks from one frame to the next; where it is more, timestamps started anew


class Row(NamedTuple):
    """A face in a frame, or a frame without faces.

    Attributes:
        frame: Which frame it is: 0, 1, 2 ... in the order in which they came.
        time: Seconds of media from the first frame to this one; None where nobody knows.
        captured: When the frame was captured, seconds since the epoch on the broadcaster's clock.
        rtp_timestamp: That of the frame, in 1/90000 s.
        width: Of the frame, pixels; None where there is no picture, or an encoded one before the first keyframe.
        height: As ``width``.
        detected: Whether its faces are what was found in this very frame.
        faces_age: Seconds by which the frame that the face was found in is older than this one.
        face: The face; None where the frame has none.
    """

    frame: int
    time: float | None
    captured: float | None
    rtp_timestamp: int | None
    width: int | None
    height: int | None
    detected: bool
    faces_age: float | None
    face: Face | None


class MediaTime:
    """How many seconds of media have passed from the first frame to each that follows.

    RTP timestamps tell. Where they start anew, as another broadcaster's do, capture times tell how long the gap was,
    and where nobody knows that, there is none.
    """

    def __init__(self) -> None:
        self._time = 0.0
        self._last: tuple[int | None, float | None] = None, None  # timestamp, and when it was captured

    def take(self, rtp_timestamp: int | None, captured: float | None) -> float | None:
        """Return the time of the next frame; None where it has neither a timestamp nor a capture time."""
        if rtp_timestamp is None and captured is None:
            return None
        (timestamp, before), self._last = self._last, (rtp_timestamp, captured)
        ticks = -1 if rtp_timestamp is None or timestamp is None else (rtp_timestamp - timestamp) % 2**32
        if 0 <= ticks <= _LONGEST:
            self._time += ticks / 90_000
        elif captured is not None and before is not None:
            self._time += max(0.0, captured - before)
        return self._time


class Rows:
    """Makes rows of moments, in their order.

    Args:
        first: The number of the first frame.
    """

    def __init__(self, first: int = 0) -> None:
        self._frame = first
        self._time = MediaTime()
        self._size: tuple[int | None, int | None] = None, None

    def of(self, moment: Moment[Any], time: float | None = None) -> list[Row]:
        """Make a row of each face of the next moment, or one where it has no face.

        Args:
            moment: It.
            time: Seconds of media up to it, where that is known better than by its timestamps.
        """
        if time is None:
            time = self._time.take(moment.rtp_timestamp, moment.captured)
        picture = moment.frame
        if isinstance(picture, EncodedVideoFrame):
            self._size = picture_size(picture) or self._size  # those between keyframes tell none
        else:
            self._size = getattr(picture, "width", None), getattr(picture, "height", None)
        row = Row(
            self._frame,
            time,
            moment.captured,
            moment.rtp_timestamp,
            *self._size,
            detected=moment.detected,
            faces_age=moment.faces_age,
            face=None,
        )
        self._frame += 1
        return [row._replace(face=face) for face in moment.faces or (None,)]


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: In the table.
        kind: Of its values, as Arrow calls it.
        words: What it says, and in which unit.
    """

    name: str
    kind: str
    words: str


COLUMNS = (
    Column("frame", "int64", "which frame it is: 0, 1, 2 ... in the order in which they came"),
    Column("time", "float64", "seconds of media up to the frame"),
    Column("captured", "float64", "when the frame was captured, seconds since the epoch on the broadcaster's clock"),
    Column("rtp_timestamp", "uint32", "RTP timestamp of the frame, 1/90000 s"),
    Column("width", "int32", "of the frame, pixels"),
    Column("height", "int32", "of the frame, pixels"),
    Column("detected", "bool", "whether the faces are what was found in this very frame"),
    Column("faces_age", "float64", "seconds by which the frame that the face was found in is older than this one"),
    Column("face_id", "int32", "the same from frame to frame for the same face; null: the frame has no face"),
    Column("box_left", "float32", "left edge of all landmarks, fraction of the width"),
    Column("box_top", "float32", "top edge, fraction of the height"),
    Column("box_right", "float32", "right edge, fraction of the width"),
    Column("box_bottom", "float32", "bottom edge, fraction of the height"),
    Column("yaw", "float64", "degrees, positive to the person's left"),
    Column("pitch", "float64", "degrees, positive down"),
    Column("roll", "float64", "degrees, positive to the person's right shoulder"),
    Column("left_eye_openness", "float64", "eye aspect ratio of the person's left eye"),
    Column("right_eye_openness", "float64", "eye aspect ratio of the person's right eye"),
    Column("mouth_openness", "float64", "mouth aspect ratio"),
    *(Column(name, "float64", "score of MediaPipe's blendshape of that name, 0 to 1") for name in BLENDSHAPES),
)
"""Those that hold a value a row, in their order. What is not known is null."""


class Columns:
    """The values of some rows, column by column.

    Args:
        rows: What is measured in them is measured at once, which takes a tenth of the time of one after the other.

    Attributes:
        landmarks: float32 array of shape (n, 478, 3).
        faces: Which rows have a face, a bool array of length n.
        openness: Of eyes and mouth, arrays of length n.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        count = len(rows)
        self._rows = rows
        self.faces = np.array([row.face is not None for row in rows], np.bool_)
        self.landmarks = np.full((count, POINTS, 3), np.nan, np.float32)
        self._poses = np.full((count, 3), np.nan)
        self._blendshapes = np.full((count, len(BLENDSHAPES)), np.nan)
        sizes = np.full((count, 2), np.nan)
        for index, row in enumerate(rows):
            face = row.face
            if face is None:
                continue
            self.landmarks[index, : len(face.landmarks)] = face.landmarks
            if (pose := face.pose) is not None:
                self._poses[index] = pose
            if face.blendshapes:
                self._blendshapes[index] = [face.blendshapes.get(name, np.nan) for name in BLENDSHAPES]
            if row.width and row.height:
                sizes[index] = row.width, row.height
        edges = (reduce(self.landmarks[:, :, :2], axis=1) for reduce in (np.fmin.reduce, np.fmax.reduce))
        self._boxes = np.concatenate([*edges], axis=1)  # as Face.box, whatever of a mesh is missing
        self.openness = openness(self.landmarks, sizes)

    def __iter__(self) -> Iterator[Sequence[Any] | npt.NDArray[Any]]:
        """Give the values of each of :data:`COLUMNS`; what is not known is None, or not a number in an array."""
        yield from zip(*(row[:-1] for row in self._rows), strict=True)
        yield [row.face.id if row.face else None for row in self._rows]
        yield from (*self._boxes.T, *self._poses.T, *self.openness, *self._blendshapes.T)
