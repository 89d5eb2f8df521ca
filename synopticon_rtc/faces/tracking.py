"""Which face of a frame is which of the frames before."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Self

import msgspec

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

    @classmethod
    def restored(cls, saved: bytes) -> Self:
        """Make one that goes on where another was when :meth:`save` wrote this."""
        tracker = cls()
        tracker._patience, tracker._next, tracker._tracks = msgspec.json.decode(
            saved, type=tuple[float, int, list[_Track]]
        )
        return tracker

    def save(self) -> bytes:
        """Write down whom it follows, as JSON."""
        return msgspec.json.encode((self._patience, self._next, self._tracks))

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
                followed[index] = _Track(self._unused(), box, time)
                self._tracks.append(followed[index])
        return tuple(replace(face, id=followed[index].id) for index, face in enumerate(faces))

    def _unused(self) -> int:
        taken = {track.id for track in self._tracks}
        while self._next in taken:  # they wrap, and a face may have stayed all the while
            self._next = (self._next + 1) % IDS
        id_, self._next = self._next, (self._next + 1) % IDS
        return id_

    def _follow(self, boxes: list[Box]) -> dict[int, _Track]:
        """Find the tracks that the boxes continue, by the index of the box."""
        near = sorted(
            (distance, track, box)
            for track, box in product(range(len(self._tracks)), range(len(boxes)))
            if (distance := _moved(self._tracks[track].box, boxes[box])) <= REACH
        )
        followed: dict[int, _Track] = {}
        taken: set[int] = set()
        for _, track, box in near:
            if track not in taken and box not in followed:
                taken.add(track)
                followed[box] = self._tracks[track]
        return followed


def _moved(old: Box, new: Box) -> float:
    """How far an edge has moved, the one that did most, in the smaller of the boxes' sizes."""
    width = max(min(old.right - old.left, new.right - new.left), 1e-6)
    height = max(min(old.bottom - old.top, new.bottom - new.top), 1e-6)
    across = max(abs(new.left - old.left), abs(new.right - old.right)) / width
    return max(across, max(abs(new.top - old.top), abs(new.bottom - old.bottom)) / height)
