"""Which face of a frame is which of the frames before."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from synopticon_rtc.faces.box import Box
from synopticon_rtc.faces.face import Face

REACH = 0.75  # how far an edge of a face's box may have moved since it was last seen, in the smaller of its sizes
IDS = 1 << 16  # as many as faces/1 tells apart


@dataclass(slots=True, eq=False)
class _Track:
    id: int
    box: Box
    seen: float


class Tracker:
    """Gives faces ids that stay theirs from frame to frame.

    Faces are followed by their boxes alone, the nearest pair first: whoever takes another's place within ``patience``
    takes their id too.

    Args:
        patience: Seconds for which a face may be missing and keep its id.
    """

    def __init__(self, patience: float = 1.0) -> None:
        self._patience = patience
        self._tracks: list[_Track] = []
        self._next = 0

    def track(self, faces: Sequence[Face], time: float) -> tuple[Face, ...]:
        """Return the faces of a frame, in their order, with ids in place of what they had.

        Args:
            faces: All faces of the frame.
            time: Of the frame, in seconds of any clock. Where it goes back, everything is forgotten.
        """
        self._tracks = [track for track in self._tracks if 0 <= time - track.seen <= self._patience]
        boxes = [face.box for face in faces]
        followed = self._follow(boxes)
        for index, box in enumerate(boxes):
            if index in followed:
                followed[index].box, followed[index].seen = box, time
            else:
                followed[index] = _Track(self._next, box, time)
                self._tracks.append(followed[index])
                self._next = (self._next + 1) % IDS
        return tuple(replace(face, id=followed[index].id) for index, face in enumerate(faces))

    def _follow(self, boxes: list[Box]) -> dict[int, _Track]:
        """Find the tracks that the boxes continue, by the index of the box."""
        if not boxes or not self._tracks:
            return {}
        old = np.array([track.box for track in self._tracks])[:, None]
        new = np.array(boxes)[None]
        size = np.minimum(old[..., 2:] - old[..., :2], new[..., 2:] - new[..., :2])
        moved = np.abs(new - old) / np.maximum(np.concatenate([size, size], axis=-1), 1e-6)
        distance = moved.max(axis=-1)
        followed: dict[int, _Track] = {}
        taken: set[int] = set()
        for place in np.argsort(distance, axis=None, kind="stable")[: np.count_nonzero(distance <= REACH)].tolist():
            track, box = divmod(place, len(boxes))
            if track not in taken and box not in followed:
                taken.add(track)
                followed[box] = self._tracks[track]
        return followed
